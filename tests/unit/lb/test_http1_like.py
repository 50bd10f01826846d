# SPDX-License-Identifier: Apache-2.0
"""A head read by comparison with the connection's last one means what it means by itself."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import RemoteProtocolError
from lb.http1 import Fields, parse_request

LINES = [
    b"Host: a", b"Host: b", b"Accept: x", b"Accept: y", b"Cookie: a=1", b"X-Id: 1", b"X-Id: 2", b"x-id: 3", b"X-E:",
    b"Content-Length: 0", b"Content-Length: 5", b"content-length: 5", b"Transfer-Encoding: chunked", b"Transfer_Encoding: x",
    b"Connection: close", b"Connection: keep-alive", b"Connection: X-Id", b"Connection: TE", b"TE: trailers", b"Upgrade: websocket",
    b"Connection: Upgrade", b"Expect: 100-continue", b"X-Forwarded-For: 1.2.3.4", b"X_Forwarded_For: 5.6.7.8", b"X-Real-IP: 9",
    b"X-Forwarded-Forx: 1", b"Hostx: c", b"Trailer: X", b"Keep-Alive: 5", b"Proxy-Authorization: z",
    b"bad line", b" folded", b"X : y", b": empty", b"X: \x01", b"X: \r1", b"X: \n1", b"", b"\xe9: y",
]  # fmt: skip


def meaning(head: bytes, last: Fields | None) -> object:
    try:
        request = parse_request(head, len(head), last)
    except RemoteProtocolError as error:
        return error.hint
    f = request.fields
    return (
        request.method, request.target, request.host, f.block, f.kept, f.host, f.length, f.sized, f.close,
        f.keep_alive, f.expect, f.te, f.upgrade, f.forwarded,
    )  # fmt: skip


def head_of(lines: list[bytes]) -> bytes:
    return b"\r\n".join([b"GET / HTTP/1.1", *lines])


@settings(max_examples=1500, deadline=None)
@given(
    st.lists(st.sampled_from(LINES[:30]), max_size=8),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(LINES)), max_size=4),
    st.booleans(),
)
def test_read_by_comparison_as_read_alone(
    first: list[bytes], changes: list[tuple[int, bytes]], chain: bool
) -> None:
    first = [b"Host: a", *(line for line in first if not line.startswith(b"Host:"))]
    try:
        last = parse_request(head_of(first), len(head_of(first))).fields
    except RemoteProtocolError:
        return
    second = list(first)
    for at, line in changes:
        second[at % len(second)] = line
        head = head_of(second)
        alone = meaning(head, None)
        assert meaning(head, last) == alone
        if chain and not isinstance(alone, int):
            last = parse_request(head, len(head), last).fields
