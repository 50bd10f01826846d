# SPDX-License-Identifier: Apache-2.0
"""The six records: JSON as vulcand reads it ↔ values (specs/vulcand.md §3).

Read as Go's encoding/json does: names in any letter case, the last of two wins, null is the zero
value, types exact (a number in quotes or 1.0 for an integer is an error), unknown names ignored
and kept. An id in the JSON is overridden by the key's. Defaults are applied when used.

What vulcand knows but this program cannot do yet is refused by name, never accepted and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from fairlead.duration import parse_seconds
from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue
from lb import policy, predicate
from lb.expr import ExpressionError
from lb.keys import Kind, Ref, parse
from lb.policy import BackendPolicy, FrontendPolicy, ServerPolicy
from lb.route import parse as route

JSON = dict[str, Any]


class Invalid(ValueError):
    """An object breaks a rule; the message names field and reason."""


@dataclass(frozen=True, slots=True)
class Host:
    """A hostname; without a key pair it means nothing to routing (§3.4)."""

    ref: Ref
    default: bool = False
    extra: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket to listen on (§3.7).

    Attributes:
        network: tcp or unix.
        address: host:port, :port, or a path.
        scope: a route expression or "".
        proxy: PROXY_V1, PROXY_V2, PROXY (either) or "".
        trusted: networks whose PROXY header is believed; empty for all.
    """

    ref: Ref
    protocol: str
    network: str
    address: str
    scope: str = ""
    proxy: str = ""
    trusted: tuple[str, ...] = ()
    extra: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backend:
    """How a pool of servers is spoken to (§3.1). Durations as written; "" and 0 mean the default.

    `ours`: the extension fields of Settings as stored, which `policy` was read from.
    """

    ref: Ref
    type: str = "http"
    read: str = ""
    dial: str = ""
    tls_handshake: str = ""
    keepalive_period: str = ""
    max_idle: int = 0
    ours: JSON = field(default_factory=dict)
    policy: BackendPolicy = policy.BACKEND
    extra: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Server:
    """One server; only scheme and host:port of the URL count (§3.2)."""

    ref: Ref
    url: str
    weight: int = 1
    ours: JSON = field(default_factory=dict)
    policy: ServerPolicy = policy.SERVER
    extra: JSON = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port to connect to."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    @property
    def authority(self) -> str:
        """host:port as the URL spells it: the Host field of a request that passes none."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Frontend:
    """A route and what becomes of its requests (§3.3)."""

    ref: Ref
    backend: str
    route: str
    type: str = "http"
    max_mem_body: int = 0
    max_body: int = 0
    failover: str = ""
    hostname: str = ""
    trust_forward: bool = False
    pass_host: bool = False
    stream: bool = False
    flush_ns: int = 0
    priority: int = 0
    ours: JSON = field(default_factory=dict)
    policy: FrontendPolicy = policy.FRONTEND
    extra: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Middleware:
    """A middleware's envelope (§3.8); `body` is its type's own object."""

    ref: Ref
    type: str
    priority: int = 0
    body: JSON = field(default_factory=dict)
    extra: JSON = field(default_factory=dict)


Record = Host | Listener | Backend | Server | Frontend | Middleware

MIDDLEWARES: Final = ("ratelimit", "connlimit", "rewrite", "cbreaker", "trace")
"""The types vulcand brings; none of them is built yet."""
_NOT_BUILT: Final = {
    Kind.BACKEND: ("ClientCert", "HTTP2"),
    Kind.FRONTEND: ("Middlewares", "Headers", "Timeouts", "Mirror", "MaxResponseBodyBytes"),
    Kind.LISTENER: ("ClientAuth", "MaxConns", "Timeouts"),
}  # fmt: skip


class _Object:
    """A JSON object under Go's rules; reads name what is wrong with a field."""

    def __init__(self, value: object, path: str = "") -> None:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise Invalid(f"{path or 'value'}: {_kind_of(value)} where an object is wanted")
        self._path = path
        self._fields: JSON = {}
        self._spelt: dict[str, str] = {}
        for name, item in value.items():
            folded = name.lower()
            if item is None and folded in self._fields:
                continue  # null leaves what an earlier spelling gave
            self._fields[folded] = item
            self._spelt[folded] = name
        self._read: set[str] = set()

    def _get(self, name: str, kind: type, zero: Any) -> Any:
        self._read.add(name.lower())
        value = self._fields.get(name.lower())
        if value is None:
            return zero
        if type(value) is not kind:
            raise Invalid(f"{self._path}{name}: {_kind_of(value)} where {_WORDS[kind]} is wanted")
        return value

    def text(self, name: str) -> str:
        return str(self._get(name, str, ""))

    def flag(self, name: str) -> bool:
        return bool(self._get(name, bool, False))

    def number(self, name: str) -> int:
        value = int(self._get(name, int, 0))
        if not -(1 << 63) <= value < 1 << 63:
            raise Invalid(f"{self._path}{name}: {value} does not fit 64 bits")
        return value

    def object(self, name: str) -> _Object:
        return _Object(self._get(name, dict, {}), f"{self._path}{name}.")

    def given(self, name: str) -> bool:
        return self._fields.get(name.lower()) is not None

    def rest(self) -> JSON:
        """Return the fields nobody read, as spelt."""
        return {
            self._spelt[n]: v
            for n, v in self._fields.items()
            if n not in self._read and n != "stats"
        }

    def all(self) -> JSON:
        """Return every field, names in lower case."""
        return self._fields

    def take(self, names: Iterable[str]) -> JSON:
        """Return those of the fields that are given, spelt as `names` spells them."""
        taken = {name: self._fields[name.lower()] for name in names if self.given(name)}
        self._read.update(name.lower() for name in names)
        return taken

    def refuse(self, *names: str) -> None:
        for name in names:
            if self.given(name):
                raise Invalid(f"{self._path}{name} is not built yet")


