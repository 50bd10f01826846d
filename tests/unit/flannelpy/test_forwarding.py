# SPDX-License-Identifier: Apache-2.0
import pytest

from flannelpy.forwarding import ensure, missing
from flannelpy.records import parse_config

DUAL = parse_config(b'{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}')
V4 = parse_config(b'{"Network":"10.5.0.0/16"}')


class Heard:
    def __init__(self):
        self.lines = []

    def info(self, message, /, **fields):
        self.lines.append(f"{message} {fields}")

    warning = error = info


@pytest.fixture
def root(tmp_path):
    (tmp_path / "ipv4").mkdir()
    (tmp_path / "ipv4/ip_forward").write_text("0\n")
    (tmp_path / "ipv6/conf/all").mkdir(parents=True)
    (tmp_path / "ipv6/conf/all/forwarding").write_text("0\n")
    return tmp_path


def test_what_is_off_is_named_by_family(root):
    assert missing(V4, root) == ("net.ipv4.ip_forward=1",)
    assert missing(DUAL, root) == ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


def test_switched_on_when_asked_else_said_with_the_fix(root):
    log = Heard()
    ensure(DUAL, log, switch_on=False, root=root)
    assert "sysctl -w net.ipv6.conf.all.forwarding=1" in log.lines[1]
    ensure(DUAL, log, switch_on=True, root=root)
    assert missing(DUAL, root) == ()
    assert (root / "ipv4/ip_forward").read_text() == "1"
    lines = len(log.lines)
    ensure(DUAL, log, switch_on=False, root=root)
    assert len(log.lines) == lines


def test_a_host_without_the_family_is_left_alone(tmp_path):
    assert missing(DUAL, tmp_path) == ()
