# SPDX-License-Identifier: Apache-2.0
"""The last-known-good file: replaced whole, private, refused in words when damaged."""

import asyncio
import hashlib
import os
import stat
import time
from pathlib import Path

import pytest

from fairlead.etcd.snapshot import FEWEST, Snapshot, StateFileError
from fairlead.etcd.types import KeyRange, KeyValue, LeaseID, Revision

RANGES = (KeyRange.prefix(b"/skydns/"),)
KVS = (
    KeyValue(b"/skydns/a", b"\x00\xff", Revision(3), Revision(5), 2, LeaseID(-7)),
    KeyValue(b"/skydns/b", b"", Revision(4), Revision(4), 1),
)


def saved(path: Path, revision: int = 9) -> Snapshot:
    file = Snapshot(path / "names.state")
    asyncio.run(file.save("names", RANGES, KVS, Revision(revision)))
    return file


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    loaded = saved(tmp_path).load("names", RANGES)
    assert loaded is not None
    assert (loaded.kvs, loaded.revision) == (KVS, 9)
    assert loaded.age < 60


def test_no_file_is_no_fault(tmp_path: Path) -> None:
    assert Snapshot(tmp_path / "names.state").load("names", RANGES) is None


def test_private_and_replaced_by_rename(tmp_path: Path) -> None:
    file = saved(tmp_path / "made")
    before = file.path.stat()
    assert stat.S_IMODE(before.st_mode) == 0o600
    saved(tmp_path / "made", 10)
    assert file.path.stat().st_ino != before.st_ino
    assert [p.name for p in file.path.parent.iterdir()] == ["names.state"]


@pytest.mark.parametrize("at", [0, 20, -40, -1], ids=["magic", "head", "rows", "checksum"])
def test_a_damaged_file_is_refused_in_words(tmp_path: Path, at: int) -> None:
    file = saved(tmp_path)
    body = bytearray(file.path.read_bytes())
    body[at] ^= 1
    file.path.write_bytes(body)
    with pytest.raises(StateFileError, match=r"names\.state.*delete it"):
        file.load("names", RANGES)


@pytest.mark.parametrize("size", [0, 5, 17, 60])
def test_a_cut_file_is_refused(tmp_path: Path, size: int) -> None:
    file = saved(tmp_path)
    file.path.write_bytes(file.path.read_bytes()[:size])
    with pytest.raises(StateFileError):
        file.load("names", RANGES)


def test_a_file_of_other_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match="not of ours"):
        saved(tmp_path).load("names", (KeyRange.prefix(b"/other/"),))


def test_too_old_is_refused_and_touch_makes_it_young(tmp_path: Path) -> None:
    file = saved(tmp_path)
    file.max_age = 3600
    long_ago = time.time() - 7200
    os.utime(file.path, (long_ago, long_ago))
    with pytest.raises(StateFileError, match=r"is 72\d\d s old, more than the 3600 s allowed"):
        file.load("names", RANGES)
    file.touch()
    assert file.load("names", RANGES) is not None


def test_a_file_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateFileError, match="cannot be written"):
        saved(tmp_path / "file")


MANY = tuple(
    KeyValue(b"/skydns/%06d" % n, b"v%d" % n, Revision(n + 1), Revision(n + 1), 1)
    for n in range(FEWEST)
)
NEW = KeyValue(b"/skydns/new", b"1", Revision(2000), Revision(2000), 1, LeaseID(5))
OTHER = KeyValue(MANY[3].key, b"other", Revision(4), Revision(2001), 2)


async def added(path: Path) -> Snapshot:
    """A file to which two changes were added, one after the other."""
    file = Snapshot(path / "names.state")
    await file.save("names", RANGES, MANY, Revision(1999))
    inode = file.path.stat().st_ino
    assert file.takes(2)
    assert await file.add([NEW], [MANY[0].key], Revision(2000))
    assert await file.add([OTHER], [MANY[1].key, b"/skydns/never"], Revision(2001))
    assert file.path.stat().st_ino == inode
    return file