_WORDS: Final = {str: "a string", int: "an integer", bool: "true or false", dict: "an object"}


def _kind_of(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int():
            return "an integer"
        case float():
            return "a fraction"
        case str():
            return "a string"
        case list():
            return "a list"
        case None:
            return "null"
        case _:
            return "an object"


def decode(kv: KeyValue, roots: tuple[str, ...]) -> Record | None:
    """Return the record of a key; None for a key that holds none.

    Raises:
        RecordError: names what is wrong with it.
    """
    ref = parse(kv.key, roots)
    if ref is None:
        return None
    try:
        return read(ref, kv.value)
    except Invalid as error:
        raise RecordError(kv.key, str(error), kv.mod_revision) from error


def read(ref: Ref, value: bytes) -> Record:
    """Return the record that `value` spells.

    Raises:
        Invalid: no JSON, or a rule is broken.
    """
    try:
        tree = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"not JSON: {error}") from error
    return build(ref, tree)


def build(ref: Ref, tree: object) -> Record:
    """Return the record of a decoded JSON value; raises Invalid."""
    return _BUILD[ref.kind](ref, _Object(tree))


def _host(ref: Ref, obj: _Object) -> Host:
    obj.text("Name")
    settings = obj.object("Settings")
    settings.refuse("KeyPair", "AutoCert")
    if settings.object("OCSP").flag("Enabled"):
        raise Invalid("Settings.OCSP is not built yet")
    return Host(ref, settings.flag("Default"), obj.rest())


def _listener(ref: Ref, obj: _Object) -> Listener:
    obj.text("Id")
    protocol = obj.text("Protocol").lower()
    if protocol not in ("http", "https"):
        raise Invalid(f"unsupported protocol '{protocol}', supported protocols are http and https")
    if protocol == "https":
        raise Invalid('Protocol "https" is not built yet')
    where = obj.object("Address")
    network, address = where.text("Network").lower(), where.text("Address")
    if network not in ("tcp", "unix"):
        raise Invalid(f"unsupported network '{network}', supported networks are tcp and unix")
    if not address:
        raise Invalid("supply a non empty address")
    if network == "tcp":
        split_address(address)
    scope = obj.text("Scope")
    if scope:
        _valid_route(scope, "Scope should be a valid route expression")
    proxy = obj.text("ProxyProtocol").upper()
    if proxy not in ("", "NONE", "PROXY_V1", "PROXY_V2", "PROXY"):
        raise Invalid(
            f"Unsupported Proxy Header '{proxy}', must be PROXY_V1, PROXY_V2, PROXY or NONE"
        )
    settings = obj.object("Settings")
    settings.refuse(*_NOT_BUILT[Kind.LISTENER])
    trusted = _networks(settings.take(("TrustedProxies",)).get("TrustedProxies"))
    proxy = "" if proxy == "NONE" else proxy
    return Listener(ref, protocol, network, address, scope, proxy, trusted, obj.rest())


