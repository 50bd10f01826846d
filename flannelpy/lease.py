# SPDX-License-Identifier: Apache-2.0
"""Get and regain this host's subnet (specs/flannel.md §6).

::

    acquire: list ─► allocate.choose ─► one guarded transaction ─► Held
                 ▲                              │ lost the race, etcd away: again, with jitter
                 └──────────────────────────────┘

Where the original ends the process (a lost race: trap T3), this tries again for ever. A restart
that finds its lease as it left it writes nothing at all. `keeper` renews what is got here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from fairlead.backoff import Backoff
from fairlead.clock import SYSTEM, Clock
from fairlead.errors import FairleadError, RecordError, StoreError
from fairlead.etcd.errors import LeaseLost, Unclear
from fairlead.etcd.store import Store
from fairlead.etcd.types import (
    NO_LEASE,
    Compare,
    Delete,
    KeyRange,
    LeaseID,
    Put,
    Result,
    Revision,
    Target,
)
from flannelpy import allocate, keys
from flannelpy.allocate import Create, Exhausted, Pick, Reuse, Wish
from flannelpy.keys import Subnets
from flannelpy.records import Attributes, Lease, NetworkConfig, decode_lease, encode_attributes

TTL = 86400  # seconds; a constant of the original
EXHAUSTED_RETRY = 10.0  # seconds before looking again for a free subnet
RACES = 3  # after so many lost races choose among all free subnets, not only the first hundred


class OutOfSubnets(FairleadError):
    """Every subnet is taken, and the operator asked not to wait for one."""


class Tell(Protocol):
    """The part of the log that this module uses."""

    def info(self, message: str, /, **fields: object) -> None:
        """Log a change of the world."""
        ...

    def warning(self, message: str, /, **fields: object) -> None:
        """Log what mends itself."""
        ...

    def error(self, message: str, /, **fields: object) -> None:
        """Log what somebody must mend."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """Our lease.

    Attributes:
        lease: etcd's; 0: a reservation, which needs no renewal.
        revision: of the store when we knew this to be so.
        expires: on the monotonic clock; of a reservation never.
    """

    key: bytes
    subnets: Subnets
    value: bytes
    lease: LeaseID
    revision: Revision
    expires: float


@dataclass(slots=True)
class Leases:
    """This host's dealings with `<prefix>/subnets`.

    Attributes:
        margin: seconds before expiry to renew.
        wait: wait for a subnet when all are taken; else raise OutOfSubnets.
        known: all leases, when a mirror has them live: a first try needs no list of its own.
    """

    store: Store
    prefix: str
    log: Tell
    pick: Pick
    margin: float = 3600.0
    wait: bool = True
    known: Callable[[], Iterable[Lease] | None] = lambda: None
    clock: Clock = SYSTEM
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.1, most=5.0))

    async def acquire(self, config: NetworkConfig, attributes: Attributes, wish: Wish) -> Held:
        """Return our lease; tries until it has one.

        Raises:
            OutOfSubnets: all are taken and `wait` is off.
        """
        races = 0
        self.backoff.reset()
        while True:
            try:
                held = await self._round(config, attributes, wish, races)
            except StoreError as error:
                self.log.warning("no lease yet: etcd refused", reason=str(error))
                await self.clock.sleep(self.backoff.next())
                continue
            if isinstance(held, Held):
                return held
            if isinstance(held, Exhausted):
                if not self.wait:
                    raise OutOfSubnets(str(held))
                self.log.error("no lease yet", reason=str(held))
                await self.clock.sleep(EXHAUSTED_RETRY * (0.5 + self.backoff.random()))
                continue
            races += 1
            self.log.info("another host was faster; choosing again", races=races)
            await self.clock.sleep(self.backoff.next())

    async def _round(
        self, config: NetworkConfig, attributes: Attributes, wish: Wish, races: int
    ) -> Held | Exhausted | None:
        """List, choose, write; None: the world changed meanwhile."""
        value = encode_attributes(attributes)
        window = allocate.CANDIDATES if races < RACES else 1 << 20
        known = None if races else self.known()
        standing = await self._list() if known is None else known
        choice = allocate.choose(config, standing, wish, self.pick, window)
        match choice:
            case Exhausted():
                return choice
            case Reuse(lease):
                return await self._reuse(lease, value)
            case Create(subnets, reason, instead):
                for old in instead:
                    self.log.info("own lease does not fit any more; giving it back", key=old.key)
                    if not await self._delete(old):
                        return None
                key = keys.lease(self.prefix, subnets)
                unless = Compare(key, Target.VERSION, Result.EQUAL, 0)
                # a reservation stays one when its host goes dual-stack (traps T4, T20)
                pinned = any(it.is_reservation and it.subnets.v4 == subnets.v4 for it in instead)
                held = await self._write(key, subnets, value, unless, reserved=pinned)
                if held is not None:
                    self.log.info("Allocated lease", subnet=str(subnets), why=reason)
                return held

    async def _list(self) -> list[Lease]:
        found = []
        async for page in self.store.pages(keys.subnets(self.prefix)):
            for kv in page.kvs:
                try:
                    found.append(decode_lease(kv))
                except RecordError:
                    continue  # the mirror's records name it; nobody can hold a subnet by it
        return found

    async def _delete(self, lease: Lease) -> bool:
        same = Compare(lease.key, Target.MOD, Result.EQUAL, lease.revision)
        done = await self.store.txn((same,), (Delete(KeyRange(lease.key)),))
        return done.succeeded

    async def _reuse(self, lease: Lease, value: bytes) -> Held | None:
        """Make a lease with our address ours, with as little writing as can be."""
        there = encode_attributes(lease.attributes) == value
        if there:
            held = Held(lease.key, lease.subnets, value, lease.lease, lease.revision, float("inf"))
            if lease.is_reservation:
                self.log.info("reusing reservation", subnet=str(lease.subnets))
                return held
            try:
                ttl = await self.store.keep_alive(lease.lease)
            except LeaseLost:
                pass  # it ran out under our hands: write it anew
            else:
                self.log.info("reusing lease", subnet=str(lease.subnets))
                return replace(held, expires=self.clock.monotonic() + ttl)
        same = Compare(lease.key, Target.MOD, Result.EQUAL, lease.revision)
        again = await self._write(
            lease.key, lease.subnets, value, same, reserved=lease.is_reservation
        )
        if again is not None:
            self.log.info("reusing lease, with new attributes", subnet=str(lease.subnets))
        return again

    async def _write(
        self, key: bytes, subnets: Subnets, value: bytes, guard: Compare, *, reserved: bool = False
    ) -> Held | None:
        """Put our value under a fresh etcd lease, or under none for a reservation (trap T4)."""
        lease, expires = NO_LEASE, float("inf")
        if not reserved:
            begun = self.clock.monotonic()
            granted = await self.store.grant(TTL)
            lease, expires = granted.id, begun + granted.ttl_seconds
        try:
            done = await self.store.txn((guard,), (Put(key, value, lease),))
        except Unclear:
            raise  # the key may stand, with this lease: the next round finds it and reuses it
        except StoreError:
            await self._give_back(lease)
            raise
        if not done.succeeded:
            await self._give_back(lease)
            return None
        return Held(key, subnets, value, lease, done.header.revision, expires)

    async def _give_back(self, lease: LeaseID) -> None:
        if lease == NO_LEASE:
            return
        try:
            await self.store.revoke(lease)
        except StoreError as error:  # it holds no key and runs out by itself
            self.log.warning("unused etcd lease not revoked", lease=lease, reason=str(error))


def provisional(config: NetworkConfig, leases: Iterable[Lease], wish: Wish) -> Held | None:
    """Return our lease as it was last known, while etcd cannot be asked; None: there was none."""
    choice = allocate.choose(config, leases, wish, min)
    if not isinstance(choice, Reuse):
        return None
    lease, value = choice.lease, encode_attributes(choice.lease.attributes)
    return Held(lease.key, lease.subnets, value, lease.lease, lease.revision, float("inf"))
