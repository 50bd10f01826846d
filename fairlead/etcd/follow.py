# SPDX-License-Identifier: Apache-2.0
"""Follow one range: list at R, watch from R+1, list again when in doubt (specs/etcd.md §7).

::

    ┌► list ─► watch from revision + 1 ─┬─ events, progress ─► view ─► emit
    │                                   ├─ stream ended ─► stale; wait; watch again from there
    └───────────────────────────────────┴─ compacted, other cluster, far behind, lost ─► list

The revision moves by events and progress of this watch only: a read on another connection,
or a timeout, never moves it (apache/apisix#13067: silent, permanent loss).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Never, Protocol

from fairlead.backoff import Backoff
from fairlead.clock import Clock
from fairlead.errors import StoreError
from fairlead.etcd import versions
from fairlead.etcd.errors import Compacted, FutureRevision, Timeout
from fairlead.etcd.observer import Observer
from fairlead.etcd.store import Store, Watching
from fairlead.etcd.types import (
    Header,
    KeyRange,
    KeyValue,
    Range,
    Revision,
    WatchAnswer,
    WatchRequest,
)
from fairlead.etcd.view import Change, Suspect, View

REASONS: Final = ("start", "compacted", "cluster", "far-behind", "lost")
"""Why a list was made: the values of the label `reason` of the resyncs metric."""

SOON = 2.0  # seconds after a resumed watch to the first look
WORKED = 10.0  # seconds of watching after which the retry wait starts small again (§5.1)
REFUSED_WAIT = 30.0  # seconds between tries of what only an operator can mend (§5.3)
_jitter = random.Random().uniform  # noqa: S311  (spreads load; guards nothing)


@dataclass(frozen=True, slots=True)
class Checks:
    """How often to look for what a server lost (§6.9); seconds.

    Attributes:
        count_every: between two count-only reads: a lost create or delete.
        pass_every: for one pass over all keys, in pages: a lost update.
        page_keys: keys in one page of that pass.
        grace: how long events may be under way before a difference counts.
        silence: a watch that says nothing for so long is opened again; a server with progress
            notifications speaks every 10 min (§6.5).
        progress_every: between requests for progress on a quiet watch.
    """

    count_every: float = 60.0
    pass_every: float = 600.0
    page_keys: int = 1000
    grace: float = 3.0
    silence: float = 900.0
    progress_every: float = 60.0


class Emit(Protocol):
    """Takes the changes of one list (`resync`) or one answer."""

    def __call__(self, changes: list[Change], *, resync: bool) -> None:
        """Deliver `changes`, maybe none; the view's revision has moved."""
        ...


