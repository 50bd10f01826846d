# SPDX-License-Identifier: Apache-2.0
"""The objects in force → the Traffic that should be. Pure; any order of keys gives the same.

* A frontend whose backend is missing stands and answers 503 until the backend comes (V3).
* Servers without a backend make one with default settings (specs/vulcand.md §2.2).
* Two servers with one scheme, host and port count once (§3.2).
* A middleware that is not built yet is never passed over in silence: one that limits access
  closes its frontend (503), any other is left out; `problems` names both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fairlead.duration import parse_seconds
from fairlead.reconcile import Scope
from lb import records
from lb.catalog import Catalog
from lb.keys import Kind, Ref
from lb.state import Frontend, Listener, Pool, Server, Traffic

DEFAULT_LISTENER = "DefaultListener"
_LIMITING = frozenset({"ratelimit", "connlimit"})
_REPLAY = 1 << 20  # MaxMemBodyBytes' default (§3.3)
_GO_KEEPALIVE = 15.0  # Go's default period of TCP probes (§3.1)
_GO_MAX_IDLE = 2

Object = TypeVar("Object")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What settings say where a record says nothing; seconds.

    Attributes:
        listen: the built-in listener's address; None for no built-in listener.
    """

    read_timeout: float = 60.0
    dial_timeout: float = 5.0
    trust_forward: bool = False
    listen: str | None = ":8181"


def traffic(catalog: Catalog, defaults: Defaults, scope: Scope = None) -> Traffic:
    """Return what should be, within `scope` (Refs of listeners, backends and frontends)."""
    listeners = {
        name: Listener(
            name,
            record.network,
            record.address,
            record.scope,
            proxy=record.proxy,
            trusted=record.trusted,
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
            name: _frontend(record, catalog.middlewares.get(name, {}).values(), defaults)
            for name, record in _within(catalog.frontends, Kind.FRONTEND, scope)
        },
        {
            name: _pool(name, record, catalog.servers.get(name, {}).values(), defaults)
            for name, record in _backends(catalog, scope)
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


def _backends(catalog: Catalog, scope: Scope) -> Iterator[tuple[str, records.Backend]]:
    if scope is None:
        names: Iterable[str] = catalog.backends.keys() | catalog.servers.keys()
    else:
        names = [ref.id for ref in scope if isinstance(ref, Ref) and ref.kind is Kind.BACKEND]
    for name in names:
        record = catalog.backends.get(name)
        if record is None and name in catalog.servers:
            record = records.Backend(Ref(Kind.BACKEND, name))
        if record is not None:
            yield name, record


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
                record.url.startswith("https:"),
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
        policy=backend.policy,
    )


def _seconds(text: str, default: float) -> float:
    """Return a duration's seconds; unset and "0s" (what vctl sends for unset) are the default."""
    return (parse_seconds(text) if text else 0.0) or default


def _frontend(
    record: records.Frontend, middlewares: Iterable[records.Middleware], defaults: Defaults
) -> Frontend:
    closed = sorted(m.type for m in middlewares if m.type in _LIMITING)
    return Frontend(
        record.ref.id,
        record.route,
        record.backend,
        None if record.stream else record.failover,
        (record.max_mem_body or _REPLAY) if record.failover and not record.stream else 0,
        0 if record.stream else record.max_body,
        record.hostname,
        record.trust_forward or defaults.trust_forward,
        record.pass_host,
        record.stream,
        f'middleware "{closed[0]}" is not built yet' if closed else "",
        policy=record.policy,
    )


def problems(catalog: Catalog) -> dict[Ref, str]:
    """Return what is served otherwise than its keys say, and why; for status and log."""
    found: dict[Ref, str] = {}
    for name, record in catalog.frontends.items():
        if record.backend not in catalog.backends and record.backend not in catalog.servers:
            found[record.ref] = (
                f'backend "{record.backend}" is missing: every request is answered 503'
            )
        for middleware in catalog.middlewares.get(name, {}).values():
            done = "every request is answered 503" if middleware.type in _LIMITING else "left out"
            found[middleware.ref] = f'middleware "{middleware.type}" is not built yet: {done}'
    for parent, siblings in catalog.middlewares.items():
        if parent not in catalog.frontends:
            for middleware in siblings.values():
                found[middleware.ref] = f'frontend "{parent}" is missing'
    for parent in catalog.servers:
        if parent not in catalog.backends:
            found[Ref(Kind.BACKEND, parent)] = "has servers but no backend key: default settings"
    by_route: dict[str, list[str]] = {}
    for name, record in catalog.frontends.items():
        by_route.setdefault(record.route, []).append(name)
    for names in by_route.values():
        if len(names) > 1:
            wins = min(names)
            for name in names:
                if name != wins:
                    found[Ref(Kind.FRONTEND, name)] = (
                        f'frontend "{wins}" has the same route and wins'
                    )
    for ref in catalog.doubled():
        used, *others = (key.decode("utf-8", "replace") for key in catalog.spellings(ref))
        found.setdefault(ref, f"key {used} is in force, not {', '.join(others)}")
    return found


Source = Callable[[Scope], Traffic]