def held(file: Snapshot) -> tuple[set[KeyValue], int]:
    loaded = file.load("names", RANGES)
    assert loaded is not None
    return set(loaded.kvs), loaded.revision


BEFORE = (set(MANY), 1999)
FIRST = ({*MANY[1:], NEW}, 2000)
BOTH = ({*MANY[2:], NEW, OTHER} - {MANY[3]}, 2001)


async def test_changes_are_added_to_a_file_of_many_keys(tmp_path: Path) -> None:
    assert held(await added(tmp_path)) == BOTH


async def test_what_was_being_added_when_the_machine_stopped_does_not_count(tmp_path: Path) -> None:
    file = await added(tmp_path)
    body = file.path.read_bytes()
    both = len(body)
    sizes = []
    for size in range(both - 1, both - 400, -1):
        file.path.write_bytes(body[:size])
        found = held(file)
        assert found in (BEFORE, FIRST)
        sizes.append(found == FIRST)
        if found == BEFORE:
            break
    assert any(sizes)
    file.path.write_bytes(body[:-1] + b"\0")
    assert held(file) == FIRST
    file.path.write_bytes(body + bytes(5000))  # a file system's zeros
    assert held(file) == BOTH


async def test_damage_before_the_end_is_refused(tmp_path: Path) -> None:
    file = await added(tmp_path)
    body = bytearray(file.path.read_bytes())
    body[body.rindex(b"/skydns/new")] ^= 1  # of the first addition
    file.path.write_bytes(body)
    with pytest.raises(StateFileError, match="the checksum of a change does not match"):
        file.load("names", RANGES)


async def test_when_a_file_is_written_anew(tmp_path: Path) -> None:
    file = Snapshot(tmp_path / "names.state")
    assert not file.takes(1)  # whose it is, is not known
    await file.save("names", RANGES, KVS, Revision(9))
    assert not file.takes(1)  # few keys
    file = await added(tmp_path)
    assert not file.takes(FEWEST // 3)  # many changes
    size = file.path.stat().st_size
    while file.takes(1):
        assert await file.add([NEW], [], Revision(2002))
    assert 1.4 * size < file.path.stat().st_size < 1.6 * size


async def test_a_file_that_another_wrote_meanwhile_is_not_added_to(tmp_path: Path) -> None:
    file = await added(tmp_path)
    await Snapshot(file.path).save("names", RANGES, MANY, Revision(3000))
    assert not await file.add([NEW], [], Revision(2002))
    assert held(file) == (set(MANY), 3000)
    assert not file.takes(1)
    await file.save("names", RANGES, MANY, Revision(3001))
    file.path.unlink()
    assert not await file.add([NEW], [], Revision(3002))


def test_a_file_of_the_version_before_is_read(tmp_path: Path) -> None:
    file = saved(tmp_path)
    body = file.path.read_bytes()[:-32].replace(b"state 2", b"state 1", 1)
    file.path.write_bytes(body + hashlib.sha256(body).digest())
    loaded = file.load("names", RANGES)
    assert loaded is not None
    assert loaded.kvs == KVS


@pytest.mark.slow
async def test_writing_many_keys_gives_the_loop_its_turns(tmp_path: Path) -> None:
    many = [
        KeyValue(b"/skydns/%06d" % n, b"v" * 100, Revision(n), Revision(n), 1)
        for n in range(20_000)
    ]
    file = Snapshot(tmp_path / "names.state")
    writing = asyncio.create_task(file.save("names", RANGES, many, Revision(9)))
    turns = []
    while not writing.done():
        before = time.thread_time()  # of this thread's own: other programs do not count
        await asyncio.sleep(0)
        turns.append(time.thread_time() - before)
    await writing
    assert max(turns) < sum(turns) / 3, "most of it was done in one turn"
    loaded = file.load("names", RANGES)
    assert loaded is not None
    assert loaded.kvs == tuple(many)
