# SPDX-License-Identifier: Apache-2.0
"""The objects in force → the Traffic that should be. Pure; any order of keys gives the same.

* A frontend whose backend is missing stands and answers 503 until the backend comes (V3).
* Servers without a backend make one with default settings (specs/vulcand.md §2.2).
* Two servers with one scheme, host and port count once (§3.2).
* A middleware that cannot be used is left out, and named; one that limits who gets in closes its
  frontend (503) instead (§3.8).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fairlead.duration import parse_seconds
from fairlead.reconcile import Scope
from lb import records
from lb.catalog import Catalog
from lb.expr import ExpressionError
from lb.fields import Invalid
from lb.keys import Kind, Ref
from lb.middleware import access, tracing
from lb.route.parse import parse as parse_route
from lb.secret import Box, KeyPair, opened
from lb.state import ALIAS, Frontend, Host, Listener, Middleware, Pool, Server, Traffic

DEFAULT_LISTENER = "DefaultListener"
_REPLAY = 1 << 20  # MaxMemBodyBytes' default (§3.3)
_SPILL = 1 << 30  # bytes of a body without MaxBodyBytes that may lie in a file
_GO_KEEPALIVE = 15.0  # Go's default period of TCP probes (§3.1)
_GO_MAX_IDLE = 2
_HEADERS = "/headers"  # the link of a frontend's Headers; no id of a user's holds a `/`

Object = TypeVar("Object")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What settings say where a record says nothing; seconds.

    Attributes:
        listen: the built-in listener's address; None for no built-in listener.
        box: opens sealed key pairs; None where there is no seal key.
        otlp, trace_sample: collector of traces ("" for none), and the share that is recorded.
        access_log: file that every frontend's requests are logged to; "" for none.
        aliases: (old, new): a route that holds `old` is served with `new` in its place too (§6.3).
    """

    read_timeout: float = 60.0
    dial_timeout: float = 5.0
    trust_forward: bool = False
    listen: str | None = ":8181"
    box: Box | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    access_log: str = ""
    otlp: str = ""
    trace_sample: float = 0.0


def traffic(catalog: Catalog, defaults: Defaults, scope: Scope = None) -> Traffic:
    """Return what should be, within `scope` (Refs of listeners, backends and frontends)."""
    listeners = {
        name: Listener(
            name,
            record.network,
            record.address,
            record.scope,
            record.tls if record.protocol == "https" else None,
            record.proxy,
            record.trusted,
            record.policy,
        )
        for name, record in _within(catalog.listeners, Kind.LISTENER, scope)
    }
    if defaults.listen is not None and (
        scope is None or Ref(Kind.LISTENER, DEFAULT_LISTENER) in scope
    ):
        listeners[DEFAULT_LISTENER] = Listener(DEFAULT_LISTENER, "tcp", defaults.listen)
    return Traffic(
        listeners,
        {
            spec.id: spec
            for name, record in _within(catalog.frontends, Kind.FRONTEND, scope)
            for spec in _frontends(record, catalog, defaults)
        },
        {
            name: _pool(name, record, servers.values(), defaults)
            for name, record, servers in _backends(catalog, scope)
        },
        {
            name: Host(name, pair, record.default, record.ocsp)
            for name, record in _within(catalog.hosts, Kind.HOST, scope)
            if isinstance(pair := pair_of(record, catalog, defaults.box), KeyPair)
        },
        {
            name: challenge.answer
            for name, challenge in catalog.challenges.items()
            if scope is None or challenge.ref in scope
        },
    )


def _within(
    objects: Mapping[str, Object], kind: Kind, scope: Scope
) -> Iterator[tuple[str, Object]]:
    if scope is None:
        yield from objects.items()
        return
    for ref in scope:
        if isinstance(ref, Ref) and ref.kind is kind and ref.id in objects:
            yield ref.id, objects[ref.id]


def _backends(
    catalog: Catalog, scope: Scope
) -> Iterator[tuple[str, records.Backend, Mapping[str, records.Server]]]:
    """Give each backend and its servers; one without a key has default settings, or those it had."""
    if scope is None:
        names: Iterable[str] = (
            catalog.backends.keys() | catalog.servers.keys() | catalog.orphans.keys()
        )
    else:
        names = [ref.id for ref in scope if isinstance(ref, Ref) and ref.kind is Kind.BACKEND]
    for name in names:
        servers = catalog.servers.get(name, {})
        record = catalog.backends.get(name)
        if record is None and name in catalog.orphans:
            record, left = catalog.orphans[name]
            servers = servers or left
        if record is None and name in catalog.servers:
            record = records.Backend(Ref(Kind.BACKEND, name))
        if record is not None:
            yield name, record, servers


