# SPDX-License-Identifier: Apache-2.0
"""Config: all that the load balancer takes from outside, whole and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fairlead.errors import ConfigError, ConfigErrors
from fairlead.etcd.options import Options
from fairlead.flags import Values, etcd_faults, tls_faults
from fairlead.tls import client_context, server_context
from lb.fields import Invalid
from lb.keys import ROOTS
from lb.logs import FORMATS
from lb.records import split_address
from lb.secret import Box
from lb.settings import LEVELS

_ETCD_FILES: Final = {"ca": "etcdCaFile", "cert": "etcdCertFile", "key": "etcdKeyFile"}
_API_FILES: Final = {"cert": "apiCert", "key": "apiKey", "ca": "apiClientCA"}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        token: what a caller's `Authorization: Bearer` must say; "" for nothing.
        cert, key: files of the API's own certificate; "" for plain HTTP.
        client_ca: file of the CA whose certificates callers must show; "" for none.
    """

    token: str = ""
    cert: str = ""
    key: str = ""
    client_ca: str = ""

    @property
    def guarded(self) -> bool:
        """Whether callers are told apart at all; if not, no private key is ever shown."""
        return bool(self.token or self.client_ca)


@dataclass(frozen=True, slots=True)
class Config:
    """Durations in seconds.

    Attributes:
        etcd: how to reach etcd.
        roots: key prefixes that are read; written to is the first that holds anything.
        listen: the built-in listener's host:port; None for no such listener.
        api: the admin API's host:port.
        memory: what is configured ends with us (`-engine memng`).
        otlp: the collector that traces go to; "" for no traces.
        drain: longest time that requests under way are waited for at the end; 0: no limit.
        warnings: what is served otherwise than the command line may mean.
        endpoint_read_timeout: until the first byte of a response, where a backend says nothing.
    """

    etcd: Options = field(default_factory=Options)
    roots: tuple[str, ...] = ROOTS
    listen: str | None = ":8181"
    api: str = ":8182"
    pid_path: str = ""
    log: str = "console"
    log_level: str = "warning"
    max_header_bytes: int = 1 << 20
    read_timeout: float = 60.0
    write_timeout: float = 60.0
    dial_timeout: float = 5.0
    endpoint_read_timeout: float = 60.0
    trust_forward: bool = False
    seal_key: str = ""
    aliases: tuple[tuple[str, str], ...] = ()
    access: Access = field(default_factory=Access)
    access_log: str = ""
    otlp: str = ""
    trace_sample: float = 0.0
    statsd: str = ""
    statsd_prefix: str = ""
    acme_ca: str = ""
    route_order: str = "vulcand"
    warnings: tuple[str, ...] = ()
    memory: bool = False
    workers: int = 1
    drain: float = 0.0


