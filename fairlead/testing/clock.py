# SPDX-License-Identifier: Apache-2.0
"""`ManualClock`: time that passes only when a test says so.

Both clocks, monotonic and wall, move together by `advance`; `jump_wall` moves the wall clock
alone, as an operator or NTP would. Sleepers wake in the order of their times, and between two
of them the loop turns until it is quiet, so that what one sleeper starts is seen by the next.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

_TURNS = 20  # turns of the loop given to the woken before time goes on


class ManualClock:
    """A `fairlead.clock.Clock` whose hands a test turns."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = monotonic
        self._wall = wall
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        """Return the seconds shown."""
        return self._now

    def wall(self) -> float:
        """Return the seconds since 1970 shown."""
        return self._wall

    async def sleep(self, seconds: float) -> None:
        """Return once `advance` has gone `seconds` further; not positive: after one turn."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        await woken

    @property
    def sleeping(self) -> int:
        """How many tasks wait on this clock."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    def next_wake(self) -> float | None:
        """Return the seconds until the first sleeper is due; None when nobody sleeps."""
        due = [at for at, _, woken in self._sleepers if not woken.done()]
        return min(due) - self._now if due else None

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass and wake, one after the other, all who are due."""
        until = self._now + seconds
        await self.settle()  # those about to sleep fall asleep before time moves
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, woken = heapq.heappop(self._sleepers)
            self._move(max(at, self._now))
            if not woken.done():
                woken.set_result(None)
                await self.settle()
        self._move(until)
        await self.settle()

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back; nobody wakes."""
        self._wall += seconds

    async def settle(self) -> None:
        """Let the loop turn until those who were woken have had their say."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def _move(self, now: float) -> None:
        self._wall += now - self._now
        self._now = now