def _networks(value: object) -> tuple[str, ...]:
    """Return networks in CIDR form from a list of them."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Invalid("Settings.TrustedProxies: a list of networks is wanted")
    try:
        return tuple(str(ip_network(item)) for item in value)
    except ValueError as error:
        raise Invalid(f"Settings.TrustedProxies: {error}") from error


def _policy(read: Callable[..., Any], *arguments: object) -> Any:
    try:
        return read(*arguments)
    except ValueError as error:
        raise Invalid(str(error)) from error


def split_address(address: str) -> tuple[str, int]:
    """Return (host, port) of host:port; host "" means every address.

    Raises:
        Invalid: no port, or none from 0 to 65535.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Invalid(f'address "{address}": an IPv6 address goes in brackets')
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise Invalid(f'address "{address}": host:port with a port up to 65535 is wanted')
    return host, int(port)


def _backend(ref: Ref, obj: _Object) -> Backend:
    obj.text("Id")
    kind = obj.text("Type")
    if kind != "http":
        raise Invalid(f"Unsupported backend type {kind}")
    settings = obj.object("Settings")
    settings.refuse(*_NOT_BUILT[Kind.BACKEND])
    ours = settings.take(policy.IN_BACKEND)
    if not _idle(settings.object("TLS").all()):  # the original's vctl always sends the object
        raise Invalid("Settings.TLS is not built yet")
    timeouts, keepalive = settings.object("Timeouts"), settings.object("KeepAlive")
    record = Backend(
        ref,
        kind,
        _duration(timeouts.text("Read"), "invalid read timeout"),
        _duration(timeouts.text("Dial"), "invalid dial timeout"),
        _duration(timeouts.text("TLSHandshake"), "invalid tls handshake timeout"),
        _duration(keepalive.text("Period"), "invalid keepalive period"),
        keepalive.number("MaxIdleConnsPerHost"),
        ours,
        _policy(policy.backend, ours),
        obj.rest(),
    )
    if record.max_idle < 0:
        raise Invalid("Settings.KeepAlive.MaxIdleConnsPerHost: must not be negative")
    return record


def _idle(tls: object) -> bool:
    """Say whether TLS settings ask for nothing but the defaults."""
    if isinstance(tls, dict):
        return all(_idle(value) for value in tls.values())
    return not tls or tls in ("LRU", 1024, "VersionTLS10", "VersionTLS12")


def _duration(text: str, fault: str) -> str:
    if text:
        try:
            seconds = parse_seconds(text)
        except ValueError as error:
            raise Invalid(f"{fault}: {error}") from error
        if seconds < 0:
            raise Invalid(f'{fault}: "{text}" is negative')
    return text


