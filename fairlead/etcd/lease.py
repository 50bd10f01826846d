# SPDX-License-Identifier: Apache-2.0
"""`Session`: keys that live while we do (specs/etcd.md §8).

::

    grant ─► put the keys ─► keep alive, TTL/3 after each answer ─┐
      ▲                                                           │ TTL 0, "lease not found",
      └──────────── on_lost ◄─────────────────────────────────────┘ or no answer for a whole TTL

The id of a lease is ours and random, so that a grant whose answer was lost may be repeated.
By our own clock, counted from when the last answered keepalive was *sent*, we act as having
lost the lease before the server does: a leader must stop leading in time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Never

from fairlead.backoff import Backoff
from fairlead.clock import SYSTEM, Clock
from fairlead.errors import StoreError
from fairlead.etcd.errors import LeaseExists, LeaseLost
from fairlead.etcd.observer import SILENT, Observer
from fairlead.etcd.store import Store
from fairlead.etcd.types import NO_LEASE, LeaseID, Put

PUTS = 100  # keys in one transaction; etcd takes 128 operations by default (§6.8)
REVOKE_WAIT = 1.0  # seconds, best effort, when we stop
REFUSED_WAIT = 30.0  # seconds between tries of what only an operator can mend (§5.3)


def _nothing() -> None:
    """Nobody asked to be told."""


class Session:
    """Keeps `keys` in etcd under a lease of `ttl_seconds` while `run` runs.

    Attributes:
        lease: the lease held now; NO_LEASE while there is none.
        problem: why there is none, or what the last keepalive said; "" while all is well.
    """

    def __init__(
        self,
        store: Store,
        ttl_seconds: int,
        keys: Mapping[bytes, bytes],
        *,
        on_lost: Callable[[], None] = _nothing,
        on_regained: Callable[[], None] = _nothing,
        clock: Clock = SYSTEM,
        observer: Observer = SILENT,
        backoff: Backoff | None = None,
    ) -> None:
        self.lease = NO_LEASE
        self.problem = ""
        self._store = store
        self._ttl = ttl_seconds
        self._keys = dict(keys)
        self._on_lost = on_lost
        self._on_regained = on_regained
        self._clock = clock
        self._observer = observer
        self._backoff = backoff or Backoff()
        self._held = asyncio.Event()
        self._candidate = NO_LEASE

    async def held(self) -> None:
        """Return when the lease is granted and the keys are written."""
        await self._held.wait()

    async def run(self) -> Never:
        """Hold the keys until cancelled; then give the lease back. Never ends for etcd's sake."""
        regained = False
        try:
            while True:
                ttl, sent = await self._hold()
                self._held.set()
                self._observer.lease(self.lease, "regained" if regained else "granted")
                if regained:
                    self._on_regained()
                await self._keep(ttl, sent)
                lost, self.lease = self.lease, NO_LEASE
                self._held.clear()
                self._observer.lease(lost, "lost")
                self._on_lost()
                regained = True
        finally:
            await self._give_back()

    async def _hold(self) -> tuple[float, float]:
        """Grant a lease and put the keys; return its TTL and when it was asked for."""
        self._candidate = _random_id()
        while True:
            sent = self._clock.monotonic()
            try:
                ttl = await self._grant()
                await self._put()
            except LeaseLost as error:  # it ran out before the keys were written
                self.problem = str(error)
                self._candidate = _random_id()
                await self._clock.sleep(self._backoff.next())
            except StoreError as error:
                self.problem = str(error)
                wait = self._backoff.next()
                await self._clock.sleep(wait if error.transient else max(wait, REFUSED_WAIT))
            else:
                self._backoff.reset()
                self.problem = ""
                self.lease, self._candidate = self._candidate, NO_LEASE
                return float(ttl), sent

    async def _grant(self) -> int:
        try:
            return (await self._store.grant(self._ttl, self._candidate)).ttl_seconds
        except LeaseExists:  # ours: the answer to an earlier grant was lost
            return await self._store.keep_alive(self._candidate)

    async def _put(self) -> None:
        items = list(self._keys.items())
        for at in range(0, len(items), PUTS):
            puts = [Put(key, value, self._candidate) for key, value in items[at : at + PUTS]]
            await self._store.txn(success=puts, repeatable=True)

    async def _keep(self, ttl: float, sent: float) -> None:
        """Renew until the lease is lost."""
        clock = self._clock
        answered = clock.monotonic()
        due = answered + ttl / 3
        while True:
            await clock.sleep(due - clock.monotonic())
            now = clock.monotonic()
            left = sent + ttl - now
            if left <= 0:
                self.problem = f"no keepalive was answered for {ttl:g} s"
                return
            try:
                async with asyncio.timeout(left):
                    ttl = float(await self._store.keep_alive(self.lease))
            except LeaseLost as error:
                self.problem = str(error)
                return
            except (StoreError, TimeoutError) as error:
                self.problem = str(error) or "keepalive: no answer"
                due = min(clock.monotonic() + self._backoff.next(), sent + ttl)
            else:
                sent = now
                due = clock.monotonic() + ttl / 3
                self.problem = ""
                self._backoff.reset()
                self._observer.lease(self.lease, "kept")

    async def _give_back(self) -> None:
        """Revoke what we hold or may have been granted; etcd lets it run out otherwise."""
        for lease in {self.lease, self._candidate} - {NO_LEASE}:
            try:
                async with asyncio.timeout(REVOKE_WAIT):
                    await self._store.revoke(lease)
            except (StoreError, TimeoutError) as error:
                self.problem = f"lease {lease:x} not revoked, it runs out by itself: {error}"
        self.lease = self._candidate = NO_LEASE


def _random_id() -> LeaseID:
    return LeaseID(secrets.randbelow((1 << 63) - 1) + 1)
