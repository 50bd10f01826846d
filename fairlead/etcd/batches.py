# SPDX-License-Identifier: Apache-2.0
"""A mirror's changes for a consumer that takes its time (specs/etcd.md §7).

What comes while it works is merged by key, the last state wins: what waits is bounded by the
number of keys, not of events. A key that came back to what the consumer saw is not delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fairlead.clock import Clock
from fairlead.etcd.types import KeyValue, Revision
from fairlead.etcd.view import Change, Changes


class Batches:
    """Iterate over it: one batch at a time, everything that came since the one before.

    Args:
        quiet: seconds without a change to wait for before a batch is given, at most `at_most`
            seconds in all; 0: given at once (confd's `wait` asks for more).
    """

    def __init__(self, clock: Clock, quiet: float = 0.0, at_most: float = 0.0) -> None:
        self._clock = clock
        self._quiet = quiet
        self._at_most = at_most
        self._merged: dict[bytes, tuple[KeyValue | None, KeyValue | None]] = {}  # new, old
        self._revision = Revision(0)
        self._resync = False
        self._wake = asyncio.Event()

    def add(self, batch: Changes) -> None:
        """Take in one batch of the mirror's."""
        merged = self._merged
        for change in batch.changes:
            before = merged.get(change.key)
            old = change.old if before is None else before[1]
            merged[change.key] = (change.new, old)
        self._revision = batch.revision
        self._resync = self._resync or batch.resync
        self._wake.set()

    async def next(self) -> Changes:
        """Return all that changed since the last call; wait until something did."""
        await self._wake.wait()
        if self._quiet > 0:
            await self._settle()
        self._wake.clear()
        merged, self._merged = self._merged, {}
        resync, self._resync = self._resync, False
        changes = tuple(
            Change(key, new, old) for key, (new, old) in merged.items() if new is not old
        )
        return Changes(self._revision, changes, resync)

    async def _settle(self) -> None:
        end = self._clock.monotonic() + max(self._at_most, self._quiet)
        while (left := end - self._clock.monotonic()) > 0:
            self._wake.clear()
            await self._clock.sleep(min(self._quiet, left))
            if not self._wake.is_set():
                return

    async def __aiter__(self) -> AsyncIterator[Changes]:
        """Yield batches for ever."""
        while True:
            yield await self.next()
