# SPDX-License-Identifier: Apache-2.0
import stat
from pathlib import Path

import pytest

from fairlead.errors import ActionError
from fairlead.files import FileState, read, remove, replace, same


def test_replace_by_rename(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        replace(path, FileState(b"new", 0o640))
        assert reader.read() == b"old"  # who had it open reads on
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    replace(tmp_path / "link", FileState(b"new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_refused_in_words_and_nothing_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ActionError, match=r'write ".*none/f": No such file'):
        replace(tmp_path / "none" / "f", FileState(b""))
    (tmp_path / "dir").mkdir()
    with pytest.raises(ActionError, match="Is a directory"):
        replace(tmp_path / "dir", FileState(b""))
    assert [entry.name for entry in tmp_path.iterdir()] == ["dir"]


def test_same_compares_content_mode_and_the_owner_we_care_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert read(path) is None
    replace(path, FileState(b"x", 0o600))
    actual = read(path)
    assert actual is not None
    assert same(FileState(b"x", 0o600), actual)
    assert not same(FileState(b"x", 0o644), actual)
    assert not same(FileState(b"y", 0o600), actual)
    assert not same(FileState(b"x", 0o600, uid=12345), actual)
    assert not same(FileState(b"x"), None)


def test_remove_twice(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    remove(tmp_path / "f")
    remove(tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ActionError, match="Is a directory"):
        read(tmp_path)