def _server(ref: Ref, obj: _Object) -> Server:
    obj.text("Id")
    ours = obj.take(policy.IN_SERVER)
    url = obj.text("URL")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Invalid(f"endpoint url '{url}' is not valid: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Invalid(f"endpoint url '{url}' is not valid")
    if not re.fullmatch(r"[\w.~!$&'()*+,;=%:@\[\]-]+", parts.netloc, re.ASCII):
        raise Invalid(f"endpoint url '{url}' is not valid")
    if parts.scheme == "https":
        raise Invalid(f"endpoint url '{url}': https to servers is not built yet")
    weight = obj.number("Weight") if obj.given("Weight") else 1
    if not 0 <= weight <= 4096:
        raise Invalid(f"Weight: {weight} is not between 0 and 4096")
    return Server(ref, url, weight, ours, _policy(policy.server, ours), obj.rest())


def _frontend(ref: Ref, obj: _Object) -> Frontend:
    obj.text("Id")
    kind = obj.text("Type")
    if kind != "http":
        raise Invalid(f"Unsupported frontend type: {kind}")
    obj.refuse(*_NOT_BUILT[Kind.FRONTEND])
    backend, text = obj.text("BackendId"), obj.text("Route")
    if not backend:
        raise Invalid("supply valid  route, id, and backendId")
    _valid_route(text, f"route should be a valid route expression: {text}")
    settings = obj.object("Settings")
    settings.refuse(*_NOT_BUILT[Kind.FRONTEND])
    priority = obj.number("Priority")
    ours = settings.take(policy.IN_SETTINGS)
    limits = settings.object("Limits")
    record = Frontend(
        ref,
        backend,
        text,
        kind,
        limits.number("MaxMemBodyBytes"),
        limits.number("MaxBodyBytes"),
        settings.text("FailoverPredicate"),
        settings.text("Hostname"),
        settings.flag("TrustForwardHeader"),
        settings.flag("PassHostHeader"),
        settings.flag("Stream"),
        settings.number("StreamFlushIntervalNanoSecs"),
        priority,
        ours,
        _policy(policy.frontend, priority, ours),
        obj.rest(),
    )
    if record.max_body < 0 or record.max_mem_body < 0:
        raise Invalid("Settings.Limits: a limit must not be negative")
    if not re.fullmatch(r"[\t -~]*", record.hostname):
        raise Invalid("Settings.Hostname: a control or non-ASCII character")
    if record.failover and not record.stream:
        try:
            predicate.parse(record.failover)
        except ExpressionError as error:
            raise Invalid(f"invalid failover predicate: {record.failover}: {error}") from error
    return record


def _valid_route(text: str, fault: str) -> None:
    try:
        route.parse(text)
    except ExpressionError as error:
        raise Invalid(f"{fault}: {error}") from error


def _middleware(ref: Ref, obj: _Object) -> Middleware:
    obj.text("Id")
    kind = obj.text("Type")
    if kind not in MIDDLEWARES:
        raise Invalid(f"middleware of type {kind} is not supported")
    body = obj.object("Middleware").rest()
    return Middleware(ref, kind, obj.number("Priority"), body, obj.rest())


_BUILD: Final[Mapping[Kind, Callable[[Ref, _Object], Record]]] = {
    Kind.HOST: _host,
    Kind.LISTENER: _listener,
    Kind.BACKEND: _backend,
    Kind.SERVER: _server,
    Kind.FRONTEND: _frontend,
    Kind.MIDDLEWARE: _middleware,
}


def tree(record: Record) -> JSON:
    """Return a record as vulcand's own struct prints it, unknown fields after."""
    ref = record.ref
    out: JSON
    match record:
        case Host():
            out = {"Name": ref.id, "Settings": {"Default": record.default, "KeyPair": None, "OCSP": {
                "Enabled": False, "Period": "", "Responders": None, "SkipSignatureCheck": False}}}  # fmt: skip
        case Listener():
            out = {
                "Id": ref.id,
                "Protocol": record.protocol,
                "Address": {"Network": record.network, "Address": record.address},
                "Scope": record.scope,
                "ProxyProtocol": record.proxy,
            }
            if record.trusted:
                out["Settings"] = {"TrustedProxies": list(record.trusted)}
        case Backend():
            out = {
                "Id": ref.id,
                "Type": record.type,
                "Settings": {
                    "Timeouts": {
                        "Read": record.read,
                        "Dial": record.dial,
                        "TLSHandshake": record.tls_handshake,
                    },
                    "KeepAlive": {
                        "Period": record.keepalive_period,
                        "MaxIdleConnsPerHost": record.max_idle,
                    },
                    **record.ours,
                },
            }
        case Server():
            out = {"Id": ref.id, "URL": record.url}
            if record.weight != 1:
                out["Weight"] = record.weight
            out.update(record.ours)
        case Frontend():
            out = {
                "Id": ref.id,
                "Route": record.route,
                "Type": record.type,
                "BackendId": record.backend,
                "Settings": {
                    "Limits": {
                        "MaxMemBodyBytes": record.max_mem_body,
                        "MaxBodyBytes": record.max_body,
                    },
                    "FailoverPredicate": record.failover,
                    "Hostname": record.hostname,
                    "TrustForwardHeader": record.trust_forward,
                    "PassHostHeader": record.pass_host,
                    "Stream": record.stream,
                    "StreamFlushIntervalNanoSecs": record.flush_ns,
                    **record.ours,
                },
            }
            if record.priority:
                out["Priority"] = record.priority
        case Middleware():
            out = {
                "Id": ref.id,
                "Priority": record.priority,
                "Type": record.type,
                "Middleware": record.body,
            }
    return {**out, **record.extra}


def encode(record: Record) -> bytes:
    """Return what is written to etcd: compact JSON, not HTML-escaped, a newline after (§3)."""
    return msgspec.json.encode(tree(record)) + b"\n"
