# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fairlead.embedded.store import EmbeddedStore
from fairlead.etcd.errors import Compacted, LeaseLost, Unavailable
from fairlead.etcd.store import Store
from fairlead.etcd.types import KeyRange, LeaseID, Put, Range, Revision, WatchAnswer, WatchRequest
from fairlead.testing.clock import ManualClock
from fairlead.testing.etcd import FakeEtcd, fake_etcd

ALL = KeyRange.prefix(b"")


@pytest.fixture
async def store() -> AsyncIterator[FakeEtcd]:
    async with fake_etcd(ManualClock()) as fake:
        typed: Store = fake  # it keeps the seam
        assert typed is fake
        yield fake


async def collect(answers: AsyncIterator[WatchAnswer], revision: int) -> list[tuple[str, int]]:
    """Return (key, revision) of all events up to `revision`."""
    seen: list[tuple[str, int]] = []
    while not seen or seen[-1][1] < revision:
        answer = await asyncio.wait_for(anext(answers), 2)
        seen += [(e.kv.key.decode(), e.kv.mod_revision) for e in answer.events]
    return seen


async def test_a_watch_resumes_and_goes_on_live_without_gap_or_repetition(store: FakeEtcd) -> None:
    for i in range(2500):
        await store.put(b"a%d" % i, b"")
    async with store.watch(WatchRequest(ALL, Revision(2))) as watching:
        answers = aiter(watching)
        assert (await anext(answers)).created
        first = await anext(answers)
        assert len(first.events) == 1000
        assert first.header.revision == 2501  # the store's, far ahead of the events (§6.4)
        await store.put(b"b", b"")
        seen = await collect(answers, 2502)
        assert [revision for _, revision in seen] == list(range(1002, 2503))


async def test_watches_of_keys_ranges_and_filters_hear_what_is_theirs(store: FakeEtcd) -> None:
    requests = [
        WatchRequest(KeyRange(b"k"), prev_kv=True),
        WatchRequest(KeyRange.prefix(b"k"), no_put=True),
        WatchRequest(KeyRange.prefix(b"z")),
    ]
    async with (
        store.watch(requests[0]) as one,
        store.watch(requests[1]) as dels,
        store.watch(requests[2]) as other,
    ):
        ones, deletes, others = aiter(one), aiter(dels), aiter(other)
        for answers in (ones, deletes, others):
            assert (await anext(answers)).created
        await store.put(b"k", b"1")
        await store.put(b"k2", b"1")
        await store.put(b"k", b"2")
        await store.delete(KeyRange.prefix(b"k"))
        await other.request_progress()
        progress = await anext(others)
        assert (progress.events, progress.header.revision) == ((), 5)
        gone = await anext(deletes)
        assert [(e.kv.key, e.deleted) for e in gone.events] == [(b"k", True), (b"k2", True)]
        events = [e for _ in range(1) for e in (await anext(ones)).events]
        assert [(e.deleted, e.prev.value if e.prev else None) for e in events] == [
            (False, None),
            (False, b"1"),
            (True, b"2"),
        ]


async def test_a_compacted_start_is_refused_and_one_at_the_end_works(store: FakeEtcd) -> None:
    for i in range(5):
        await store.put(b"k", b"%d" % i)
    await store.compact(Revision(4))
    await store.compact(Revision(4))  # already compacted counts as done
    async with store.watch(WatchRequest(ALL, Revision(3))) as watching:
        answers = aiter(watching)
        assert (await anext(answers)).created
        with pytest.raises(Compacted) as caught:
            await anext(answers)
        assert caught.value.compact_revision == 4
    async with store.watch(WatchRequest(ALL, Revision(4))) as watching:
        answers = aiter(watching)
        assert (await anext(answers)).created
        assert [e.kv.mod_revision for e in (await anext(answers)).events] == [4, 5, 6]


async def test_a_future_start_waits_until_the_store_gets_there(store: FakeEtcd) -> None:
    async with store.watch(WatchRequest(ALL, Revision(4))) as watching:
        answers = aiter(watching)
        assert (await anext(answers)).created
        for key in (b"a", b"b", b"c"):
            await store.put(key, b"")
        assert await collect(answers, 4) == [("c", 4)]


async def test_leases_expire_on_the_clock_and_watches_see_it(store: FakeEtcd) -> None:
    clock = store.clock
    assert isinstance(clock, ManualClock)
    long = await store.grant(600)
    lease = (await store.grant(10)).id
    await store.put(b"k", b"", lease=lease)
    await clock.advance(9)
    assert await store.keep_alive(lease) == 10
    await clock.advance(9)
    assert await store.get(b"k") is not None
    await clock.advance(1)
    assert await store.get(b"k") is None
    assert await store.leases() == (long.id,)
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease)
    await store.revoke(lease)  # gone counts as done


async def test_pages_are_of_one_revision(store: FakeEtcd) -> None:
    for start in range(0, 4500, 100):
        await store.txn(success=[Put(b"k%04d" % i, b"v") for i in range(start, start + 100)])
    seen: list[bytes] = []
    async for page in store.pages(KeyRange.prefix(b"k"), keys_only=True):
        seen += [kv.key for kv in page.kvs]
        await store.put(b"k9999", b"later")
        await store.delete(KeyRange(b"k4400"))
        assert page.count == 4500 - (len(seen) - len(page.kvs))
    assert seen == [b"k%04d" % i for i in range(4500)]


async def test_faults_are_planted_and_mended(store: FakeEtcd) -> None:
    await store.put(b"k", b"1")
    saved = store.faults.snapshot()
    await store.put(b"k", b"2")
    async with store.watch(WatchRequest(ALL)) as watching:
        answers = aiter(watching)
        assert (await anext(answers)).created
        store.faults.lose_events(lambda event: event.kv.key == b"lost")
        await store.put(b"lost", b"")
        await store.put(b"found", b"")
        assert [e.kv.key for e in (await anext(answers)).events] == [b"found"]
        store.faults.go_down()
        with pytest.raises(Unavailable):
            await anext(answers)
    with pytest.raises(Unavailable):
        await store.get(b"k")
    store.faults.come_back()
    store.faults.restore(saved)
    found = await store.range(Range(KeyRange(b"k")))
    assert (found.header.revision, found.kvs[0].value) == (2, b"1")
    store.faults.freeze()
    call = asyncio.create_task(store.get(b"k"))
    await asyncio.sleep(0.01)
    assert not call.done()
    store.faults.thaw()
    assert (await call) is not None


async def test_a_closed_store_refuses_and_ends_its_watches() -> None:
    store = await EmbeddedStore.open()
    async with store.watch(WatchRequest(ALL)) as watching:
        answers = aiter(watching)
        assert (await anext(answers)).created
        await store.aclose()
        with pytest.raises(Unavailable, match="server stopped"):
            await anext(answers)
    with pytest.raises(Unavailable):
        await store.put(b"k", b"")
    with pytest.raises(Unavailable):
        await store.grant(5, LeaseID(3))
