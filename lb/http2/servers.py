# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 as servers see it: each request of HTTP/1.1 becomes a stream of their one connection."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    TrailersReceived,
)

from fairlead.errors import RemoteProtocolError
from lb.http1 import CHUNKED, chunk, last_chunk
from lb.http2.fields import HOP, Header, headers_of, lines
from lb.http2.session import Session
from lb.http2.stream import Stream


class ClientStream(Stream):
    """A request to a server: what `Upstream` writes is a request in HTTP/1.1."""

    def head(self, data: bytes) -> bytes:
        """Send the request's head; `Upstream` writes it in one piece."""
        head, _, rest = data.partition(b"\r\n\r\n")
        line, _, block = head.partition(b"\r\n")
        self.method, target, _ = line.split(b" ")
        fields = headers_of(block, but=frozenset())
        told = dict(fields)
        scheme = b"https" if self.get_extra_info("sslcontext") is not None else b"http"
        sent = [
            (b":method", self.method),
            (b":scheme", scheme),
            (b":authority", told.get(b"host", b"")),
            (b":path", target),
            *((n, v) for n, v in fields if n not in HOP and n != b"host"),
        ]
        chunked = b"transfer-encoding" in told
        self.begin(sent, CHUNKED if chunked else int(told.get(b"content-length", b"0")))
        return rest


class Mux(Session):
    """The connection to one server; `stream` opens one for an `Upstream`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, client_side=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak first."""
        self.open(cast(asyncio.Transport, transport))

    @property
    def usable(self) -> bool:
        """Whether another stream may be opened."""
        return not self.over and self.conn.open_outbound_streams < min(
            self.conn.remote_settings.max_concurrent_streams, 1 << 20
        )

    def stream(self, upstream: Any) -> ClientStream:
        """Return a new stream's transport."""
        number = self.conn.get_next_available_stream_id()
        stream = ClientStream(self, number)
        stream.protocol = upstream
        self.streams[number] = stream
        return stream

    def retire(self) -> None:
        """Open no more; close when the last stream is over."""
        self.over = True
        if not self.streams and self.transport is not None:
            self.end()

    def happened(self, event: Event) -> None:
        """Take in a server's message."""
        number = getattr(event, "stream_id", None) or 0
        stream = cast(ClientStream | None, self.streams.get(number))
        if isinstance(event, InformationalResponseReceived):
            return
        if stream is None:
            if isinstance(event, DataReceived):
                self.acknowledge(event.flow_controlled_length or 0, number)
                return
            super().happened(event)
            return
        up = stream.protocol
        if isinstance(event, ResponseReceived):
            headers = [(bytes(n), bytes(v)) for n, v in cast(list[Header], event.headers)]
            status = dict(headers).get(b":status", b"502")
            sized = any(n == b"content-length" for n, _ in headers)
            try:
                text = lines((n, v) for n, v in headers if n[:1] != b":")
            except RemoteProtocolError:
                stream.lost(ConnectionResetError())
                self.reset(number, ErrorCodes.PROTOCOL_ERROR)
                return
            ended = event.stream_ended is not None
            if not sized and ended and stream.method != b"HEAD" and status not in (b"204", b"304"):
                text += b"content-length: 0\r\n"
            elif not sized and not ended:
                stream.chunked_in = True
                text += b"transfer-encoding: chunked\r\n"
            stream.remote_ended = ended
            up.data_received(b"HTTP/1.1 %b\r\n%b\r\n" % (status, text))
        elif isinstance(event, DataReceived):
            data = stream.received(event)
            if data:
                up.data_received(chunk(data) if stream.chunked_in else data)
        elif isinstance(event, TrailersReceived):
            try:
                trailers = lines(cast(list[Header], event.headers))
            except RemoteProtocolError:
                trailers = b""
            stream.remote_ended = True
            if stream.chunked_in:
                up.data_received(last_chunk(b"\r\n" + trailers[:-2] if trailers else b""))
        elif isinstance(event, StreamEnded):
            if not stream.remote_ended:
                stream.remote_ended = True
                if stream.chunked_in:
                    up.data_received(last_chunk())
        else:
            super().happened(event)
