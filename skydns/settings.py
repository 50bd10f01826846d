# SPDX-License-Identifier: Apache-2.0
"""skydns's flags and variables (specs/skydns.md §13.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fairlead.flags import Kind, Setting, Settings, common
from skydns import keys, names, stub
from skydns.addresses import network, parse_allowed, parse_notified, parse_server

_PRIVATE: Final = (
    "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
    "169.254.0.0/16", "fc00::/7", "fe80::/10",
)  # fmt: skip
_V3: Final = "etcd is always spoken to by its v3 API"


def _checked(parse: Callable[[str], object]) -> Callable[[Any], str | None]:
    """Make a check of a parser that raises ValueError."""

    def check(value: Any) -> str | None:
        try:
            for element in value if isinstance(value, tuple) else (value,):
                if element:
                    parse(element)
        except ValueError as error:
            return str(error)
        return None

    return check


def _path(text: str) -> object:
    if not keys.clean(text):
        raise ValueError("the prefix is empty: the whole store would be read as names")
    return text


def _port(text: str) -> object:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"port {text!r} is not within 1 and 65535")
    return text


def _workers(number: Any) -> str | None:
    return None if 1 <= number <= 64 else "is not within 1 and 64"


def _secret(text: str) -> bytes:
    if len(found := bytes.fromhex(text)) != 16:
        raise ValueError("must be 32 hex digits")
    return found


def _short(text: str) -> object:
    if len(text.encode()) > 255:
        raise ValueError("is longer than 255 octets")
    return text


SETTINGS: Final = Settings(
    "skydns",
    (
        Setting("domain", default="skydns.local.", env="SKYDNS_DOMAIN", check=_checked(keys.zones),
            help="Zones to be authoritative for: names and CIDRs (their reverse zones), comma separated."),
        Setting("addr", default="127.0.0.1:53", env="SKYDNS_ADDR", check=_checked(parse_server),
            help="Address to answer on, IP:port, UDP and TCP."),
        Setting("nameservers", Kind.COMMA, env="SKYDNS_NAMESERVERS", check=_checked(parse_server),
            help="Servers to ask about other names, IP:port, comma separated; empty: those of /etc/resolv.conf."),
        Setting("no-rec", Kind.BOOL, False, "Refuse names that are not in our zones.", env=""),
        Setting("machines", Kind.COMMA, ("http://127.0.0.1:2379",), env="ETCD_MACHINES", help="URLs of etcd, comma separated."),
        Setting("tls-key", env="ETCD_TLSKEY", help="File of the client certificate's key for etcd."),
        Setting("tls-pem", env="ETCD_TLSPEM", help="File of the client certificate for etcd."),
        Setting("ca-cert", env="ETCD_CACERT", help="File of the certificates that may sign etcd's."),
        Setting("username", env="ETCD_USERNAME", help="User for etcd."),
        Setting("password", env="ETCD_PASSWORD", secret=True, help="The user's password."),
        Setting("local", env="", help="Name that is looked up for local.dns.<zone>."),
        Setting("hostmaster", env="", check=_checked(names.mailbox), help="Mail address in the SOA; empty: hostmaster of the zone."),
        Setting("rtimeout", Kind.DURATION, 2.0, "Time a name server gets to answer.", env=""),
        Setting("round-robin", Kind.BOOL, True, "Let the addresses of an answer take turns in being first.", env=""),
        Setting("order", choices=("rotate", "random", "client"), default="rotate", ours=True, env="",
            help="With -round-robin: addresses take turns, go out as chance has it, or each client has its own first one."),
        Setting("prefer", Kind.COMMA, ours=True, env="", check=_checked(network),
            help="Networks whose addresses come first in an answer, comma separated."),
        Setting("weights", ours=True, env="",
            help="File of weights by name and address (CoreDNS's form), by which the first address is drawn."),
        Setting("ns-rotate", Kind.BOOL, True, "Begin with another name server each time.", env=""),
        Setting("ndots", Kind.INT, 2, "Names with fewer labels are not asked of the name servers.", env="SKYDNS_NDOTS"),
        Setting("path-prefix", default="skydns", env="SKYDNS_PATH_PREFIX", check=_checked(_path), help="Prefix of the keys in etcd."),
        Setting("version", Kind.BOOL, False, "Print the version and exit.", env=""),
        Setting("compat", default="coredns", choices=("coredns", "skydns", "strict"), ours=True, env="",
            help="Whose answers to give where the originals differ."),
        Setting("own", Kind.COMMA, ("profile",), ours=True, env="",
            help="What a name that has both a record and records below it answers with: children, first or union; profile: as -compat says; ZONE=… for one zone."),
        Setting("depth", Kind.COMMA, ("-1",), ours=True, env="",
            help="How many labels below a name are part of its answers: 0 its own key only, 1 the keys directly below; -1: all; ZONE=… for one zone."),
        Setting("wildcards", Kind.COMMA, ("profile",), ours=True, env="",
            help="A stored * answers for missing names (RFC 4592): true or false; profile: as -compat says; ZONE=… for one zone."),
        Setting("forward-from", Kind.COMMA, _PRIVATE, ours=True, env="",
            help="Networks whose queries are passed on to the name servers, comma separated CIDRs."),
        Setting("rrl", Kind.INT, 200, ours=True, env="",
            help="Replies a second by UDP to one network (/24, /56) for one answer; 0: any number."),
        Setting("rrl-slip", Kind.INT, 2, ours=True, env="",
            help="Each how many-th reply above -rrl is sent cut, so that real clients ask by TCP; 0: none."),
        Setting("rrl-exempt", Kind.COMMA, _PRIVATE, ours=True, env="",
            help="Networks that -rrl does not limit, comma separated CIDRs."),
        Setting("minimal-tc", Kind.BOOL, False, ours=True, env="",
            help="Send a reply by UDP that does not fit without records, but to clients with a good cookie."),
        Setting("cookie-secret", env="SKYDNS_COOKIE_SECRET", ours=True, secret=True, check=_checked(_secret),
            help="32 hex digits that DNS cookies are made with, the same on all servers of one address; empty: made up at start."),
        Setting("mname", ours=True, env="", check=_checked(names.from_text),
            help="Name server in the SOA; empty: ns.dns of the zone."),
        Setting("nsid", ours=True, env="", check=_checked(_short),
            help="What this server is called to who asks: NSID, hostname.bind, id.server; empty: nobody is told."),
        Setting("version-bind", default="Fairlead", ours=True, env="", check=_checked(_short),
            help="Text for version.bind and version.server; empty: nobody is told."),
        Setting("etcd3", Kind.BOOL, False, "The store's v3 API.", env="", ignored=_V3),
        Setting("discover", Kind.BOOL, False, "Follow the members of etcd.", env="", ignored="name the members with -machines"),
        Setting("dnssec", Kind.COMMA, env="",
            help="Base names of BIND key files to sign our zones' answers with, comma separated."),
        Setting("stubzones", Kind.BOOL, False, "Pass names on to the servers that records below stub.dns.<zone> name.", env=""),
        Setting("stub", Kind.COMMA, env="", ours=True, check=_checked(lambda text: stub.from_flag((text,))),
            help="Zones to ask other servers about, ZONE=IP:port, comma separated."),
        Setting("local-names", Kind.BOOL, True, ours=True, env="",
            help="Answer localhost, invalid, onion and reverse names of private networks here instead of asking for them."),
        Setting("systemd", Kind.BOOL, False, "Answer on the sockets that systemd passes, instead of on -addr.", env="SKYDNS_SYSTEMD"),
        Setting("tls-addr", ours=True, env="", check=_checked(parse_server), help="Address of DNS over TLS, IP:port; usually port 853."),
        Setting("https-addr", ours=True, env="", check=_checked(parse_server), help="Address of DNS over HTTPS (/dns-query), IP:port; usually port 443."),
        Setting("serve-cert", ours=True, env="", help="File of the certificates for -tls-addr and -https-addr."),
        Setting("serve-key", ours=True, env="", help="File of their key."),
        Setting("transfer-to", Kind.COMMA, ours=True, env="", check=_checked(parse_allowed),
            help="Who may transfer our zones (AXFR, IXFR): addresses, CIDRs and key:NAME, comma separated."),
        Setting("notify", Kind.COMMA, ours=True, env="", check=_checked(parse_notified),
            help="Servers to tell of changes (NOTIFY), IP:port, comma separated; KEY@IP:port signs it."),
        Setting("catalog", ours=True, env="", check=_checked(names.from_text),
            help="Name of a zone that lists ours for secondaries (catalog zone, RFC 9432); empty: none."),
        Setting("tsig-keys", ours=True, env="",
            help="File of the keys that queries may be signed with (TSIG), as tsig-keygen writes it."),
        Setting("scache", Kind.INT, 10000, "Signatures kept.", env=""),
        Setting("auto-ptr", Kind.BOOL, True, ours=True, env="",
            help="Answer PTR for the addresses of records that have no key of their own below arpa."),
        Setting("rcache", Kind.INT, 10000, "Answers of name servers kept; 0: none.", env=""),
        Setting("rcache-ttl", Kind.INT, 3600, "Longest time, in seconds, that one is kept; its own TTL counts if it is less.", env=""),
        Setting("serve-stale", Kind.DURATION, 86400.0, ours=True, env="",
            help="How long what has run out is still served when no name server answers."),
        Setting("verbose", Kind.BOOL, False, "Log queries.", env=""),
        Setting("log-every", Kind.INT, 1, ours=True, env="", help="With -verbose: log one query of so many."),
        Setting("conf", ours=True, env="", help="A CoreDNS Corefile to take zones, etcd, forwarding and the rest from; flags that are given win."),
        Setting("ignore-unknown-plugins", Kind.BOOL, False, ours=True, env="",
            help="With -conf: go on without plugins that are not supported."),
        Setting("dns.port", aliases=("p",), ours=True, env="", check=_checked(_port),
            help="With -conf: port of the server blocks that name none; empty: 53."),
        Setting("pidfile", ours=True, env="", help="File to write our process id to, gone again after a clean stop."),
        Setting("quiet", Kind.BOOL, False, ours=True, env="", help="Do not log where we answer, for which zones."),
        Setting("plugins", Kind.BOOL, False, ours=True, env="", help="Print the plugins that -conf knows, and exit."),
        Setting("workers", Kind.INT, 1, "Processes that answer, fed by one more; 1: this one answers itself.", ours=True, env="", check=_workers),
        Setting("kubernetes", Kind.BOOL, False, "Names of a cluster.", env="", refused="it is gone since SkyDNS 2.1"),
        Setting("master", env="", help="The cluster's API.", refused="it is gone since SkyDNS 2.1"),
        Setting("prometheus-port", env="PROMETHEUS_PORT", ours=True, check=_checked(_port), help="Port of the metrics on all addresses; empty: none."),
        Setting("prometheus-path", default="/metrics", env="PROMETHEUS_PATH", ours=True, help="Path of the metrics on that port."),
        Setting("prometheus-namespace", default="skydns", env="PROMETHEUS_NAMESPACE", ours=True, help="First part of SkyDNS's metric names."),
        Setting("prometheus-subsystem", default="skydns", env="PROMETHEUS_SUBSYSTEM", ours=True, help="Second part of SkyDNS's metric names."),
        *common(),
    ),
    bad_env_fatal=False,
    summary="A DNS server that answers from service records in etcd.",
)  # fmt: skip
