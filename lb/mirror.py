# SPDX-License-Identifier: Apache-2.0
"""Copies of requests to another backend (a frontend's `Mirror`); its answers are thrown away.

::

    request answered ─► Mirror.copy ─► a server of the other backend ─► Sink: read to its end, forgotten

A copy goes out when the client has its answer, so that it costs the client nothing; at most
`MOST` are under way at once, those beyond are left out and counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lb.dial import connect
from lb.liveserver import LiveServer
from lb.policy import Mirror
from lb.pool import LivePool

if TYPE_CHECKING:
    from lb.http1 import Response
    from lb.sides import Answerer, Surroundings
    from lb.upstream import Upstream

MOST: Final = 256
"""Copies under way at once in a process."""
_PATIENCE: Final = 60.0  # seconds for a whole answer


class Sink:
    """Takes a response to its end: an `Asker` that wants nothing of it."""

    simple = False
    close_after = False
    sent_all = True
    fd = -1
    counted = 0

    def __init__(self, done: asyncio.Future[None]) -> None:
        self._done = done

    def _end(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def write(self, data: bytes) -> None:
        """Forget it."""

    def hold(self, wait: bool) -> None:
        """Nothing is sent but what was sent at once."""

    def spliceable(self) -> bool:
        """Nothing is passed on."""
        return False

    def answered(self, data: bytes, status: int, server: LiveServer) -> None:
        """Take a whole response; not called, since nothing is `simple`."""
        self._end()

    def response_head(self, response: Response, upstream: Answerer) -> bytes:
        """Take the head."""
        return b""

    def interim(self, response: Response) -> None:
        """Forget it."""

    def switched(self, response: Response, upstream: Answerer) -> bool:
        """Upgrade nothing."""
        return False

    def body_end(self, end: bytes, upstream: Answerer) -> None:
        """The server closed at the body's end."""
        self._end()

    def finished(self) -> None:
        """The whole response came."""
        self._end()

    def failed(self, status: int, upstream: Answerer) -> None:
        """The server failed; so be it."""
        self._end()

    def broken(self) -> None:
        """As `failed`, within the body."""
        self._end()

    def hang_up(self) -> None:
        """As `failed`."""
        self._end()


class Mirrors:
    """The copies of this process.

    Attributes:
        counts: by result: "sent", "failed", "left out".
    """

    def __init__(self, plane: Surroundings) -> None:
        self._plane = plane
        self._under_way: set[asyncio.Task[None]] = set()
        self._turns: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def due(self, frontend: str, mirror: Mirror) -> bool:
        """Say whether it is a request's turn: `percent` of them, evenly spread."""
        turn = self._turns[frontend]
        self._turns[frontend] = turn + 1
        return (turn + 1) * mirror.percent // 100 > turn * mirror.percent // 100

    def copy(
        self,
        pool: LivePool,
        method: bytes,
        wire: Callable[[LiveServer], bytes],
        body: bytes,
        client: asyncio.BaseTransport,
    ) -> None:
        """Send a copy.

        Args:
            wire: returns the head as a server gets it.
            client: whose connection a PROXY header names.
        """
        server = pool.pick((), lambda _: b"") if len(self._under_way) < MOST else None
        if server is None:
            self.counts["left out"] += 1
            return
        sending = self._send(pool, server, method, wire(server) + body, client)
        task = self._plane.loop.create_task(sending, name="mirror")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _send(
        self,
        pool: LivePool,
        server: LiveServer,
        method: bytes,
        request: bytes,
        client: asyncio.BaseTransport,
    ) -> None:
        limited = pool.limited
        try:
            await self._exchange(server, method, request, client)
        finally:
            if limited:
                pool.places.leave(server)

    async def _exchange(
        self, server: LiveServer, method: bytes, request: bytes, client: asyncio.BaseTransport
    ) -> None:
        upstream: Upstream | None = None
        while server.idle and upstream is None:
            upstream = server.idle.pop()
            if upstream is not None and upstream.transport.is_closing():
                upstream = None
        try:
            async with asyncio.timeout(_PATIENCE):
                if upstream is None:
                    upstream = await connect(self._plane, server, client)
                done = self._plane.loop.create_future()
                upstream.begin(Sink(done), method, request)
                await done
        except (OSError, TimeoutError, ValueError):
            self.counts["failed"] += 1
            if upstream is not None:
                upstream.abandon()
        else:
            self.counts["sent"] += 1
