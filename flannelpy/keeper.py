# SPDX-License-Identifier: Apache-2.0
"""Keep this host's lease (specs/flannel.md §7).

Renews at expiry − margin, is told by the mirror when the key changes, and ends when the lease is
lost. One etcd error at the wrong moment costs a retry, never the renewals (trap T6). A renewal
extends the etcd lease in place and so is no event for the peers.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fairlead.errors import StoreError
from fairlead.etcd.errors import LeaseLost
from fairlead.etcd.types import (
    NO_LEASE,
    Compare,
    KeyValue,
    Put,
    Result,
    Revision,
    Target,
)
from flannelpy.lease import Held, Leases

RETRY = 60.0  # seconds between tries to renew, as the original
AGAIN = 1.0  # seconds between tries to write changed attributes: peers wait for them


class Keeper:
    """Renews a lease until it is lost. The mirror tells `note` of the key; one `run` at a time."""

    def __init__(self, leases: Leases, held: Held) -> None:
        self.held = held
        self._wanted = held.value
        self._leases = leases
        self._clock = leases.clock
        self._lost: str | None = None
        self._woken = asyncio.Event()
        self._said = asyncio.Event()  # the key says what is wanted, or there is no key any more

    def note(self, kv: KeyValue | None, revision: Revision) -> None:
        """Take note of our key as of `revision`: as it is now, or None: deleted."""
        if revision <= self.held.revision:
            return  # from before we wrote it
        if kv is None:
            self._lost = "its key was deleted, or ran out"
        elif kv.lease != self.held.lease:
            # an operator put it under another lease, or under none: a reservation now
            expires = float("inf") if kv.lease == NO_LEASE else self._clock.monotonic()
            self.held = replace(self.held, lease=kv.lease, revision=revision, expires=expires)
        else:
            self.held = replace(self.held, revision=revision)
        if kv is not None and kv.value == self._wanted:
            self.held = replace(self.held, value=kv.value)  # our own put, seen before its answer
            self._said.set()
        elif kv is not None and kv.value != self.held.value:
            # written back it would only be written over again: a human has to look
            self._leases.log.error(
                "somebody else wrote our lease; do two hosts have the same PublicIP?",
                key=kv.key,
                value=kv.value,
                ours=self.held.value,
            )
        self._woken.set()

    def want(self, value: bytes) -> None:
        """Have the key say `value`: our attributes changed, the subnet stays ours."""
        if value != self._wanted:
            self._wanted = value
            self._said.clear()
            self._woken.set()

    async def said(self) -> None:
        """Return when the key says what `want` was given, or the lease is lost."""
        while self.held.value != self._wanted and self._lost is None:
            await self._said.wait()

    @property
    def due(self) -> float:
        """When to renew next, on the monotonic clock."""
        return self.held.expires - self._leases.margin

    async def run(self) -> str:
        """Renew when it is time; return why the lease is lost."""
        retry = 0.0
        while self._lost is None:
            if self.held.value != self._wanted:
                pause = await self._rewrite()
                if pause:
                    await self._sleep(pause)
                continue
            wait = max(self.due - self._clock.monotonic(), retry)
            if wait > 0 and not await self._sleep(wait):
                retry = 0.0
                continue
            retry = await self._renew()
        self._said.set()
        return self._lost

    async def _sleep(self, seconds: float) -> bool:
        """Return True when the time is up, False when woken before."""
        self._woken.clear()
        if self._lost is not None:
            return False
        waiter = asyncio.ensure_future(self._woken.wait())
        waits: list[asyncio.Future[object]] = [waiter]  # type: ignore[list-item]
        if seconds != float("inf"):
            waits.append(asyncio.ensure_future(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return not waiter.done()
        finally:
            for each in waits:
                each.cancel()

    async def _rewrite(self) -> float:
        """Put our attributes under the same key and etcd lease; return when to try again."""
        held, value = self.held, self._wanted
        same = Compare(held.key, Target.MOD, Result.EQUAL, held.revision)
        try:
            done = await self._leases.store.txn((same,), (Put(held.key, value, held.lease),))
        except LeaseLost:
            self._lost = "its etcd lease is gone"
            return 0.0
        except StoreError as error:
            self._leases.log.warning("lease not rewritten; trying again", reason=str(error))
            return AGAIN
        if not done.succeeded:
            return AGAIN  # somebody wrote or deleted it: the mirror is about to tell
        revision = max(self.held.revision, done.header.revision)
        self.held = replace(self.held, value=value, revision=revision)
        self._said.set()
        self._leases.log.info("lease rewritten, same subnet", subnet=str(held.subnets))
        return 0.0

    async def _renew(self) -> float:
        """Extend the etcd lease; return how long to wait at least before the next try."""
        begun = self._clock.monotonic()
        try:
            ttl = await self._leases.store.keep_alive(self.held.lease)
        except LeaseLost:
            self._lost = "its etcd lease is gone"
            return 0.0
        except StoreError as error:
            self._leases.log.warning("lease not renewed; trying again", reason=str(error))
            return RETRY
        self.held = replace(self.held, expires=begun + ttl)
        self._leases.log.info("Lease renewed, new expiration", seconds=ttl)
        # a lease shorter than the margin (an operator's) is renewed at a third of its time
        return min(ttl / 3, RETRY) if ttl <= self._leases.margin else 0.0