def configure(values: Values) -> Config:
    """Return the checked configuration; raises ConfigErrors with every fault."""
    faults: list[ConfigError] = []
    root = values.text("etcdKey").rstrip("/")
    if values.given("etcdKey") and not root:
        faults.append(values.error("etcdKey", "must not be empty"))
    tls = values.flag("etcdEnableTLS")
    endpoints = tuple(
        f"https://{endpoint}" if tls and "://" not in endpoint else endpoint
        for endpoint in values.many("etcd")
    ) or ("https://127.0.0.1:2379" if tls else "127.0.0.1:2379",)
    options = Options(
        endpoints=endpoints,
        user=values.text("etcdUsername"),
        password=values.text("etcdPassword"),
        ca=values.text("etcdCaFile"),
        cert=values.text("etcdCertFile"),
        key=values.text("etcdKeyFile"),
        insecure_skip_verify=values.flag("etcdInsecureSkipVerify"),
    )
    faults += etcd_faults(values.error, options, "etcd", _ETCD_FILES)
    if values.text("sealKey"):
        try:
            Box(values.text("sealKey"))
        except Invalid as error:
            faults.append(values.error("sealKey", str(error)))
    if values.text("statsdAddr"):
        try:
            split_address(values.text("statsdAddr"))
        except Invalid as error:
            faults.append(values.error("statsdAddr", str(error)))
    if ca := values.text("acmeCA"):
        faults += tls_faults(values.error, lambda: client_context(ca), {"ca": "acmeCA"})
    faults += _api_faults(values)
    warnings = []
    if options.wants_tls and not faults and not any(e.tls for e in options.parsed()):
        warnings.append("-etcdCaFile and the like have no effect: no endpoint of -etcd is https")
    aliases = []
    for one in filter(None, values.text("aliases").split(",")):
        old, equals, new = one.partition("=")
        if equals and old and "=" not in new:
            aliases.append((old, new))
        else:  # as the original: said, and skipped
            warnings.append(f'-aliases: "{one}" is skipped: OLD=NEW is wanted')
    if faults:
        raise ConfigErrors(tuple(faults))
    if values.text("log") not in FORMATS:
        warnings.append(f'-log: "{values.text("log")}" is unknown and counts as console')
    patience = values.seconds("endpointDialTimeout") + values.seconds("endpointReadTimeout")
    if values.seconds("serverWriteTimeout") <= patience:
        warnings.append(
            "-serverWriteTimeout should be above -endpointDialTimeout and -endpointReadTimeout together"
        )
    read_timeout = values.seconds("serverReadTimeout")
    return Config(
        etcd=options,
        roots=(root,) if values.given("etcdKey") else ROOTS,
        listen=_address(values, "interface", "port") if values.flag("default-listener") else None,
        api=_address(values, "apiInterface", "apiPort"),
        pid_path=values.text("pidPath"),
        log=values.text("log"),
        log_level=LEVELS[values.text("logSeverity").lower()],
        max_header_bytes=values.number("serverMaxHeaderBytes"),
        read_timeout=read_timeout,
        write_timeout=values.seconds("serverWriteTimeout"),
        dial_timeout=values.seconds("endpointDialTimeout"),
        endpoint_read_timeout=values.seconds("endpointReadTimeout")
        if values.given("endpointReadTimeout")
        else read_timeout,
        trust_forward=values.flag("trustForwardHeader"),
        seal_key=values.text("sealKey"),
        aliases=tuple(aliases),
        access=_access(values),
        access_log=values.text("accessLog"),
        otlp=values.text("otlpEndpoint") if values.flag("enableJaegerTracing") else "",
        trace_sample=1.0 if values.flag("debugJaegerTracing") else values.real("traceSample"),
        statsd=values.text("statsdAddr"),
        statsd_prefix=values.text("statsdPrefix"),
        acme_ca=values.text("acmeCA"),
        route_order=values.text("routeOrder"),
        warnings=tuple(warnings),
        memory=values.text("engine") == "memng",
        workers=values.number("workers"),
        drain=values.seconds("drain-timeout"),
    )


def _api_faults(values: Values) -> list[ConfigError]:
    cert, key, ca = (values.text(name) for name in _API_FILES.values())
    if bool(cert) != bool(key):
        return [values.error("apiCert", "-apiCert and -apiKey go together")]
    if ca and not cert:
        return [values.error("apiClientCA", "needs -apiCert and -apiKey")]
    return (
        tls_faults(values.error, lambda: server_context(cert, key, ca), _API_FILES) if cert else []
    )


def _access(values: Values) -> Access:
    """Return who may use the admin API; raises ConfigErrors."""
    path, token = values.text("apiTokenFile"), ""
    if path:
        try:
            token = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = f"cannot be read: {error}"
            raise ConfigErrors((values.error("apiTokenFile", reason),)) from error
        if not token:
            raise ConfigErrors((values.error("apiTokenFile", "the file is empty"),))
    return Access(token, *(values.text(name) for name in _API_FILES.values()))


def _address(values: Values, host: str, port: str) -> str:
    name = values.text(host)
    return f"{f'[{name}]' if ':' in name and name[:1] != '[' else name}:{values.number(port)}"
