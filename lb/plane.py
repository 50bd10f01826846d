# SPDX-License-Identifier: Apache-2.0
"""What runs: live frontends, pools and connections; shared by `transaction`, `upstream`, `observe`, `apply`.

One event loop, one thread: a change made here between two callbacks is seen whole by the next
request. A request keeps the live objects it began with (specs/vulcand.md §12.2).

Time: no timer per request (a call_later and its cancel cost 1.5 µs each). Connections note
`plane.now`, which the sweep sets twice a second, and the sweep finds those that are overdue.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final, Protocol

from fairlead.clock import SYSTEM, Clock
from lb import predicate
from lb.balance import RoundRobin
from lb.ledger import Counts
from lb.middleware import Chain
from lb.middleware.build import Links
from lb.mirror import Mirrors
from lb.policy import ListenerPolicy
from lb.pool import MOST_PLACES, LivePool, LiveServer, Run, Verdict
from lb.predicate import Predicate
from lb.route.match import Check, Index, check
from lb.route.order import Order, by_text
from lb.route.parse import parse
from lb.state import Frontend, Listener, Pool

_ROUTED: Final = 8192  # answers of the index that are remembered
_ROUTED_KEY: Final = 256  # bytes of method, host and path at most
SWEEP: Final = 0.5
"""Seconds between two looks at what is overdue; timeouts are this coarse."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take; seconds and bytes.

    Attributes:
        idle_timeout: between two requests; 0: as long as `read_timeout`.
    """

    head_bytes: int = (1 << 20) + 4096
    read_timeout: float = 60.0
    write_timeout: float = 60.0
    idle_timeout: float = 0.0

    @property
    def idle(self) -> float:
        """Seconds that a connection waits for its next request."""
        return self.idle_timeout or self.read_timeout

    def of(self, policy: ListenerPolicy) -> Limits:
        """Return the limits of a listener that has a say of its own."""
        return Limits(
            self.head_bytes,
            policy.read or self.read_timeout,
            policy.write or self.write_timeout,
            policy.idle or self.idle_timeout,
        )


Address = tuple[str, str]
"""Network and address, as a listener or `-apiInterface:-apiPort` spells them."""
Samples = list[Any]
"""Flat, four a finished attempt: LiveFrontend, LiveServer (None: the proxy itself), status, seconds.

Flat, because a tuple for each would be 30,000 objects a second for the garbage collector.
"""


def by_pools(samples: Samples) -> dict[LivePool, list[Run]]:
    """Return the answers of servers that are judged by them, in order, equal ones in a row counted."""
    rows: dict[LiveServer, list[list[int]]] = {}
    for server, status in zip(samples[1::4], samples[2::4], strict=True):
        if server is None or not server.pool.judged:
            continue
        row = rows.get(server)
        if row is None:
            rows[server] = [[status, 1]]
        elif row[-1][0] == status:
            row[-1][1] += 1
        else:
            row.append([status, 1])
    found: dict[LivePool, list[Run]] = {}
    for server, row in rows.items():
        found.setdefault(server.pool, []).extend((server, status, n) for status, n in row)
    return found


class Contexts(Protocol):
    """TLS settings → contexts; `lb.certificates` is the real one."""

    def server(self, listener: Listener) -> ssl.SSLContext:
        """Return what an https listener speaks; certificates are chosen by SNI."""

    def client(self, pool: Pool) -> ssl.SSLContext:
        """Return what is spoken to the https servers of a pool."""


class LiveFrontend:
    """A frontend in use and what it counts."""

    __slots__ = (
        "chain",
        "codes",
        "hostname",
        "mirror",
        "on_any",
        "pool",
        "predicate",
        "shares",
        "spec",
        "usual",
    )

    def __init__(
        self,
        spec: Frontend,
        pool: LivePool,
        chain: Chain | None = None,
        before: LiveFrontend | None = None,
    ) -> None:
        self.spec = spec
        self.pool = pool
        self.codes: dict[int, int] = before.codes if before else {}
        self.shares: RoundRobin[LivePool] | None = None  # of a frontend with a Split
        self.chain = chain
        self.hostname = spec.hostname.encode("ascii", "replace")
        self.predicate: Predicate | None = None
        if spec.failover is not None:
            self.predicate = predicate.parse(spec.failover or predicate.DEFAULT)
        # a predicate of the user's may ask for any code; the default one for 502 and 504 only
        self.on_any = bool(spec.failover)
        self.mirror: LivePool | None = None  # where copies of its requests go
        policy = spec.policy
        # nothing looks at its requests and responses but the heads' own lines
        self.usual = not (
            self.on_any or chain or policy.mirror or policy.max_response or policy.patience.request
        )


def pools_of(frontend: LiveFrontend) -> tuple[LivePool, ...]:
    """Return every pool that a frontend's requests may go to."""
    own = frontend.shares.servers if frontend.shares is not None else (frontend.pool,)
    return own if frontend.mirror is None else (*own, frontend.mirror)


