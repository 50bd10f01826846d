# SPDX-License-Identifier: Apache-2.0
"""`Mirror`: ranges of keys as a consistent view in memory, and the changes to it.

::

    Follow (one a range) ─► data ─► Changes ─► subscribers, called at once
                              │          └───► Batches: merged by key for who is slow
                              └─► Snapshot: last-known-good file, at most 1 s behind

* Nothing is delivered before the first full snapshot: of every range, or of the file when etcd
  does not answer within `patience` seconds, or has refused for a quarter of that.
* While etcd is away the data stand, `synced` stays true and `stale_since` tells since when.
* With several ranges each is followed by itself: a transaction over two of them arrives as two
  batches, and `revision` is the lowest of theirs. One range: a batch is one or more whole
  revisions.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Never, Protocol

from fairlead.backoff import Backoff
from fairlead.clock import SYSTEM, Clock
from fairlead.etcd.batches import Batches
from fairlead.etcd.follow import Checks, Follow
from fairlead.etcd.observer import SILENT, Observer
from fairlead.etcd.snapshot import Snapshot, StateFileError
from fairlead.etcd.store import Store
from fairlead.etcd.types import KeyRange, KeyValue, Revision
from fairlead.etcd.view import Change, Changes, View

__all__ = ["Change", "Changes", "Checks", "Mirror", "Snapshot", "Source", "StateFileError"]


class Source(Protocol):
    """Where a daemon's records come from: a `Mirror`, or in a worker what the parent's emits."""

    @property
    def name(self) -> str:
        """What log and status call it."""
        ...

    @property
    def revision(self) -> Revision:
        """The revision up to which everything has been seen."""
        ...

    @property
    def synced(self) -> bool:
        """Whether the first full snapshot is in."""
        ...

    def subscribe(self, callback: Callable[[Changes], None]) -> None:
        """Have `callback` called with every batch, synchronously, from the first on."""
        ...

    async def ready(self) -> None:
        """Return when the first full snapshot is in and was delivered."""
        ...


WRITE_EVERY = 0.5  # seconds between two writes of the file; with the write itself under 1 s


class Mirror:
    """The keys of `ranges`, kept in step by `run`.

    Attributes:
        data: the live view, read-only; its content may change at every await.
        last_sync_wall: when the data were last known to be etcd's, seconds since 1970; of a
            start from the file the file's time; None before anything is known.
    """

    def __init__(
        self,
        store: Store,
        ranges: Sequence[KeyRange] | KeyRange,
        *,
        name: str,
        snapshot: Snapshot | None = None,
        clock: Clock = SYSTEM,
        observer: Observer = SILENT,
        checks: Checks | None = None,
        patience: float = 2.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = name
        self.ranges = (ranges,) if isinstance(ranges, KeyRange) else tuple(ranges)
        self._data: dict[bytes, KeyValue] = {}
        self.data: Mapping[bytes, KeyValue] = MappingProxyType(self._data)
        self.last_sync_wall: float | None = None
        self._snapshot = snapshot
        self._clock = clock
        self._observer = observer
        self._patience = patience
        self._started = asyncio.Event()
        self._heard = asyncio.Event()  # started, or etcd could not be reached
        self._dirty = asyncio.Event()
        self._unwritten: set[bytes] = set()  # keys that the file has otherwise
        self._anew = False  # too many to note them
        self._file_stale: float | None = None
        self._subscribers: list[Callable[[Changes], None]] = []
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        shared = len(self.ranges) > 1
        self._follows = [
            Follow(
                name,
                store,
                View(keys, self._data, shared=shared),
                self._data,
                emit=self._emit,
                moved=self._moved,
                lost=self._heard.set,
                clock=clock,
                observer=observer,
                checks=checks or Checks(),
                backoff=replace(backoff) if backoff else Backoff(),
            )
            for keys in self.ranges
        ]

    @property
    def revision(self) -> Revision:
        """The revision up to which everything has been seen, of every range."""
        return min(follow.view.revision for follow in self._follows)

    @property
    def synced(self) -> bool:
        """Say whether the first full snapshot is in, from etcd or from the file."""
        return self._started.is_set()

    @property
    def live(self) -> bool:
        """Say whether every range has been listed from etcd at least once."""
        return all(follow.listed for follow in self._follows)

    @property
    def stale_since(self) -> float | None:
        """Since when (monotonic seconds) etcd is not followed; None while it is."""
        since = [f.stale_since for f in self._follows if f.stale_since is not None]
        if not self.live and self._file_stale is not None:
            since.append(self._file_stale)
        return min(since, default=None)

    @property
    def stale_reason(self) -> str:
        """Why etcd is not followed; "" while it is."""
        return next((f.stale_reason for f in self._follows if f.stale_reason), "")

    def stale_seconds(self) -> float:
        """Return the age of what is served, in seconds; 0 while etcd is followed."""
        since = self.stale_since
        if since is None:
            return 0.0
        if self.last_sync_wall is not None:
            return max(0.0, self._clock.wall() - self.last_sync_wall)
        return max(0.0, self._clock.monotonic() - since)

    def subscribe(self, callback: Callable[[Changes], None]) -> None:
        """Have `callback` called with every batch, synchronously, from the first on.

        Who comes after the first snapshot gets all that is held as a batch at once.
        """
        self._subscribers.append(callback)
        if self.synced:
            callback(self._everything())

    def batches(self, *, quiet: float = 0.0, at_most: float = 0.0) -> Batches:
        """Return the changes for a consumer that takes its time; see `Batches`."""
        found = Batches(self._clock, quiet, at_most)
        self.subscribe(found.add)
        return found

    async def ready(self) -> None:
        """Return when the first full snapshot is in and was delivered."""
        await self._started.wait()

    async def at_least(self, revision: Revision) -> None:
        """Return when etcd's `revision`, of a write into our ranges, has been seen."""
        if self.live and self.revision >= revision:
            return
        seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (revision, id(seen), seen))
        await seen

    async def run(self) -> Never:
        """Follow etcd until cancelled; run once."""
        async with asyncio.TaskGroup() as group:
            for follow in self._follows:
                group.create_task(follow.run(), name=f"mirror {self.name}")
            if self._snapshot is not None:
                group.create_task(self._fall_back(self._snapshot), name=f"file of {self.name}")
                group.create_task(self._keep(self._snapshot), name=f"file of {self.name}")
        raise AssertionError("the tasks of a mirror never end by themselves")

    # delivery

    def _everything(self) -> Changes:
        changes = tuple(Change(key, kv, None) for key, kv in self._data.items())
        return Changes(self.revision, changes, resync=True)

    def _emit(self, changes: list[Change], *, resync: bool) -> None:
        if self.live:
            self.last_sync_wall = self._clock.wall()
        if not self._started.is_set():
            if self.live:
                self._deliver(self._everything())
                self._start()
        elif changes:
            self._deliver(Changes(self.revision, tuple(changes), resync))
        elif resync and self.live and self._snapshot is not None:
            self._touch(self._snapshot)  # what the file holds is still true

    def _start(self) -> None:
        self._started.set()
        self._heard.set()

    def _deliver(self, batch: Changes) -> None:
        self._dirty.set()
        if self._snapshot is not None:
            if len(batch.changes) * 4 > len(self._data):
                self._anew = True
            else:
                self._unwritten.update(change.key for change in batch.changes)
        for callback in self._subscribers:
            callback(batch)

    def _moved(self) -> None:
        """Wake who waits for a revision."""
        if not self._waiters or not self.live:
            return
        revision = self.revision
        while self._waiters and self._waiters[0][0] <= revision:
            _, _, seen = heapq.heappop(self._waiters)
            if not seen.done():
                seen.set_result(None)

    # the last-known-good file

    async def _fall_back(self, snapshot: Snapshot) -> None:
        """Serve from the file when etcd does not answer; a server that refuses is not slow."""
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._patience) as left:
                await self._heard.wait()
                left.reschedule(min(left.when() or now(), now() + self._patience / 4))
                await self._started.wait()
                return
        except TimeoutError:
            pass
        try:
            loaded = snapshot.load(self.name, self.ranges)
        except StateFileError as error:
            self._observer.state_file(self.name, str(snapshot.path), str(error))
            return
        if loaded is None:
            self._observer.no_state_file(self.name, str(snapshot.path))
            return
        if self._started.is_set():
            return
        for follow in self._follows:
            if follow.listed:
                continue  # etcd's own answer is newer
            keys = follow.view.keys
            mine = {kv.key: kv for kv in loaded.kvs if keys.holds(kv.key)}
            follow.view.replace(mine, loaded.revision)
        self._file_stale = self._clock.monotonic() - loaded.age
        self.last_sync_wall = self._clock.wall() - loaded.age
        self._observer.state_file(self.name, str(snapshot.path), "", loaded.age)
        self._deliver(self._everything())
        self._start()
        self._dirty.clear()  # the file holds just this
        self._unwritten.clear()
        self._anew = False

    async def _keep(self, snapshot: Snapshot) -> None:
        """Write the file when something changed; touch it now and then when nothing did."""
        idle = min(max((snapshot.max_age or 72_000.0) / 20, 60.0), 3600.0)
        while True:
            try:
                async with asyncio.timeout(idle):
                    await self._dirty.wait()
            except TimeoutError:
                if self.live and self.stale_since is None:
                    self._touch(snapshot)
                continue
            self._dirty.clear()
            if not self.live:
                continue
            try:
                await self._write(snapshot)
            except StateFileError as error:
                self._observer.state_file(self.name, str(snapshot.path), str(error))
                self._dirty.set()
                await self._clock.sleep(10 * WRITE_EVERY)
            await self._clock.sleep(WRITE_EVERY)

    async def _write(self, snapshot: Snapshot) -> None:
        """Bring the file to what is held now."""
        keys, self._unwritten = self._unwritten, set()
        anew, self._anew = self._anew, False
        if not anew and snapshot.takes(len(keys)):
            put = [self._data[key] for key in keys if key in self._data]
            gone = [key for key in keys if key not in self._data]
            if await snapshot.add(put, gone, self.revision):
                return
        await snapshot.save(self.name, self.ranges, list(self._data.values()), self.revision)

    def _touch(self, snapshot: Snapshot) -> None:
        try:
            snapshot.touch()
        except StateFileError as error:
            self._observer.state_file(self.name, str(snapshot.path), str(error))
            self._dirty.set()
