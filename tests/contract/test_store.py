# SPDX-License-Identifier: Apache-2.0
"""The contract of `fairlead.etcd.store.Store`: one suite for every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest

from fairlead.etcd.client import Client
from fairlead.etcd.errors import (
    Compacted,
    FutureRevision,
    Invalid,
    LeaseExists,
    LeaseLost,
    TooLarge,
    Unavailable,
)
from fairlead.etcd.store import Store
from fairlead.etcd.types import (
    Compare,
    Delete,
    DeleteResult,
    KeyRange,
    KeyValue,
    LeaseID,
    Op,
    Put,
    PutResult,
    Range,
    RangeResult,
    Result,
    Revision,
    SortOrder,
    SortTarget,
    Target,
    Txn,
    TxnResult,
    WatchAnswer,
    WatchRequest,
)

A, B = KeyRange.prefix(b"/a/"), KeyRange.prefix(b"/b/")
pytestmark = pytest.mark.timeout(60)


def names(kvs: Sequence[KeyValue]) -> list[str]:
    return [kv.key.decode() for kv in kvs]


async def events(answers: AsyncIterator[WatchAnswer], count: int) -> list[str]:
    """Return the next `count` events as "put /a/1=x @5 (was w)" and "delete /a/1 @6"."""
    seen: list[str] = []
    while len(seen) < count:
        answer = await asyncio.wait_for(anext(answers), 5)
        for event in answer.events:
            kv = event.kv
            text = f"delete {kv.key.decode()}" if event.deleted else f"put {kv.key.decode()}"
            text += "" if event.deleted else f"={kv.value.decode()}"
            text += f" @{kv.mod_revision}"
            seen.append(text + (f" (was {event.prev.value.decode()})" if event.prev else ""))
    return seen


async def test_a_new_store_is_at_revision_one_and_every_write_adds_one(store: Store) -> None:
    assert (await store.range(Range(A))).header.revision == 1
    assert await store.get(b"/a/1") is None
    put = await store.put(b"/a/1", b"x")
    assert (put.header.revision, put.prev) == (2, None)
    assert (await store.delete(KeyRange(b"/nothing"))).header.revision == 2  # adds none
    again = await store.put(b"/a/1", b"y", prev_kv=True)
    assert again.prev == KeyValue(b"/a/1", b"x", Revision(2), Revision(2), 1)
    assert await store.get(b"/a/1") == KeyValue(b"/a/1", b"y", Revision(2), Revision(3), 2)
    gone = await store.delete(A, prev_kv=True)
    assert (gone.deleted, names(gone.prev), gone.header.revision) == (1, ["/a/1"], 4)
    await store.put(b"/a/1", b"z")
    assert await store.get(b"/a/1") == KeyValue(b"/a/1", b"z", Revision(5), Revision(5), 1)


async def test_ranges_limit_sort_filter_count(store: Store) -> None:
    for key, value in ((b"/a/1", b"3"), (b"/a/2", b"1"), (b"/a/3", b"2"), (b"/b/1", b"")):
        await store.put(key, value)
    await store.put(b"/a/1", b"4")  # 6
    page = await store.range(Range(A, limit=2))
    assert (names(page.kvs), page.more, page.count) == (["/a/1", "/a/2"], True, 3)
    for request, wanted in (
        (Range(A, sort_order=SortOrder.DESCEND), ["/a/3", "/a/2", "/a/1"]),
        (Range(A, sort_target=SortTarget.VALUE), ["/a/2", "/a/3", "/a/1"]),
        (Range(A, sort_order=SortOrder.DESCEND, sort_target=SortTarget.MOD, limit=1), ["/a/1"]),
        (Range(A, min_mod_revision=4, max_mod_revision=5), ["/a/3"]),
        (Range(A, max_create_revision=2), ["/a/1"]),
        (Range(KeyRange(b"/a/2", b"\x00")), ["/a/2", "/a/3", "/b/1"]),
        (Range(KeyRange(b"/a/2", b"/b/1")), ["/a/2", "/a/3"]),
        (Range(KeyRange(b"/b", b"/a")), []),
        (Range(KeyRange.prefix(b"")), ["/a/1", "/a/2", "/a/3", "/b/1"]),
        (Range(A, revision=Revision(3)), ["/a/1", "/a/2"]),
    ):
        assert names((await store.range(request)).kvs) == wanted
    bare = await store.range(Range(A, keys_only=True))
    assert {kv.value for kv in bare.kvs} == {b""}
    assert bare.kvs[0].mod_revision == 6
    counted = await store.range(Range(A, count_only=True))
    assert (counted.kvs, counted.count, counted.more) == ((), 3, False)
    with pytest.raises(FutureRevision):
        await store.range(Range(A, revision=Revision(99)))
    with pytest.raises(Invalid, match="key is not provided"):
        await store.range(Range(KeyRange(b"")))


async def test_pages_stay_at_one_revision(store: Store) -> None:
    for start in range(0, 2500, 100):
        await store.txn(success=[Put(b"/a/%04d" % i, b"") for i in range(start, start + 100)])
    found: list[str] = []
    async for page in store.pages(A):
        found += names(page.kvs)
        await store.put(b"/a/0000x", b"")
        await store.delete(KeyRange(b"/a/2499"))
    assert found == [f"/a/{i:04}" for i in range(2500)]


async def test_transactions_run_one_branch_at_one_revision(store: Store) -> None:
    absent = Compare(b"/a/1", Target.CREATE, Result.EQUAL, 0)
    ops: list[Op] = [
        Put(b"/a/1", b"x"),
        Put(b"/a/2", b"y", prev_kv=True),
        Range(A),
        Txn([absent], [Put(b"/b/1", b"nested")], [Put(b"/b/2", b"")]),
        Delete(B),
    ]
    with pytest.raises(Invalid, match="duplicate key"):
        await store.txn([absent], ops)
    made = await store.txn([absent], ops[:-1], [Range(A)])
    assert made.succeeded
    assert made.header.revision == 2
    put, put2, read, nested = made.responses
    assert isinstance(put, PutResult)
    assert isinstance(put2, PutResult)
    assert isinstance(read, RangeResult)
    assert isinstance(nested, TxnResult)
    assert names(read.kvs) == ["/a/1", "/a/2"]  # it sees what the transaction wrote before
    assert nested.succeeded  # its guard looks at the state before the transaction
    other = await store.txn([absent], ops[:-1], [Delete(A, prev_kv=True)])
    assert not other.succeeded
    assert isinstance(other.responses[0], DeleteResult)
    assert other.responses[0].deleted == 2
    assert (await store.txn([absent], [], [])).header.revision == 3


@pytest.mark.parametrize(
    ("guard", "holds"),
    [
        (Compare(b"/a/1", Target.VERSION, Result.EQUAL, 2), True),
        (Compare(b"/a/1", Target.CREATE, Result.LESS, 3), True),
        (Compare(b"/a/1", Target.MOD, Result.GREATER, 2), True),
        (Compare(b"/a/1", Target.VALUE, Result.NOT_EQUAL, b"y"), False),
        (Compare(b"/a/1", Target.LEASE, Result.EQUAL, 0), True),
        (Compare(b"/none", Target.VERSION, Result.EQUAL, 0), True),
        (Compare(b"/none", Target.VALUE, Result.EQUAL, b""), False),
        (Compare(b"/none", Target.VALUE, Result.NOT_EQUAL, b"y"), False),
        (Compare(b"/a/", Target.MOD, Result.LESS, 9, b"/a0"), True),
        (Compare(b"/a/", Target.VALUE, Result.EQUAL, b"y", b"/a0"), False),
        (Compare(b"/n/", Target.CREATE, Result.GREATER, 0, b"/n0"), False),
    ],
)
async def test_guards_compare(store: Store, guard: Compare, holds: bool) -> None:
    await store.put(b"/a/1", b"x")
    await store.put(b"/a/1", b"y")
    await store.put(b"/a/2", b"z")
    assert (await store.txn([guard])).succeeded is holds


async def test_refused_writes_change_nothing(store: Store) -> None:
    with pytest.raises(Invalid, match="key is not provided"):
        await store.put(b"", b"x")
    with pytest.raises(Invalid, match="key not found"):
        await store.put(b"/a/1", b"", ignore_value=True)
    with pytest.raises(Invalid, match="value is provided"):
        await store.put(b"/a/1", b"x", ignore_value=True)
    with pytest.raises(LeaseLost, match="requested lease not found"):
        await store.put(b"/a/1", b"x", lease=LeaseID(77))
    with pytest.raises(Invalid, match="too many operations"):
        await store.txn(success=[Put(b"/a/%d" % i, b"") for i in range(129)])
    with pytest.raises(FutureRevision):
        await store.txn(success=[Put(b"/a/1", b""), Range(A, revision=Revision(50))])
    with pytest.raises(TooLarge, match="request is too large"):
        await store.put(b"/a/1", b"x" * (1536 * 1024))
    assert (await store.range(Range(A))).header.revision == 1


async def test_compaction_forgets_the_past(store: Store) -> None:
    for value in (b"1", b"2", b"3"):
        await store.put(b"/a/1", value)
    await store.compact(Revision(3))
    await store.compact(Revision(3))  # again counts as done
    with pytest.raises(Compacted):
        await store.range(Range(A, revision=Revision(2)))
    assert (await store.range(Range(A, revision=Revision(3)))).kvs[0].value == b"2"
    with pytest.raises(FutureRevision):
        await store.compact(Revision(50))


async def test_leases_hold_keys_and_take_them_along(store: Store) -> None:
    granted = await store.grant(60, LeaseID(4711))
    assert (granted.id, granted.ttl_seconds) == (4711, 60)
    with pytest.raises(LeaseExists):
        await store.grant(60, LeaseID(4711))
    other = await store.grant(1)
    assert other.ttl_seconds == 2  # etcd's least
    assert set(await store.leases()) == {4711, other.id}
    await store.put(b"/a/2", b"", lease=LeaseID(4711))
    await store.put(b"/a/1", b"", lease=LeaseID(4711))
    await store.put(b"/a/1", b"", ignore_lease=True)
    await store.put(b"/a/3", b"", lease=LeaseID(4711))
    await store.put(b"/a/3", b"")  # a put without lease lets go
    assert await store.keep_alive(LeaseID(4711)) == 60
    info = await store.time_to_live(LeaseID(4711), keys=True)
    assert info.granted_ttl_seconds == 60
    assert 58 <= info.ttl_seconds <= 60
    assert sorted(info.keys) == [b"/a/1", b"/a/2"]
    async with store.watch(WatchRequest(A)) as watching:
        answers = aiter(watching)
        assert (await anext(answers)).created
        await store.revoke(LeaseID(4711))
        assert await events(answers, 2) == ["delete /a/1 @7", "delete /a/2 @7"]
    assert names((await store.range(Range(A))).kvs) == ["/a/3"]
    await store.revoke(LeaseID(4711))  # gone counts as done
    with pytest.raises(LeaseLost):
        await store.keep_alive(LeaseID(4711))
    gone = await store.time_to_live(LeaseID(4711))
    assert gone.ttl_seconds == -1
    with pytest.raises(Invalid, match="too large lease TTL"):
        await store.grant(9_000_000_001)


@pytest.mark.slow
async def test_a_lease_that_nobody_renews_expires(store: Store) -> None:
    lease = (await store.grant(2)).id
    await store.put(b"/a/1", b"", lease=lease)
    async with store.watch(WatchRequest(A, Revision(2))) as watching:
        answers = aiter(watching)
        assert await events(answers, 2) == ["put /a/1= @2", "delete /a/1 @3"]
    assert lease not in await store.leases()


async def test_watches_start_in_the_past_filter_and_show_what_was(store: Store) -> None:
    await store.put(b"/a/1", b"x")
    await store.put(b"/b/1", b"other")
    async with (
        store.watch(WatchRequest(A, Revision(2), prev_kv=True)) as one,
        store.watch(WatchRequest(A, no_put=True)) as two,
        store.watch(WatchRequest(KeyRange(b"/a/1"), no_delete=True, fragment=True)) as three,
    ):
        all_, deletes, puts = aiter(one), aiter(two), aiter(three)
        for answers in (all_, deletes, puts):
            created = await asyncio.wait_for(anext(answers), 5)
            assert (created.created, created.events) == (True, ())
            assert created.header.revision == 3
        await store.put(b"/a/1", b"y")
        await store.txn(success=[Put(b"/a/3", b"c"), Put(b"/a/2", b"b")])
        await store.delete(A)
        assert await events(all_, 7) == [
            "put /a/1=x @2",
            "put /a/1=y @4 (was x)",
            "put /a/3=c @5",  # in the order of the operations
            "put /a/2=b @5",
            "delete /a/1 @6 (was y)",
            "delete /a/2 @6 (was b)",
            "delete /a/3 @6 (was c)",
        ]
        assert await events(deletes, 3) == ["delete /a/1 @6", "delete /a/2 @6", "delete /a/3 @6"]
        assert await events(puts, 1) == ["put /a/1=y @4"]


async def test_a_watch_behind_the_compaction_is_refused_and_at_it_works(store: Store) -> None:
    for value in (b"1", b"2", b"3"):
        await store.put(b"/a/1", value)
    await store.compact(Revision(3))
    async with store.watch(WatchRequest(A, Revision(2))) as watching:
        answers = aiter(watching)
        assert (await asyncio.wait_for(anext(answers), 5)).created
        with pytest.raises(Compacted) as caught:
            await asyncio.wait_for(anext(answers), 5)
        assert caught.value.compact_revision == 3
    async with store.watch(WatchRequest(A, Revision(3))) as watching:
        assert await events(aiter(watching), 2) == ["put /a/1=2 @3", "put /a/1=3 @4"]


async def test_a_watch_from_the_future_waits(store: Store) -> None:
    async with store.watch(WatchRequest(A, Revision(4))) as watching:
        answers = aiter(watching)
        assert (await asyncio.wait_for(anext(answers), 5)).created
        for value in (b"1", b"2", b"3"):
            await store.put(b"/a/1", value)
        assert await events(answers, 1) == ["put /a/1=3 @4"]


async def test_progress_tells_the_revision_of_a_quiet_watch(store: Store) -> None:
    async with store.watch(WatchRequest(A)) as watching:
        answers = aiter(watching)
        assert (await asyncio.wait_for(anext(answers), 5)).created
        await store.put(b"/b/1", b"")
        await watching.request_progress()
        progress = await asyncio.wait_for(anext(answers), 5)
        assert (progress.events, progress.created, progress.header.revision) == ((), False, 2)


async def test_it_goes_on_when_the_address_it_speaks_from_is_gone(store: Store) -> None:
    await store.put(b"a", b"1")
    async with store.watch(WatchRequest(KeyRange(b"a"))) as watching:
        answers = aiter(watching)
        assert (await asyncio.wait_for(anext(answers), 5)).created
        store.address_gone("127.0.0.1")
        if isinstance(store, Client):
            with pytest.raises(Unavailable, match="no longer"):
                await asyncio.wait_for(anext(answers), 5)
    kv = await store.get(b"a")
    assert kv is not None
    assert kv.value == b"1"


async def test_forty_watches_at_once_are_told_apart(store: Store) -> None:
    """They may share one stream: each has its own events, and its own end."""
    await store.put(b"/old", b"")
    await store.put(b"/old", b"")
    await store.compact(Revision(3))
    keys = [b"/w/%02d" % number for number in range(40)]
    async with AsyncExitStack() as outer, AsyncExitStack() as inner:

        async def opened(key: bytes, stack: AsyncExitStack) -> AsyncIterator[WatchAnswer]:
            start = Revision(2 if key == b"/w/07" else 0)
            request = WatchRequest(KeyRange(key), start)
            answers = aiter(await stack.enter_async_context(store.watch(request)))
            assert (await asyncio.wait_for(anext(answers), 5)).created
            return answers

        watches = await asyncio.gather(
            *(opened(key, inner if n % 2 else outer) for n, key in enumerate(keys))
        )
        with pytest.raises(Compacted):
            await asyncio.wait_for(anext(watches[7]), 5)
        await store.txn(success=[Put(key, b"1") for key in keys])
        for number, answers in enumerate(watches):
            if number != 7:
                assert await events(answers, 1) == [f"put /w/{number:02}=1 @4"]
        await inner.aclose()
        await store.txn(success=[Put(key, b"2") for key in keys])
        for number, answers in enumerate(watches):
            if number % 2 == 0:
                assert await events(answers, 1) == [f"put /w/{number:02}=2 @5"]


async def test_status_says_who_answers(store: Store) -> None:
    status = await store.status()
    assert status.version.startswith("3.")
    assert status.leader == status.header.member_id
    assert status.header.cluster_id == (await store.range(Range(A))).header.cluster_id
