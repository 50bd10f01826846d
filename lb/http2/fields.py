# SPDX-License-Identifier: Apache-2.0
"""Header lists of HTTP/2 ↔ header lines of HTTP/1.1. Pure.

What could stand for two things in HTTP/1.1 is refused: line ends in names and values, a method
with a blank, a `:path` that names another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from fairlead.errors import RemoteProtocolError

Header = tuple[bytes, bytes]
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]*")
_TARGET: Final = re.compile(rb"[!\x22$-~\x80-\xff]+")
HOP: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))  # fmt: skip


def lines(headers: Iterable[Header]) -> bytes:
    """Return HTTP/1.1 lines of fields, each as its text and CRLF; cookies joined (RFC 9113 §8.2.3).

    Raises:
        RemoteProtocolError: a name or value that could not stand in HTTP/1.1.
    """
    out = []
    cookies = []
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise RemoteProtocolError("malformed field", 400)
        if name == b"cookie":
            cookies.append(value)
        elif name not in HOP:
            out.append(name + b": " + value + b"\r\n")
    if cookies:
        out.append(b"cookie: " + b"; ".join(cookies) + b"\r\n")
    return b"".join(out)


def headers_of(block: bytes, *, but: frozenset[bytes] = HOP) -> list[Header]:
    """Return the fields of a block of HTTP/1.1 lines."""
    found = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if colon and name not in but:
            found.append((name, value.strip(b" \t")))
    return found


def head_of(pseudo: dict[bytes, bytes], fields: list[Header]) -> bytes:
    """Return a request's head in HTTP/1.1, its last line open; raises RemoteProtocolError."""
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    host = pseudo.get(b":authority") or dict(fields).get(b"host", b"")
    if target[:1] != b"/" and target != b"*":  # RFC 9113 §8.3.1: else a host could hide in it
        raise RemoteProtocolError("malformed :path", 400)
    if not _TARGET.fullmatch(target) or not _VALUE.fullmatch(host) or not method.isalpha():
        raise RemoteProtocolError("malformed request", 400)
    rest = [(n, v) for n, v in fields if n not in (b"host", b"te", b"expect")]
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (method, target, host, lines(rest))
