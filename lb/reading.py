# SPDX-License-Identifier: Apache-2.0
"""etcd's values → the six records, each checked once (specs/vulcand.md §3). Pure.

Read as Go's encoding/json does: names in any letter case, the last of two wins, null is the zero
value, types exact (a number in quotes or 1.0 for an integer is an error), unknown names ignored
and kept. An id in the JSON is overridden by the key's.

What this program cannot do is refused by name, never accepted and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from fairlead.duration import parse_seconds
from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue
from lb import extension, predicate, secret, tls
from lb.acme import entries
from lb.expr import ExpressionError
from lb.fields import JSON, Fields, Invalid
from lb.keys import Kind, Ref, parse
from lb.middleware import types
from lb.records import (
    AutoCert,
    Backend,
    Frontend,
    Host,
    Listener,
    Middleware,
    Record,
    Server,
    Stored,
    Unguarded,
    split_address,
)
from lb.route import parse as route
from lb.secret import Pair
from lb.state import Ocsp


def decode(kv: KeyValue, roots: tuple[str, ...]) -> Stored | None:
    """Return the record of a key; None for a key that holds none.

    Raises:
        RecordError: names what is wrong with it.
    """
    ref = parse(kv.key, roots)
    if ref is None:
        return None
    try:
        if ref.kind is Kind.ACME:
            return entries.decode(ref, kv.value)
        return read(ref, kv.value)
    except Invalid as error:
        kind = Unguarded if ref.kind is Kind.MIDDLEWARE and _guards(kv.value) else RecordError
        raise kind(kv.key, str(error), kv.mod_revision) from error


def _guards(value: bytes) -> bool:
    """Say whether a middleware that cannot be used is one that limits who gets in."""
    try:
        found = types.find(Fields(msgspec.json.decode(value)).text("Type"))
    except (ValueError, RecursionError):
        return False
    return found is not None and found.guards


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
    return _BUILD[ref.kind](ref, Fields(tree))


def _host(ref: Ref, obj: Fields) -> Host:
    obj.text("Name")
    settings = obj.object("Settings")
    given = settings.object("OCSP")
    period = given.text("Period")
    _duration(period, "invalid OCSP period")
    ocsp = Ocsp(
        given.flag("Enabled"),
        (parse_seconds(period) if period else 0.0) or 3600.0,
        given.texts("Responders"),
        given.flag("SkipSignatureCheck"),
    )
    pair = secret.read(settings.any("KeyPair"))
    auto = _auto(ref, settings.object("AutoCert")) if settings.given("AutoCert") else None
    return Host(ref, settings.flag("Default"), pair, ocsp, auto, period, obj.rest())


def _auto(ref: Ref, given: Fields) -> AutoCert:
    directory = given.text("DirectoryURL")
    try:
        parts = urlsplit(directory)
        good = not directory or (parts.scheme == "https" and bool(parts.hostname))
    except ValueError:  # brackets that hold no IPv6 address
        good = False
    if not good:
        raise Invalid(f"Settings.AutoCert.DirectoryURL: '{directory}' is no https URL")
    email = given.text("Email")
    if not re.fullmatch(r"([!-~]+@[!-~]+)?", email):
        raise Invalid(f"Settings.AutoCert.Email: '{email}' is no address")
    before = given.seconds("RenewBefore")
    if before < 0:
        raise Invalid("Settings.AutoCert.RenewBefore: must not be negative")
    if not re.fullmatch(r"([a-z0-9_-]+\.)+[a-z0-9-]*[a-z][a-z0-9-]*", ref.id, re.IGNORECASE):
        raise Invalid(f"Settings.AutoCert: '{ref.id}' is no full name without a wildcard")
    external = given.object("ExternalAccount")
    key_id, mac = external.text("KeyID"), _mac_key(external.text("MACKey"))
    if bool(key_id) != (mac is not None):
        raise Invalid("Settings.AutoCert.ExternalAccount: KeyID and MACKey go together")
    return AutoCert(email, directory, before, _account_key(given.text("Key")), key_id, mac)


def _account_key(text: str) -> Pair | None:
    """Return an account's key, PEM or sealed as a key pair is; None for ""."""
    if not text.startswith("-----BEGIN"):
        return secret.read(text)
    from lb.acme.jws import AccountKey  # cryptography's 60 ms: vctl's start can do without

    try:
        AccountKey(text.encode())
    except (ValueError, TypeError) as error:
        raise Invalid(f"Settings.AutoCert.Key: {error}") from error
    return secret.KeyPair(text.encode(), b"")


def _mac_key(text: str) -> Pair | None:
    """Return the MAC key of an account elsewhere, base64url or sealed; None for ""."""
    try:
        pair = secret.read(text)
    except Invalid:  # as the authority gave it
        pair = None
    if not text or isinstance(pair, secret.Sealed):
        return pair
    if not re.fullmatch(r"[A-Za-z0-9_-]{22,}=*", text):  # 128 bits at least
        raise Invalid("Settings.AutoCert.ExternalAccount.MACKey: base64url is wanted")
    return secret.KeyPair(text.encode(), b"")


