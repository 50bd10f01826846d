# SPDX-License-Identifier: Apache-2.0
"""Carries a plan out: index, serials, and the kept answers that the changed names made stale.

All of one plan between two turns of the loop, so that no query sees half of a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Never

from fairlead.clock import Clock
from fairlead.errors import ActionError, StoreError
from fairlead.etcd.store import Store
from fairlead.etcd.types import LeaseID, Revision
from fairlead.reconcile import Pass
from skydns.answer import zone_of
from skydns.compiled import Answers
from skydns.plan import Action, Publish

_MANY: Final = 20_000  # changed names from which dropping every answer is less work
_REFRESH: Final = 15.0  # seconds between two looks at a lease; §4.1 asks for slow ones
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
        self._revision = revision

    async def carry_out(self, plan: Sequence[Action]) -> Sequence[ActionError]:
        """Publish and withdraw; never refused."""
        answers, served = self.answers, self.answers.served
        changed = []
        for action in plan:
            if isinstance(action, Publish):
                served.index.put(action.service)
                if action.service.lease and action.service.lease not in served.leases:
                    self.new_leases.set()
            else:
                served.index.remove(action.service.key)
            changed.append(action.service.name.lower())
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

    def passed(self, loop: str, done: Pass[object]) -> None:
        """Take note that the index is whole: from now on a missing name does not exist."""
        del loop, done  # the first pass of any kind is over EVERYTHING
        if not self.answers.loaded:
            self.whole.set()
            self.answers.served.start_serial = max(int(self._revision()), 1)
            self.answers.loaded = True
            self.answers.clear()

    def _note_serials(self, changed: Iterable[bytes], revision: int) -> None:
        """Raise the serials of the zones that changed (§5.7)."""
        served, policy = self.answers.served, self.answers.policy
        for name in changed:
            if zone := zone_of(name, policy):
                served.serials[zone] = revision


async def follow_leases(publisher: Publisher, store: Store, clock: Clock) -> Never:
    """Keep the ends of the leases in use known: once at first sight, then slowly again (§4.1)."""
    served = publisher.answers.served
    while True:
        publisher.new_leases.clear()
        used = {service.lease for service in served.index.services.values() if service.lease}
        for gone in served.leases.keys() - used:
            del served.leases[gone]
        waiting = sorted(used)
        for at in range(0, len(waiting), _AT_ONCE):
            await asyncio.gather(
                *(_look(publisher, store, clock, lease) for lease in waiting[at : at + _AT_ONCE])
            )
        try:
            async with asyncio.timeout(_REFRESH):
                await publisher.new_leases.wait()
            await clock.sleep(0.2)  # records of one writer come together
        except TimeoutError:
            continue


async def _look(publisher: Publisher, store: Store, clock: Clock, lease: LeaseID) -> None:
    """Learn when one lease ends; unknown until etcd answers, then what it said stays."""
    try:
        found = await store.time_to_live(lease)
    except StoreError:
        return  # etcd is away: no lease ends without it either, the last known end counts
    served = publisher.answers.served
    first = lease not in served.leases
    if found.ttl_seconds > 0:
        served.leases[lease] = clock.monotonic() + found.ttl_seconds
    if first:
        publisher.answers.touch(
            service.name.lower()
            for service in served.index.services.values()
            if service.lease == lease
        )
