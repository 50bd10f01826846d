# SPDX-License-Identifier: Apache-2.0
"""The table of vulcand's flags (specs/vulcand.md §12)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fairlead.flags import Kind, Setting, Settings, common

_V2: Final = "concerns etcd's v2 API only and has no effect"
LEVELS: Final = {
    "panic": "error",
    "fatal": "error",
    "error": "error",
    "warn": "warning",
    "warning": "warning",
    "info": "info",
    "debug": "debug",
    "trace": "debug",
}
"""vulcand's severities → our log's levels."""


def _port(value: int) -> str | None:
    return None if 0 <= value <= 65535 else "must lie between 0 and 65535"


def _positive(value: float) -> str | None:
    return None if value > 0 else "must be positive"


def _severity(value: str) -> str | None:
    return None if value.lower() in LEVELS else f"is none of {', '.join(LEVELS)}"


def _workers(value: int) -> str | None:
    return None if 1 <= value <= 64 else "must lie between 1 and 64"


def _v3(value: int) -> str | None:
    return None if value == 3 else "only etcd's v3 API is spoken; see `fairlead import-v2`"


def _url(value: str) -> str | None:
    return None if value.startswith(("http://", "https://")) else "must be an http or https URL"


def _share(value: float) -> str | None:
    return None if 0.0 <= value <= 1.0 else "must lie between 0 and 1"


def _order(value: str) -> str | None:
    return (
        None if value in ("vulcand", "specific") else f'"{value}" is neither vulcand nor specific'
    )


def _engine(value: str) -> str | None:
    return None if value in ("etcd", "memng") else f'"{value}" is neither etcd nor memng'


SETTINGS: Final = Settings(
    "vulcand",
    (
        Setting("etcd", Kind.LIST, (), "etcd endpoints; repeat, or separate by commas. Default: http://127.0.0.1:2379."),
        Setting("etcdApiVer", Kind.INT, 3, "Version of etcd's API: 3.", check=_v3),
        Setting("etcdKey", Kind.STR, "vulcand", "Root of our keys, taken literally. When not given, both /vulcand and vulcand are read."),
        Setting("etcdCaFile", help="File of the CA that signed etcd's certificate."),
        Setting("etcdCertFile", help="File of the client certificate for etcd."),
        Setting("etcdKeyFile", help="File of the client certificate's key."),
        Setting("etcdUsername", help="User name for etcd."),
        Setting("etcdPassword", help="Password for etcd.", secret=True),
        Setting("etcdInsecureSkipVerify", Kind.BOOL, False, "Do not verify etcd's certificate."),
        Setting("etcdEnableTLS", Kind.BOOL, False, "Speak TLS to endpoints without a scheme."),
        Setting("etcdDebug", Kind.BOOL, False, "Had the Go client log more.", ignored="concerns the Go client only; use -logSeverity=debug"),
        Setting("etcdConsistency", Kind.STR, "STRONG", "Consistency of v2 reads.", ignored=_V2),
        Setting("etcdSyncIntervalSeconds", Kind.INT, 0, "Interval of v2 member syncs.", ignored=_V2),
        Setting("engine", Kind.STR, "etcd", "Where the configuration comes from: etcd, or memng: a store of our own that ends with us, written by the API.", check=_engine),
        Setting("interface", help="Address of the built-in listener; empty: every address."),
        Setting("port", Kind.INT, 8181, "Port of the built-in listener.", check=_port),
        Setting("apiInterface", help="Address of the admin API; empty: every address."),
        Setting("apiPort", Kind.INT, 8182, "Port of the admin API.", check=_port),
        Setting("default-listener", Kind.BOOL, True, "Open the built-in listener."),
        Setting("pidPath", help="File to write the process id to."),
        Setting("certPath", help="Had no effect in the original.", ignored="had no effect in the original either"),
        Setting("log", Kind.STR, "console", "How log lines look: console, json, syslog (UDP 127.0.0.1:514) or logstash; another word counts as console."),
        Setting("logSeverity", Kind.STR, "WARN", "Least severity that is logged: panic, fatal, error, warn, info, debug, trace.", check=_severity),
        Setting("serverMaxHeaderBytes", Kind.INT, 1 << 20, "Longest head of a request.", unit="bytes", check=_positive),
        Setting("serverReadTimeout", Kind.DURATION, 60.0, "Longest wait for a client's next bytes, and for a server's first.", aliases=("readTimeout",), check=_positive),
        Setting("serverWriteTimeout", Kind.DURATION, 60.0, "Longest time without progress while a response is sent.", aliases=("writeTimeout",), check=_positive),
        Setting("endpointDialTimeout", Kind.DURATION, 5.0, "Longest time to connect to a server.", check=_positive),
        Setting("endpointReadTimeout", Kind.DURATION, 50.0, "Longest wait for a server's first byte; when not given, -serverReadTimeout.", check=_positive),
        Setting("sealKey", help="Key that opens and seals key pairs: 64 hexadecimal digits, as `vctl secret new_key` gives.", secret=True),
        Setting("statsdAddr", help="host:port of statsd; empty: none."),
        Setting("statsdPrefix", help="Prefix of statsd names."),
        Setting("trustForwardHeader", Kind.BOOL, False, "Keep the X-Forwarded-… fields that clients send."),
        Setting("memProfileRate", Kind.INT, 0, "Concerned Go's profiler.", ignored="concerns Go's profiler only"),
        Setting("enableJaegerTracing", Kind.BOOL, False, "Record traces: a span for each try of a request, to -otlpEndpoint."),
        Setting("debugJaegerTracing", Kind.BOOL, False, "Record every trace, not a share of -traceSample."),
        Setting("aliases", help="OLD=NEW, separated by commas: a route that holds OLD is served with NEW in its place too."),
        Setting("apiTokenFile", help="File with the token that callers of the admin API must give; empty: anybody may call.", ours=True),
        Setting("apiCert", help="File of the admin API's certificate; empty: plain HTTP.", ours=True),
        Setting("apiKey", help="File of that certificate's key.", ours=True),
        Setting("apiClientCA", help="File of the CA that must have signed callers' certificates.", ours=True),
        Setting("otlpEndpoint", Kind.STR, "http://127.0.0.1:4318", "Where traces go: a collector that speaks OTLP over HTTP.", check=_url, ours=True),
        Setting("traceSample", Kind.FLOAT, 0.001, "Share of the traces that begin here which are recorded, 0 to 1.", check=_share, ours=True),
        Setting("routeOrder", Kind.STR, "vulcand", "Which of several routes that match wins: vulcand (the greatest text), or specific.", check=_order, ours=True),
        Setting("acmeCA", help="File of the CA of an ACME server of your own, believed beside the system's.", ours=True),
        Setting("accessLog", help="File for a line of JSON for each request; -: stdout; empty: none.", ours=True),
        Setting("workers", Kind.INT, 1, "Processes that serve; limits, counters and health are shared.", ours=True, check=_workers),
        # the original waits for requests under way however long they take (specs/vulcand.md §12.1)
        *(
            replace(setting, default=0.0) if setting.name == "drain-timeout" else setting
            for setting in common(drop=("log-level",))
        ),
    ),
    summary="An HTTP load balancer configured by etcd keys or an API.",
)  # fmt: skip