class Accepting(Protocol):
    """What accepts on a listener's socket."""

    def close(self) -> None:
        """Stop accepting."""


class LiveListener:
    """Open sockets of one address, their scope and limits, and the connections it accepted.

    Attributes:
        clients: what a sweep looks at: connections, and HTTP/2's streams.
        connections: how many connections of clients there are in this process.
        counts: where several processes count them together.
    """

    __slots__ = (
        "_name",
        "_usual",
        "checks",
        "clients",
        "closing",
        "connections",
        "counts",
        "limits",
        "servers",
        "shares",
        "socks",
        "spec",
        "tls",
    )

    def __init__(
        self, spec: Listener, usual: Limits | None = None, counts: Counts | None = None
    ) -> None:
        self.spec = spec
        self.counts = counts
        self._name = b"listener " + spec.id.encode()
        self._usual = usual or Limits()
        self.connections = 0
        self.servers: list[Accepting] = []
        self.socks: list[socket.socket] = []  # more than one where several processes accept
        self.tls: ssl.SSLContext | None = None
        self.shares: dict[
            int, list[Accepting]
        ] = {}  # of other processes, for whom this one accepts
        self.clients: set[Any] = set()
        self.closing = False
        self.rescope(spec)

    @property
    def full(self) -> bool:
        """Whether no more connections may be accepted now."""
        most = self.spec.policy.max_conns
        if not most:
            return False
        return most <= (self.counts.count(self._name) if self.counts else self.connections)

    def enter(self) -> bool:
        """Count a connection; false when no more may be accepted. `leave` when it is over."""
        most = self.spec.policy.max_conns
        if self.counts is not None:  # counted without a limit too, since one may come
            if not self.counts.enter(self._name, most or MOST_PLACES, time.monotonic()):
                return False
        elif 0 < most <= self.connections:
            return False
        self.connections += 1
        return True

    def leave(self) -> None:
        """Count a connection no more."""
        self.connections -= 1
        if self.counts is not None:
            self.counts.leave(self._name)

    def rescope(self, spec: Listener) -> None:
        """Take over a spec of the same address."""
        self.spec = spec
        self.limits = self._usual.of(spec.policy)
        matchers = parse(spec.scope).matchers if spec.scope else ()
        self.checks: tuple[Check, ...] = tuple(map(check, matchers))


class Offer(Protocol):
    """Where other processes accept (`lb.team`): who hands them the sockets."""

    def offer(self, live: LiveListener) -> None:
        """Let them accept on a listener's sockets."""

    def withdraw(self, live: LiveListener) -> None:
        """Let them close them."""


