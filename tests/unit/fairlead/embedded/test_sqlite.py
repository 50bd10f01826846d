# SPDX-License-Identifier: Apache-2.0
"""The file of the embedded store: specs/etcd.md §9.3."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from fairlead.embedded.mvcc import Fresh
from fairlead.embedded.sqlite import FILE, Database, DirectoryInUse, NotOurs
from fairlead.embedded.store import EmbeddedStore
from fairlead.etcd.errors import Compacted, NoSpace, Unavailable
from fairlead.etcd.types import KeyRange, Revision, WatchRequest

ALL = KeyRange.prefix(b"")


async def test_a_restart_keeps_keys_leases_ids_and_revision(tmp_path: Path) -> None:
    async with await EmbeddedStore.open(tmp_path / "new" / "dir") as store:
        lease = (await store.grant(60)).id
        gone = (await store.grant(60)).id
        await store.put(b"k", b"1")
        await store.put(b"k", b"2", lease=lease)
        await store.put(b"bye", b"", lease=gone)
        await store.revoke(gone)
        before, kv = store.core, await store.get(b"k")
    assert (tmp_path / "new" / "dir" / FILE).stat().st_mode & 0o777 == 0o600
    async with await EmbeddedStore.open(tmp_path / "new" / "dir") as store:
        core = store.core
        assert (core.cluster_id, core.member_id) == (before.cluster_id, before.member_id)
        assert core.revision == core.compact_revision == before.revision == 5
        assert await store.get(b"k") == kv
        assert await store.leases() == (lease,)
        assert (await store.time_to_live(lease, keys=True)).keys == (b"k",)
        assert (await store.time_to_live(lease)).ttl_seconds >= 59
        assert await store.get(b"bye") is None
        # resuming exactly at the end works, anything older is compacted
        async with store.watch(WatchRequest(ALL, Revision(5))) as watching:
            answers = aiter(watching)
            await anext(answers)
            with pytest.raises(Compacted):
                await anext(answers)
        async with store.watch(WatchRequest(ALL, Revision(6))) as watching:
            answers = aiter(watching)
            await anext(answers)
            await store.put(b"k", b"3")
            assert (await anext(answers)).events[0].kv.mod_revision == 6


async def test_what_arrives_together_is_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    honest = Database.prepare

    def count(self: Database, fresh: Fresh) -> None:
        commits.append(len(fresh.commits))
        honest(self, fresh)

    monkeypatch.setattr(Database, "prepare", count)
    async with await EmbeddedStore.open(tmp_path) as store:
        await asyncio.gather(*(store.put(b"k%d" % i, b"") for i in range(100)))
        assert commits == [100]


async def test_answers_and_events_leave_only_after_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    on_disk: list[str] = []
    release = asyncio.Event()
    honest = Database.finish

    def slow(self: Database) -> None:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
        on_disk.append("commit")
        honest(self)

    monkeypatch.setattr(Database, "finish", slow)
    async with (
        await EmbeddedStore.open(tmp_path) as store,
        store.watch(WatchRequest(ALL)) as watching,
    ):
        answers = aiter(watching)
        await anext(answers)

        async def note(name: str, call: object) -> None:
            await call  # type: ignore[misc]
            on_disk.append(name)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(note("put", store.put(b"k", b"")))
            await asyncio.sleep(0)
            tasks.create_task(note("event", anext(answers)))
            tasks.create_task(note("read", store.get(b"k")))
            await asyncio.sleep(0.02)
            assert on_disk == []
            release.set()
        assert on_disk[0] == "commit"
        assert set(on_disk[1:]) == {"put", "event", "read"}


async def test_a_commit_that_fails_takes_memory_back_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await EmbeddedStore.open(tmp_path) as store:
        await store.put(b"k", b"1")
        with monkeypatch.context() as patch:
            full = sqlite3.OperationalError("database or disk is full")
            full.sqlite_errorcode = sqlite3.SQLITE_FULL

            def fail(self: Database) -> None:
                raise self._given_up(full)

            patch.setattr(Database, "finish", fail)
            outcomes = await asyncio.gather(
                store.put(b"k", b"2"), store.put(b"l", b""), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [NoSpace, NoSpace]
            kv = await store.get(b"k")
            assert kv is not None
            assert (kv.value, store.core.revision) == (b"1", 2)
        assert (await store.put(b"k", b"3")).header.revision == 3


async def test_a_directory_in_use_or_not_ours_is_refused_in_words(tmp_path: Path) -> None:
    async with await EmbeddedStore.open(tmp_path / "a"):
        with pytest.raises(DirectoryInUse, match=r'a" is in use by another process \(pid \d+\)'):
            await EmbeddedStore.open(tmp_path / "a")
    async with await EmbeddedStore.open(tmp_path / "a"):
        pass  # free again
    (tmp_path / "etcd" / "member").mkdir(parents=True)
    with pytest.raises(NotOurs, match="belongs to a real etcd"):
        await EmbeddedStore.open(tmp_path / "etcd")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(NotOurs, match=r'not ours: it holds "letter.txt"'):
        await EmbeddedStore.open(tmp_path / "home")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(NotOurs, match="is it damaged"):
        await EmbeddedStore.open(tmp_path / "bad")
    (tmp_path / "other").mkdir()
    other = sqlite3.connect(tmp_path / "other" / FILE)
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(NotOurs, match="SQLite file of another program"):
        await EmbeddedStore.open(tmp_path / "other")
    (tmp_path / "plain").write_text("")
    with pytest.raises(NotOurs, match="plain"):
        await EmbeddedStore.open(tmp_path / "plain")


async def test_a_closed_file_store_refuses(tmp_path: Path) -> None:
    store = await EmbeddedStore.open(tmp_path)
    await store.put(b"k", b"")
    assert (await store.status()).db_size_bytes > 0
    await store.aclose()
    with pytest.raises(Unavailable):
        await store.get(b"k")
