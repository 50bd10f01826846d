# SPDX-License-Identifier: Apache-2.0
"""Carries a plan out: index, serials, and the kept answers that the changed names made stale.

All of one plan between two turns of the loop, so that no query sees half of a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Never

from fairlead.clock import Clock
from fairlead.errors import ActionError, StoreError
from fairlead.etcd.store import Store
from fairlead.etcd.types import LeaseID, Revision
from fairlead.reconcile import Pass
from skydns import names
from skydns.compiled import Answers
from skydns.lookup import zone_of
from skydns.plan import Action, Publish
from skydns.records import Service

_MANY: Final = 20_000  # changed names from which dropping every answer is less work
_LOOK_EVERY: Final = 5.0  # seconds between two rounds; each lease is looked at far less often
_AT_ONCE: Final = 16  # leases asked for at the same time


class Publisher:
    """Applies plans.

    Args:
        revision: the store's revision that the present view has seen.
    """

    def __init__(self, answers: Answers, revision: Callable[[], Revision]) -> None:
        self.answers = answers
        self.new_leases = asyncio.Event()
        self.whole = asyncio.Event()
        self.by_lease: dict[LeaseID, dict[bytes, bytes]] = {}  # key → folded name
        self._revision = revision

    async def carry_out(self, plan: Sequence[Action]) -> Sequence[ActionError]:
        """Publish and withdraw; never refused."""
        answers, served = self.answers, self.answers.served
        changed = []
        for action in plan:
            service = action.service
            name = service.name.lower()
            if answers.loaded:  # the PTR of its address, and of the one it had
                before = served.index.services.get(service.key)
                changed += [
                    names.reverse(each.address)
                    for each in (service, before)
                    if each is not None and each.address
                ]
            self._let_go(service.key)
            if isinstance(action, Publish):
                self._put(service)
            else:
                served.index.remove(service.key)
            changed.append(name)
        revision = int(self._revision())
        if not answers.loaded:
            served.start_serial = max(revision, 1)
        else:
            self._note_serials(changed, revision)
        if len(changed) > _MANY:
            answers.clear()
        else:
            answers.touch(changed)
        return ()

    def restore(self, services: Iterable[Service]) -> None:
        """Stand where another process stands: these are served, though the store has them no more."""
        for service in services:
            self._put(service)

    def _put(self, service: Service) -> None:
        served = self.answers.served
        served.index.put(service)
        if service.lease:
            name = service.name.lower()
            self.by_lease.setdefault(service.lease, {})[service.key] = name
            if service.lease not in served.leases:
                self.new_leases.set()

    def passed(self, loop: str, done: Pass[object]) -> None:
        """Take note that the index is whole: from now on a missing name does not exist."""
        del loop, done  # the first pass of any kind is over EVERYTHING
        if not self.answers.loaded:
            self.whole.set()
            self.answers.served.start_serial = max(int(self._revision()), 1)
            self.answers.loaded = True
            self.answers.clear()

    def _let_go(self, key: bytes) -> None:
        """Forget which lease a key's published record has."""
        before = self.answers.served.index.services.get(key)
        if before is None or not before.lease:
            return
        held = self.by_lease[before.lease]
        del held[key]
        if not held:
            del self.by_lease[before.lease]
            self.answers.served.leases.pop(before.lease, None)

    def _note_serials(self, changed: Iterable[bytes], revision: int) -> None:
        """Raise the serials of the zones that changed (§5.7)."""
        served, policy = self.answers.served, self.answers.policy
        for name in changed:
            if zone := zone_of(name, policy):
                served.serials[zone] = revision


LeaseTimes = tuple[float, float]
"""Seconds that a lease has left (0 or less: it is gone), and that it was granted for."""
Ask = Callable[[LeaseID], Awaitable[LeaseTimes]]
"""Returns the times of a lease; may raise StoreError."""


def of_store(store: Store) -> Ask:
    """Return what asks etcd."""

    async def ask(lease: LeaseID) -> LeaseTimes:
        found = await store.time_to_live(lease)
        return found.ttl_seconds, found.granted_ttl_seconds

    return ask


async def follow_leases(publisher: Publisher, ask: Ask, clock: Clock) -> Never:
    """Keep the ends of the leases in use known (§4.1): at first sight, then at half their time.

    A lease that is kept alive is renewed at a third, so half finds it renewed; one that is not
    runs down here as it does there.
    """
    due: dict[LeaseID, float] = {}
    while True:
        publisher.new_leases.clear()
        now = clock.monotonic()
        for gone in due.keys() - publisher.by_lease.keys():
            del due[gone]
        waiting = [lease for lease in publisher.by_lease if due.get(lease, 0.0) <= now]
        for at in range(0, len(waiting), _AT_ONCE):
            some = waiting[at : at + _AT_ONCE]
            found = await asyncio.gather(*(_look(publisher, ask, clock, each) for each in some))
            due.update(zip(some, found, strict=True))
        try:
            async with asyncio.timeout(_LOOK_EVERY):
                await publisher.new_leases.wait()
            await clock.sleep(0.2)  # records of one writer come together
        except TimeoutError:
            continue


async def _look(publisher: Publisher, ask: Ask, clock: Clock, lease: LeaseID) -> float:
    """Learn when one lease ends; return when to look again."""
    now = clock.monotonic()
    try:
        left, granted = await ask(lease)
    except StoreError:
        return now + _LOOK_EVERY  # etcd is away and no lease ends meanwhile: the last end counts
    if left <= 0 or lease not in publisher.by_lease:
        return now + _LOOK_EVERY  # gone: the delete of its keys is on its way
    leases = publisher.answers.served.leases
    first = lease not in leases
    leases[lease] = clock.monotonic() + left
    if first:
        publisher.answers.touch(publisher.by_lease[lease].values())
    return now + max(_LOOK_EVERY, granted / 2)
