# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

from fairlead.clock import Clock
from fairlead.testing.clock import ManualClock


async def test_sleepers_wake_in_order_at_their_own_times() -> None:
    clock = ManualClock()
    start, seen = clock.monotonic(), []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            seen.append((name, clock.monotonic() - start))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sleeper("a", 2, 2))
        tasks.create_task(sleeper("b", 3))
        await clock.advance(1)
        assert seen == []
        assert clock.next_wake() == 1
        await clock.advance(10)
    assert seen == [("a", 2), ("b", 3), ("a", 4)]
    assert clock.monotonic() - start == 11
    assert clock.sleeping == 0
    assert clock.next_wake() is None


async def test_cancelled_sleepers_are_forgotten() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(5))
    await clock.settle()
    assert clock.sleeping == 1
    task.cancel()
    await clock.advance(10)
    assert task.cancelled()
    assert clock.sleeping == 0


async def test_the_wall_clock_moves_along_and_jumps_alone() -> None:
    clock: Clock = ManualClock(monotonic=5, wall=100)
    assert isinstance(clock, ManualClock)
    await clock.advance(7)
    clock.jump_wall(-50)
    assert (clock.monotonic(), clock.wall()) == (12, 57)
    await clock.sleep(0)
