# SPDX-License-Identifier: Apache-2.0
"""The last-known-good file: replaced whole, private, refused in words when damaged."""

import asyncio
import os
import stat
import time
from pathlib import Path

import pytest

from fairlead.etcd.snapshot import Snapshot, StateFileError
from fairlead.etcd.types import KeyRange, KeyValue, LeaseID, Revision

RANGES = (KeyRange.prefix(b"/skydns/"),)
KVS = (
    KeyValue(b"/skydns/a", b"\x00\xff", Revision(3), Revision(5), 2, LeaseID(-7)),
    KeyValue(b"/skydns/b", b"", Revision(4), Revision(4), 1),
)


def saved(path: Path) -> Snapshot:
    file = Snapshot(path / "names.state")
    file.save_now("names", RANGES, KVS, Revision(9))
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
    file.save_now("names", RANGES, KVS, Revision(10))
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
        Snapshot(tmp_path / "file" / "x.state").save_now("names", RANGES, KVS, Revision(9))


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
