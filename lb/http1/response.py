# SPDX-License-Identifier: Apache-2.0
"""A response's head, read strictly. No IO (RFC 9112 §4, §6.3)."""

from __future__ import annotations

import re
from typing import Final

from fairlead.errors import RemoteProtocolError
from lb.http1.syntax import BLOCK, CHUNKED, HOP, UNTIL_CLOSE, names_in_any_case, one_length, without

_RESPONSE_HEAD: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])((?: [\t -~\x80-\xff]*+)?+)(" + BLOCK + rb")"
)
_RESPONSE_SPECIAL: Final = re.compile(
    rb"\r\n(?=[CcDdKkPpTtUu])("
    + names_in_any_case(
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
    + rb"):"
)


class Response:
    """A response's head.

    Attributes:
        line: the status line without CRLF, its version made 1.1.
        kept: the fields that go on to the client, each as CRLF and its text; Content-Length among
            them when `length` is one.
        length: bytes of the body, CHUNKED or UNTIL_CLOSE.
        keep: whether the connection may be used again after the body.
        dated: whether there is a Date.
    """

    __slots__ = ("dated", "keep", "kept", "length", "line", "sized", "status", "upgrade")

    def __init__(self, status: int, line: bytes) -> None:
        self.status = status
        self.line = line
        self.kept = b""
        self.length = UNTIL_CLOSE
        self.keep = True
        self.dated = False
        self.sized = False
        self.upgrade = b""


def parse_response(data: bytes, end: int, method: bytes) -> Response:
    """Return the head in data[:end] of an answer to a request of `method`.

    Raises:
        RemoteProtocolError: the server's message could be read in two ways; hint 502.
    """
    found = _RESPONSE_HEAD.fullmatch(data, 0, end)
    if found is None:
        raise RemoteProtocolError("malformed head of a response", 502)
    minor, code, reason, block = found.groups()
    status = int(code)
    response = Response(status, b"HTTP/1.1 " + code + reason)
    keep = minor == b"1"
    kept = []
    at = 0
    length: bytes | None = None
    coded = False
    nominated: set[bytes] = set()
    upgrade = b""
    for special in _RESPONSE_SPECIAL.finditer(block):
        start = special.start()
        stop = block.find(b"\r\n", start + 2)
        if stop < 0:
            stop = len(block)
        name = special[1].lower()
        if name == b"date":
            response.dated = True
            continue
        if start > at:
            kept.append(block[at:start])
        at = stop
        value = block[special.end() : stop].strip(b" \t")
        if name == b"content-length":
            if length is None and value.isdigit() and len(value) < 19:
                length = value
                continue
            try:
                length = one_length(length, value)
            except RemoteProtocolError as error:
                raise RemoteProtocolError(str(error), 502) from error
        elif name == b"connection":
            value = value.lower()
            if value == b"keep-alive":
                keep = True
            else:
                nominated.update(token.strip(b" \t") for token in value.split(b","))
        elif name == b"transfer-encoding":
            if coded or value.lower() != b"chunked":
                raise RemoteProtocolError("unsupported transfer encoding", 502)
            coded = True
        elif name == b"upgrade":
            upgrade = value
    if at:
        kept.append(block[at:])
        response.kept = b"".join(kept)
    else:
        response.kept = block
    if nominated:
        if b"close" in nominated:
            keep = False
        elif b"keep-alive" in nominated:
            keep = True
        if b"upgrade" in nominated:
            response.upgrade = upgrade
        nominated -= HOP
        if nominated:
            response.kept = without(response.kept, nominated)
    bodiless = method == b"HEAD" or status < 200 or status in (204, 304)
    if length is not None:
        if coded:
            raise RemoteProtocolError("both Content-Length and Transfer-Encoding", 502)
        if status >= 200 and status != 204:  # RFC 9110 §8.6: there it must not be
            response.sized = True
            response.kept += b"\r\nContent-Length: " + length
        response.length = int(length)
    elif coded:
        response.length = CHUNKED
    if bodiless:
        response.length = 0
    elif response.length == UNTIL_CLOSE:
        keep = False
    response.keep = keep
    return response
