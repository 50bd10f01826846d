# SPDX-License-Identifier: Apache-2.0
"""lb/http1.py: the table of raw cases, framing, chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import RemoteProtocolError
from lb import http1
from lb.http1 import CHUNKED, UNTIL_CLOSE, Chunks

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


def read(raw: bytes) -> http1.Request:
    return http1.parse_request(raw, http1.find_head(raw, 65536))


REFUSED = [
    # request line
    (b"GET /\r\nHost: a\r\n\r\n", 400, "HTTP/0.9"),
    (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "two spaces"),
    (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "space after version"),
    (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "space before method"),
    (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "tab"),
    (b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "no token as method"),
    (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "NUL in target"),
    (b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400, "DEL in target"),
    (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "fragment"),
    (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400, "lower-case http"),
    (b"GET / HTTP/1.1\rX\r\nHost: a\r\n\r\n", 400, "bare CR in line"),
    (b"GET / HTTP/11\r\nHost: a\r\n\r\n", 505, "no dot"),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version 2"),
    (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "version 0.9"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "h2 preface"),
    (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501, "CONNECT"),
    (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "asterisk but GET"),
    (b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "no slash"),
    (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "other scheme"),
    (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400, "no authority"),
    (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "user information"),
    # Host
    (b"GET / HTTP/1.1\r\n\r\n", 400, "no Host"),
    (GET + b"Host: a\r\n\r\n", 400, "two Hosts, alike"),
    (GET + b"host: b\r\n\r\n", 400, "two Hosts"),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "space in Host"),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "slash in Host"),
    (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, "user in Host"),
    (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "list in Host"),
    (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, "port no number"),
    # lines
    (b"GET / HTTP/1.1\nHost: a\n\n", 400, "bare LF"),
    (b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 400, "bare LF between fields"),
    (GET + b"X: a\rb\r\n\r\n", 400, "bare CR"),
    (GET + b"X: 1\r\n folded\r\n\r\n", 400, "obs-fold"),
    (GET + b"X: 1\r\n\tfolded\r\n\r\n", 400, "obs-fold by tab"),
    (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "fold before the first field"),
    (GET + b"X : 1\r\n\r\n", 400, "space before colon"),
    (GET + b"X\t: 1\r\n\r\n", 400, "tab before colon"),
    (GET + b": 1\r\n\r\n", 400, "empty name"),
    (GET + b"X\r\n\r\n", 400, "no colon"),
    (GET + b"X(y): 1\r\n\r\n", 400, "no token as name"),
    (GET + b"X\xc3: 1\r\n\r\n", 400, "non-ASCII name"),
    (GET + b"X: a\x00b\r\n\r\n", 400, "NUL in value"),
    (GET + b"X: a\x0bb\r\n\r\n", 400, "VT in value"),
    (GET + b"X: a\x1bb\r\n\r\n", 400, "ESC in value"),
    (GET + b"X: a\x7fb\r\n\r\n", 400, "DEL in value"),
    # framing
    (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "CL and TE"),
    (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400, "TE and CL"),
    (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "unlike lengths"),
    (POST + b"Content-Length: 5, 6\r\n\r\n", 400, "unlike lengths in one field"),
    (POST + b"Content-Length: 5,\r\n\r\n", 400, "empty list member"),
    (POST + b"Content-Length:\r\n\r\n", 400, "empty length"),
    (POST + b"Content-Length: +5\r\n\r\n", 400, "plus"),
    (POST + b"Content-Length: -5\r\n\r\n", 400, "minus"),
    (POST + b"Content-Length: 0x5\r\n\r\n", 400, "hex"),
    (POST + b"Content-Length: 5 5\r\n\r\n", 400, "two numbers"),
    (POST + b"Content-Length: 5.0\r\n\r\n", 400, "fraction"),
    (POST + b"Content-Length: 1_0\r\n\r\n", 400, "underscore"),
    (POST + b"Content-Length: \xd9\xa1\r\n\r\n", 400, "other digits"),
    (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400, "absurd length"),
    (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, "gzip only"),
    (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "gzip, chunked"),
    (POST + b"Transfer-Encoding: identity\r\n\r\n", 501, "identity"),
    (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501, "xchunked"),
    (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400, "chunked twice"),
    (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "two fields"),
    (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "two codings"),
    (POST + b"Transfer-Encoding:\r\n\r\n", 400, "empty"),
    (POST + b'Transfer-Encoding: "chunked"\r\n\r\n', 400, "quoted"),
    (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400, "VT before chunked"),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "TE in 1.0"),
    (POST + b"Expect: 200-ok\r\n\r\n", 417, "unknown expectation"),
    (GET + b"X: " + b"a" * 70000 + b"\r\n\r\n", 431, "head too long"),
]


@pytest.mark.parametrize(("raw", "status", "why"), REFUSED, ids=[case[2] for case in REFUSED])
def test_refused(raw: bytes, status: int, why: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read(raw)
    assert caught.value.hint == status


ACCEPTED = [
    (GET + b"\r\n", 0, b"/", "plain"),
    (b"GET / HTTP/1.0\r\n\r\n", 0, b"/", "1.0 without Host"),
    (b"GET / HTTP/1.9\r\nHost: a\r\n\r\n", 0, b"/", "a higher minor"),
    (b"GET /a//b/../c?q=%20 HTTP/1.1\r\nHost:a\r\n\r\n", 0, b"/a//b/../c", "nothing normalised"),
    (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 0, b"/\xc3\xa9", "raw UTF-8 in target"),
    (b"GET http://B:80/x HTTP/1.1\r\nHost: a\r\n\r\n", 0, b"/x", "absolute-form"),
    (b"GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", 0, b"/", "absolute-form, no path"),
    (b"GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", 0, b"/", "absolute-form, query only"),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 0, b"*", "asterisk-form"),
    (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 0, b"/", "empty Host"),
    (b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", 0, b"/", "IPv6 Host"),
    (POST + b"Content-Length: 5\r\n\r\nhello", 5, b"/", "length"),
    (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 5, b"/", "alike lengths"),
    (POST + b"Content-Length: 5, 5\r\n\r\n", 5, b"/", "alike lengths in one field"),
    (POST + b"Content-Length: 007\r\n\r\n", 7, b"/", "leading zeros"),
    (POST + b"content-length:\t5 \r\n\r\n", 5, b"/", "white space around"),
    (POST + b"Transfer-Encoding: Chunked\r\n\r\n", CHUNKED, b"/", "chunked in any case"),
    (POST + b"X: \xe9\tb\r\n\r\n", 0, b"/", "obs-text and tab in a value"),
    (POST + b"X:\r\n\r\n", 0, b"/", "empty value"),
]


@pytest.mark.parametrize(("raw", "length", "path", "why"), ACCEPTED, ids=[c[3] for c in ACCEPTED])
def test_accepted(raw: bytes, length: int, path: bytes, why: str) -> None:
    request = read(raw)
    assert request.fields.length == length
    assert request.path == path


def test_absolute_form_decides_the_host() -> None:
    assert read(b"GET http://b:8/x?y HTTP/1.1\r\nHost: a\r\n\r\n").host == b"b:8"
    assert read(b"GET http://b?y HTTP/1.1\r\nHost: a\r\n\r\n").target == b"/?y"


KEPT = [
    (b"A: 1\r\nHost: a\r\nB: 2", b"\r\nA: 1\r\nB: 2"),
    (b"Host: a\r\nConnection: close\r\nB: 2", b"\r\nB: 2"),
    (b"Host: a\r\nConnection: X-Drop, keep-alive\r\nX-Drop: 1\r\nB: 2", b"\r\nB: 2"),
    (b"Host: a\r\nConnection: Cookie\r\nCookie: 1", b"\r\nCookie: 1"),
    (
        b"Host: a\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: X\r\nUpgrade: h2c\r\nB: 2",
        b"\r\nB: 2",
    ),
    (
        b"Host: a\r\nProxy-Authorization: x\r\nProxy-Connection: y\r\nHTTP2-Settings: z\r\nB: 2",
        b"\r\nB: 2",
    ),
    (
        b"Host: a\r\nX-Forwarded-For: 1\r\nX_Forwarded_For: 2\r\nX-Real_IP: 3\r\nX-Other: 4",
        b"\r\nX-Other: 4",
    ),
    (b"Host: a\r\nContent-Length: 3", b""),
]


@pytest.mark.parametrize(("fields", "kept"), KEPT)
def test_kept_fields(fields: bytes, kept: bytes) -> None:
    assert read(b"GET / HTTP/1.1\r\n" + fields + b"\r\n\r\n").kept == kept


def test_v11_connection_cannot_strip_forwarding_fields() -> None:
    request = read(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-Host\r\nX-Forwarded-Host: b\r\n\r\n"
    )
    assert request.fields.forwarded == {b"x-forwarded-host": [b"b"]}


@pytest.mark.parametrize(
    "raw", [GET + b"X: 1\r\n\r\nrest", b"GET / HTTP/1.1\r\nA: 1\nB: 2\r\n\r\n"]
)
def test_find_head_byte_by_byte(raw: bytes) -> None:
    start = 0
    seen: object = -1
    for end in range(1, len(raw) + 1):
        try:
            seen = http1.find_head(raw[:end], 100, start)
        except RemoteProtocolError:
            seen = "refused"
        if seen != -1:
            break
        start = max(0, end - 3)
    assert seen == (raw.find(b"\r\n\r\n") if b"1\nB" not in raw else "refused")


def test_find_head_waits_for_more() -> None:
    assert http1.find_head(b"GET / HTTP/1.1\r\nHost", 100) == -1
    with pytest.raises(RemoteProtocolError):
        http1.find_head(b"x" * 101, 100)


BODIES = [
    (b"5\r\nhello\r\n0\r\n\r\n", [b"hello"], b"", b""),
    (b"5;a=b\r\nhello\r\n1 ;x\r\n!\r\n000\r\n\r\n", [b"hello", b"!"], b"", b""),
    (b"a\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET", [b"0123456789"], b"\r\nX-Sum: 1", b"GET"),
    (b"0\r\nContent-Length: 5\r\nX-Real-Ip: x\r\nOk: 1\r\n\r\n", [], b"\r\nOk: 1", b""),
]


@pytest.mark.parametrize(("raw", "body", "trailers", "rest"), BODIES)
def test_chunks(raw: bytes, body: list[bytes], trailers: bytes, rest: bytes) -> None:
    whole = Chunks()
    assert whole.feed(raw) == body
    assert (whole.done, whole.trailers, whole.rest) == (True, trailers, rest)
    bytewise = Chunks()
    seen = b""
    for i in range(len(raw) - len(rest)):
        seen += b"".join(bytewise.feed(raw[i : i + 1]))
    assert (seen, bytewise.done, bytewise.trailers) == (b"".join(body), True, trailers)


@pytest.mark.parametrize(
    "raw",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello!\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"-5\r\nhello",
        b"+5\r\nhello",
        b"0x5\r\nhello",
        b" 5\r\nhello",
        b"5 \r\nhello",
        b"\r\n",
        b"g\r\n",
        b"5;\x00\r\nhello",
        b"5;a\rb\r\nhello",
        b"fffffffffffffffff\r\n",
        b"0\r\n X: fold\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\nX: 1\n\r\n",
        b"5;" + b"a" * 5000,
    ],
)
def test_chunks_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Chunks().feed(raw)


@given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 7))
def test_chunks_read_what_chunk_writes(pieces: list[bytes], step: int) -> None:
    raw = b"".join(map(http1.chunk, pieces)) + http1.last_chunk()
    reader = Chunks()
    seen = b"".join(b"".join(reader.feed(raw[i : i + step])) for i in range(0, len(raw), step))
    assert seen == b"".join(pieces)
    assert reader.done


RESPONSES = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5", b"GET", 5, True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5", b"HEAD", 0, True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"GET", CHUNKED, True),
    (b"HTTP/1.1 200 OK", b"GET", UNTIL_CLOSE, False),
    (b"HTTP/1.1 204 No Content", b"GET", 0, True),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9", b"GET", 0, True),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 5", b"GET", 5, False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive", b"GET", 5, True),
    (b"HTTP/1.1 200\r\nContent-Length: 0\r\nConnection: close", b"GET", 0, False),
]


@pytest.mark.parametrize(("raw", "method", "length", "keep"), RESPONSES)
def test_response(raw: bytes, method: bytes, length: int, keep: bool) -> None:
    response = http1.parse_response(raw, len(raw), method)
    assert (response.length, response.keep) == (length, keep)
    assert b"onnection" not in response.kept


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/2 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 200 OK\r\nX: 1\n",
        b"HTTP/1.1 200 OK\r\n folded: 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
    ],
)
def test_response_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        http1.parse_response(raw, len(raw), b"GET")
    assert caught.value.hint == 502


def test_own_response() -> None:
    assert http1.own_response(503, close=True) == (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 19\r\nConnection: close\r\n\r\nService Unavailable"
    )
