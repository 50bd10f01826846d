# SPDX-License-Identifier: Apache-2.0
"""The model of etcd against a naive one: a whole dict for every revision."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.embedded.mvcc import Bounds, Mvcc
from fairlead.errors import StoreError
from fairlead.etcd.types import (
    Compare,
    Delete,
    KeyRange,
    KeyValue,
    LeaseID,
    Op,
    Put,
    Range,
    RangeResult,
    Result,
    Revision,
    SortOrder,
    SortTarget,
    Target,
    Txn,
)

KEYS = [b"a", b"a\x00", b"aa", b"ab", b"b", b"ba", b"c", b"\xff"]
keys = st.sampled_from(KEYS)
ranges = st.builds(
    KeyRange, keys, st.sampled_from([b"", b"", b"\x00", b"ab", b"b", b"c\x00", b"\xff\xff"])
)
puts = st.builds(Put, keys, st.binary(max_size=3), prev_kv=st.booleans())
deletes = st.builds(Delete, ranges, prev_kv=st.booleans())
reads = st.builds(
    Range,
    ranges,
    limit=st.integers(0, 4),
    revision=st.integers(0, 12).map(Revision),
    sort_order=st.sampled_from(SortOrder),
    sort_target=st.sampled_from(SortTarget),
    keys_only=st.booleans(),
    count_only=st.booleans(),
    min_mod_revision=st.integers(0, 5),
    max_mod_revision=st.sampled_from([0, 0, 4, 9]),
    max_create_revision=st.sampled_from([0, 0, 0, 6]),
)
guards = st.one_of(
    st.builds(
        Compare,
        keys,
        st.sampled_from([Target.VERSION, Target.CREATE, Target.MOD, Target.LEASE]),
        st.sampled_from(Result),
        st.integers(0, 6),
        st.sampled_from([b"", b"", b"b", b"\x00"]),
    ),
    st.builds(Compare, keys, st.just(Target.VALUE), st.sampled_from(Result), st.binary(max_size=2)),
)
ops: st.SearchStrategy[Op] = st.recursive(
    puts | deletes | reads.map(lambda read: replace(read, revision=Revision(0))),
    lambda inner: st.builds(
        Txn, st.lists(guards, max_size=2), st.lists(inner, max_size=3), st.lists(inner, max_size=3)
    ),
    max_leaves=6,
)
steps = st.lists(
    ops | reads | st.integers(1, 12).map(lambda revision: ("compact", revision)), max_size=25
)


class Naive:
    """etcd as its documentation says it, with no thought for cost."""

    def __init__(self) -> None:
        self.states: list[dict[bytes, KeyValue]] = [{}, {}]
        self.compacted = -1
        self.wrote = False

    @property
    def now(self) -> dict[bytes, KeyValue]:
        return self.states[-1]

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    def read(self, request: Range, state: dict[bytes, KeyValue]) -> Any:
        if request.revision > self.revision:
            return "future"
        if 0 < request.revision < self.compacted:
            return "compacted"
        if request.revision:
            state = self.states[request.revision]
        rows = [state[k] for k in sorted(state) if request.keys.holds(k)]
        count = len(rows)
        if request.count_only:
            return (), False, count
        order, limit = request.sort_order, request.limit or len(KEYS)
        filtered = [
            kv
            for kv in rows
            if kv.mod_revision >= request.min_mod_revision
            and kv.mod_revision <= (request.max_mod_revision or 999)
            and kv.create_revision <= (request.max_create_revision or 999)
        ]
        whole = order or (
            request.min_mod_revision or request.max_mod_revision or request.max_create_revision
        )
        rows = filtered if whole else rows[: limit + 1]
        target = {
            SortTarget.KEY: lambda kv: kv.key,
            SortTarget.VERSION: lambda kv: kv.version,
            SortTarget.CREATE: lambda kv: kv.create_revision,
            SortTarget.MOD: lambda kv: kv.mod_revision,
            SortTarget.VALUE: lambda kv: kv.value,
        }[request.sort_target]
        rows = sorted(rows, key=target, reverse=order is SortOrder.DESCEND)
        more = len(rows) > limit
        rows = rows[:limit]
        if request.keys_only:
            rows = [replace(kv, value=b"") for kv in rows]
        return tuple(rows), more, count

    def holds(self, guard: Compare) -> bool:
        rows = [kv for k, kv in self.now.items() if KeyRange(guard.key, guard.range_end).holds(k)]
        values: list[Any] = [
            {
                Target.VERSION: kv.version,
                Target.CREATE: kv.create_revision,
                Target.MOD: kv.mod_revision,
                Target.LEASE: kv.lease,
                Target.VALUE: kv.value,
            }[guard.target]
            for kv in rows
        ]
        if not rows:
            if guard.target is Target.VALUE:
                return False
            values = [0]
        wanted: Any = guard.operand
        return all(
            {
                Result.EQUAL: value == wanted,
                Result.NOT_EQUAL: value != wanted,
                Result.LESS: value < wanted,
                Result.GREATER: value > wanted,
            }[guard.result]
            for value in values
        )

    def run(self, op: Op, state: dict[bytes, KeyValue], revision: int) -> Any:
        """Change `state` in place; guards look at the state before."""
        match op:
            case Put():
                self.wrote = True
                old = state.get(op.key)
                state[op.key] = KeyValue(
                    op.key,
                    op.value,
                    old.create_revision if old else Revision(revision),
                    Revision(revision),
                    old.version + 1 if old else 1,
                )
                return old if op.prev_kv else None
            case Delete():
                gone = [state.pop(k) for k in sorted(state) if op.keys.holds(k)]
                self.wrote |= bool(gone)
                return len(gone), tuple(gone) if op.prev_kv else ()
            case Range():
                return self.read(op, state)
            case Txn():
                yes = all(map(self.holds, op.compare))
                return yes, [
                    self.run(inner, state, revision)
                    for inner in (op.success if yes else op.failure)
                ]

    def do(self, op: Op) -> Any:
        state = dict(self.now)
        self.wrote = False
        answer = self.run(op, state, self.revision + 1)
        if self.wrote:  # also when it took back what it wrote (seen on 3.4.23)
            self.states.append(state)
        return answer


def plain(answer: Any) -> Any:
    """Return an answer of Mvcc in the naive model's form."""
    if isinstance(answer, RangeResult):
        return answer.kvs, answer.more, answer.count
    if hasattr(answer, "succeeded"):
        return answer.succeeded, [plain(inner) for inner in answer.responses]
    if hasattr(answer, "deleted"):
        return answer.deleted, answer.prev
    return answer.prev


