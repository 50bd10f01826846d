# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 as clients see it: each request becomes one of HTTP/1.1, for a protocol of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from fairlead.errors import RemoteProtocolError
from lb.http1 import chunk, find_head, last_chunk, parse_response
from lb.http2.fields import Header, head_of, headers_of, lines
from lb.http2.session import Session
from lb.http2.stream import Stream

_RESETS: Final = 200  # streams a client may open and take back, while that is more than half of all


class ServerStream(Stream):
    """A client's request: what `Client` writes is a response in HTTP/1.1."""

    def __init__(self, session: Session, number: int, method: bytes) -> None:
        super().__init__(session, number)
        self.method = method
        self._head = b""

    def head(self, data: bytes) -> bytes | None:
        """Send the response's head when it is whole; what is interim is left out."""
        data = self._head + data
        while True:
            end = find_head(data, 1 << 20)
            if end < 0:
                self._head = data
                return None
            response = parse_response(data, end, self.method)
            data = data[end + 4 :]
            if response.status >= 200:
                break
        fields = [(b":status", b"%d" % response.status), *headers_of(response.kept)]
        self.begin(fields, response.length)
        return data


class Clients(Session):
    """A client's connection.

    Attributes:
        upgraded: never (`lb.client.Client`).

    Args:
        serve: returns the protocol of a new stream (`lb.client.Client`).
        settle: takes the connection into the listener's clients, or out of them.
    """

    upgraded: Final = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        serve: Callable[[], Any],
        listener: Any,
        now: float,
        idle: float,
    ) -> None:
        super().__init__(loop, client_side=False)
        self._serve = serve
        self._listener = listener
        self._since = now
        self._idle = idle
        self._opened = 0
        self._resets = 0
        listener.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the listener."""
        self._listener.clients.discard(self)
        self._listener.leave()
        super().connection_lost(exc)

    @property
    def phase(self) -> str:
        """What statsd counts it as."""
        return "active" if self.streams else "idle" if self._opened else "new"

    def check(self, now: float) -> None:
        """Close what is idle or not wanted any more; called by the sweep."""
        self.control = 0
        if self.streams:
            self._since = now
        elif self._listener.closing or now - self._since > self._idle:
            self.end()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def happened(self, event: Event) -> None:
        """Take in a client's message."""
        if isinstance(event, RequestReceived):
            self._request(event)
            return
        number = getattr(event, "stream_id", None) or 0
        stream = cast(ServerStream | None, self.streams.get(number))
        if isinstance(event, StreamReset):
            self._resets += 1
            if self._resets > _RESETS and self._resets * 2 > self._opened:
                self.end(ErrorCodes.ENHANCE_YOUR_CALM)
                return
        if stream is None:
            if isinstance(event, DataReceived):
                self.acknowledge(event.flow_controlled_length or 0, number)
                return
        elif isinstance(event, DataReceived):
            data = stream.received(event)
            if data:
                stream.protocol.data_received(chunk(data) if stream.chunked_in else data)
            elif event.stream_ended is None:
                self.control += 1
            return
        elif isinstance(event, TrailersReceived):
            stream.remote_ended = True
            try:
                trailers = lines(cast(list[Header], event.headers))
            except RemoteProtocolError:
                stream.abort()
                return
            self._over(stream, trailers)
            return
        elif isinstance(event, StreamEnded):
            if not stream.remote_ended:
                stream.remote_ended = True
                self._over(stream, b"")
            return
        super().happened(event)

    def _over(self, stream: ServerStream, trailers: bytes) -> None:
        if stream.chunked_in:
            text = b"\r\n" + trailers[:-2] if trailers else b""
            stream.protocol.data_received(last_chunk(text))
        if stream.ended:
            stream.lost(None)

    def _request(self, event: RequestReceived) -> None:
        number = event.stream_id or 0
        self._opened += 1
        pseudo: dict[bytes, bytes] = {}
        fields: list[Header] = []
        for name, value in cast(list[Header], event.headers):
            if name[:1] == b":":
                pseudo[bytes(name)] = bytes(value)
            else:
                fields.append((bytes(name), bytes(value)))
        ended = event.stream_ended is not None
        sized = any(name == b"content-length" for name, _ in fields)
        te = any(name == b"te" for name, _ in fields)
        try:
            head = head_of(pseudo, fields)
        except RemoteProtocolError:
            self.conn.send_headers(number, [(b":status", b"400"), (b"content-length", b"0")], True)
            if not ended:
                self.reset(number, ErrorCodes.NO_ERROR)
            return
        stream = ServerStream(self, number, pseudo[b":method"])
        stream.remote_ended = ended
        if not ended and not sized:
            stream.chunked_in = True
            head += b"Transfer-Encoding: chunked\r\n"
        if te:
            head += b"Connection: TE\r\nTE: trailers\r\n"
        self.streams[number] = stream
        stream.protocol = self._serve()
        stream.protocol.connection_made(stream)
        stream.protocol.data_received(head + b"\r\n")
