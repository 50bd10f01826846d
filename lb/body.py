# SPDX-License-Identifier: Apache-2.0
"""A request's body on its way to a server. No IO.

::

    client's bytes ─► take ─► bytes for the server, framed anew      one Content-Length, or our own chunks
                       ├─► kept     for another try, in memory and then in a file
                       └─► waiting  while no server's connection is there

A chunked body is gathered where the frontend does not stream: read to its end, in memory and then
in a file, so that the server gets a Content-Length (specs/vulcand.md §8), which many an application
behind WSGI, FastCGI or the like needs. One that is larger than there is room for goes on chunked.
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
        gathering: it is read to its end before a server gets any of it.
        left: bytes still to come of a body of known length; negative when chunked.
        length: what a server is told: bytes, or CHUNKED.
        rest: once `whole`, the bytes behind it: the next request's.
        whole: all of it was taken.
    """

    __slots__ = (
        "_chunks",
        "_kept",
        "_most",
        "_size",
        "_trailers",
        "_waiting",
        "gathering",
        "left",
        "length",
        "rest",
        "whole",
    )

    def __init__(self, length: int, most: int, keep: int, spill: int = 0, gather: int = 0) -> None:
        """Await a body.

        Args:
            length: bytes, or CHUNKED.
            most: largest size in bytes; 0 for no limit.
            keep: bytes kept in memory for another try; 0 for none.
            spill: bytes that may be kept in a file instead; 0 for none.
            gather: bytes of a chunked one kept in memory to find out its length; 0: it streams.
        """
        self.left = self.length = length
        self.rest = b""
        self.whole = False
        self._chunks = Chunks() if length == CHUNKED else None
        self.gathering = gather > 0 and self._chunks is not None
        self._most = most
        self._size = 0
        if self.gathering:
            keep = gather
        self._kept = Kept(keep, spill) if keep else None
        self._trailers: bytes | None = None  # of one that was gathered: it stays chunked for them
        self._waiting: list[Piece] = []

    def take(self, data: bytes) -> bytes:
        """Take in bytes; return what the server gets for them: nothing while it is gathered.

        Raises:
            RemoteProtocolError: malformed (400), or larger than allowed (413).
        """
        if self._chunks is None:
            out = self._sized(data)
            self._check_size()
        else:
            pieces = self._chunks.feed(data)
            self._size += sum(map(len, pieces))
            self._check_size()
            if self._chunks.done:
                self.whole = True
                self.rest = self._chunks.rest
            if self.gathering:
                self._gather(pieces)
                return b""
            out = b"".join(map(chunk, pieces))
            if self.whole:
                out += last_chunk(self._chunks.trailers)
        if out and self._kept is not None and not self._kept.add(out):
            self.drop()
        return out

    def _check_size(self) -> None:
        if self._most and self._size > self._most:
            raise RemoteProtocolError("the body is too large", 413)

    def _gather(self, pieces: list[bytes]) -> None:
        """Keep pieces; at the end, or when there is no more room, all of it waits for a server."""
        kept, chunks = self._kept, self._chunks
        assert kept is not None  # noqa: S101  (it is what gathers)
        assert chunks is not None  # noqa: S101
        for at, piece in enumerate(pieces):
            if not kept.add(piece):
                self.gathering = False
                self._waiting = _as_chunk(kept)
                self.drop()
                rest = [chunk(one) for one in pieces[at:]]
                self._waiting += [*rest, last_chunk(chunks.trailers)] if self.whole else rest
                return
        if self.whole:
            self.gathering = False
            if chunks.trailers:
                self._trailers = chunks.trailers
            else:
                self.length = kept.size
            self.rewind()

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
        return b"".join(self._all())

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
            self._waiting = self._all()

    def _all(self) -> list[Piece]:
        """Return what is kept, as a server gets it."""
        if self._kept is None:
            return []
        if self._trailers is None:
            return self._kept.all()
        return [*_as_chunk(self._kept), last_chunk(self._trailers)]

    def wait(self, out: bytes) -> bool:
        """Keep bytes until there is a connection; return whether the client has to wait."""
        self._waiting.append(out)
        return sum(map(len, self._waiting)) > UNSENT

    def waited(self) -> list[Piece]:
        """Return what waited for the connection."""
        waiting, self._waiting = self._waiting, []
        return waiting


def _as_chunk(kept: Kept) -> list[Piece]:
    """Return what is kept as one chunk, which may be as large as a file."""
    return [b"%x\r\n" % kept.size, *kept.all(), b"\r\n"] if kept.size else []
