# SPDX-License-Identifier: Apache-2.0
"""The pure part of the mirror (specs/etcd.md §6.4, §6.9, §7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.etcd.types import Event, KeyRange, KeyValue, Revision
from fairlead.etcd.view import Change, View


def kv(key: str, revision: int, value: str = "x") -> KeyValue:
    return KeyValue(key.encode(), value.encode(), Revision(revision), Revision(revision), 1)


def put(key: str, revision: int, value: str = "x") -> Event:
    return Event(kv(key, revision, value))


def gone(key: str, revision: int) -> Event:
    return Event(kv(key, revision, ""), deleted=True)


def view(*held: KeyValue, revision: int = 10) -> tuple[View, dict[bytes, KeyValue]]:
    data: dict[bytes, KeyValue] = {}
    made = View(KeyRange.prefix(b"/"), data, shared=False)
    made.replace({k.key: k for k in held}, Revision(revision))
    return made, data


def test_a_list_gives_only_the_differences() -> None:
    same, changed, lost = kv("/same", 3), kv("/changed", 4), kv("/lost", 5)
    made, data = view(same, changed, lost)
    now, new = kv("/changed", 12), kv("/new", 13)
    changes = made.replace({k.key: k for k in (same, now, new)}, Revision(20))
    assert changes == [
        Change(b"/lost", None, lost),
        Change(b"/changed", now, changed),
        Change(b"/new", new, None),
    ]
    assert made.replace(dict(data), Revision(30)) == []
    assert made.count == 3


def test_a_list_may_set_the_revision_back() -> None:
    made, _ = view(kv("/a", 9))
    old = kv("/a", 2, "older")
    assert made.replace({b"/a": old}, Revision(3)) == [Change(b"/a", old, kv("/a", 9))]
    assert made.revision == 3


def test_events_at_or_below_our_revision_are_repeats() -> None:
    made, data = view(kv("/a", 9))
    assert made.apply([put("/a", 8, "old"), put("/a", 10, "old"), put("/b", 11)]) == [
        Change(b"/b", kv("/b", 11), None)
    ]
    assert data[b"/a"].mod_revision == 9
    assert made.revision == 11


def test_one_answer_gives_one_change_a_key() -> None:
    made, data = view(kv("/a", 9))
    changes = made.apply(
        [put("/a", 11), gone("/a", 12), put("/b", 13), gone("/b", 14), put("/a", 15, "z")]
    )
    assert changes == [Change(b"/a", kv("/a", 15, "z"), kv("/a", 9))]
    assert set(data) == {b"/a"}
    assert made.count == 1


def test_a_delete_of_what_we_never_had_is_no_change() -> None:
    made, _ = view()
    assert made.apply([gone("/a", 11)]) == []
    assert (made.revision, made.count) == (11, 0)


@pytest.mark.parametrize("count", [1, 3])
def test_a_count_that_does_not_fit_is_seen_at_its_revision(count: int) -> None:
    made, _ = view(kv("/a", 1), kv("/b", 2))
    made.expect(count, Revision(12))
    made.apply([put("/a", 11)])
    assert not made.miscounted
    made.apply([put("/c", 13)])
    assert made.settle()


def test_events_under_way_are_no_false_alarm() -> None:
    made, _ = view(kv("/a", 1))
    made.expect(3, Revision(13))  # read before the events arrived
    made.apply([put("/b", 11), put("/c", 12), gone("/a", 14), gone("/b", 15)])
    assert not made.settle()


def test_events_that_overtook_the_read_make_it_void() -> None:
    made, _ = view(kv("/a", 1))
    made.expect(99, Revision(5))
    assert not made.settle()


def test_suspects_of_a_page() -> None:
    made, _ = view(kv("/same", 1), kv("/old", 2), kv("/gone", 3), kv("/newer", 10), revision=10)
    page = [(b"/same", Revision(1)), (b"/old", Revision(6)), (b"/new", Revision(7))]
    page.append((b"/newer", Revision(5)))
    found = made.suspects(page, made.held(), Revision(9))
    assert [(s.key, s.mod_revision) for s in found] == [(b"/old", 6), (b"/new", 7), (b"/gone", 0)]
    made.apply([put("/old", 11)])
    assert [s.key for s in found if made.lost(s)] == [b"/new", b"/gone"]


KEYS = st.sampled_from(["/a", "/b", "/c", "/d"])


@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=40), st.integers(0, 40), st.data())
def test_watching_and_listing_agree(
    writes: list[tuple[str, bool]], listed_at: int, data: st.DataObject
) -> None:
    """List at any revision, then take the events from there in any batches, with repeats."""
    truth: dict[bytes, KeyValue] = {}
    start: dict[bytes, KeyValue] = {}
    events = []
    for revision, (key, deleted) in enumerate(writes, 2):
        if revision - 2 == min(listed_at, len(writes)):
            start = dict(truth)
        if deleted:
            truth.pop(key.encode(), None)
            events.append(gone(key, revision))
        else:
            truth[key.encode()] = kv(key, revision)
            events.append(put(key, revision))
    at = min(listed_at, len(writes))
    if at == len(writes):
        start = dict(truth)
    held: dict[bytes, KeyValue] = {}
    made = View(KeyRange.prefix(b"/"), held, shared=False)
    seen = {change.key: change.new for change in made.replace(start, Revision(at + 1))}
    position = data.draw(st.integers(0, at))
    while position < len(events):
        size = data.draw(st.integers(1, 5))
        for change in made.apply(events[position : position + size]):
            assert change.old == seen.get(change.key)
            seen[change.key] = change.new
        position += size
    assert held == truth
    assert {k: v for k, v in seen.items() if v} == truth
    assert made.count == len(truth)
