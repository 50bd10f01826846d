# SPDX-License-Identifier: Apache-2.0
"""A request's body on its way to a server. No IO.

::

    client's bytes ─► take ─► bytes for the server, framed anew      one Content-Length, or our own chunks
                       ├─► kept     for another try, in memory and then in a file
                       └─► waiting  while no server's connection is there
"""

from __future__ import annotations

from typing import Final

from fairlead.errors import RemoteProtocolError
from lb.http1 import CHUNKED, Chunks, chunk, last_chunk
from lb.kept import Kept, Piece

UNSENT: Final = 256 << 10
"""Bytes that wait for a connection before the client is made to wait."""


class Body:
    """See the module's words.

    Attributes:
        left: bytes still to come of a body of known length; negative when chunked.
        rest: once `whole`, the bytes behind it: the next request's.
        whole: all of it was taken.
    """

    __slots__ = ("_chunks", "_kept", "_most", "_size", "_waiting", "left", "rest", "whole")

    def __init__(self, length: int, most: int, keep: int, spill: int = 0) -> None:
        """Await a body.

        Args:
            length: bytes, or CHUNKED.
            most: largest size in bytes; 0 for no limit.
            keep: bytes kept in memory for another try; 0 for none.
            spill: bytes that may be kept in a file instead; 0 for none.
        """
        self.left = length
        self.rest = b""
        self.whole = False
        self._chunks = Chunks() if length == CHUNKED else None
        self._most = most
        self._size = 0
        self._kept = Kept(keep, spill) if keep else None
        self._waiting: list[Piece] = []

    def take(self, data: bytes) -> bytes:
        """Take in bytes; return what the server gets for them.

        Raises:
            RemoteProtocolError: malformed (400), or larger than allowed (413).
        """
        chunks = self._chunks
        if chunks is None:
            out = self._sized(data)
        else:
            pieces = chunks.feed(data)
            self._size += sum(map(len, pieces))
            out = b"".join(map(chunk, pieces))
            if chunks.done:
                out += last_chunk(chunks.trailers)
                self.whole = True
                self.rest = chunks.rest
        if self._most and self._size > self._most:
            raise RemoteProtocolError("the body is too large", 413)
        if out and self._kept is not None and not self._kept.add(out):
            self.drop()
        return out

    def _sized(self, data: bytes) -> bytes:
        left = self.left - len(data)
        if left < 0:
            data, self.rest = data[:left], data[left:]
            left = 0
        self.left = left
        self.whole = not left
        self._size += len(data)
        return data

    def moved(self, count: int) -> None:
        """Note bytes that the kernel moved past us."""
        self.left -= count
        self._size += count
        self.whole = not self.left

    @property
    def movable(self) -> bool:
        """Whether nobody needs to see what is still to come."""
        return self._chunks is None and self._kept is None

    @property
    def again(self) -> bool:
        """Whether what came so far can be sent once more."""
        return self._kept is not None

    @property
    def kept(self) -> bytes:
        """All of it as a server gets it; only where it is `again`."""
        return b"".join(self._kept.all()) if self._kept is not None else b""

    @property
    def size(self) -> int:
        """How many bytes came so far."""
        return self._size

    def drop(self) -> None:
        """Keep nothing any more."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def rewind(self) -> None:
        """Begin anew with the next server."""
        if self._kept is not None:
            self._waiting = self._kept.all()

    def wait(self, out: bytes) -> bool:
        """Keep bytes until there is a connection; return whether the client has to wait."""
        self._waiting.append(out)
        return sum(map(len, self._waiting)) > UNSENT

    def waited(self) -> list[Piece]:
        """Return what waited for the connection."""
        waiting, self._waiting = self._waiting, []
        return waiting
