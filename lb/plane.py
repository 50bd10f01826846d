# SPDX-License-Identifier: Apache-2.0
"""What runs: live frontends, pools and connections; shared by `transaction`, `upstream`, `observe`, `apply`.

One event loop, one thread: a change made here between two callbacks is seen whole by the next
request. A request keeps the live objects it began with (specs/vulcand.md §12.2).

Time: no timer per request (a call_later and its cancel cost 1.5 µs each). Connections note
`plane.now`, which the sweep sets twice a second, and the sweep finds those that are overdue.

Pauses: while the plane does something of its own, requests wait. At 14,000 a second, to count half
a second's attempts at once took 11 ms, and made 7 ms of the slowest hundredth of all answers; so it
is done in shares (`run`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from typing import Any, Final, Protocol

from fairlead.clock import SYSTEM, Clock
from lb import tallies
from lb.balance import RoundRobin
from lb.ledger import Counts
from lb.live import Limits, LiveFrontend, LiveListener, pools_of
from lb.liveserver import LiveServer
from lb.middleware import Chain
from lb.middleware.build import Links
from lb.mirror import Mirrors
from lb.pieces import pieces
from lb.pool import LivePool, Verdict
from lb.route.match import Index
from lb.route.order import Order, by_text
from lb.route.parse import parse
from lb.state import Frontend, Listener, Pool
from lb.tallies import Runs, Tallies, Tally

_ROUTED: Final = 8192  # answers of the index that are remembered
_ROUTED_KEY: Final = 256  # bytes of method, host and path at most
SWEEP: Final = 0.5
"""Seconds between two looks at what is overdue; timeouts are this coarse."""
_SHARE: Final = 128  # attempts counted at once
_MOST_SHARES: Final = 100  # of a sweep's time
_AT_ONCE: Final = 256  # connections or pools looked at before others have their turn: 0.1 ms

Address = tuple[str, str]
"""Network and address, as a listener or `-apiInterface:-apiPort` spells them."""


class Contexts(Protocol):
    """TLS settings → contexts; `lb.certificates` is the real one."""

    def server(self, listener: Listener) -> ssl.SSLContext:
        """Return what an https listener speaks; certificates are chosen by SNI."""

    def client(self, pool: Pool) -> ssl.SSLContext:
        """Return what is spoken to the https servers of a pool."""


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
        self.on_pools: Callable[[], None] | None = None  # pools or their servers have changed
        self.on_verdict: Callable[[LivePool], None] | None = None
        self.heard: Runs = {}  # of attempts since the servers were judged last; by other processes too
        self.on_health: Callable[[str, str, str], None] | None = None
        self.on_fault: Callable[[str, Exception], None] | None = None
        # of all that decides where a request goes; what was remembered of an older one is void
        self.version = 0
        self.routed: dict[bytes, LiveFrontend] = {}
        self.routed_version = 0
        self.contexts: Contexts | None = None
        self.tallies = Tallies()
        self.on_attempts: Callable[[Sequence[Tally], Runs], None] | None = None
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
            pool.places.counts, pool.follows = self.counts, self.follows
            pool.on_verdict = self.on_verdict
            pool.share = 1.0 / self.seats if self.follows else 1.0
        return pool

    def put_pool(self, spec: Pool) -> None:
        """Use `spec`'s servers from the next request on."""
        pool = self.pool(spec.id)
        pool.put(spec, self.now)
        if self.follows:
            pool.follow(self.verdicts.get(spec.id, ()), self.now)
        if self.on_pools is not None:
            self.on_pools()

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
        if self.on_pools is not None:
            self.on_pools()
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
        for _ in self._overdue():
            pass

    def _overdue(self) -> Iterator[None]:
        """Close what is overdue, trim what is idle; some at a time."""
        for listener in (*self.listeners.values(), *self.retired):
            for clients in pieces(listener.clients, _AT_ONCE):
                for client in clients:
                    client.check(self.now)
                yield
            if listener.closing and not listener.clients:
                self.retired.discard(listener)
        for pools in pieces(self.pools.values(), _AT_ONCE):
            for pool in pools:
                for server in pool.servers.values():
                    self._trim(server, pool)
            yield

    def fault(self, what: str, error: Exception) -> None:
        """Report a fault that cost one request, and count it."""
        self.faults += 1
        if self.on_fault is not None:
            self.on_fault(what, error)

    def count(self) -> int:
        """Count the attempts that have ended since the last time.

        Returns:
            How many.
        """
        ended = self.tallies.take()
        if not ended:
            return 0
        for tally in ended:
            codes = tally.frontend.codes
            for status, count in tally.counts.items():
                codes[status] = codes.get(status, 0) + count
        runs = tallies.runs(ended)
        for pool, of_pool in runs.items():
            self.heard.setdefault(pool, []).extend(of_pool)
        if self.on_attempts is not None:
            self.on_attempts(ended, runs)
        return sum(len(tally.codes) for tally in ended)

    def settle(self) -> None:
        """Judge servers by the attempts that have ended since the last time."""
        self.count()
        passed, self._settled = self.now - self._settled, self.now
        heard, self.heard = self.heard, {}
        for pool in self.pools.values():
            if pool in heard or pool.restless:
                pool.judge(heard.get(pool, ()), self.now, passed)

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
        """Sweep for ever, and count attempts in small shares while many end."""
        shares = 1
        while True:
            ended = 0
            for _ in range(shares):
                await asyncio.sleep(SWEEP / shares)
                ended += self.count()
            shares = min(max(1, ended // _SHARE), _MOST_SHARES)
            self.tick()
            self.settle()
            for _ in self._overdue():
                await asyncio.sleep(0)

    def clients(self, *, upgraded: bool = True) -> int:
        """Return how many client connections are open; not those `upgraded` where that is false."""
        listeners = (*self.listeners.values(), *self.retired)
        if upgraded:
            return sum(len(live.clients) for live in listeners)
        return sum(not client.upgraded for live in listeners for client in live.clients)
