# SPDX-License-Identifier: Apache-2.0
"""What a mirror holds of one range, and how lists and events change it. Pure.

::

    list at R ─► replace ─► the differences (nothing else), revision = R
    answer of a watch ─► apply ─► one change a key, revision = its last event's

Invariants: `data` is the range as it stood at `revision`; an event at or below `revision` is a
repeat and is dropped (specs/etcd.md §6.4); applying costs O(events), never O(data).

Two checks find what a server lost (§6.9). `expect` takes the number of keys at a revision, read
beside the watch: it is compared at the very moment the events pass that revision, so that
events under way are no false alarm. `suspects` takes a page of keys and their revisions; what
differs is only suspect until the events had time to catch up and a second page says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairlead.etcd.types import Event, KeyRange, KeyValue, Revision


@dataclass(frozen=True, slots=True)
class Change:
    """One key's change; `new` None: deleted; `old` None: it was not there."""

    key: bytes
    new: KeyValue | None
    old: KeyValue | None


@dataclass(frozen=True, slots=True)
class Changes:
    """One batch: one or more whole revisions; `resync`: found by listing, not by watching."""

    revision: Revision
    changes: tuple[Change, ...]
    resync: bool


@dataclass(frozen=True, slots=True)
class Suspect:
    """A key that a page shows otherwise than we hold it; `mod_revision` 0: not in the page."""

    key: bytes
    mod_revision: Revision
    seen_at: Revision


class View:
    """The keys of `keys` at `revision`, held in `data` (which other views may share)."""

    def __init__(self, keys: KeyRange, data: dict[bytes, KeyValue], *, shared: bool) -> None:
        self.keys = keys
        self.revision = Revision(0)
        self.count = 0
        self._data = data
        self._shared = shared
        self._expected: tuple[Revision, int] | None = None
        self.miscounted = False

    def held(self) -> list[bytes]:
        """Return our keys: O(data)."""
        return self.between(self.keys) if self._shared else list(self._data)

    def between(self, part: KeyRange) -> list[bytes]:
        """Return the held keys of a part of our range: O(data), 4 ms for 100,000 keys."""
        start, end = part.start, part.end
        if not end:
            return [start] if start in self._data else []
        if end == b"\x00":
            return [key for key in self._data if key >= start]
        return [key for key in self._data if start <= key < end]

    def replace(self, listed: dict[bytes, KeyValue], revision: Revision) -> list[Change]:
        """Take in a whole list at `revision`; return only what differs (by mod_revision)."""
        data = self._data
        gone = [key for key in self.held() if key not in listed]
        changes = [Change(key, None, data.pop(key)) for key in gone]
        for key, new in listed.items():
            old = data.get(key)
            if old is None or old.mod_revision != new.mod_revision or old.value != new.value:
                data[key] = new
                changes.append(Change(key, new, old))
        self.count = len(listed)
        self.revision = revision
        self._expected = None
        self.miscounted = False
        return changes

    def apply(self, events: Sequence[Event]) -> list[Change]:
        """Take in one whole answer of a watch; return one change for each key it changed."""
        data = self._data
        changes: dict[bytes, Change] = {}
        revision = self.revision
        last = revision
        for event in events:
            kv = event.kv
            at = kv.mod_revision
            if at <= revision:
                continue  # delivered before (3.4 before .24, 3.5 before .8; §6.4)
            if self._expected is not None and at > self._expected[0]:
                self._judge()
            last = at
            key = kv.key
            old = data.pop(key, None) if event.deleted else data.get(key)
            if event.deleted:
                if old is None and key not in changes:
                    continue
                self.count -= old is not None
                new = None
            else:
                self.count += old is None
                data[key] = new = kv
            first = changes.get(key)
            changes[key] = Change(key, new, first.old if first is not None else old)
        self.advance(last)
        return [c for c in changes.values() if c.new is not None or c.old is not None]

    def advance(self, revision: Revision) -> None:
        """Note that everything up to `revision` has been seen: progress, or events applied."""
        if revision > self.revision:
            if self._expected is not None and revision > self._expected[0]:
                self._judge()
            self.revision = revision

    def expect(self, count: int, revision: Revision) -> None:
        """Compare our number of keys with `count` when we are at `revision`."""
        self._expected = None
        if revision >= self.revision:
            self._expected = (revision, count)

    def settle(self) -> bool:
        """Say whether a count that is still expected, or was compared, did not fit."""
        if self._expected is not None:
            self._judge()
        return self.miscounted

    def _judge(self) -> None:
        assert self._expected is not None  # noqa: S101
        if self._expected[1] != self.count:
            self.miscounted = True
        self._expected = None

    def suspects(
        self, page: Iterable[tuple[bytes, Revision]], ours: Iterable[bytes], seen_at: Revision
    ) -> list[Suspect]:
        """Return what a page of (key, mod_revision) shows otherwise than we hold it.

        Args:
            ours: the keys we hold in the part of the range that the page covers.
            seen_at: the revision the page was read at.
        """
        there = dict(page)
        data = self._data
        found = []
        for key, revision in there.items():
            held = data.get(key)
            if held is None or held.mod_revision != revision:
                found.append(Suspect(key, revision, seen_at))
        found += [Suspect(key, Revision(0), seen_at) for key in ours if key not in there]
        return [suspect for suspect in found if self.lost(suspect)]

    def lost(self, suspect: Suspect) -> bool:
        """Say whether we hold `suspect.key` as it cannot have been at `seen_at`.

        An absent key may also have been deleted since: a second page, later, tells.
        """
        held = self._data.get(suspect.key)
        if held is None:
            return suspect.mod_revision > 0
        if held.mod_revision > suspect.seen_at:
            return False  # newer than the page
        return held.mod_revision != suspect.mod_revision
