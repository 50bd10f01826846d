# SPDX-License-Identifier: Apache-2.0
"""The mirror against an etcd that does everything wrong (specs/etcd.md §6, §7)."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairlead.backoff import Backoff
from fairlead.etcd.errors import Compacted, Denied, Unavailable
from fairlead.etcd.mirror import Changes, Checks, Mirror, Snapshot
from fairlead.etcd.observer import Observer
from fairlead.etcd.snapshot import FEWEST
from fairlead.etcd.types import Event, KeyRange, KeyValue, Put, Revision
from fairlead.testing.clock import ManualClock
from fairlead.testing.etcd import FakeEtcd, fake_etcd

P = KeyRange.prefix(b"/p/")


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.resyncs: list[str] = []
        self.files: list[str] = []
        self.outages: list[str] = []

    def synced(self, mirror: str, revision: Revision, reason: str, changes: int) -> None:
        self.resyncs.append(reason)

    def state_file(self, mirror: str, path: str, problem: str, age: float = 0.0) -> None:
        self.files.append(problem)

    def stale(self, mirror: str, reason: str) -> None:
        self.outages.append(reason)


class Rig:
    """A mirror of /p/ on a fake etcd, on a clock that the test turns."""

    def __init__(self, store: FakeEtcd, clock: ManualClock, mirror: Mirror, notes: Notes) -> None:
        self.store = store
        self.clock = clock
        self.mirror = mirror
        self.notes = notes
        self.got: list[Changes] = []
        mirror.subscribe(self.got.append)

    def changed(self) -> list[tuple[str, str | None]]:
        """Return what was delivered since the last call: (key, new value)."""
        found = [
            (c.key.decode(), None if c.new is None else c.new.value.decode())
            for batch in self.got
            for c in batch.changes
        ]
        self.got.clear()
        return found

    async def fresh(self) -> dict[bytes, KeyValue]:
        return {kv.key: kv async for page in self.store.pages(P) for kv in page.kvs}

    async def written(self, file: Snapshot) -> None:
        """Wait until the file holds what etcd does, at the mirror's revision."""
        want = await self.fresh()
        async with asyncio.timeout(5):
            while True:
                loaded = Snapshot(file.path).load("p", (P,))
                assert loaded is not None
                if {kv.key: kv for kv in loaded.kvs} == want:
                    break
                await self.clock.advance(1)
                await asyncio.sleep(0.005)
        assert dict(self.mirror.data) == want
        assert loaded.revision == self.mirror.revision


@asynccontextmanager
async def rig(
    *before: str, snapshot: Snapshot | None = None, checks: Checks | None = None, down: bool = False
) -> AsyncIterator[Rig]:
    clock = ManualClock()
    async with fake_etcd(clock) as store:
        for key in before:
            await store.put(key.encode(), b"0")
        if down:
            store.faults.go_down()
        notes = Notes()
        mirror = Mirror(
            store,
            P,
            name="p",
            snapshot=snapshot,
            clock=clock,
            observer=notes,
            checks=checks,
            patience=0.01,
            backoff=Backoff(random=lambda: 1.0),
        )
        made = Rig(store, clock, mirror, notes)
        task = asyncio.create_task(mirror.run())
        if not down:
            async with asyncio.timeout(5):
                await mirror.ready()
            await clock.settle()
        try:
            yield made
            assert not task.done(), "a mirror never ends by itself"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_first_batch_is_the_whole_snapshot() -> None:
    async with rig("/p/a", "/p/b", "/other") as r:
        assert len(r.got) == 1
        assert r.got[0].resync
        assert r.changed() == [("/p/a", "0"), ("/p/b", "0")]


async def test_an_empty_prefix_is_a_snapshot_too() -> None:
    async with rig() as r:
        assert [batch.changes for batch in r.got] == [()]
        assert r.mirror.synced


