# SPDX-License-Identifier: Apache-2.0
"""Chunked bodies (RFC 9112 §7.1). No IO."""

from __future__ import annotations

import re
from typing import Final

from fairlead.errors import RemoteProtocolError
from lb.http1.syntax import check_block

_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?")
_CHUNK_LINE_LIMIT: Final = 4096
_TRAILER_LIMIT: Final = 16384
# what a trailer may not say (RFC 9110 §6.5.1): framing, routing, authentication, our own lines
_NO_TRAILER: Final = frozenset(
    b"age authorization cache-control connection content-encoding content-length content-range "
    b"content-type cookie date expires host keep-alive location max-forwards pragma proxy-authenticate "
    b"proxy-authorization proxy-connection range retry-after set-cookie te trailer transfer-encoding "
    b"upgrade vary warning www-authenticate x-forwarded-for x-forwarded-host x-forwarded-port "
    b"x-forwarded-proto x-forwarded-server x-real-ip".split()
)


class Chunks:
    """Reads a chunked body; extensions are dropped, trailers kept apart.

    Attributes:
        done: the last chunk and the trailers have been read.
        rest: after `done`, the bytes that belong to the next message.
        trailers: each as CRLF and its text.
    """

    __slots__ = ("_buffer", "_hint", "_left", "_state", "done", "rest", "trailers")

    _LINE, _DATA, _CLOSE, _TRAILER = range(4)

    def __init__(self, hint: int = 400) -> None:
        self._hint = hint
        self._state = self._LINE
        self._left = 0
        self._buffer = b""
        self.done = False
        self.rest = b""
        self.trailers = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take in bytes; return the pieces of body they hold, none of them empty.

        Raises:
            RemoteProtocolError: not chunked framing; the hint is the one given.
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        out: list[bytes] = []
        at = 0
        size = len(data)
        while at < size:
            if self._state == self._DATA:
                piece = data[at : at + self._left]
                out.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = self._CLOSE
            elif self._state == self._CLOSE:
                if size - at < 2 and data[at:] == b"\r":
                    self._buffer = data[at:]
                    return out
                if data[at : at + 2] != b"\r\n":
                    raise RemoteProtocolError("a chunk is longer than its size", self._hint)
                at += 2
                self._state = self._LINE
            elif self._state == self._LINE:
                end = self._line_end(data, at, _CHUNK_LINE_LIMIT)
                if end < 0:
                    return out
                found = _CHUNK_LINE.fullmatch(data, at, end)
                if found is None:
                    raise RemoteProtocolError("malformed chunk size", self._hint)
                self._left = int(found[1], 16)
                at = end + 2
                self._state = self._DATA if self._left else self._TRAILER
            else:
                end = self._line_end(data, at, _TRAILER_LIMIT)
                if end < 0:
                    return out
                if end == at:
                    self.done = True
                    self.rest = data[end + 2 :]
                    return out
                self._trailer(b"\r\n" + data[at:end])
                at = end + 2
        return out

    def _line_end(self, data: bytes, at: int, limit: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            rest = data[at:]
            if len(rest) > limit or b"\n" in rest or b"\r" in rest[:-1]:
                raise RemoteProtocolError("malformed line in a chunked body", self._hint)
            self._buffer = rest
        elif end - at > limit:
            raise RemoteProtocolError("a line too long in a chunked body", self._hint)
        return end

    def _trailer(self, line: bytes) -> None:
        try:
            check_block(line)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(str(error), self._hint) from error
        if line[2:].partition(b":")[0].lower() not in _NO_TRAILER:
            self.trailers += line
        if len(self.trailers) > _TRAILER_LIMIT:
            raise RemoteProtocolError("too many trailers", self._hint)


def chunk(data: bytes) -> bytes:
    """Return one chunk that holds `data`, which must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: bytes = b"") -> bytes:
    """Return the end of a chunked body; `trailers` as `Chunks` gives them."""
    return b"0" + trailers + b"\r\n\r\n"
