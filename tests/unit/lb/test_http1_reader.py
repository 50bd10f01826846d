# SPDX-License-Identifier: Apache-2.0
"""lb/http1/reader.py: a head read by what the connection's last ones had in common means what it means by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import RemoteProtocolError
from lb.http1 import Reader, Request, parse_request

LINES = [
    b"Host: a", b"Host: b", b"Accept: x", b"Accept: y", b"Cookie: a=1", b"X-Id: 1", b"X-Id: 2", b"x-id: 3", b"X-E:",
    b"Content-Length: 0", b"Content-Length: 5", b"content-length: 5", b"Transfer-Encoding: chunked", b"Transfer_Encoding: x",
    b"Connection: close", b"Connection: keep-alive", b"Connection: X-Id", b"Connection: TE", b"TE: trailers", b"Upgrade: websocket",
    b"Connection: Upgrade", b"Expect: 100-continue", b"X-Forwarded-For: 1.2.3.4", b"X_Forwarded_For: 5.6.7.8", b"X-Real-IP: 9",
    b"X-Forwarded-Forx: 1", b"Hostx: c", b"Trailer: X", b"Keep-Alive: 5", b"Proxy-Authorization: z",
    b"bad line", b" folded", b"X : y", b": empty", b"X: \x01", b"X: \r1", b"X: \n1", b"", b"\xe9: y",
]  # fmt: skip


def meaning(read: Callable[[bytes, int], Request], head: bytes) -> object:
    try:
        request = read(head, len(head))
    except RemoteProtocolError as error:
        return error.hint
    f = request.fields
    return (
        request.method, request.target, request.host, request.block, request.kept, f.host, f.length, f.sized,
        f.close, f.keep_alive, f.expect, f.te, f.upgrade, f.forwarded,
    )  # fmt: skip


def head_of(lines: list[bytes]) -> bytes:
    return b"\r\n".join([b"GET / HTTP/1.1", *lines])


@settings(max_examples=1500, deadline=None)
@given(
    st.lists(st.sampled_from(LINES[:30]), max_size=8),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(LINES)), max_size=8),
)
def test_read_by_comparison_as_read_alone(
    first: list[bytes], changes: list[tuple[int, bytes]]
) -> None:
    reader = Reader()
    lines = [b"Host: a", *(line for line in first if not line.startswith(b"Host:"))]
    for at, line in [(0, b"Host: a"), *changes]:
        lines[at % len(lines)] = line
        head = head_of(lines)
        assert meaning(reader.read, head) == meaning(parse_request, head)


def test_what_varies_is_learnt_and_what_fits_has_the_same_fields() -> None:
    reader = Reader()
    seen = []
    for i in range(5):
        head = head_of([b"Host: a", b"Cookie: a=%d" % i, b"Accept: */*", b"X-Id: %d" % (i * i)])
        request = reader.read(head, len(head))
        assert request.kept == b"\r\nCookie: a=%d\r\nAccept: */*\r\nX-Id: %d" % (i, i * i)
        seen.append(request.fields)
    assert seen[0] is not seen[1]
    assert all(fields is seen[1] for fields in seen[2:])
    head = head_of([b"Host: a", b"Cookie: a\x00", b"Accept: */*", b"X-Id: 1"])
    with pytest.raises(RemoteProtocolError):
        reader.read(head, len(head))


def test_a_connection_whose_heads_have_nothing_in_common_is_read_all_the_same() -> None:
    reader = Reader()
    for i in range(80):
        head = head_of([b"Host: h%d" % i, *[b"X-%d: %d" % (n, i) for n in range(i % 7)]])
        assert meaning(reader.read, head) == meaning(parse_request, head)
