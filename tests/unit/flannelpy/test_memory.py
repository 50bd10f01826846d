# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest

from flannelpy.allocate import Mark
from flannelpy.memory import Memory


class Heard:
    def __init__(self):
        self.lines = []

    def warning(self, message, /, **fields):
        self.lines.append((message, fields))


@pytest.fixture
def make(tmp_path):
    log = Heard()

    def make(uplink, path=tmp_path / "own.json"):
        return Memory(path, SimpleNamespace(log=log), uplink)

    make.log = log
    return make


def test_what_was_kept_is_recalled_by_the_same_card(make):
    make("0a:00:00:00:00:01").keep(b"/n/subnets/10.5.7.0-24", 77)
    assert make("0a:00:00:00:00:01").recall() == Mark(b"/n/subnets/10.5.7.0-24", 77)
    assert make.log.lines == []


def test_a_clone_recalls_nothing_and_says_so(make):
    make("0a:00:00:00:00:01").keep(b"/n/subnets/10.5.7.0-24", 77)
    assert make("0a:00:00:00:00:02").recall() is None
    assert "clone" in make.log.lines[0][0]


def test_no_file_a_broken_one_and_no_directory_are_no_memory(make, tmp_path):
    assert make("x").recall() is None
    (tmp_path / "own.json").write_text("{")
    assert make("x").recall() is None
    (tmp_path / "file").write_text("")
    lost = make("x", tmp_path / "file" / "own.json")
    lost.keep(b"/k", 1)
    assert [message for message, _ in make.log.lines] == [
        "own lease not remembered",
        "own lease not written down",
    ]
    assert make("x", None).recall() is None
