# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 on both sides, each stream translated to and from the HTTP/1.1 that the proxy speaks.

::

    client ══ h2 ══► Sessions.stream 1 ── HTTP/1.1 bytes ──► Client ─► … ─► Upstream ── HTTP/1.1 bytes ──► Mux.stream 1 ══ h2 ══► server
                     (a transport for Client)                                          (a transport for Upstream)

A stream is an `asyncio.Transport` to the protocol above it, so that routing, links, balancing,
retries and limits are those of HTTP/1.1, word for word. Trailers become those of a chunked body
and back, which is what gRPC needs. `h2` does frames, HPACK and flow control.

Back pressure: bytes that a peer's window does not take pause the protocol above; bytes that the
protocol does not take are not acknowledged.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from fairlead.errors import RemoteProtocolError
from lb.http1 import CHUNKED, Chunks, chunk, find_head, last_chunk, parse_response

Header = tuple[bytes, bytes]
_HIGH: Final = 256 << 10  # bytes waiting for a stream's window before its writer is paused
_LOW: Final = 64 << 10
_STREAMS: Final = 128
_WINDOW: Final = 1 << 20
_HEADERS: Final = 64 << 10
_RESETS: Final = 200  # streams a client may open and take back, while that is more than half of all
_CONTROL: Final = 2000  # frames that carry nothing, between two looks of the sweep
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]*")
_TARGET: Final = re.compile(rb"[!\x22$-~\x80-\xff]+")
_HOP: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))  # fmt: skip


class Stream(asyncio.Transport):
    """One stream as a transport; subclasses turn HTTP/1.1 bytes into frames."""

    def __init__(self, session: Session, number: int) -> None:
        super().__init__()
        self.session = session
        self.number = number
        self.protocol: Any = None
        self.out = bytearray()
        self.ending: list[Header] | None = None  # trailers; [] for none; None: not ended yet
        self.ended = False  # END_STREAM is sent
        self.remote_ended = False
        self.gone = False
        self._paused = False
        self._reading = True
        self._unread = 0

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


class Session(asyncio.Protocol):
    """One HTTP/2 connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, client_side: bool) -> None:
        self.loop = loop
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.conn = H2Connection(H2Configuration(client_side=client_side, header_encoding=None))
        values = {
            SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: _HEADERS,
        }
        if client_side:
            values[SettingCodes.ENABLE_PUSH] = 0
        self.conn.local_settings = Settings(client=client_side, initial_values=values)
        self.streams: dict[int, Stream] = {}
        self.control = 0
        self.over = False  # no new streams

    def open(self, transport: asyncio.Transport) -> None:
        """Begin to speak."""
        self.transport = transport
        self.conn.initiate_connection()
        self.conn.increment_flow_control_window(_WINDOW)
        self.flush()

    def flush(self) -> None:
        """Write what `h2` has made."""
        data = self.conn.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def acknowledge(self, size: int, number: int) -> None:
        """Open the peer's window again."""
        if size:
            try:
                self.conn.acknowledge_received_data(size, number)
            except H2Error:  # the stream is closed; the connection's window was opened by h2
                return
            self.flush()

    def reset(self, number: int, code: ErrorCodes) -> None:
        """Take a stream back."""
        try:
            self.conn.reset_stream(number, code)
        except H2Error:  # closed already
            return
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Every stream is over."""
        self._lose(exc)

    def _lose(self, exc: Exception | None) -> None:
        self.over = True
        for stream in tuple(self.streams.values()):
            stream.lost(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        """Take in frames."""
        try:
            events = self.conn.receive_data(data)
        except H2Error:  # a connection error: h2 has the GOAWAY ready, and speaks no more
            self.flush()
            self.transport.close()
            self._lose(ConnectionResetError())
            return
        for event in events:
            self.happened(event)
            if self.control > _CONTROL:
                self.end(ErrorCodes.ENHANCE_YOUR_CALM)
                return
        self.flush()

    def happened(self, event: Event) -> None:
        """Act on an event; subclasses take those of messages."""
        if isinstance(event, WindowUpdated | RemoteSettingsChanged):
            self.control += 1
            for stream in tuple(self.streams.values()):
                if stream.out and event_is_for(event, stream.number):
                    stream.flush()
        elif isinstance(event, StreamReset):
            taken = self.streams.get(event.stream_id or 0)
            if taken is not None:
                taken.lost(ConnectionResetError())
        elif isinstance(event, ConnectionTerminated):
            self.over = True
            if not self.streams:
                self.transport.close()
        else:  # pings, acknowledgements, priorities, frames of no known type
            self.control += 1

    def end(self, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Say goodbye and close."""
        self.over = True
        if self.transport.is_closing():
            return
        with suppress(H2Error):  # said already
            self.conn.close_connection(code)
        self.flush()
        self.transport.close()


