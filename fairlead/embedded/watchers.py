# SPDX-License-Identifier: Apache-2.0
"""Who is told what changed: watches over the log of `fairlead.embedded.mvcc`. Pure.

Theory of operation
-------------------
No watch has a queue of its own: the log is everyone's queue. A watch is either in step, and
then holds nothing but its place in an index, or it is behind, and then holds the revision it
reads next::

    publish(R) ─► commits up to R are on disk ─► index ─► watches that match: behind, woken
    take()     ─► next answer: at most 1000 revisions of the log; at its end: in step again

So a slow reader costs no memory: it falls behind in the log, and when the log has been trimmed
past it, it is told Compacted and lists again. A write costs the watches that match it, plus one
comparison for each watch of a range.

Nothing above `published` is ever shown: an event that a crash could take back would leave
mirrors wrong for ever (specs/etcd.md §9.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fairlead.embedded.mvcc import Commit, Mvcc
from fairlead.embedded.refusals import Refusal
from fairlead.etcd.types import Event, Header, Revision, WatchAnswer, WatchRequest

MAX_REVISIONS = 1000  # in one answer; as etcd's watchBatchMaxRevs
MAX_ANSWER_BYTES = 1024 * 1024  # an answer ends after the commit that passes this


class Watcher:
    """One watch. `wake` is called when `take` may have something; then `take` until None."""

    __slots__ = ("_hub", "_next", "_progress", "quiet", "request", "wake")

    def __init__(self, hub: Hub, request: WatchRequest, wake: Callable[[], None]) -> None:
        self._hub = hub
        self.request = request
        self.wake = wake
        self._next: int | None = None  # None: in step
        self._progress = False
        self.quiet = True  # no events since the last look of the progress timer

    @property
    def behind(self) -> bool:
        """Whether there is something left to read."""
        return self._next is not None

    def take(self) -> WatchAnswer | None:
        """Return the next answer, None when in step.

        Raises:
            Compacted: the log does not reach back to where this watch stands; it is closed.
        """
        hub = self._hub
        if self._next is not None:
            answer = self._catch_up(hub)
            if answer is not None:
                self.quiet = False
                return answer
        if self._progress:
            self._progress = False
            return WatchAnswer(hub.header())
        return None

    def _catch_up(self, hub: Hub) -> WatchAnswer | None:
        mvcc, start = hub.mvcc, self._next
        assert start is not None  # noqa: S101 - the caller looked
        floor = mvcc.first
        if start < floor and start <= hub.published:
            hub.remove(self)
            raise Refusal.COMPACTED.error(floor)
        events: list[Event] = []
        revisions = size = 0
        for commit in mvcc.since(start):
            if commit.revision > hub.published:
                break
            if revisions >= MAX_REVISIONS or size > MAX_ANSWER_BYTES:
                self._next = commit.revision
                return WatchAnswer(hub.header(), tuple(events))
            matched = self.match(commit)
            if matched:
                events += matched
                revisions += 1
                size += commit.size_bytes
        # at the end; a start in the future stays where it is until the store gets there
        if start > hub.published:
            self._next = start
            hub.park(self)
        else:
            self._next = None
            hub.settle(self)
        return WatchAnswer(hub.header(), tuple(events)) if events else None

    def match(self, commit: Commit) -> list[Event]:
        """Return what this watch has to be told of a commit."""
        request = self.request
        keys = request.keys
        lost = self._hub.lost
        return [
            Event(event.kv, event.deleted, before) if request.prev_kv else event
            for event, before in zip(commit.events, commit.before, strict=True)
            if keys.holds(event.kv.key)
            and not (request.no_delete if event.deleted else request.no_put)
            and (lost is None or not lost(event))
        ]

    def progress(self) -> None:
        """Let the next answer without events tell the revision."""
        self._progress = True
        self.wake()

    def fall_behind(self, start: int) -> None:
        """Go on reading at revision `start`."""
        self._next = start
        self.wake()


class Hub:
    """All watches of a store.

    Attributes:
        published: the last revision that may be seen.
        lost: tests only: events for which it says true are never shown (§6.9: servers lose some).
    """

    def __init__(self, mvcc: Mvcc) -> None:
        self.mvcc = mvcc
        self.published = mvcc.revision
        self.lost: Callable[[Event], bool] | None = None
        self._all: set[Watcher] = set()
        self._by_key: dict[bytes, set[Watcher]] = {}  # in step, one key
        self._ranges: set[Watcher] = set()  # in step, a range
        self._parked: set[Watcher] = set()  # start in the future

    def __len__(self) -> int:
        return len(self._all)

    def header(self) -> Header:
        """Return a header with the revision that may be seen."""
        mvcc = self.mvcc
        return Header(mvcc.cluster_id, mvcc.member_id, self.published, 1)

    def add(self, request: WatchRequest, wake: Callable[[], None]) -> Watcher:
        """Open a watch; `request.start` 0 means what comes after `published`.

        Raises:
            Compacted: the start is below 0 (as etcd >= 3.5.24).
        """
        if request.start < 0:
            raise Refusal.COMPACTED.error(max(0, self.mvcc.compact_revision))
        watcher = Watcher(self, request, wake)
        self._all.add(watcher)
        if request.start == 0 or request.start == self.published + 1:
            self.settle(watcher)
        else:
            watcher.fall_behind(request.start)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """Close a watch; it is never woken again."""
        self._all.discard(watcher)
        self._ranges.discard(watcher)
        self._parked.discard(watcher)
        alone = self._by_key.get(watcher.request.keys.start)
        if alone is not None:
            alone.discard(watcher)
            if not alone:
                del self._by_key[watcher.request.keys.start]

    def settle(self, watcher: Watcher) -> None:
        """Put a watch that has read all into the index."""
        if watcher not in self._all:
            return
        keys = watcher.request.keys
        if keys.end:
            self._ranges.add(watcher)
        else:
            self._by_key.setdefault(keys.start, set()).add(watcher)

    def park(self, watcher: Watcher) -> None:
        """Keep a watch whose start is in the future until then."""
        self._parked.add(watcher)

    def publish(self, revision: Revision, commits: Iterable[Commit]) -> None:
        """Show the commits up to `revision`, and wake those whom they concern."""
        self.published = revision
        for commit in commits:
            for event in commit.events:
                for watcher in tuple(self._by_key.get(event.kv.key, ())):
                    self._overtake(watcher, commit)
            for watcher in tuple(self._ranges):
                self._overtake(watcher, commit)
        for watcher in tuple(self._parked):
            if watcher.request.start <= revision:
                self._parked.discard(watcher)
                watcher.wake()

    def _overtake(self, watcher: Watcher, commit: Commit) -> None:
        if watcher.match(commit):
            keys = watcher.request.keys
            if keys.end:
                self._ranges.discard(watcher)
            elif keys.start in self._by_key:
                self._by_key[keys.start].discard(watcher)
                if not self._by_key[keys.start]:
                    del self._by_key[keys.start]
            watcher.fall_behind(commit.revision)

    def replace(self, mvcc: Mvcc) -> None:
        """Go on with another state (a restore): who is in step stays so, from its revision."""
        self.mvcc = mvcc
        self.published = mvcc.revision
        for watcher in self._all:
            if watcher.behind:
                watcher.wake()

    def tick(self) -> None:
        """Send progress to the watches that asked for it and had no event since the last tick."""
        for watcher in tuple(self._all):
            if watcher.request.progress_notify and watcher.quiet and not watcher.behind:
                watcher.progress()
            watcher.quiet = True
