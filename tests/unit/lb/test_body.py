# SPDX-License-Identifier: Apache-2.0
"""lb/body.py: framing, limits, what is kept for another try, what waits for a connection."""

from __future__ import annotations

import pytest

from fairlead.errors import RemoteProtocolError
from lb.body import UNSENT, Body
from lb.http1 import CHUNKED


def test_known_length_passes_and_leaves_the_next_request() -> None:
    body = Body(5, 0, 0)
    assert body.take(b"ab") == b"ab"
    assert not body.whole
    assert body.take(b"cdeGET /") == b"cde"
    assert body.whole
    assert body.rest == b"GET /"


def test_chunks_are_framed_anew_without_extensions() -> None:
    body = Body(CHUNKED, 0, 0)
    assert body.take(b"2;x=y\r\nab\r\n1") == b"2\r\nab\r\n"
    assert body.take(b"\r\nc\r\n0\r\nX-Sum: 1\r\n\r\nGET") == b"1\r\nc\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert body.whole
    assert body.rest == b"GET"
    assert not body.movable


@pytest.mark.parametrize(
    ("length", "data", "hint"),
    [(CHUNKED, b"zz\r\n", 400), (CHUNKED, b"9\r\n123456789\r\n", 413), (9, b"123456789", 413)],
)
def test_refused(length: int, data: bytes, hint: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Body(length, 8, 0).take(data)
    assert caught.value.hint == hint


def test_a_body_is_sent_again_while_it_is_small_enough() -> None:
    body = Body(6, 0, 4)
    body.take(b"abcd")
    assert body.again
    assert not body.movable
    body.rewind()
    assert body.waited() == [b"abcd"]
    assert body.waited() == []
    body.take(b"e")
    assert not body.again
    assert body.movable
    body.moved(1)
    assert body.whole


def test_the_client_waits_when_too_much_waits_for_a_connection() -> None:
    body = Body(CHUNKED, 0, 0)
    assert not body.wait(bytes(UNSENT))
    assert body.wait(b"x")
    assert sum(map(len, body.waited())) == UNSENT + 1


def test_what_is_too_large_for_memory_lies_in_a_file() -> None:
    body = Body(20, 0, 4, 16)
    for piece in (b"abc", b"defgh", b"ijklmnop"):
        body.take(piece)
    assert body.again
    for _ in range(2):  # as often as it is asked for
        body.rewind()
        assert [bytes(piece) for piece in body.waited()] == [b"abcdefghijklmnop"]
    body.rewind()
    waiting = body.waited()
    body.take(b"q")  # more than may be kept
    assert not body.again
    assert b"".join(waiting) == b"abcdefghijklmnop"  # what is being sent stays
    body.rewind()
    assert body.waited() == []


def sent(body: Body) -> bytes:
    return b"".join(map(bytes, body.waited()))


def test_a_chunked_body_is_gathered_and_has_a_length() -> None:
    body = Body(CHUNKED, 0, 0, 16, gather=4)
    assert body.take(b"3\r\nabc\r\n6\r\ndef") == b""
    assert body.gathering
    assert sent(body) == b""
    assert body.take(b"ghi\r\n0\r\n\r\nGET") == b""  # a part of it lies in a file by now
    assert (body.gathering, body.whole, body.length, body.rest) == (False, True, 9, b"GET")
    assert sent(body) == b"abcdefghi"
    body.rewind()
    assert sent(body) == b"abcdefghi"
    empty = Body(CHUNKED, 0, 0, 16, gather=4)
    empty.take(b"0\r\n\r\n")
    assert (empty.length, sent(empty)) == (0, b"")


@pytest.mark.parametrize("data", [b"abc", b""])
def test_a_gathered_body_with_trailers_stays_chunked(data: bytes) -> None:
    body = Body(CHUNKED, 0, 0, 16, gather=4)
    size = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    body.take(size + b"0\r\nX-Sum: 1\r\n\r\n")
    assert body.length == CHUNKED
    for _ in range(2):
        assert sent(body) == size + b"0\r\nX-Sum: 1\r\n\r\n"
        body.rewind()


def test_a_body_too_large_to_gather_goes_on_chunked() -> None:
    body = Body(CHUNKED, 0, 0, 8, gather=4)
    body.take(b"3\r\nabc\r\n4\r\ndefg\r\n")
    assert body.take(b"3\r\nhij\r\n1\r\nk\r\n") == b""
    assert (body.gathering, body.again, body.length) == (False, False, CHUNKED)
    assert sent(body) == b"7\r\nabcdefg\r\n3\r\nhij\r\n1\r\nk\r\n"
    assert body.take(b"1\r\nl\r\n0\r\n\r\n") == b"1\r\nl\r\n0\r\n\r\n"
    at_once = Body(CHUNKED, 0, 0, 0, gather=4)
    at_once.take(b"5\r\nabcde\r\n0\r\n\r\n")
    assert sent(at_once) == b"5\r\nabcde\r\n0\r\n\r\n"
    with pytest.raises(RemoteProtocolError) as caught:
        Body(CHUNKED, 4, 0, 4, gather=2).take(b"5\r\nabcde\r\n")
    assert caught.value.hint == 413