class Plane:
    """The data plane of this process.

    Args:
        links: of frontends' middlewares; another one where several processes count together.
        order: which of several routes that match wins.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        clock: Clock = SYSTEM,
        links: Links | None = None,
        order: Order = by_text,
    ) -> None:
        self.limits = limits or Limits()
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.index: Index[LiveFrontend] = Index(order)
        self.frontends: dict[str, LiveFrontend] = {}
        self.links = links or Links()
        self.mirrors = Mirrors(self)
        self.stray: Chain | None = None  # passed by requests that no frontend serves
        self.pools: dict[str, LivePool] = {}
        self.listeners: dict[str, LiveListener] = {}
        self.retired: set[LiveListener] = set()
        self.upstreams: set[Any] = set()
        self.challenges: dict[str, bytes] = {}  # ACME's tokens and what is answered
        self.unrouted = 0
        self.refused = 0
        self.draining = False
        self.faults = 0
        # sockets a parent handed over, by network and address, until a listener wants them
        self.inherited: dict[Address, list[socket.socket]] = {}
        self.offers: Offer | None = None
        # of several processes: how many serve, what is counted together, who judges servers
        self.seats = 1
        self.seat = 0
        self.adopted: frozenset[int] = frozenset()
        self.adopting = asyncio.Lock()
        self.counts: Counts | None = None
        self.follows = False
        self.verdicts: dict[str, list[Verdict]] = {}
        self.on_verdict: Callable[[LivePool], None] | None = None
        self.heard: dict[LivePool, list[Run]] = {}  # of attempts that other processes made
        self.on_health: Callable[[str, str, str], None] | None = None
        self.on_fault: Callable[[str, Exception], None] | None = None
        # of all that decides where a request goes; what was remembered of an older one is void
        self.version = 0
        self.routed: dict[bytes, LiveFrontend] = {}
        self.routed_version = 0
        self.contexts: Contexts | None = None
        self.samples: Samples = []
        self.on_samples: Callable[[Samples], None] | None = None
        self.now = 0.0
        self._settled = 0.0
        self.date = b""
        self.tick()
        self._settled = self.now

    def tick(self) -> None:
        """Read the clock."""
        self.now = self.clock.monotonic()
        self.date = formatdate(self.clock.wall(), usegmt=True).encode()

    def pool(self, name: str) -> LivePool:
        """Return the live pool of a backend, empty when the backend does not exist (yet)."""
        pool = self.pools.get(name)
        if pool is None:
            pool = self.pools[name] = LivePool(name)
            pool.counts, pool.follows = self.counts, self.follows
            pool.on_verdict = self.on_verdict
            pool.share = 1.0 / self.seats if self.follows else 1.0
        return pool

    def put_pool(self, spec: Pool) -> None:
        """Use `spec`'s servers from the next request on."""
        pool = self.pool(spec.id)
        pool.put(spec, self.now)
        if self.follows:
            pool.follow(self.verdicts.get(spec.id, ()), self.now)

    def follow(self, name: str, verdict: list[Verdict]) -> None:
        """Take over what another process found out about a pool's servers."""
        self.verdicts[name] = verdict
        if name in self.pools:
            self.pools[name].follow(verdict, self.now)

    def remember(self, key: bytes, frontend: LiveFrontend) -> None:
        """Keep where requests of a method, host and path go, until anything changes."""
        if self.routed_version != self.version or len(self.routed) >= _ROUTED:
            self.routed = {}
            self.routed_version = self.version
        if len(key) <= _ROUTED_KEY:
            self.routed[key] = frontend

    def put_frontend(self, spec: Frontend) -> None:
        """Route by `spec` from the next request on; counters go on."""
        before = self.frontends.get(spec.id)
        chain = self.links.take(spec.id, spec.middlewares)
        live = LiveFrontend(spec, self.pool(spec.pool), chain, before)
        if spec.policy.split:
            own = 100 - sum(weight for _, weight in spec.policy.split)
            pools = [live.pool, *(self.pool(name) for name, _ in spec.policy.split)]
            live.shares = RoundRobin(pools, [own, *(w for _, w in spec.policy.split)])
        if spec.policy.mirror is not None:
            live.mirror = self.pool(spec.policy.mirror.backend)
        self.frontends[spec.id] = live
        self.version += 1
        self.index.put(spec.id, parse(spec.route), live, spec.policy.priority)
        if before is not None:
            self._forget(before)

    def drop_frontend(self, name: str) -> None:
        """Forget a frontend."""
        live = self.frontends.pop(name)
        self.version += 1
        self.index.remove(name)
        self.links.take(name, ())
        self._forget(live)

    def put_challenge(self, token: str, answer: bytes | None) -> None:
        """Answer who asks for an ACME token; None: no longer."""
        if answer is None:
            del self.challenges[token]
        else:
            self.challenges[token] = answer
        self.version += 1

    def drop_pool(self, name: str) -> None:
        """Forget a backend; frontends that point to it answer 503."""
        pool = self.pools[name]
        pool.drop()
        if not any(pool in pools_of(frontend) for frontend in self.frontends.values()):
            del self.pools[name]

    def _forget(self, gone: LiveFrontend) -> None:
        """Let go of empty pools that only this frontend asked for."""
        for pool in pools_of(gone):
            if pool.spec is None and not any(pool in pools_of(f) for f in self.frontends.values()):
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

    def fault(self, what: str, error: Exception) -> None:
        """Report a fault that cost one request, and count it."""
        self.faults += 1
        if self.on_fault is not None:
            self.on_fault(what, error)

    def settle(self) -> None:
        """Count the attempts that have ended since the last time, and judge servers by them."""
        samples, self.samples = self.samples, []
        passed, self._settled = self.now - self._settled, self.now
        by_pool = by_pools(samples)
        heard, self.heard = self.heard, {}
        for pool, runs in heard.items():
            by_pool.setdefault(pool, []).extend(runs)
        for pool in self.pools.values():
            if pool in by_pool or pool.restless:
                pool.judge(by_pool.get(pool, ()), self.now, passed)
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