def new(**kwargs: Any) -> Mvcc:
    return Mvcc(cluster_id=1, member_id=2, **kwargs)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(steps)
@example([Txn(success=[Txn(success=[Put(b"a", b"")]), Txn(success=[Delete(KeyRange(b"a"))])])])
def test_it_answers_as_the_naive_model_at_every_revision(script: list[Any]) -> None:
    store, naive = new(), Naive()
    for step in script:
        if isinstance(step, tuple):
            before = naive.compacted
            if before < step[1] <= naive.revision:
                naive.compacted = step[1]
                assert store.compact(step[1]).revision == naive.revision
            else:
                with pytest.raises(StoreError):
                    store.compact(step[1])
            continue
        if isinstance(step, Range):
            wanted = naive.read(step, naive.now)
            if isinstance(wanted, str):
                with pytest.raises(StoreError, match=wanted):
                    store.range(step)
            else:
                assert plain(store.range(step)) == wanted
            continue
        revision = store.revision
        try:
            answer = carry_out(store, step)
        except StoreError as error:
            assert "duplicate key" in str(error)  # noqa: PT017 - a refusal changes nothing
            assert store.revision == revision
            continue
        assert answer == naive.do(step)
        assert store.revision == naive.revision
    assert store.live == naive.now
    assert store.names == sorted(naive.now)
    for revision in range(max(1, naive.compacted), naive.revision + 1):
        rows = store.range(Range(KeyRange.prefix(b""), revision=Revision(revision))).kvs
        assert {kv.key: kv for kv in rows} == naive.states[revision]
    # the log, replayed from the oldest state that still answers, gives the present
    state = dict(naive.states[max(1, naive.compacted)])
    for commit in store.since(max(1, naive.compacted) + 1):
        for event in commit.events:
            if event.deleted:
                del state[event.kv.key]
            else:
                state[event.kv.key] = event.kv
    assert state == naive.now


def put(key: bytes, value: bytes = b"v", **kwargs: Any) -> Put:
    return Put(key, value, **kwargs)


def carry_out(store: Mvcc, op: Op) -> Any:
    match op:
        case Range():
            return plain(store.range(op))
        case Put():
            return plain(store.put(op, 0.0))
        case Delete():
            return plain(store.delete(op, 0.0))
        case Txn():
            return plain(store.txn(op, 0.0))


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Range(KeyRange(b"")), "etcdserver: key is not provided"),
        (Put(b"", b""), "etcdserver: key is not provided"),
        (Delete(KeyRange(b"")), "etcdserver: key is not provided"),
        (put(b"k", ignore_value=True), "etcdserver: value is provided"),
        (Put(b"k", b"", ignore_value=True), "etcdserver: key not found"),
        (put(b"k", lease=LeaseID(5), ignore_lease=True), "etcdserver: lease is provided"),
        (put(b"k", lease=LeaseID(5)), "etcdserver: requested lease not found"),
        (Txn(success=[put(b"k")] * 2), "etcdserver: duplicate key given in txn request"),
        (Txn(success=[put(b"k"), Delete(KeyRange(b"a", b"z"))]), "duplicate key"),
        (Txn(success=[put(b"k"), Txn(failure=[put(b"k")])]), "duplicate key"),
        (Txn(success=[Delete(KeyRange(b"k")), Txn(success=[put(b"k")])]), "duplicate key"),
        (Txn(success=[put(b"%d" % i) for i in range(129)]), "too many operations"),
        (Txn([Compare(b"", Target.MOD, Result.EQUAL, 0)]), "key is not provided"),
        (Txn(success=[put(b"a"), put(b"k", lease=LeaseID(5))]), "requested lease not found"),
        (Txn(success=[put(b"a"), Range(KeyRange(b"k"), revision=Revision(9))]), "future revision"),
    ],
)
def test_refusals_are_etcds_words_and_change_nothing(request_: Op, text: str) -> None:
    store = new()
    with pytest.raises(StoreError, match=text):
        carry_out(store, request_)
    assert store.revision == 1
    assert not store.live
    assert not store.pending