async def test_nothing_is_delivered_before_the_first_full_snapshot() -> None:
    async with rig("/p/a", down=True) as r:
        await r.clock.advance(30)
        assert not r.mirror.synced
        assert r.got == []
        assert r.mirror.stale_since is not None
        assert len(r.notes.outages) == 1, "said once an outage"
        r.store.faults.come_back()
        await r.clock.advance(6)
        assert r.changed() == [("/p/a", "0")]
        assert r.mirror.stale_since is None


async def test_events_are_delivered_with_what_was_there_before() -> None:
    async with rig("/p/a") as r:
        r.changed()
        await r.store.put(b"/p/a", b"1")
        await r.store.put(b"/q", b"1")
        done = await r.store.delete(P)
        await r.mirror.at_least(done.header.revision)
        assert [
            (c.old and c.old.value, c.new and c.new.value) for b in r.got for c in b.changes
        ] in (
            [(b"0", b"1"), (b"1", None)],
            [(b"0", None)],
        )
        assert dict(r.mirror.data) == {}


async def test_a_transaction_is_one_batch() -> None:
    async with rig() as r:
        r.changed()
        await r.store.txn(success=[Put(b"/p/a", b"1"), Put(b"/p/b", b"1")])
        await r.clock.settle()
        assert len(r.got) == 1
        assert len(r.got[0].changes) == 2


async def test_a_broken_stream_is_resumed_without_a_list() -> None:
    async with rig("/p/a") as r:
        r.changed()
        r.store.faults.go_down()
        await r.clock.advance(1)
        assert r.mirror.stale_since is not None
        assert r.mirror.synced, "the last state keeps serving"
        r.store.faults.come_back()
        await r.store.put(b"/p/b", b"1")
        await r.clock.advance(6)
        assert r.changed() == [("/p/b", "1")]
        assert r.notes.resyncs == ["start"]
        assert r.mirror.stale_since is None


async def test_compaction_past_the_watch_lists_and_emits_the_difference() -> None:
    async with rig("/p/a", "/p/b", "/p/c") as r:
        r.changed()
        faults = r.store.faults
        faults.refuse, faults.refuse_calls = Unavailable("down"), frozenset({"watch"})
        faults.drop_watches()
        await r.store.put(b"/p/a", b"1")
        await r.store.delete(KeyRange(b"/p/b"))
        await faults.compact()
        await r.clock.advance(1)
        faults.come_back()
        await r.clock.advance(6)
        assert sorted(r.changed(), key=str) == [("/p/a", "1"), ("/p/b", None)]
        assert r.notes.resyncs == ["start", "compacted"]


async def test_a_server_that_always_says_compacted_is_not_flooded() -> None:
    async with rig("/p/a") as r:
        faults = r.store.faults
        faults.refuse, faults.refuse_calls = Compacted("compacted"), frozenset({"watch"})
        faults.drop_watches()
        await r.clock.advance(60)
        assert 5 < len(r.notes.resyncs) < 20, "at once, then with growing waits"
        faults.come_back()
        await r.store.put(b"/p/b", b"1")
        await r.clock.advance(11)
        assert dict(r.mirror.data) == await r.fresh()


async def test_an_unchanged_store_costs_a_list_and_no_batch() -> None:
    async with rig("/p/a") as r:
        r.changed()
        r.store.faults.drop_watches(Compacted("etcdserver: mvcc: required revision compacted"))
        await r.clock.advance(1)
        assert r.notes.resyncs == ["start", "compacted"]
        assert r.got == []


async def test_a_restored_store_that_has_passed_our_revision_is_found_out() -> None:
    async with rig("/p/a") as r:
        saved = r.store.faults.snapshot()
        await r.store.put(b"/p/a", b"1")
        await r.store.put(b"/p/b", b"1")
        await r.clock.settle()
        r.changed()
        r.store.faults.restore(saved)
        for _ in range(5):
            await r.store.put(b"/q", b"1")
        await r.clock.advance(10)
        assert sorted(r.changed()) == [("/p/a", "0"), ("/p/b", None)]
        assert r.notes.resyncs == ["start", "lost"]