def _pool(
    name: str, backend: records.Backend, servers: Iterable[records.Server], defaults: Defaults
) -> Pool:
    seen: dict[tuple[str, int], Server] = {}
    for record in sorted(servers, key=lambda server: server.ref.id):
        host, port = record.address
        seen.setdefault(
            (host, port),
            Server(
                record.ref.id,
                host,
                port,
                record.authority,
                record.weight,
                record.secure,
                record.policy,
            ),
        )
    return Pool(
        name,
        tuple(seen.values()),
        _seconds(backend.read, defaults.read_timeout),
        _seconds(backend.dial, defaults.dial_timeout),
        _seconds(backend.keepalive_period, _GO_KEEPALIVE),
        backend.max_idle or _GO_MAX_IDLE,
        _seconds(backend.tls_handshake, 0.0),
        _client_tls(backend, defaults.box),
        backend.policy,
    )


def _client_tls(backend: records.Backend, box: Box | None) -> dict[str, Any]:
    """Return the TLS settings towards servers, the client's key pair opened."""
    if backend.client is None:
        return backend.tls
    try:
        pair = opened(backend.client, box)
    except Invalid:
        return backend.tls  # `problems` names it; servers that insist will refuse
    shown = {"Key": pair.key.decode("latin-1"), "Cert": pair.cert.decode("latin-1")}
    return {**backend.tls, "ClientCert": shown}


def pair_of(record: records.Host, catalog: Catalog, box: Box | None) -> KeyPair | str | None:
    """Return a host's key pair in the clear, or what is wrong with it; None where it has none.

    One of its own wins over what an ACME server issued.
    """
    issued = catalog.issued.get(record.ref.id) if record.auto is not None else None
    pair = record.pair or (issued.pair if issued is not None else None)
    if pair is None:
        return None
    try:
        return opened(pair, box)
    except Invalid as error:
        return str(error)


def _seconds(text: str, default: float) -> float:
    """Return a duration's seconds; unset and "0s" (what vctl sends for unset) are the default."""
    return (parse_seconds(text) if text else 0.0) or default


def _frontends(
    record: records.Frontend, catalog: Catalog, defaults: Defaults
) -> Iterator[Frontend]:
    """Give a frontend, and its twin under another route where an alias asks for one."""
    name = record.ref.id
    spec = Frontend(
        name,
        record.route,
        record.backend,
        None if record.stream else record.failover,
        _replay(record),
        0 if record.stream else record.max_body,
        record.hostname,
        record.trust_forward or defaults.trust_forward,
        record.pass_host,
        record.stream,
        closed(record, catalog),
        _links(record, catalog, defaults),
        record.policy,
        0 if record.stream else record.max_body or _SPILL,
        0 if record.stream else record.max_mem_body or _REPLAY,
    )
    yield spec
    route = record.route
    for old, new in defaults.aliases:
        route = route.replace(old, new)
    if route != record.route and _is_route(route):
        yield replace(spec, id=name + ALIAS, route=route)


def _replay(record: records.Frontend) -> int:
    """Return how many bytes of a body are kept: for another try, and for a mirror."""
    tries = (record.max_mem_body or _REPLAY) if record.failover and not record.stream else 0
    mirror = record.policy.mirror
    return max(tries, mirror.max_body if mirror is not None else 0)


def _links(
    record: records.Frontend, catalog: Catalog, defaults: Defaults
) -> tuple[Middleware, ...]:
    """Return what a frontend's requests pass: the log, its headers, its own and shared middlewares."""
    around = []
    if defaults.access_log:
        body = access.body(defaults.access_log)
        around.append(Middleware(access.NAME, access.NAME, 0, body))
    if defaults.otlp:
        body = tracing.body(defaults.otlp, defaults.trace_sample)
        around.append(Middleware(tracing.NAME, tracing.NAME, 0, body))
    if record.policy.headers:
        around.append(Middleware(_HEADERS, "header", 0, record.policy.headers))
    written = [(m, m.ref.id) for m in catalog.middlewares.get(record.ref.id, {}).values()]
    for shared in record.policy.shared:
        middleware = _shared(catalog, shared)
        if middleware is not None:
            written.append((middleware, shared))
    written.sort(key=lambda pair: (pair[0].priority, pair[1]))
    return (*around, *(Middleware(name, m.type, m.priority, m.body) for m, name in written))


def _shared(catalog: Catalog, name: str) -> records.Middleware | None:
    """Return the middleware of another frontend; `name` is "frontend/id"."""
    parent, _, middleware = name.partition("/")
    return catalog.middlewares.get(parent, {}).get(middleware)


def closed(record: records.Frontend, catalog: Catalog) -> str:
    """Return why a frontend must not be open, "" where it may: what it lacks might keep people out."""
    lacks = catalog.unguarded.get(record.ref.id)
    if lacks:
        return f"a middleware cannot be used: {min(lacks.values())}"
    missing = [name for name in record.policy.shared if _shared(catalog, name) is None]
    return f'the middleware "{missing[0]}" that it shares is missing' if missing else ""


def _is_route(text: str) -> bool:
    try:
        parse_route(text)
    except ExpressionError:
        return False
    return True
