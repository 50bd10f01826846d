# SPDX-License-Identifier: Apache-2.0
"""Raw requests and what must become of them: the statuses that come back, in order.

Every 200 is one request that a server got; a case that is refused reaches no server. Sources:
RFC 9112, RFC 9110, specs/vulcand.md §9 and its traps, and what is known of request smuggling.
"""

from __future__ import annotations

Case = tuple[str, bytes, tuple[int, ...]]
H = b"Host: a\r\n"
END = b"\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def get(fields: bytes = b"", target: bytes = b"/") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + H + fields + END


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + H + fields + END + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


def _bytes(values: object) -> list[bytes]:
    return [bytes([v]) for v in values]  # type: ignore[attr-defined]


CONTROL = _bytes([*range(9), 11, 12, *range(14, 32), 127])
SEPARATORS = [bytes([c]) for c in b'()<>@,;\\"/[]?={}']

CASES: list[Case] = [
    # the request line
    ("plain", GET, (200,)),
    ("query", get(target=b"/x?y=1&z=%20"), (200,)),
    ("double slash and dots stay", get(target=b"//a/../b/./c"), (200,)),
    ("obs-text in the target", get(target=b"/\xc3\xa9"), (200,)),
    ("quote in the target", get(target=b'/"x"'), (200,)),
    ("HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", (200,)),
    ("own method", b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", (200,)),
    ("lower-case method is another one", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", (200,)),
    ("method of 65 letters", b"A" * 65 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("no method", b" / HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("empty target", b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("tab after the method", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("space at the end", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", (400,)),
    ("fragment", get(target=b"/a#b"), (400,)),
    ("relative target", get(target=b"a"), (400,)),
    ("HTTP/0.9", b"GET /\r\n\r\n", (400,)),
    ("HTTP/0.9 spelt out", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", (505,)),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", (505,)),
    ("HTTP/3", b"GET / HTTP/3\r\nHost: a\r\n\r\n", (505,)),
    ("HTTP/1.2 is read as 1.1", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", (200,)),
    ("HTTP/1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", (505,)),
    ("HTTP/1", b"GET / HTTP/1\r\nHost: a\r\n\r\n", (505,)),
    ("http/1.1", b"GET / http/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("HTTP/1,1", b"GET / HTTP/1,1\r\nHost: a\r\n\r\n", (400,)),
    ("HTTP /1.1", b"GET / HTTP /1.1\r\nHost: a\r\n\r\n", (400,)),
    ("XTTP/1.1", b"GET / XTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("HTTP/11.1", b"GET / HTTP/11.1\r\nHost: a\r\n\r\n", (505,)),
    ("PRI * HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505,)),
    ("HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", (200,)),
    ("HTTP/1.0 kept", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2, (200, 200)),
    ("absolute-form", get(target=b"http://b/x"), (200,)),
    ("absolute-form https", get(target=b"https://b:8/x?y"), (200,)),
    ("absolute-form without path", get(target=b"http://b"), (200,)),
    ("absolute-form with a query only", get(target=b"http://b?x"), (200,)),
    ("absolute-form with user", get(target=b"http://u@b/"), (400,)),
    ("absolute-form without host", get(target=b"http:///x"), (400,)),
    ("absolute-form of another scheme", get(target=b"ftp://b/x"), (400,)),
    ("absolute-form without Host field", b"GET http://b/ HTTP/1.1\r\n\r\n", (400,)),
    ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", (200,)),
    ("GET *", get(target=b"*"), (400,)),
    ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", (501,)),
    ("CONNECT with a path", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", (501,)),
    # line ends
    ("an empty line before", END + GET, (200,)),
    ("two empty lines before", END + END + GET, (200,)),
    ("a bare LF before", b"\n" + GET, (400,)),
    ("bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", (400,)),
    ("bare LF after a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", (400,)),
    ("bare LF everywhere", b"GET / HTTP/1.1\nHost: a\n\n", (400,)),
    ("LF at the head's end", b"GET / HTTP/1.1\r\nHost: a\r\n\n", (400,)),
    ("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", (400,)),
    ("bare CR in a value", get(b"X: a\rb\r\n"), (400,)),
    ("bare CR in the request line", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    ("CR as a line end before a field", get(b"X: a\rContent-Length: 5\r\n"), (400,)),
    ("folded by a space", get(b"X: a\r\n b\r\n"), (400,)),
    ("folded by a tab", get(b"X: a\r\n\tb\r\n"), (400,)),
    ("folded Transfer-Encoding", get(b"Transfer-Encoding:\r\n chunked\r\n"), (400,)),
    ("space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", (400,)),
    ("NUL at the start", b"\0" + GET, (400,)),
    # field lines
    ("no colon", get(b"X\r\n"), (400,)),
    ("empty name", get(b": x\r\n"), (400,)),
    ("space before the colon", get(b"X : y\r\n"), (400,)),
    ("tab before the colon", get(b"X\t: y\r\n"), (400,)),
    ("empty value", get(b"X:\r\n"), (200,)),
    ("no space after the colon", get(b"X:y\r\n"), (200,)),
    ("white space around a value", get(b"X: \t y \t\r\n"), (200,)),
    ("colon in a value", get(b"X: a:b\r\n"), (200,)),
    ("obs-text in a value", get(b"X: \xe9\xff\r\n"), (200,)),
    ("obs-text in a name", get(b"X\xe9: y\r\n"), (400,)),
    ("every letter of a token in a name", get(b"!#$%&'*+-.^_`|~09azAZ: y\r\n"), (200,)),
    ("200 fields", get(b"".join(b"X-%d: y\r\n" % i for i in range(200))), (200,)),
    ("a value of 60 KiB goes on or is refused by the server", get(b"X: " + b"y" * 3000 + b"\r\n"), (200,)),
    ("a head over the limit", get(b"X: " + b"y" * 1_100_000 + b"\r\n"), (431,)),
    ("ninety fields", get(b"".join(b"X-%d: 1\r\n" % i for i in range(90))), (200,)),
    ("more fields than a thousand", get(b"TE:\r\n" * 1001), (431,)),
    ("two hundred thousand fields", get(b"a:\r\n" * 200_000), (431,)),
    ("a head over the limit without end", b"GET / HTTP/1.1\r\nX: " + b"y" * 1_100_000, (431,)),
    # Host
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", (400,)),
    ("two Hosts", get(b"Host: a\r\n"), (400,)),
    ("two unlike Hosts", get(b"Host: b\r\n"), (400,)),
    ("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", (200,)),
    ("Host with a port", b"GET / HTTP/1.1\r\nHost: a:80\r\n\r\n", (200,)),
    ("Host of IPv6", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", (200,)),
    ("Host with a half bracket", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", (400,)),
    ("Host with a space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", (400,)),
    ("Host with a slash", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", (400,)),
    ("Host with user", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", (400,)),
    ("Host with a list", b"GET / HTTP/1.1\r\nHost: a, b/\r\n\r\n", (400,)),
    ("Host with a long port", b"GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n", (400,)),
    ("Host with a port of letters", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", (400,)),
    ("Host with a question mark", b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", (400,)),
    ("Host hidden by a space", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", (400,)),
    # Content-Length
    ("a body", post(b"Content-Length: 5\r\n", b"12345"), (200,)),
    ("no body", post(b"Content-Length: 0\r\n"), (200,)),
    ("no length", post(b""), (200,)),
    ("leading zeros", post(b"Content-Length: 005\r\n", b"12345"), (200,)),
    ("white space around", post(b"Content-Length: \t 5 \r\n", b"12345"), (200,)),
    ("the same length twice", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"12345"), (200,)),
    ("the same length in a list", post(b"Content-Length: 5, 5\r\n", b"12345"), (200,)),
    ("unlike lengths", post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"123456"), (400,)),
    ("unlike lengths in a list", post(b"Content-Length: 5, 6\r\n", b"123456"), (400,)),
    ("a body on GET", get(b"Content-Length: 3\r\n") + b"abc", (200,)),
    ("a request as a body", post(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED), (200,)),
    ("a length of 0 before a request", post(b"Content-Length: 0\r\n", GET), (200, 200)),
    *[
        (f"Content-Length {value!r}", post(b"Content-Length: " + value + b"\r\n", b"12345"), (400,))
        for value in (
            b"", b"+5", b"-5", b"-0", b"5a", b"a", b"0x5", b"5e0", b"5.0", b"5_0", b"5 5", b"5;", b"5,", b",5",
            b"5,,5", b'"5"', b"1" * 19, b"18446744073709551621", b"9" * 40, b"\xd9\xa5", b"5\x0b", b"inf", b"0b1", b"5 ,a",
        )
    ],
    # Transfer-Encoding
    ("chunked", chunked(b"5\r\n12345\r\n0\r\n\r\n"), (200,)),
    ("Chunked", post(b"Transfer-Encoding: Chunked\r\n", b"0\r\n\r\n"), (200,)),
    ("white space around chunked", post(b"Transfer-Encoding: \t chunked \r\n", b"0\r\n\r\n"), (200,)),
    ("chunked on GET", get(b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", (200,)),
    ("both framings, TE first", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), (400,)),
    ("both framings, CL first", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), (400,)),
    ("both framings, CL 0", post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED), (400,)),
    ("two Transfer-Encodings", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), (400,)),
    ("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    ("space before TE's colon", post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), (400,)),
    ("TE with an underscore is another field", post(b"Transfer_Encoding: chunked\r\n"), (200,)),
    ("TE after a NUL", post(b"X: \0\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), (400,)),
    *[
        (f"Transfer-Encoding {value!r}", post(b"Transfer-Encoding: " + value + b"\r\n", b"0\r\n\r\n"), (status,))
        for value, status in (
            (b"gzip", 501), (b"gzip, chunked", 501), (b"identity", 501), (b"xchunked", 501), (b"chunked, gzip", 501),
            (b"chunked, chunked", 400), (b"chunked,chunked", 400), (b"", 400), (b",chunked", 400), (b"chunked,", 400),
            (b"chun ked", 400), (b'"chunked"', 400), (b"chunked;a=b", 400), (b"\x0bchunked", 400), (b"chunked\x0c", 400),
            (b"cow", 501), (b"identity, chunked", 501),
        )
    ],
    # chunks
    ("two chunks", chunked(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), (200,)),
    ("hexadecimal sizes", chunked(b"A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n"), (200,)),
    ("leading zeros in a size", chunked(b"0005\r\n12345\r\n000\r\n\r\n"), (200,)),
    ("an extension", chunked(b"5;a=b\r\n12345\r\n0;c\r\n\r\n"), (200,)),
    ("an extension with quotes", chunked(b'5;a="b;c"\r\n12345\r\n0\r\n\r\n'), (200,)),
    ("a trailer", chunked(b"5\r\n12345\r\n0\r\nX-Sum: 1\r\n\r\n"), (200,)),
    ("a trailer that is not allowed is dropped", chunked(b"0\r\nContent-Length: 5\r\n\r\n"), (200,)),
    ("a request after chunks", chunked(b"0\r\n\r\n") + GET, (200, 200)),
    ("a request within a chunk", chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)), (200,)),
    *[
        (f"bad chunks {body!r}", chunked(body), (400,))
        for body in (
            b"0x5\r\n12345\r\n0\r\n\r\n", b"+5\r\n12345\r\n0\r\n\r\n", b"-1\r\n\r\n", b" 5\r\n12345\r\n0\r\n\r\n",
            b"g\r\n\r\n", b"\r\n\r\n", b"5\n12345\r\n0\r\n\r\n", b"5\r\n12345\n0\r\n\r\n", b"5\r\n123456\r\n0\r\n\r\n",
            b"5\r\n1234\r\n0\r\n\r\n", b"5_0\r\n\r\n", b"1" * 16 + b"\r\n", b"f" * 17 + b"\r\n", b"5\r12345\r\n",
            b"5;\na\r\n12345\r\n0\r\n\r\n", b"5;a=\x00\r\n12345\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\n X: y\r\n\r\n",
            b"0\r\nX: y\n\r\n", b"0\r\nX\r\n\r\n", b"0\r\n\n", b";a\r\n\r\n", b"5.\r\n12345\r\n", b"5;" + b"a" * 5000 + b"\r\n",
        )
    ],
    # Connection and what it names
    ("close", get(b"Connection: close\r\n") + GET, (200,)),
    ("Connection names a field", get(b"Connection: X-A\r\nX-A: 1\r\n"), (200,)),
    ("Connection names Host", get(b"Connection: Host\r\n"), (200,)),
    ("Connection names Content-Length", post(b"Connection: Content-Length\r\nContent-Length: 5\r\n", b"12345"), (200,)),
    ("Connection names Transfer-Encoding", post(b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), (200,)),
    ("Proxy-Connection", get(b"Proxy-Connection: keep-alive\r\n"), (200,)),
    ("Upgrade to h2c is not passed on", get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"), (200,)),
    ("TE: trailers", get(b"Connection: TE\r\nTE: trailers\r\n"), (200,)),
    # Expect
    ("Expect: 100-continue", post(b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"12345"), (200,)),
    ("Expect without a body", get(b"Expect: 100-continue\r\n"), (200,)),
    ("Expect in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na", (200,)),
    ("another expectation", get(b"Expect: cake\r\n"), (417,)),
    # pipelines
    ("two", GET * 2, (200, 200)),
    ("twenty", GET * 20, (200,) * 20),
    ("a body between", GET + post(b"Content-Length: 5\r\n", b"12345") + GET, (200, 200, 200)),
    ("an empty line between", GET + END + GET, (200, 200)),
    ("garbage after", GET + b"garbage\r\n\r\n", (200, 400)),
    ("a bad second", GET + get(b"X : y\r\n") + GET, (200, 400)),
    ("a body longer than told", post(b"Content-Length: 3\r\n", b"12345\r\n\r\n"), (200, 400)),
    ("HTTP/1.0 ends it", b"GET / HTTP/1.0\r\n\r\n" + GET, (200,)),
    ("changing heads", b"".join(get(b"X-N: %d\r\n" % i) for i in range(6)), (200,) * 6),
    ("a bad head like the one before", get(b"X-N: 1\r\n") + get(b"X-N: \x01\r\n"), (200, 400)),
    ("a head like the one before with TE in a line's place", get(b"X-N: 1\r\n") + get(b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", (200, 200)),
    ("a head like the one before with a second Host", get(b"X-N: 1\r\n") + get(b"Host: b\r\n"), (200, 400)),
    ("a head like the one before with a bare CR", get(b"X-N: 1\r\n") + get(b"X-N: \r1\r\n"), (200, 400)),
    ("a head like the one before with a folded line", get(b"X-N: 1\r\n") + get(b" N: 1\r\n"), (200, 400)),
    # whole families
    *[(f"method with {c!r}", b"G" + c + b"T / HTTP/1.1\r\nHost: a\r\n\r\n", (400,)) for c in SEPARATORS],
    *[(f"name with {c!r}", get(b"X" + c + b": y\r\n"), (400,)) for c in SEPARATORS],
    *[(f"value with {c!r}", get(b"X: a" + c + b"b\r\n"), (400,)) for c in CONTROL],
    *[(f"target with {c!r}", get(target=b"/a" + c + b"b"), (400,)) for c in CONTROL],
]  # fmt: skip