def _listener(ref: Ref, obj: Fields) -> Listener:
    obj.text("Id")
    protocol = obj.text("Protocol").lower()
    if protocol not in ("http", "https"):
        raise Invalid(f"unsupported protocol '{protocol}', supported protocols are http and https")
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
    ours = settings.pick(extension.IN_LISTENER)
    trusted = settings.texts("TrustedProxies")
    try:
        trusted = tuple(str(ip_network(item)) for item in trusted)
    except ValueError as error:
        raise Invalid(f"Settings.TrustedProxies: {error}") from error
    secure = tls.read(settings.object("TLS")) if settings.given("TLS") else {}
    if settings.given("ClientAuth"):
        secure["ClientAuth"] = tls.client_auth(settings.object("ClientAuth"))
    proxy = "" if proxy == "NONE" else proxy
    return Listener(
        ref, protocol, network, address, scope, proxy, trusted, secure, ours,
        _policy(extension.listener, ours), obj.rest(),
    )  # fmt: skip


def _policy(read: Callable[..., Any], *arguments: object) -> Any:
    try:
        return read(*arguments)
    except ValueError as error:
        raise Invalid(str(error)) from error


def _backend(ref: Ref, obj: Fields) -> Backend:
    obj.text("Id")
    kind = obj.text("Type")
    if kind != "http":
        raise Invalid(f"Unsupported backend type {kind}")
    settings = obj.object("Settings")
    ours = settings.pick(extension.IN_BACKEND)
    timeouts, keepalive = settings.object("Timeouts"), settings.object("KeepAlive")
    record = Backend(
        ref,
        kind,
        _duration(timeouts.text("Read"), "invalid read timeout"),
        _duration(timeouts.text("Dial"), "invalid dial timeout"),
        _duration(timeouts.text("TLSHandshake"), "invalid tls handshake timeout"),
        _duration(keepalive.text("Period"), "invalid keepalive period"),
        keepalive.number("MaxIdleConnsPerHost"),
        tls.read(settings.object("TLS")) if settings.given("TLS") else {},
        secret.read(settings.any("ClientCert")),
        ours,
        _policy(extension.backend, ours),
        obj.rest(),
    )
    if record.max_idle < 0:
        raise Invalid("Settings.KeepAlive.MaxIdleConnsPerHost: must not be negative")
    return record


def _duration(text: str, fault: str) -> str:
    if text:
        try:
            seconds = parse_seconds(text)
        except ValueError as error:
            raise Invalid(f"{fault}: {error}") from error
        if seconds < 0:
            raise Invalid(f'{fault}: "{text}" is negative')
    return text


def _server(ref: Ref, obj: Fields) -> Server:
    obj.text("Id")
    ours = obj.pick(extension.IN_SERVER)
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
    weight = obj.number("Weight") if obj.given("Weight") else 1
    if not 0 <= weight <= 4096:
        raise Invalid(f"Weight: {weight} is not between 0 and 4096")
    return Server(ref, url, weight, ours, _policy(extension.server, ours), obj.rest())


def _frontend(ref: Ref, obj: Fields) -> Frontend:
    obj.text("Id")
    kind = obj.text("Type")
    if kind != "http":
        raise Invalid(f"Unsupported frontend type: {kind}")
    backend, text = obj.text("BackendId"), obj.text("Route")
    if not backend:
        raise Invalid("supply valid  route, id, and backendId")
    _valid_route(text, f"route should be a valid route expression: {text}")
    settings = obj.object("Settings")
    own = obj.pick(extension.IN_FRONTEND)
    ours = settings.pick(extension.IN_SETTINGS)
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
        own,
        ours,
        _policy(extension.frontend, own, ours),
        obj.rest(),
    )
    if record.max_body < 0 or record.max_mem_body < 0:
        raise Invalid("Settings.Limits: a limit must not be negative")
    if not re.fullmatch(r"[\t -~]*", record.hostname):
        raise Invalid("Settings.Hostname: a control or non-ASCII character")
    if record.policy.headers:
        _made("header", record.policy.headers, "Settings.Headers: ")
    if any(shared.partition("/")[0] == ref.id for shared in record.policy.shared):
        raise Invalid("Middlewares: names of other frontends are wanted; its own pass anyway")
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


def _made(kind: str, body: Mapping[str, Any], where: str = "") -> None:
    """Refuse an object that no middleware can be made of."""
    try:
        types.make(kind, body).retire()
    except ValueError as error:
        raise Invalid(f"{where}{error}") from error


def _middleware(ref: Ref, obj: Fields) -> Middleware:
    obj.text("Id")
    kind = obj.text("Type")
    if "/" in kind:
        raise Invalid(f"middleware of type {kind} is not supported")
    body: JSON = obj.get("Middleware", dict, {})
    _made(kind, body)
    return Middleware(ref, kind, obj.number("Priority"), types.whole(kind, body), obj.rest())


_BUILD: Final[Mapping[Kind, Callable[[Ref, Fields], Record]]] = {
    Kind.HOST: _host,
    Kind.LISTENER: _listener,
    Kind.BACKEND: _backend,
    Kind.SERVER: _server,
    Kind.FRONTEND: _frontend,
    Kind.MIDDLEWARE: _middleware,
}
