# SPDX-License-Identifier: Apache-2.0
"""What runs: live frontends, pools and connections; shared by `proxy`, `upstream`, `observe`, `apply`.

One event loop, one thread: a change made here between two callbacks is seen whole by the next
request. A request keeps the live objects it began with (specs/vulcand.md §12.2).

Time: no timer per request (a call_later and its cancel cost 1.5 µs each). Connections note
`plane.now`, which the sweep sets twice a second, and the sweep finds those that are overdue.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final, Protocol

from fairlead.clock import SYSTEM, Clock
from lb import predicate
from lb.balance import RoundRobin
from lb.predicate import Predicate
from lb.route.match import Check, Index, check
from lb.route.parse import parse
from lb.state import Frontend, Listener, Pool, Server

SWEEP: Final = 0.5
"""Seconds between two looks at what is overdue; timeouts are this coarse."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take; seconds and bytes."""

    head_bytes: int = (1 << 20) + 4096
    read_timeout: float = 60.0
    write_timeout: float = 60.0


Samples = list[Any]
"""Flat, four a finished attempt: LiveFrontend, LiveServer (None: the proxy itself), status, seconds.

Flat, because a tuple for each would be 30,000 objects a second for the garbage collector.
"""


class Contexts(Protocol):
    """TLS settings → contexts; `lb.certificates` is the real one."""

    def server(self, listener: Listener) -> ssl.SSLContext:
        """Return what an https listener speaks; certificates are chosen by SNI."""

    def client(self, pool: Pool) -> ssl.SSLContext:
        """Return what is spoken to the https servers of a pool."""


class LiveServer:
    """A server and its idle connections, the last used at the end."""

    __slots__ = ("active", "gone", "host", "idle", "pool", "requests", "spec")

    def __init__(self, spec: Server, pool: LivePool) -> None:
        self.spec = spec
        self.pool = pool
        self.host = spec.authority.encode()
        self.idle: list[Any] = []
        self.active = 0
        self.requests = 0
        self.gone = False  # the pool has it no more: its connections are not kept

    def retire(self) -> None:
        """Close what is idle; what is in flight finishes and is not kept."""
        self.gone = True
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()


class LivePool:
    """A backend in use; `spec` is None while there is none and frontends wait for it."""

    __slots__ = ("id", "plain", "robin", "servers", "spec")

    def __init__(self, name: str) -> None:
        self.id = name
        self.spec: Pool | None = None
        self.plain = True  # whose turn it is does not depend on the request
        self.servers: dict[tuple[str, int], LiveServer] = {}
        self.robin: RoundRobin[LiveServer] = RoundRobin()

    def put(self, spec: Pool) -> None:
        """Take over a spec; servers that stay keep their connections if the settings do."""
        before, self.spec = self.spec, spec
        same = before is not None and _settings(before) == _settings(spec)
        old, self.servers = self.servers, {}
        for server in spec.servers:
            place = server.host, server.port
            kept = old.get(place)
            if kept is not None and same and kept.spec.authority == server.authority:
                kept.spec = server
                self.servers[place] = old.pop(place)
            else:
                self.servers[place] = LiveServer(server, self)
        self.robin = RoundRobin(tuple(self.servers.values()), [s.weight for s in spec.servers])
        for gone in old.values():
            gone.retire()

    def drop(self) -> None:
        """Have no servers."""
        self.spec = None
        old, self.servers = self.servers, {}
        self.robin = RoundRobin()
        for gone in old.values():
            gone.retire()


def _settings(pool: Pool) -> tuple[float, float, float, int]:
    return pool.read_timeout, pool.dial_timeout, pool.keepalive, pool.max_idle


class LiveFrontend:
    """A frontend in use and what it counts."""

    __slots__ = ("codes", "hostname", "on_any", "pool", "predicate", "spec")

    def __init__(self, spec: Frontend, pool: LivePool, codes: dict[int, int]) -> None:
        self.spec = spec
        self.pool = pool
        self.codes = codes
        self.hostname = spec.hostname.encode("ascii", "replace")
        self.predicate: Predicate | None = None
        if spec.failover is not None:
            self.predicate = predicate.parse(spec.failover or predicate.DEFAULT)
        # a predicate of the user's may ask for any code; the default one for 502 and 504 only
        self.on_any = bool(spec.failover)