@pytest.mark.parametrize("many", [2, 40], ids=["one page", "several pages"])
@pytest.mark.parametrize("what", ["other revision", "same revision, other value"])
async def test_a_restored_store_of_as_many_keys_is_found_out(many: int, what: str) -> None:
    """It has passed our revision, the count fits, and no header tells."""
    keys = [f"/p/{n:02}" for n in range(many)]
    async with rig(*keys, checks=Checks(page_keys=10)) as r:
        saved = r.store.faults.snapshot()
        await r.store.put(b"/p/01", b"before")
        await r.clock.settle()
        assert dict(r.changed())["/p/01"] == "before"
        r.store.faults.restore(saved)
        if what == "other revision":
            await r.store.put(b"/q", b"1")
        await r.store.put(b"/p/01", b"after")
        await r.store.put(b"/q", b"1")
        await r.clock.advance(10)
        assert r.changed() == [("/p/01", "after")]


@pytest.mark.parametrize("new_cluster", [False, True])
async def test_a_restored_older_store_is_listed_again(new_cluster: bool) -> None:
    async with rig("/p/a") as r:
        saved = r.store.faults.snapshot()
        await r.store.put(b"/p/a", b"1")
        await r.store.put(b"/p/b", b"1")
        await r.clock.settle()
        r.changed()
        r.store.faults.restore(saved, new_cluster=new_cluster)
        await r.clock.advance(6)
        assert r.changed() == [("/p/b", None), ("/p/a", "0")]
        assert r.notes.resyncs == ["start", "cluster"]
        assert r.mirror.revision == saved.revision


async def test_far_behind_is_cheaper_to_list() -> None:
    async with rig("/p/a") as r:
        r.changed()
        r.store.faults.go_down()
        await r.clock.settle()
        r.store.faults.refuse = None
        for start in range(0, 20_100, 100):
            await asyncio.gather(
                *(r.store.put(b"/q", b"%d" % n) for n in range(start, start + 100))
            )
        await r.clock.advance(6)
        assert r.notes.resyncs == ["start", "far-behind"]
        assert r.got == []


LOOK = Checks(count_every=60, pass_every=600, grace=5)


@pytest.mark.parametrize(
    ("what", "within"),
    [("create", 80), ("delete", 80), ("update", 740)],
)
async def test_what_the_server_lost_is_found_and_mended(what: str, within: float) -> None:
    """§6.9: a count finds lost creates and deletes in a minute, pages a lost update in ten."""
    async with rig("/p/a", "/p/b", checks=LOOK) as r:
        r.changed()
        lost: list[Event] = []
        r.store.faults.lose_events(lambda event: bool(lost.append(event) or True))
        if what == "create":
            await r.store.put(b"/p/c", b"1")
        elif what == "delete":
            await r.store.delete(KeyRange(b"/p/b"))
        else:
            await r.store.put(b"/p/b", b"1")
        await r.clock.settle()
        r.store.faults.lose_events(None)
        assert lost
        assert r.got == []
        expected = {"create": ("/p/c", "1"), "delete": ("/p/b", None), "update": ("/p/b", "1")}
        await r.clock.advance(within)
        assert r.changed() == [expected[what]]
        assert r.notes.resyncs == ["start", "lost"]
        assert dict(r.mirror.data) == await r.fresh()


async def test_checks_of_a_healthy_store_find_nothing() -> None:
    async with rig("/p/a", checks=LOOK) as r:
        rng = random.Random(3)
        for n in range(200):
            if rng.random() < 0.3:
                await r.store.delete(KeyRange(b"/p/%d" % rng.randrange(20)))
            else:
                await r.store.put(b"/p/%d" % rng.randrange(20), b"%d" % n)
            await r.clock.advance(rng.uniform(0, 20))
        assert r.notes.resyncs == ["start"]
        assert dict(r.mirror.data) == await r.fresh()


