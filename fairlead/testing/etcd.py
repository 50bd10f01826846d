# SPDX-License-Identifier: Apache-2.0
"""Stores for tests: the fake etcd, which is the embedded store in memory with faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fairlead.clock import SYSTEM, Clock
from fairlead.embedded.mvcc import Mvcc
from fairlead.embedded.store import EmbeddedStore
from fairlead.errors import StoreError
from fairlead.etcd.errors import Unavailable
from fairlead.etcd.types import Event, KeyValue, LeaseID, Revision


@dataclass(slots=True)
class Saved:
    """A snapshot taken by `Faults.snapshot`, for `Faults.restore`."""

    revision: Revision
    pairs: tuple[KeyValue, ...]
    leases: tuple[tuple[LeaseID, int], ...]


@dataclass(slots=True)
class Faults:
    """What goes wrong now; set the fields, call the methods.

    Attributes:
        refuse: every call fails with this error; None: they work.
        refuse_calls: refuse only these ("range", "put", "watch", "grant" …); empty: all.
        delay: seconds, on the store's clock, before a call is carried out.
        lose: events for which it says true are never delivered to watches (§6.9).
        calls: how often each call was made.
    """

    _store: FakeEtcd
    refuse: StoreError | None = None
    refuse_calls: frozenset[str] = frozenset()
    delay: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)
    _frozen: asyncio.Event | None = None

    def drop_watches(self, error: StoreError | None = None) -> None:
        """End every open watch, by default as a broken connection does."""
        self._store.drop_watches(error or Unavailable("etcd: connection lost"))

    def go_down(self) -> None:
        """Refuse everything and end the watches, as a server that stopped."""
        self.refuse, self.refuse_calls = Unavailable("etcd: connection refused"), frozenset()
        self.drop_watches()

    def come_back(self) -> None:
        """Serve again."""
        self.refuse = None
        self.thaw()

    def freeze(self) -> None:
        """Answer no call until `thaw`, and tell watches nothing, as a stopped process."""
        if self._frozen is None:
            self._frozen = asyncio.Event()

    def thaw(self) -> None:
        """Go on after `freeze`."""
        if self._frozen is not None:
            self._frozen.set()
            self._frozen = None

    def lose_events(self, lose: Callable[[Event], bool] | None) -> None:
        """Never deliver the events for which `lose` says true (None: lose none)."""
        self._store.hub.lost = lose

    async def compact(self) -> Revision:
        """Compact all history up to the present revision."""
        revision = self._store.core.revision
        await self._store.compact(revision)
        return revision

    def snapshot(self) -> Saved:
        """Save the state, as `etcdctl snapshot save`."""
        core = self._store.core
        leases = tuple((lease.id, lease.ttl) for lease in core.leases.values())
        return Saved(core.revision, tuple(core.live.values()), leases)

    def restore(self, saved: Saved, *, new_cluster: bool = False) -> None:
        """Go back to `saved`: the revision runs backwards, the watches end."""
        store, old = self._store, self._store.core
        store.core = Mvcc(
            cluster_id=old.cluster_id + new_cluster,
            member_id=old.member_id,
            revision=saved.revision,
            pairs=saved.pairs,
            leases=saved.leases,
            now=store.clock.monotonic(),
            bounds=old.bounds,
        )
        store.hub.replace(store.core)
        store.expiry_changed()
        self.drop_watches()

    async def gate(self, call: str) -> None:
        """Carry the faults out before `call`."""
        self.calls[call] = self.calls.get(call, 0) + 1
        while self._frozen is not None:
            await self._frozen.wait()
        if call == "deliver":
            return
        if self.delay > 0:
            await self._store.clock.sleep(self.delay)
        if self.refuse is not None and (not self.refuse_calls or call in self.refuse_calls):
            raise type(self.refuse)(*self.refuse.args)


class FakeEtcd(EmbeddedStore):
    """The embedded store in memory; `faults` plans what goes wrong."""

    faults: Faults

    async def _enter(self, call: str) -> None:
        await self.faults.gate(call)
        await EmbeddedStore._enter(self, call)

    async def _deliver(self) -> None:
        await self.faults.gate("deliver")


@asynccontextmanager
async def fake_etcd(clock: Clock = SYSTEM) -> AsyncIterator[FakeEtcd]:
    """Run an empty etcd in memory; leases run on `clock`."""
    store = await FakeEtcd.open(None, clock=clock)
    store.faults = Faults(store)
    try:
        yield store
    finally:
        await store.aclose()