def event_is_for(event: Event, number: int) -> bool:
    """Say whether a window's change may let a stream go on."""
    return not isinstance(event, WindowUpdated) or event.stream_id in (0, number)


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
        elif name not in _HOP:
            out.append(name + b": " + value + b"\r\n")
    if cookies:
        out.append(b"cookie: " + b"; ".join(cookies) + b"\r\n")
    return b"".join(out)


def headers_of(block: bytes, *, but: frozenset[bytes] = _HOP) -> list[Header]:
    """Return the fields of a block of HTTP/1.1 lines."""
    found = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if colon and name not in but:
            found.append((name, value.strip(b" \t")))
    return found


# clients


class ServerStream(Stream):
    """A client's request: what `Client` writes is a response in HTTP/1.1."""

    def __init__(self, session: Session, number: int, method: bytes) -> None:
        super().__init__(session, number)
        self.method = method
        self.chunked_in = False
        self._head = b""
        self._begun = False
        self._left = 0
        self._chunks: Chunks | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take in bytes of the response."""
        if self.gone or self.ending is not None:
            return
        data = bytes(data)
        if not self._begun:
            data = self._head + data
            while True:
                end = find_head(data, 1 << 20)
                if end < 0:
                    self._head = data
                    return
                response = parse_response(data, end, self.method)
                data = data[end + 4 :]
                if response.status >= 200:
                    break
                if not data:
                    self._head = b""
                    return
            self._begun = True
            fields = [(b":status", b"%d" % response.status), *headers_of(response.kept)]
            self._left = response.length
            if response.length == CHUNKED:
                self._chunks = Chunks(502)
            none = response.length == 0
            try:
                self.session.conn.send_headers(self.number, fields, end_stream=none)
            except H2Error:  # the connection is being closed, or the client has reset the stream
                self.lost(ConnectionResetError())
                return
            if none:
                self.ending = []
                self.ended = True
                self.session.flush()
                if self.remote_ended:
                    self.lost(None)
                return
        if self._chunks is not None:
            pieces = self._chunks.feed(data)
            done = self._chunks.done
            self.send(pieces, headers_of(self._chunks.trailers) if done else None)
        else:
            self._left -= len(data)
            self.send((data,), [] if self._left <= 0 else None)


class Clients(Session):
    """A client's connection.

    Args:
        serve: returns the protocol of a new stream (`lb.client.Client`).
        settle: takes the connection into the listener's clients, or out of them.
    """

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
            head = _head_of(pseudo, fields)
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


def _head_of(pseudo: dict[bytes, bytes], fields: list[Header]) -> bytes:
    """Return a request's head in HTTP/1.1, its last line open; raises RemoteProtocolError."""
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    host = pseudo.get(b":authority") or dict(fields).get(b"host", b"")
    if target[:1] != b"/" and target != b"*":  # RFC 9113 §8.3.1: else a host could hide in it
        raise RemoteProtocolError("malformed :path", 400)
    if not _TARGET.fullmatch(target) or not _VALUE.fullmatch(host) or not method.isalpha():
        raise RemoteProtocolError("malformed request", 400)
    rest = [(n, v) for n, v in fields if n not in (b"host", b"te", b"expect")]
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (method, target, host, lines(rest))


# servers


class ClientStream(Stream):
    """A request to a server: what `Upstream` writes is a request in HTTP/1.1."""

    def __init__(self, session: Session, number: int) -> None:
        super().__init__(session, number)
        self.chunked_in = False
        self.method = b""
        self._begun = False
        self._left = 0
        self._chunks: Chunks | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take in bytes of the request."""
        if self.gone or self.ending is not None:
            return
        data = bytes(data)
        if not self._begun:
            self._begun = True
            head, _, data = data.partition(b"\r\n\r\n")
            line, _, block = head.partition(b"\r\n")
            self.method, target, _ = line.split(b" ")
            fields = headers_of(block, but=frozenset())
            told = dict(fields)
            if b"transfer-encoding" in told:
                self._chunks = Chunks(502)
            self._left = int(told.get(b"content-length", b"0"))
            none = self._chunks is None and not self._left
            scheme = b"https" if self.get_extra_info("sslcontext") is not None else b"http"
            sent = [
                (b":method", self.method),
                (b":scheme", scheme),
                (b":authority", told.get(b"host", b"")),
                (b":path", target),
                *((n, v) for n, v in fields if n not in _HOP and n != b"host"),
            ]
            try:
                self.session.conn.send_headers(self.number, sent, end_stream=none)
            except H2Error:
                self.lost(ConnectionResetError())
                return
            if none:
                self.ending, self.ended = [], True
                self.session.flush()
                return
            self.session.flush()
        if not data:
            return
        if self._chunks is not None:
            pieces = self._chunks.feed(data)
            done = self._chunks.done
            self.send(pieces, headers_of(self._chunks.trailers) if done else None)
        else:
            self._left -= len(data)
            self.send((data,), [] if self._left <= 0 else None)


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
