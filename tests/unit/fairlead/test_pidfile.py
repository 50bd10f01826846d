# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from fairlead import pidfile
from fairlead.errors import ConfigErrors


def test_our_id_is_there_as_long_as_we_are(tmp_path):
    path = tmp_path / "pid"
    with pidfile.held(str(path), "-pidfile"):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_the_file_of_who_took_our_place_stays(tmp_path):
    path = tmp_path / "pid"
    with pidfile.held(str(path), "-pidfile"):
        path.write_text("1\n")
    assert path.read_text() == "1\n"
    with pidfile.held(str(path), "-pidfile"):
        path.unlink()
    with pidfile.held("", "-pidfile"):
        assert not path.exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(ConfigErrors, match=r"-pidfile .*cannot be written: No such file"),
        pidfile.held(str(tmp_path / "no" / "pid"), "-pidfile"),
    ):
        pass