async def test_rights_taken_away_make_it_stale_and_slow_not_dead() -> None:
    async with rig("/p/a") as r:
        r.store.faults.refuse = Denied("etcdserver: permission denied")
        r.store.faults.drop_watches()
        before = r.store.faults.calls.get("watch", 0)
        await r.clock.advance(100)
        assert "permission denied" in r.mirror.stale_reason
        assert r.store.faults.calls["watch"] - before <= 6
        r.store.faults.come_back()
        await r.clock.advance(31)
        assert r.mirror.stale_since is None


async def test_several_ranges_are_one_snapshot() -> None:
    clock = ManualClock()
    async with fake_etcd(clock) as store:
        await store.put(b"/a/1", b"")
        await store.put(b"/b/1", b"")
        await store.put(b"/c/1", b"")
        ranges = (KeyRange.prefix(b"/a/"), KeyRange.prefix(b"/c/"))
        mirror = Mirror(store, ranges, name="ac", clock=clock)
        got: list[Changes] = []
        mirror.subscribe(got.append)
        task = asyncio.create_task(mirror.run())
        await mirror.ready()
        assert [sorted(c.key for c in batch.changes) for batch in got] == [[b"/a/1", b"/c/1"]]
        await store.put(b"/b/2", b"")
        await store.put(b"/c/2", b"")
        await clock.settle()
        assert sorted(mirror.data) == [b"/a/1", b"/c/1", b"/c/2"]
        store.faults.drop_watches(Compacted("compacted"))
        await store.delete(KeyRange(b"/a/1"))
        await clock.advance(1)
        assert sorted(mirror.data) == [b"/c/1", b"/c/2"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_late_subscribers_get_everything_first() -> None:
    async with rig("/p/a") as r:
        late: list[Changes] = []
        r.mirror.subscribe(late.append)
        assert [c.key for b in late for c in b.changes] == [b"/p/a"]
        assert late[0].resync


async def test_a_slow_consumer_gets_merged_batches() -> None:
    async with rig("/p/a") as r:
        batches = r.mirror.batches()
        assert len((await batches.next()).changes) == 1
        for n in range(100):
            await r.store.put(b"/p/a", b"%d" % n)
        await r.store.put(b"/p/x", b"")
        await r.store.delete(KeyRange(b"/p/x"))
        await r.clock.settle()
        batch = await batches.next()
        assert [(c.key, c.new and c.new.value, c.old and c.old.value) for c in batch.changes] == [
            (b"/p/a", b"99", b"0")
        ]


async def test_a_consumer_may_wait_for_quiet() -> None:
    async with rig("/p/a") as r:
        batches = r.mirror.batches(quiet=1, at_most=3)
        first = asyncio.create_task(batches.next())
        await r.clock.advance(1.1)
        assert len((await first).changes) == 1
        waiting = asyncio.create_task(batches.next())
        for n in range(5):
            assert not waiting.done()
            await r.store.put(b"/p/%d" % n, b"")
            await r.clock.advance(0.59)
        await r.clock.advance(0.2)
        assert waiting.done(), "never quiet for 1 s, but 3 s are over"
        assert len((await waiting).changes) == 5


async def until(claim: Callable[[], bool]) -> None:
    """Wait for what a thread does: nothing on the loop tells."""
    async with asyncio.timeout(5):
        while not claim():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def inode(path: Path) -> int:
    return path.stat().st_ino


async def test_a_start_without_etcd_serves_the_last_known_good_file(tmp_path: Path) -> None:
    file = Snapshot(tmp_path / "p.state")
    async with rig("/p/a", "/p/b", snapshot=file):
        await until(file.path.exists)
    async with rig("/p/b", snapshot=Snapshot(file.path), down=True) as r:
        async with asyncio.timeout(5):
            await r.mirror.ready()
        assert r.changed() == [("/p/a", "0"), ("/p/b", "0")]
        assert r.notes.files == [""]
        assert r.mirror.stale_since is not None
        assert r.mirror.last_sync_wall is not None
        assert not r.mirror.live
        r.store.faults.come_back()
        await r.clock.advance(6)
        assert ("/p/a", None) in r.changed()
        assert r.mirror.live
        assert dict(r.mirror.data) == await r.fresh()


async def test_a_damaged_file_is_refused_and_etcd_waited_for(tmp_path: Path) -> None:
    file = Snapshot(tmp_path / "p.state")
    file.path.write_bytes(b"rubbish")
    async with rig("/p/a", snapshot=file, down=True) as r:
        await until(lambda: bool(r.notes.files))
        assert "is not a state file" in r.notes.files[0]
        assert not r.mirror.synced
        r.store.faults.come_back()
        await r.clock.advance(6)
        assert r.changed() == [("/p/a", "0")]


async def test_nothing_changed_is_nothing_written(tmp_path: Path) -> None:
    file = Snapshot(tmp_path / "p.state")
    async with rig("/p/a", snapshot=file) as r:
        await until(file.path.exists)
        first = inode(file.path)
        for _ in range(5):
            await r.store.put(b"/q", b"1")
            await r.clock.advance(1)
        assert inode(file.path) == first
        await r.store.put(b"/p/a", b"1")
        await r.clock.advance(1)
        await until(lambda: inode(file.path) != first)
        loaded = file.load("p", (P,))
        assert loaded is not None
        assert loaded.kvs[0].value == b"1"


async def test_a_file_of_many_keys_is_added_to_and_then_holds_what_the_mirror_does(
    tmp_path: Path,
) -> None:
    file = Snapshot(tmp_path / "p.state")
    async with rig(*(f"/p/{n:04}" for n in range(FEWEST)), snapshot=file) as r:
        await until(file.path.exists)
        first, size = inode(file.path), file.path.stat().st_size
        await r.store.put(b"/p/0007", b"new")
        await r.store.delete(KeyRange(b"/p/0008"))
        await r.clock.advance(1)
        await until(lambda: file.path.stat().st_size > size)
        assert inode(file.path) == first
        await r.written(file)
        ops = tuple(Put(b"/p/%04d" % n, b"all") for n in range(FEWEST))
        for begin in range(0, FEWEST, 100):
            await r.store.txn(success=ops[begin : begin + 100])
        await r.written(file)
        assert inode(file.path) != first  # more than a quarter: anew


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
async def test_random_writes_and_faults_end_equal(seed: int) -> None:
    """Each change that outlives the faults is delivered, once; the view equals a fresh list."""
    rng = random.Random(seed)
    async with rig("/p/0", checks=LOOK) as r:
        faults, store = r.store.faults, r.store
        told: dict[bytes, KeyValue] = {}

        def take(batch: Changes) -> None:
            for change in batch.changes:
                assert change.old == told.get(change.key), "a change starts from what was told"
                assert change.new != change.old, "a change is a change"
                if change.new is None:
                    del told[change.key]
                else:
                    told[change.key] = change.new

        r.mirror.subscribe(take)
        saved = faults.snapshot()
        for n in range(150):
            key = b"/p/%d" % rng.randrange(12)
            fault = rng.random()
            if fault < 0.04:
                faults.drop_watches()
            elif fault < 0.07:
                await faults.compact()
            elif fault < 0.09:
                faults.drop_watches()
                faults.refuse_calls = frozenset({"watch", "range", "pages"})
                faults.refuse = Unavailable("down")
            elif fault < 0.11:
                faults.restore(saved, new_cluster=rng.random() < 0.5)
            elif fault < 0.13:
                saved = faults.snapshot()
            elif fault < 0.15:
                dropped = rng.randrange(12)
                faults.lose_events(lambda event, lost=b"/p/%d" % dropped: event.kv.key == lost)
            elif fault < 0.2:
                faults.come_back()
                faults.lose_events(None)
            if rng.random() < 0.35:
                await store.delete(KeyRange(key))
            else:
                await store.put(key, b"%d" % n)
            await r.clock.advance(rng.choice((0, 0, 0.1, 3)))
        faults.come_back()
        faults.lose_events(None)
        await r.clock.advance(1500)
        assert dict(r.mirror.data) == await r.fresh() == told, f"seed {seed}"
