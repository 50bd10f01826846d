# SPDX-License-Identifier: Apache-2.0
"""One stream of a connection as a transport: a message in HTTP/1.1 goes in, frames go out.

::

    write ─► head (`clients`: a response's, `servers`: a request's) ─► begin ─► HEADERS
      └────► body: counted, or taken out of its chunks ──────────────► send ──► DATA, trailers
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from h2.errors import ErrorCodes
from h2.events import DataReceived
from h2.exceptions import H2Error

from lb.http1 import CHUNKED, Chunks
from lb.http2.fields import Header, headers_of

if TYPE_CHECKING:
    from lb.http2.session import Session

_HIGH: Final = 256 << 10  # bytes waiting for a stream's window before its writer is paused
_LOW: Final = 64 << 10


class Stream(asyncio.Transport):
    """One stream as a transport; subclasses read a message's head.

    Attributes:
        method: of its request.
        chunked_in: what comes from the peer is passed on in chunks.
    """

    def __init__(self, session: Session, number: int) -> None:
        super().__init__()
        self.session = session
        self.number = number
        self.protocol: Any = None
        self.method = b""
        self.chunked_in = False
        self.out = bytearray()
        self.ending: list[Header] | None = None  # trailers; [] for none; None: not ended yet
        self.ended = False  # END_STREAM is sent
        self.remote_ended = False
        self.gone = False
        self._paused = False
        self._reading = True
        self._unread = 0
        self._begun = False
        self._left = 0  # bytes of the message's body to come
        self._chunks: Chunks | None = None

    # asyncio's transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the connection says, but no socket: nobody may write past the frames."""
        if name == "socket":
            return None
        return self.session.transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether the stream is over."""
        return self.gone

    def can_write_eof(self) -> bool:
        """There is no half-close that lingers: a stream's close loses nothing."""
        return False

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the peer's window."""
        return len(self.out)

    def pause_reading(self) -> None:
        """Acknowledge no more data."""
        self._reading = False

    def resume_reading(self) -> None:
        """Acknowledge what came meanwhile."""
        self._reading = True
        unread, self._unread = self._unread, 0
        if unread and not self.gone:
            self.session.acknowledge(unread, self.number)

    def close(self) -> None:
        """End the stream; one whose message is not whole is reset."""
        if self.gone:
            return
        if (self.ending is not None and self.out) or (self.ended and self.remote_ended):
            if not self.out:
                self.lost(None)
            else:
                self.remote_ended = True  # the rest goes out, then it is over
            return
        if not (self.ended and self.remote_ended):
            code = ErrorCodes.NO_ERROR if self.ended else ErrorCodes.CANCEL
            self.session.reset(self.number, code)
        self.lost(None)

    def abort(self) -> None:
        """Reset the stream."""
        if not self.gone:
            if not (self.ended and self.remote_ended):
                self.session.reset(self.number, ErrorCodes.INTERNAL_ERROR)
            self.lost(None)

    def lost(self, error: Exception | None) -> None:
        """The stream is over."""
        if not self.gone:
            self.gone = True
            self.session.streams.pop(self.number, None)
            if self.session.over and not self.session.streams:
                self.session.end()
            self.session.loop.call_soon(self.protocol.connection_lost, error)

    def received(self, event: DataReceived) -> bytes:
        """Return a piece of the peer's body, accounted for."""
        size = event.flow_controlled_length or 0
        if self._reading:
            self.session.acknowledge(size, self.number)
        else:
            self._unread += size
        return bytes(event.data or b"")

    # a message in

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take in bytes of the message."""
        if self.gone or self.ending is not None:
            return
        rest = bytes(data) if self._begun else self.head(bytes(data))
        if rest is None or self.ended:
            return
        if self._chunks is not None:
            pieces = self._chunks.feed(rest)
            done = self._chunks.done
            self.send(pieces, headers_of(self._chunks.trailers) if done else None)
        else:
            self._left -= len(rest)
            self.send((rest,), [] if self._left <= 0 else None)

    def head(self, data: bytes) -> bytes | None:
        """Read the message's head and `begin`; return what is behind it, None for "not whole yet"."""
        raise NotImplementedError

    def begin(self, fields: list[Header], length: int) -> None:
        """Send a head.

        Args:
            length: of the body that follows, or CHUNKED.
        """
        self._begun = True
        self._left = length
        if length == CHUNKED:
            self._chunks = Chunks(502)
        try:
            self.session.conn.send_headers(self.number, fields, end_stream=not length)
        except H2Error:  # the connection is being closed, or the peer has reset the stream
            self.lost(ConnectionResetError())
            return
        if not length:
            self.ending, self.ended = [], True
            self.session.flush()
            if self.remote_ended:
                self.lost(None)

    # frames out

    def send(self, pieces: Iterable[bytes], ending: list[Header] | None) -> None:
        """Queue body bytes, and the end of the message."""
        for piece in pieces:
            self.out += piece
        if ending is not None:
            self.ending = ending
        self.flush()

    def flush(self) -> None:
        """Send what the windows take."""
        if self.gone or self.ended:
            return
        conn = self.session.conn
        try:
            while self.out:
                size = min(conn.local_flow_control_window(self.number), conn.max_outbound_frame_size, len(self.out))  # fmt: skip
                if size <= 0:
                    break
                last = size == len(self.out) and self.ending == []
                if self.session.control > 0:  # two window updates may answer it
                    self.session.control -= 2
                conn.send_data(self.number, bytes(self.out[:size]), end_stream=last)
                del self.out[:size]
                self.ended = self.ended or last
            if not self.out and self.ending is not None and not self.ended:
                self.ended = True
                if self.ending:
                    conn.send_headers(self.number, self.ending, end_stream=True)
                else:
                    conn.end_stream(self.number)
        except H2Error:  # the peer has reset it meanwhile
            self.lost(None)
            return
        self.session.flush()
        if len(self.out) > _HIGH and not self._paused:
            self._paused = True
            self.protocol.pause_writing()
        elif self._paused and len(self.out) < _LOW:
            self._paused = False
            self.protocol.resume_writing()
        if self.ended and self.remote_ended:
            self.lost(None)