def test_the_same_key_in_both_branches_of_a_nested_transaction_is_no_fault() -> None:
    store = new()
    store.txn(Txn(success=[Txn(success=[put(b"k", b"1")], failure=[put(b"k", b"2")])]), 0.0)
    assert store.live[b"k"].value == b"1"


def test_nested_guards_look_at_the_state_before_the_transaction() -> None:
    store = new()
    absent = Compare(b"k", Target.VERSION, Result.EQUAL, 0)
    answer = store.txn(Txn(success=[put(b"k"), Txn([absent], [put(b"yes")], [])]), 0.0)
    assert answer.responses[1].succeeded  # type: ignore[union-attr]
    assert b"yes" in store.live


def test_a_reused_key_starts_again_and_leases_let_go() -> None:
    store = new()
    store.grant(10, LeaseID(7), now=0.0)
    store.put(put(b"k", lease=LeaseID(7)), 0.0)
    store.put(put(b"k", ignore_lease=True), 0.0)
    assert store.leases[LeaseID(7)].keys == {b"k"}
    store.put(put(b"k"), 0.0)
    assert store.leases[LeaseID(7)].keys == set()
    store.delete(Delete(KeyRange(b"k")), 0.0)
    store.put(put(b"k"), 0.0)
    assert (store.live[b"k"].version, store.live[b"k"].create_revision) == (1, 6)


def test_leases_expire_once_with_all_their_keys_at_one_revision() -> None:
    store = new()
    assert store.grant(1, LeaseID(7), now=0.0).ttl_seconds == 2  # etcd's least
    for key in (b"b", b"a"):
        store.put(put(key, lease=LeaseID(7)), 0.0)
    assert store.keep_alive(LeaseID(7), 1.5) == 2
    assert store.time_to_live(LeaseID(7), True, 2.0).keys == (b"a", b"b")
    assert store.expire(3.4) == ()
    revision = store.revision
    assert store.next_expiry() == 3.5
    assert store.expire(3.5) == (7,)
    assert store.revision == revision + 1
    assert [event.kv.key for event in store.log[-1].events] == [b"a", b"b"]
    assert store.keep_alive(LeaseID(7), 3.5) == 0
    assert store.time_to_live(LeaseID(7), False, 3.5).ttl_seconds == -1
    with pytest.raises(StoreError, match="requested lease not found"):
        store.revoke(LeaseID(7), 3.5)
    with pytest.raises(StoreError, match="too large lease TTL"):
        store.grant(9_000_000_001, LeaseID(8), 0.0)


def test_history_is_bounded_by_count_age_and_bytes() -> None:
    store = new(bounds=Bounds(revisions=5, seconds=10.0, size_bytes=5000))
    for i in range(8):
        store.put(put(b"k%d" % i), 0.0)
    assert len(store.log) == 8  # more than 5, but young
    store.put(put(b"k"), 11.0)
    assert len(store.log) == 5
    assert store.first == store.compact_revision == 6
    store.put(put(b"big", b"x" * 4000), 11.0)
    assert store.log_bytes <= 5000
    with pytest.raises(StoreError, match="compacted"):
        store.range(Range(KeyRange(b"k"), revision=Revision(5)))


def test_a_restart_continues_the_revision_and_forgets_history() -> None:
    pairs = [KeyValue(b"k", b"v", Revision(3), Revision(9), 2, LeaseID(7))]
    store = new(revision=9, pairs=pairs, leases=[(LeaseID(7), 30)], now=100.0)
    assert store.put(put(b"l"), 100.0).header.revision == 10
    assert store.leases[LeaseID(7)].expires == 130.0
    assert store.range(Range(KeyRange(b"k"), revision=Revision(9))).kvs == tuple(pairs)
    with pytest.raises(StoreError, match="compacted"):
        store.range(Range(KeyRange(b"k"), revision=Revision(8)))
