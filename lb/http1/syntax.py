# SPDX-License-Identifier: Apache-2.0
"""What heads of requests and responses are made of, and where a head ends. No IO."""

from __future__ import annotations

import re
from typing import Final

from fairlead.errors import RemoteProtocolError

CHUNKED: Final = -1
"""As a body's length: framed by chunks."""
UNTIL_CLOSE: Final = -2
"""As a response body's length: up to the end of the connection."""

TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
BLOCK: Final = rb"(?:\r\n" + TCHAR + rb"++:[\t -~\x80-\xff]*+)*+"
_BAD_LINE: Final = re.compile(rb"\r\n(?!" + TCHAR + rb"++:)")
_TEXT: Final = bytes([9, 10, 13, *range(32, 127), *range(128, 256)])
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


def names_in_any_case(*names: str) -> bytes:
    """Return an alternation of field names in any case, for the search after CRLF."""
    return "|".join(
        "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else f"[{c}]" for c in name)
        for name in names
    ).encode()


# never dropped because a Connection field names them: the sender could strip what others rely on
# (specs/vulcand.md §8, V11)
_END_TO_END: Final = frozenset(
    b"accept accept-encoding authorization cache-control content-encoding content-length content-type "
    b"cookie date expect host origin referer set-cookie transfer-encoding user-agent via www-authenticate".split()
)
HOP: Final = frozenset({b"keep-alive", b"close", b"upgrade", b"te", b"http2-settings"})


def find_head(data: bytes | bytearray, limit: int, start: int = 0) -> int:
    """Return where the head's closing CRLF CRLF begins, -1 when more bytes are needed.

    Args:
        start: where to search from: up to 3 bytes before what is new.

    Raises:
        RemoteProtocolError: longer than `limit`, or a bare LF or NUL shows that none will come.
    """
    end = data.find(b"\r\n\r\n", start)
    if end > limit or (end < 0 and len(data) > limit):
        raise RemoteProtocolError("the head is too long", 431)
    if end < 0:
        if start and data[start : start + 1] == b"\n":
            start -= 1  # else half a CRLF would be taken for a bare LF
        if data.count(b"\n", start) != data.count(b"\r\n", start):
            raise RemoteProtocolError("a line ends in a bare LF", 400)
    return end


def find_response(data: bytes, limit: int) -> int:
    """Return what `find_head` does, of a server's bytes.

    Raises:
        RemoteProtocolError: too long, a bare LF, or no HTTP/1 at all: who speaks something else
            first is not waited for.
    """
    end = find_head(data, limit)
    if end < 0 and not b"HTTP/1.".startswith(data[:7]):
        raise RemoteProtocolError("no HTTP/1 response", 502)
    return end


def check_block(block: bytes) -> None:
    """Refuse a block of fields that could be read in two ways.

    Raises:
        RemoteProtocolError: with what is wrong.
    """
    lines = block.count(b"\r\n")
    if block.count(b"\n") != lines or block.count(b"\r") != lines:
        raise RemoteProtocolError("a bare CR or LF in a field", 400)
    if block.translate(None, _TEXT):
        raise RemoteProtocolError("a control byte in a field", 400)
    if _BAD_LINE.search(block) is not None:
        raise RemoteProtocolError("malformed field line", 400)


def one_length(before: bytes | None, value: bytes) -> bytes:
    """Return the one length that all Content-Length values name (RFC 9112 §6.3, case 5)."""
    for part in value.split(b","):
        number = part.strip(b" \t")
        if not _LENGTH.fullmatch(number):
            raise RemoteProtocolError("malformed Content-Length", 400)
        if before is not None and int(before) != int(number):
            raise RemoteProtocolError("unlike Content-Lengths", 400)
        before = number
    if before is None:
        raise RemoteProtocolError("malformed Content-Length", 400)
    return before


def without(block: bytes, names: set[bytes]) -> bytes:
    """Return a block less the fields that a Connection field named, but never an end-to-end one."""
    lines = block.split(b"\r\n")
    return b"\r\n".join(
        line
        for line in lines
        if (name := line.partition(b":")[0].lower()) not in names or name in _END_TO_END
    )