class LiveListener:
    """An open socket, its scope and the connections it accepted."""

    __slots__ = ("checks", "clients", "closing", "server", "spec")

    def __init__(self, spec: Listener) -> None:
        self.spec = spec
        self.server: asyncio.Server | None = None
        self.clients: set[Any] = set()
        self.closing = False
        self.rescope(spec)

    def rescope(self, spec: Listener) -> None:
        """Take over a spec of the same address."""
        self.spec = spec
        matchers = parse(spec.scope).matchers if spec.scope else ()
        self.checks: tuple[Check, ...] = tuple(map(check, matchers))


class Plane:
    """The data plane of this process."""

    def __init__(self, limits: Limits | None = None, clock: Clock = SYSTEM) -> None:
        self.limits = limits or Limits()
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.index: Index[LiveFrontend] = Index()
        self.frontends: dict[str, LiveFrontend] = {}
        self.pools: dict[str, LivePool] = {}
        self.listeners: dict[str, LiveListener] = {}
        self.retired: set[LiveListener] = set()
        self.upstreams: set[Any] = set()
        self.unrouted = 0
        self.refused = 0
        self.draining = False
        self.version = (
            0  # of all that decides where a request goes; memories of an older one are void
        )
        self.contexts: Contexts | None = None
        self.samples: Samples = []
        self.on_samples: Callable[[Samples], None] | None = None
        self.now = 0.0
        self.date = b""
        self.tick()

    def tick(self) -> None:
        """Read the clock."""
        self.now = self.clock.monotonic()
        self.date = formatdate(self.clock.wall(), usegmt=True).encode()

    def pool(self, name: str) -> LivePool:
        """Return the live pool of a backend, empty when the backend does not exist (yet)."""
        pool = self.pools.get(name)
        if pool is None:
            pool = self.pools[name] = LivePool(name)
        return pool

    def put_frontend(self, spec: Frontend) -> None:
        """Route by `spec` from the next request on; counters go on."""
        before = self.frontends.get(spec.id)
        live = LiveFrontend(spec, self.pool(spec.pool), before.codes if before else {})
        self.frontends[spec.id] = live
        self.version += 1
        self.index.put(spec.id, parse(spec.route), live)
        if before is not None and before.pool is not live.pool:
            self._forget(before.pool)

    def drop_frontend(self, name: str) -> None:
        """Forget a frontend."""
        live = self.frontends.pop(name)
        self.version += 1
        self.index.remove(name)
        self._forget(live.pool)

    def drop_pool(self, name: str) -> None:
        """Forget a backend; frontends that point to it answer 503."""
        self.pools[name].drop()
        self._forget(self.pools[name])

    def _forget(self, pool: LivePool) -> None:
        if pool.spec is None and not any(f.pool is pool for f in self.frontends.values()):
            self.pools.pop(pool.id, None)

    def sweep(self) -> None:
        """Close what is overdue, trim what is idle."""
        self.tick()
        self.settle()
        for listener in (*self.listeners.values(), *self.retired):
            for client in tuple(listener.clients):
                client.check(self.now)
            if listener.closing and not listener.clients:
                self.retired.discard(listener)
        for pool in self.pools.values():
            for server in pool.servers.values():
                self._trim(server, pool)

    def settle(self) -> None:
        """Count the attempts that have ended since the last time."""
        samples, self.samples = self.samples, []
        for (frontend, status), count in Counter(
            zip(samples[::4], samples[2::4], strict=True)
        ).items():
            frontend.codes[status] = frontend.codes.get(status, 0) + count
        if self.on_samples is not None and samples:
            self.on_samples(samples)

    def _trim(self, server: LiveServer, pool: LivePool) -> None:
        """Keep `max_idle` connections of those that nobody used since the last sweep.

        Go's default of 2 kept strictly makes a busy pool connect anew for most requests; kept
        this way, a pool under load keeps what it uses, and at rest has what the settings say.
        """
        most = pool.spec.max_idle if pool.spec else 0
        surplus = len(server.idle) - most
        stale = 0
        while stale < surplus and server.idle[stale].since < self.now - SWEEP:
            stale += 1
        if stale:
            old, server.idle = server.idle[:stale], server.idle[stale:]
            for connection in old:
                connection.close()

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(SWEEP)
            self.sweep()

    def clients(self) -> int:
        """Return how many client connections are open."""
        return sum(len(live.clients) for live in (*self.listeners.values(), *self.retired))
