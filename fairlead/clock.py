# SPDX-License-Identifier: Apache-2.0
"""Time comes in from outside, so that tests can turn it by hand.

`Clock` is the seam; `SYSTEM` is the real one, `fairlead.testing.clock.ManualClock` the fake.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where a module gets its time from."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970-01-01 UTC, as the machine believes."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` (at once when not positive)."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """Return CLOCK_MONOTONIC in seconds."""
        return time.monotonic()

    def wall(self) -> float:
        """Return CLOCK_REALTIME in seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running loop."""
        await asyncio.sleep(max(0.0, seconds))


SYSTEM: Clock = SystemClock()
