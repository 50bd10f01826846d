# SPDX-License-Identifier: Apache-2.0
"""lb/http1/lines.py: what is remembered of all clients' lines is good, bounded, and no secret."""

from __future__ import annotations

import pytest

from fairlead.errors import RemoteProtocolError
from lb.http1 import lines, parse_request


def read(*fields: bytes) -> bytes:
    head = b"\r\n".join((b"GET / HTTP/1.1", b"Host: a", *fields))
    return parse_request(head, len(head)).kept


def test_a_line_is_remembered_from_its_second_time_on() -> None:
    for _ in range(2):
        assert b"X-Twice: 1" not in lines.plain
        read(b"X-Twice: 1")
    assert b"X-Twice: 1" in lines.plain
    assert read(b"X-Twice: 1", b"Connection: X-Twice") == b""
    assert lines.special[b"Host: a"] == (b"host", b"a")


@pytest.mark.parametrize("line", [b"Cookie: a=1", b"authorization: Basic x", b"Proxy-Authorization: y", b"X: " + b"y" * 600])  # fmt: skip
def test_secrets_and_long_lines_are_not_kept(line: bytes) -> None:
    for _ in range(3):
        read(line)
    assert line not in lines.plain
    assert line not in lines.special
    assert line not in lines._once


@pytest.mark.parametrize("line", [b"bad", b"X: \x01", b" folded", b"", b"X : y"])
def test_what_is_no_field_is_never_remembered(line: bytes) -> None:
    for _ in range(3):
        with pytest.raises(RemoteProtocolError):
            read(b"A: b", line, b"C: d")
    assert line not in lines.plain


def test_what_is_kept_is_bounded() -> None:
    for i in range(lines.MOST + 100):
        for _ in range(2):
            read(b"X-%d: y" % i, b"X-Real-Ip: %d" % i)
    assert len(lines.plain) <= lines.MOST
    assert len(lines.special) <= lines.MOST
    assert len(lines._once) <= lines.MOST