class _ListAgain(Exception):
    """The view can not be trusted; `reason` is one of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Follow:
    """One range of a mirror. `run` for ever; `listed` after the first whole list."""

    def __init__(
        self,
        name: str,
        store: Store,
        view: View,
        data: dict[bytes, KeyValue],
        *,
        emit: Emit,
        moved: Callable[[], None],
        lost: Callable[[], None],
        clock: Clock,
        observer: Observer,
        checks: Checks,
        backoff: Backoff,
    ) -> None:
        self.view = view
        self.listed = False
        self.stale_since: float | None = None
        self.stale_reason = ""
        self._name = name
        self._store = store
        self._data = data
        self._emit = emit
        self._moved = moved
        self._told_lost = lost
        self._clock = clock
        self._observer = observer
        self._checks = checks
        self._backoff = backoff
        self._cluster = 0
        self._term = 0
        self._heard = 0.0
        self._cursor = view.keys.start

    async def run(self) -> Never:
        """Keep the view in step; StoreErrors make it stale, never end it."""
        reason = "start"
        again = Backoff(first=0.5, most=10.0)  # a first list in doubt is made at once
        while True:
            begun = self._clock.monotonic()
            try:
                resumed = not reason
                if reason:
                    await self._list(reason)
                    reason = ""
                await self._watch(resumed=resumed)
            except (Compacted, FutureRevision, _ListAgain) as error:
                if isinstance(error, Compacted):
                    reason = "compacted"
                else:
                    reason = error.reason if isinstance(error, _ListAgain) else "cluster"
                if self._clock.monotonic() - begun > WORKED:
                    again.reset()
                # one list mends it; a server that says so again and again must not be flooded
                wait = again.next()
                if again.failures > 1:
                    await self._clock.sleep(wait)
            except StoreError as error:
                self._lost(str(error))
                if self._clock.monotonic() - begun > WORKED:
                    self._backoff.reset()
                wait = self._backoff.next()
                await self._clock.sleep(wait if error.transient else max(wait, REFUSED_WAIT))

    def _lost(self, reason: str) -> None:
        self.stale_reason = reason
        if self.stale_since is None:
            self.stale_since = self._clock.monotonic()
            self._observer.stale(self._name, reason)
            self._told_lost()

    async def _list(self, reason: str) -> None:
        """Read the whole range at one revision and emit what differs."""
        while True:
            try:
                listed, header = await self._pages()
                break
            except Compacted:
                continue  # between two pages: start again (§6.3)
        self._cluster, self._term = header.cluster_id, header.raft_term
        revision = header.revision
        changes = self.view.replace(listed, revision)
        self.listed = True
        self._observer.synced(self._name, revision, reason, len(changes))
        self._emit(changes, resync=True)
        self._moved()

    async def _pages(self) -> tuple[dict[bytes, KeyValue], Header]:
        """Return the whole range, and the first page's header: all pages are of its revision."""
        listed: dict[bytes, KeyValue] = {}
        header: Header | None = None
        held = self._data
        async for page in self._store.pages(self.view.keys):
            header = header or page.header
            for kv in page.kvs:
                old = held.get(kv.key)
                # keep the object we hold: a list of what did not change costs no memory
                same = (
                    old is not None
                    and old.mod_revision == kv.mod_revision
                    and old.value == kv.value
                )
                listed[kv.key] = old if same and old is not None else kv
        assert header is not None  # noqa: S101  (an empty range is one page)
        return listed, header

    async def _watch(self, *, resumed: bool) -> None:
        """Watch from after the view's revision until the watch ends by an error."""
        start = Revision(self.view.revision + 1)
        request = WatchRequest(self.view.keys, start, progress_notify=True, fragment=True)
        async with self._store.watch(request) as watch:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(
                        self._check(watch, resumed=resumed), name=f"{self._name}: checks"
                    )
                    await self._consume(watch)
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _consume(self, watch: Watching) -> None:
        """Apply answers."""
        now = asyncio.get_running_loop().time
        silence = self._checks.silence
        try:
            async with asyncio.timeout(silence) as silent:
                async for answer in watch:
                    silent.reschedule(now() + silence)
                    self._heard = self._clock.monotonic()
                    self._take(answer)
        except TimeoutError as error:
            raise Timeout(f"the watch said nothing for {silence:g} s") from error
        raise Timeout("the watch ended without an error")

    def _take(self, answer: WatchAnswer) -> None:
        view = self.view
        if answer.created:
            self._created(answer)
        elif answer.events:
            self._backoff.reset()
            changes = view.apply(answer.events)
            self._observer.events(self._name, view.revision, len(answer.events))
            if changes:
                self._emit(changes, resync=False)
            self._moved()
        else:
            view.advance(answer.header.revision)
            self._observer.events(self._name, view.revision, 0)
            self._moved()

    def _created(self, answer: WatchAnswer) -> None:
        """Judge the server by its first answer."""
        view = self.view
        header = answer.header
        theirs = header.revision
        # a term never goes down in one cluster's life either: a restore starts it anew
        if header.cluster_id != self._cluster or header.raft_term < self._term:
            raise _ListAgain("cluster")
        if theirs < view.revision:
            raise _ListAgain("cluster")
        self._term = header.raft_term
        if theirs - view.revision > max(20_000, 2 * view.count):
            raise _ListAgain("far-behind")  # cheaper than the events (§6.4)
        self.stale_since = None
        self.stale_reason = ""
        self._observer.following(self._name, view.revision)

    # what servers lose (§6.9)

    async def _check(self, watch: Watching, *, resumed: bool) -> None:
        """Look, now and then, whether the view is what a read says. Raises only _ListAgain.

        A watch that was resumed is looked at whole, soon: a store restored from an older snapshot
        may have passed our revision before we came back, and no header tells.
        """
        checks, clock = self._checks, self._clock
        started = clock.monotonic()
        count_at = started + checks.count_every * _jitter(0.5, 1.0)
        page_at = started + self._page_wait()
        all_at = started + SOON * _jitter(0.5, 1.0) if resumed else float("inf")
        ask_at = started + checks.progress_every
        asks: bool | None = None
        while True:
            await clock.sleep(min(all_at, count_at, page_at, ask_at) - clock.monotonic())
            now = clock.monotonic()
            try:
                if now >= all_at:
                    await self._check_all()
                    all_at = float("inf")
                if now >= count_at:
                    await self._check_count()
                    count_at = clock.monotonic() + checks.count_every * _jitter(0.9, 1.1)
                if now >= page_at:
                    await self._check_page()
                    page_at = clock.monotonic() + self._page_wait()
                if now >= ask_at:
                    ask_at = now + checks.progress_every
                    if asks is None:
                        asks = versions.progress_is_safe((await self._store.status()).version)
                    if asks and now - self._heard >= checks.progress_every:
                        await watch.request_progress()
            except StoreError:
                # not ours to judge: the watch itself says when etcd is gone; look again later
                later = clock.monotonic() + checks.grace
                all_at, count_at = max(all_at, later), max(count_at, later)
                page_at = max(page_at, later)
                ask_at = max(ask_at, later)

    def _page_wait(self) -> float:
        pages = self.view.count // self._checks.page_keys + 1
        return self._checks.pass_every / pages * _jitter(0.8, 1.2)

    async def _check_count(self) -> None:
        """A count that does not fit means a lost create or delete."""
        view = self.view
        before = view.revision
        answer = await self._store.range(Range(view.keys, count_only=True))
        self._same_cluster(answer.header.cluster_id, answer.header.revision, before)
        view.expect(answer.count, answer.header.revision)  # void when events overtook the read
        await self._clock.sleep(self._checks.grace)
        if view.settle():
            raise _ListAgain("lost")

    async def _check_all(self) -> None:
        """Compare with a whole list: keys, revisions and values.

        100,000 keys: 0.9 s, half of them our CPU (with a real etcd beside on two cores). Pages of keys only would spare etcd half the
        bytes, cost us twice the CPU, and miss a key that a store which went back has written
        anew at the very revision that we hold.
        """
        before = self.view.revision
        listed, header = await self._pages()
        self._same_cluster(header.cluster_id, header.revision, before)
        data, seen_at = self._data, header.revision
        found = [
            Suspect(key, Revision(0), seen_at) for key in self.view.held() if key not in listed
        ]
        for key, kv in listed.items():
            held = data.get(key)
            if held is kv:
                continue
            if held is not None and held.mod_revision == kv.mod_revision and held.value != kv.value:
                raise _ListAgain("lost")
            found.append(Suspect(key, kv.mod_revision, seen_at))
        suspects = [suspect for suspect in found if self.view.lost(suspect)]
        if suspects:
            await self._clock.sleep(self._checks.grace)
        while any(map(self.view.lost, suspects)):  # maybe deleted since: a second look tells
            start = min(suspect.key for suspect in suspects)
            after = await self._second_look(start, suspects)
            suspects = [s for s in suspects if s.key >= after] if after > start else []

    async def _check_page(self) -> None:
        """Keys of one page whose revision stays other than ours: a lost update."""
        start = self._cursor
        first, after = await self._suspects(start)
        self._cursor = after
        if not first:
            return
        await self._clock.sleep(self._checks.grace)
        if any(map(self.view.lost, first)):
            await self._second_look(start, first)

    async def _second_look(self, start: bytes, first: Sequence[Suspect]) -> bytes:
        """Raise when the page at `start` still shows what we do not hold; return where it ends."""
        second, after = await self._suspects(start)
        same = {(s.key, s.mod_revision) for s in first}
        if any((s.key, s.mod_revision) in same for s in second):
            raise _ListAgain("lost")
        return after

    async def _suspects(self, start: bytes, *, values: bool = False) -> tuple[list[Suspect], bytes]:
        """Compare the page at `start`; return what differs, and where the next page starts."""
        keys = self.view.keys
        before = self.view.revision
        limit = self._checks.page_keys
        page = await self._store.range(
            Range(KeyRange(start, keys.end), limit=limit, keys_only=True)
        )
        self._same_cluster(page.header.cluster_id, page.header.revision, before)
        after = page.kvs[-1].key + b"\x00" if page.more and page.kvs else b""
        part = KeyRange(start, after or keys.end)
        ours = self.view.between(part) if part != keys else self.view.held()
        there = [(kv.key, kv.mod_revision) for kv in page.kvs]
        return self.view.suspects(there, ours, page.header.revision), after or keys.start

    def _same_cluster(self, cluster: int, revision: Revision, before: Revision) -> None:
        if cluster != self._cluster or revision < before:
            raise _ListAgain("cluster")
