# SPDX-License-Identifier: Apache-2.0
"""One question to the servers of a route, until one of them has answered.

They are tried in turn, those that are down last; one that is silent for `hedge` seconds gets
company by the next, and whoever answers first has answered. SERVFAIL and REFUSED are tried on the
next server too.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from fairlead import tls
from skydns import message, rrs
from skydns.addresses import Server
from skydns.exchange import Habits, Sent, exchange
from skydns.health import Health
from skydns.https import ALPN
from skydns.seen import moment
from skydns.streams import Streams, Way
from skydns.upstream import Probe, Routes, Upstream

DEADLINE: Final = 4.5  # seconds for all servers together: stub resolvers give up after 5
PROBED: Final = 2.0  # seconds for the answer to a probe
FAILURES: Final = (OSError, TimeoutError, asyncio.IncompleteReadError)

Said = Callable[[str, Server], None]
"""Told what happens to a server: an event and the server."""


class Asking:
    """Asks the servers.

    Attributes:
        routes: all that there are; a probe goes to a server in the way of the first that has it.
        barred: servers that are not asked.
        took: answers by server, rcode and upper bound of the seconds they took.
    """

    def __init__(self, routes: Routes, said: Said) -> None:
        self.routes = routes
        self.health = Health(self._alive, said)
        self.streams = Streams()
        self.barred: set[Server] = set()
        self.took: Counter[tuple[str, str, float]] = Counter()
        self._turn = 0
        self._habits: dict[Server, Habits] = {}
        self._contexts: dict[tuple[tuple[str, str, str], bool], ssl.SSLContext] = {}

    @property
    def strays(self) -> int:
        """Messages that answered no question of ours."""
        return sum(habits.strays for habits in self._habits.values())

    def use(self, routes: Routes) -> None:
        """Ask by other routes from now on."""
        self.health.forget(self.routes.servers - routes.servers)
        self.routes = routes

    async def aclose(self) -> None:
        """Stop probing, and close what was kept open."""
        await self.health.aclose()
        self.streams.close()

    def cut_off(self, upstream: Upstream) -> bool:
        """Say whether the network's word is that none of the servers is there."""
        return all(self._habit(server).unreachable for server in upstream.servers)

    async def answer(self, sent: Sent, upstream: Upstream) -> bytes | None:
        """Return the answer of a route's servers, or of those that follow; None: there is none."""
        found = await self._race(sent, upstream)
        route: Upstream | None = upstream
        while route is not None and found is not None and route.passes_on(found):
            if (route := route.following) is not None:
                found = await self._race(sent, route)
        return found

    async def _race(self, sent: Sent, upstream: Upstream) -> bytes | None:
        """Ask one server after the other, the next when one fails or takes its time."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + DEADLINE
        order = self._order(upstream)
        if upstream.failfast and order and self.health.all_down(order):
            return None
        attempts = upstream.attempts or 2 * len(order)  # a lost datagram, a server that came back
        waiting = deque((*order, *order)[:attempts])
        running: dict[asyncio.Task[bytes | None], tuple[Server, float]] = {}
        unwell: bytes | None = None
        following = 0.0  # when the next may be asked
        try:
            while (waiting or running) and (now := loop.time()) < ends:
                if waiting and (not running or now >= following):
                    server = waiting.popleft()
                    task = asyncio.ensure_future(self._ask_one(server, sent, upstream, ends))
                    running[task] = server, now
                    following = now + upstream.hedge
                until = min(ends, following) if waiting else ends
                done, _ = await asyncio.wait(
                    running, timeout=max(until - now, 0.0), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    server, _ = running.pop(task)
                    found = task.result()
                    if found is not None and found[3] & 0xF not in upstream.failover:
                        return found
                    unwell = unwell or found
                    following = 0.0
        finally:
            for task, (server, begun) in running.items():
                task.cancel()
                if loop.time() - begun >= upstream.hedge:  # others were faster, again
                    self.health.failed(server, upstream.fails, upstream.probe)
        return unwell

    async def _ask_one(
        self, server: Server, sent: Sent, upstream: Upstream, ends: float
    ) -> bytes | None:
        """Return one server's answer, None when it gave none in its time."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        try:
            async with asyncio.timeout_at(min(now + upstream.timeout, ends)):
                found = await self.put_to(server, sent, upstream)
        except FAILURES as error:
            self._habit(server).unreachable = bool(getattr(error, "errno", None))
            self.health.failed(server, upstream.fails, upstream.probe)
            return None
        self.health.well(server)
        rcode = rrs.RCODES.get(found[3] & 0xF, str(found[3] & 0xF))
        self.took[str(server), rcode, moment(loop.time() - now)] += 1
        return found

    async def put_to(self, server: Server, sent: Sent, upstream: Upstream | None = None) -> bytes:
        """Put a question to one server and return what it answers.

        Args:
            upstream: says how it is spoken to; None: as the first route that has it says.

        Raises:
            FAILURES: it gave no answer.
        """
        way = self._way(server, upstream)
        return await exchange(server, sent, self._habit(server), self.streams, way)

    async def _alive(self, server: Server, probe: Probe) -> bool:
        """Say whether a server answers anything at all."""
        flags = message.RD if probe.recursive else 0
        sent = Sent(probe.name, rrs.NS, rrs.IN, flags, do=False)
        try:
            async with asyncio.timeout(PROBED):
                await self.put_to(server, sent)
        except FAILURES:
            return False
        return True

    def _habit(self, server: Server) -> Habits:
        return self._habits.setdefault(server, Habits())

    def _way(self, server: Server, upstream: Upstream | None = None) -> Way:
        """Return how a server is spoken to."""
        if upstream is None:
            upstream = next(each for each in self.routes.every if server in each.servers)
        context = self._tls(upstream.files, https=server.https) if server.tls else None
        return Way(
            upstream.tcp, context, upstream.source, upstream.expire, upstream.idle, upstream.get
        )

    def _tls(self, files: tuple[str, str, str], *, https: bool) -> ssl.SSLContext:
        if (made := self._contexts.get((files, https))) is None:
            made = self._contexts[files, https] = tls.client_context(*files)
            if https:
                made.set_alpn_protocols([ALPN])
        return made

    def _order(self, upstream: Upstream) -> list[Server]:
        """Return the servers as they are to be asked: in turn, those that are down last."""
        servers = [server for server in upstream.servers if server not in self.barred]
        if upstream.rotate and servers:
            self._turn += 1
            turn = self._turn % len(servers)
            servers = servers[turn:] + servers[:turn]
        return sorted(servers, key=self.health.down.__contains__)
