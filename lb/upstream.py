# SPDX-License-Identifier: Apache-2.0
"""A connection to a server: sends one request at a time, streams the response to its client.

::

            ┌────────────── begin ◄────────────────┐
            ▼                                      │ release (keep, and the body ended exactly)
    IDLE ─► HEAD ─► BODY: length | chunks | close ─┴─► closed
                └─► TUNNEL (101)

The hot path is `data_received` when head and body come in one read: parse, one write to the
client, back to the pool: no task, no future, no timer.
"""

from __future__ import annotations

import asyncio
import contextlib
from os import write as os_write
from typing import TYPE_CHECKING, Final, cast

from fairlead.errors import RemoteProtocolError
from lb import http1
from lb.http1 import CHUNKED, UNTIL_CLOSE, Chunks, Response, chunk, find_response, last_chunk
from lb.upgrade import BULK, LARGE, Flow

if TYPE_CHECKING:
    from lb.liveserver import LiveServer
    from lb.sides import Asker, Surroundings

IDLE, HEAD, LENGTH, CHUNKS, CLOSE, TUNNEL, CLOSED = range(7)
_HEAD_LIMIT: Final = 1 << 20
_NEVER: Final = b"\0"  # no response begins so


def plain_fd(transport: asyncio.Transport) -> int:
    """Return the descriptor of a plain socket's transport, -1 for any other (TLS, a stream).

    It stays ours until connection_lost: transports close it after that call.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("sslcontext") is not None:
        return -1
    return int(sock.fileno())


class Upstream(asyncio.Protocol):
    """See the module's words."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_fd",
        "_left",
        "_same",
        "_same_head",
        "_same_method",
        "_same_size",
        "_same_status",
        "client",
        "flow",
        "method",
        "plain",
        "plane",
        "response",
        "reused",
        "room",
        "server",
        "since",
        "single",
        "state",
        "transport",
    )

    def __init__(self, plane: Surroundings, server: LiveServer) -> None:
        self.plane = plane
        self.server = server
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.client: Asker | None = None
        self.state = IDLE
        self.method = b""
        self.response: Response | None = None
        self.reused = False
        self.plain = False  # the client takes no chunks (HTTP/1.0)
        self.since = plane.now
        self._buffer = b""
        self._left = 0
        self.room = -1  # bytes that a body of unknown length may still have; -1: any number
        self._chunks: Chunks | None = None
        self._fd = -1
        # the last usual response's head as it came and as it goes on, and the size of the whole
        self._same = _NEVER
        self.flow: Flow | None = None  # the kernel moves what the server sends
        self.single = False  # of one client only: not kept
        self._same_head = b""
        self._same_size = 0
        self._same_method = b""
        self._same_status = 0

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)
        self._fd = plain_fd(self.transport)
        self.plane.upstreams.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the body that is framed by the close; tell the client of any other end."""
        self._stop_flow()
        self._fd = -1
        state, self.state = self.state, CLOSED
        self.plane.upstreams.discard(self)
        if state == IDLE:
            with contextlib.suppress(ValueError):
                self.server.idle.remove(self)
            return
        client = self.client
        if client is None or state == CLOSED:
            return
        self.client = None
        self.server.active -= 1
        if state == CLOSE and exc is None:
            client.body_end(b"" if self.plain else last_chunk(), self)
        elif state == HEAD:
            client.failed(502, self)
        elif state == TUNNEL:
            client.hang_up()
        else:
            client.broken()

    def pause_writing(self) -> None:
        """The server reads slowly: so does its client."""
        if self.client is not None:
            self.client.hold(True)

    def resume_writing(self) -> None:
        """Go on."""
        if self.client is not None:
            self.client.hold(False)

    def data_received(self, data: bytes) -> None:
        """Take in bytes of the response."""
        client = self.client
        if client is None:  # nothing was asked: a late error page, or worse
            self.close()
            return
        self.since = self.plane.now
        state = self.state
        if state == HEAD:
            if (
                data.startswith(self._same)
                and len(data) == self._same_size
                and client.simple
                and self.method == self._same_method
                and not self._buffer
                and not self.single
            ):  # a head as the last one's: nothing to read, 5 µs less
                server = self.server
                server.active -= 1
                self.client = None
                if server.gone:
                    self.state = CLOSED
                    self.transport.close()
                else:
                    self.state = IDLE
                    self.reused = True
                    server.idle.append(self)
                client.answered(
                    self._same_head + data[len(self._same) :], self._same_status, server
                )
                return
            self._head(data, client)
        elif state == LENGTH:
            self._length(data, client)
        elif state == CHUNKS:
            self._chunk(data, client)
        elif state == CLOSE:
            if self._fits(len(data)):
                client.write(data if self.plain else chunk(data))
        elif state == TUNNEL:
            client.write(data)
            if len(data) >= BULK and self._fd >= 0 and client.spliceable():
                self.transport.pause_reading()
                self.flow = Flow(self.plane.loop, self._fd, client.fd, None, self._tunnel_ended)

    # the client's calls

    def begin(self, client: Asker, method: bytes, head: bytes) -> None:
        """Send a request's head on an idle connection."""
        self.client = client
        self.method = method
        self.state = HEAD
        self.since = self.plane.now
        self.server.active += 1
        self.server.requests += 1
        if self._fd >= 0:
            try:
                sent = os_write(self._fd, head)
            except OSError:  # full, or broken: the transport finds out which
                sent = 0
            if sent == len(head):
                return
            head = head[sent:]
            self.single = True  # another head, written straight, could overtake what is queued
        self.transport.write(head)

    def send(self, data: bytes | memoryview) -> None:
        """Send what follows the head: a body, or what an upgraded connection carries."""
        if self._fd >= 0 and not self.transport.get_write_buffer_size():
            try:
                sent = os_write(self._fd, data)
            except OSError:  # full, or broken: the transport finds out which
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self.transport.write(data)

    def abandon(self) -> None:
        """Let go of the client and close: its answer is not wanted any more."""
        if self.client is not None:
            self.client = None
            self.server.active -= 1
        self.close()

    def hang_up(self) -> None:
        """The client closed an upgraded connection: what it sent goes out, then ours closes."""
        self.client = None
        self.server.active -= 1
        self.state = CLOSED
        self._stop_flow()
        self.transport.close()

    def close(self) -> None:
        """Close the connection."""
        self._stop_flow()
        if self.state == IDLE:
            self.state = CLOSED
        if self.transport is not None:
            self.transport.abort()

    # the response

    def _head(self, data: bytes, client: Asker) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while True:
            try:
                end = find_response(data, _HEAD_LIMIT)
                if end < 0:
                    self._buffer = data
                    return
                response = http1.parse_response(data, end, self.method)
            except RemoteProtocolError:
                self.client = None
                self.server.active -= 1
                self.close()
                client.failed(502, self)
                return
            whole = data
            data = data[end + 4 :]
            if response.status >= 200 or response.status == 101:
                break
            client.interim(response)
            if not data:
                return
        self.response = response
        if response.status == 101:
            self._switch(response, data, client)
            return
        head = client.response_head(response, self)
        if head is None:  # the client tries another server
            return
        length = response.length
        if length == len(data):  # the whole body, or none: the usual case
            if (
                client.simple
                and not client.close_after
                and response.keep
                and response.dated
                and response.status not in (502, 504)  # each of these asks for another try anew
            ):
                self._same = bytes(whole[: len(whole) - length])
                self._same_head = head
                self._same_size = len(whole)
                self._same_method = self.method
                self._same_status = response.status
            client.write(head + data if data else head)
            self._done(client)
            return
        if length >= 0:
            self.state = LENGTH
            self._left = length
        elif length == CHUNKED:
            self.state = CHUNKS
            self._chunks = Chunks(502)
        elif length == UNTIL_CLOSE:
            self.state = CLOSE
        client.write(head)
        if data:
            self.data_received(data)
        elif length > LARGE:
            self._splice(client)

    def _length(self, data: bytes, client: Asker) -> None:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            client.write(data)
            if left > LARGE:
                self._splice(client)
            return
        if left < 0:  # more than it announced: what follows cannot be trusted
            data = data[:left]
            cast(Response, self.response).keep = False
        client.write(data)
        self._done(client)

    def _splice(self, client: Asker) -> None:
        """Let the kernel move the rest of the body."""
        if self._fd < 0 or self.flow is not None or not client.spliceable():
            return
        self.transport.pause_reading()
        try:
            self.flow = Flow(self.plane.loop, self._fd, client.fd, self._left, self._spliced)
        except OSError:  # no descriptors left: copied then
            self.transport.resume_reading()

    def _spliced(self, moved: int, error: OSError | None) -> None:
        self.flow = None
        client = self.client
        if client is None:
            return
        if error is not None or moved != self._left:
            self.client = None
            self.server.active -= 1
            self.close()
            client.broken()
            return
        self._left = 0
        self.transport.resume_reading()
        self._done(client)

    def _tunnel_ended(self, moved: int, error: OSError | None) -> None:
        self.flow = None
        self.transport.close()

    def spliceable(self) -> int:
        """Return the descriptor to write to, -1 when bytes are queued or it is no plain socket."""
        return -1 if self._fd < 0 or self.transport.get_write_buffer_size() else self._fd

    def touch(self, now: float) -> None:
        """Note that the server sends, if a flow moved something since the last look."""
        if self.flow is not None and self.flow.touched:
            self.flow.touched = False
            self.since = now

    def _stop_flow(self) -> None:
        flow, self.flow = self.flow, None
        if flow is not None:
            flow.close()

    def _chunk(self, data: bytes, client: Asker) -> None:
        chunks = cast(Chunks, self._chunks)
        try:
            pieces = chunks.feed(data)
        except RemoteProtocolError:
            self.client = None
            self.server.active -= 1
            self.close()
            client.broken()
            return
        if not self._fits(sum(map(len, pieces))):
            return
        if not chunks.done:
            if pieces:
                client.write(b"".join(pieces if self.plain else map(chunk, pieces)))
            return
        if self.plain:
            client.write(b"".join(pieces))
        else:
            client.write(b"".join(map(chunk, pieces)) + last_chunk(chunks.trailers))
        if chunks.rest:
            cast(Response, self.response).keep = False
        self._done(client)

    def _fits(self, count: int) -> bool:
        """Count bytes of a body of unknown length; break the response off where they are too many."""
        cast("Asker", self.client).counted += count
        if self.room < 0:
            return True
        self.room -= count
        if self.room >= 0:
            return True
        client, self.client = cast("Asker", self.client), None
        self.server.active -= 1
        self.close()
        client.broken()
        return False

    def _switch(self, response: Response, data: bytes, client: Asker) -> None:
        if not client.switched(response, self):
            self.client = None
            self.server.active -= 1
            self.close()
            client.failed(502, self)
            return
        self.state = TUNNEL
        if data:
            client.write(data)

    def _done(self, client: Asker) -> None:
        """The response ended: back to the pool, or away."""
        server = self.server
        server.active -= 1
        self.client = None
        self._chunks = None
        keep = cast(Response, self.response).keep and client.sent_all
        self.response = None
        # a server may answer before it took all of a body: what is queued must not meet a next head
        keep = keep and not self.transport.get_write_buffer_size()
        if keep and not server.gone and not self.single and not self.transport.is_closing():
            self.state = IDLE
            self.reused = True
            self.since = self.plane.now
            server.idle.append(self)
        else:
            self.state = CLOSED
            self.transport.close()
        client.finished()
