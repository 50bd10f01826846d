# SPDX-License-Identifier: Apache-2.0
"""A client's connection: bytes in and out, back pressure, one request after the other.

::

    ┌──► HEAD ─► Transaction.start ─► BODY ─► WAIT ─► next ─┬─► HEAD
    │      └─ malformed: 4xx, close              └─► TUNNEL └─► CLOSING: linger, then closed
    └─ pipelined requests wait in `buffer`

One request at a time: every response begins while its request is the oldest, so order is kept by
construction.
"""

from __future__ import annotations

import asyncio
from os import write as os_write
from typing import Any, Final, cast

from fairlead.errors import RemoteProtocolError
from lb import forward, http1
from lb.connection import BODY, CLOSING, HEAD, TUNNEL, WAIT
from lb.http1 import Request, find_head
from lb.http2.clients import Clients
from lb.http2.stream import Stream
from lb.live import LiveListener
from lb.memory import Memory
from lb.outward import NO_REQUEST
from lb.plane import Plane
from lb.tls import ACME, iana_name
from lb.transaction import Transaction
from lb.upstream import plain_fd

_PIPELINE: Final = 64 << 10  # bytes of requests read ahead before the client is made to wait
_LINGER: Final = 5.0  # seconds for the client to read our last words; as nginx's lingering_timeout
_PARTING: Final = 1.0  # seconds an idle connection is waited for when its listener closes
_REMEMBERED: Final = 2.0  # seconds a connection remembers its last request


def tls_facts(transport: asyncio.BaseTransport) -> dict[str, Any]:
    """Return what the trace and access logs tell of a client's TLS (specs/vulcand.md §4.5)."""
    tls = transport.get_extra_info("ssl_object")
    cipher = transport.get_extra_info("cipher")
    return {
        "version": str(tls.version() or "").replace("TLSv1.", "TLS1") if tls else "",
        "resume": bool(tls and tls.session_reused),
        "cipher_suite": iana_name(cipher[0]) if cipher else "",
        "server": getattr(tls, "server_name_sent", "") or "",
    }


def _said(error: RemoteProtocolError) -> bytes:
    """Return the body of an answer to what could not be read, in Go's form (specs/vulcand.md §9)."""
    reason = str(error)
    if error.hint == 501:
        return (reason[:1].upper() + reason[1:]).encode()
    said = b"%d %b" % (error.hint, http1.REASONS[error.hint])
    return said if error.hint == 431 else said + b": " + reason.encode()


class Client(asyncio.Protocol):
    """See the module's words.

    Attributes:
        address: the client's, as text.
        buffer: bytes that came and are not read yet.
        fresh: no request was read yet.
        full: the transport holds so many bytes that the client has to read first.
        fd: the descriptor of its plain socket; -1 under TLS or HTTP/2, or when it is gone.
        held: it is made to wait.
        since: when it last did what its state waits for (monotonic seconds).
        tls: facts of its TLS; None without.
    """

    __slots__ = (
        "_busy",
        "_queued",
        "_scanned",
        "_transaction",
        "address",
        "buffer",
        "fd",
        "fresh",
        "full",
        "held",
        "listener",
        "memory",
        "plane",
        "since",
        "state",
        "tls",
        "transport",
    )

    def __init__(
        self, plane: Plane, listener: LiveListener, source: tuple[str, int] | None = None
    ) -> None:
        self.plane = plane
        self.listener = listener
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.address = source[0].encode() if source else b""  # as a PROXY header gave it
        self.tls: dict[str, Any] | None = None
        self.fd = -1
        self.state = HEAD
        self.since = plane.now
        self.buffer = b""
        self.held = False
        self.fresh = True
        self.memory = Memory()
        self._busy = False
        self._scanned = 0
        self._queued = False  # the transport holds bytes that the socket did not take
        self.full = False
        self._transaction = Transaction(self)

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is."""
        self.transport = cast(asyncio.Transport, transport)
        if not isinstance(transport, Stream) and not self.listener.enter():
            self.state = CLOSING
            self.transport.abort()
            return
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and not isinstance(transport, Stream):
            spoken = tls.selected_alpn_protocol()
            if spoken == "h2":
                self._as_http2(self.transport)
                return
            if spoken == ACME:  # the handshake was all there is to it (RFC 8737 §3)
                self.listener.clients.add(self)
                self.close()
                return
        self.fd = plain_fd(self.transport)
        if transport.get_extra_info("sslcontext") is not None:
            self.tls = tls_facts(transport)
        if not self.address:
            self.address = forward.address(transport.get_extra_info("peername"))
        self.listener.clients.add(self)
        self.since = self.plane.now

    def _as_http2(self, transport: asyncio.Transport) -> None:
        """Hand the connection over: each of its streams will be a Client of its own."""
        plane, listener, source = self.plane, self.listener, self.address
        made = Clients(
            plane.loop,
            lambda: Client(plane, listener, (source.decode(), 0) if source else None),
            listener,
            plane.now,
            listener.limits.idle,
        )
        transport.set_protocol(made)
        made.open(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the server: nobody wants its answer."""
        self.fd = -1
        if self in self.listener.clients:
            self.listener.clients.discard(self)
            if not isinstance(self.transport, Stream):
                self.listener.leave()
        self._transaction.lost()
        self.state = CLOSING

    def pause_writing(self) -> None:
        """The client reads slowly: so do we from the server."""
        self.full = True
        self._transaction.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self.full = False
        if not self._transaction.resume() and self.state == HEAD and not self._busy:
            self._advance()

    def data_received(self, data: bytes) -> None:
        """Take in bytes of requests."""
        state = self.state
        last = self._transaction
        if (
            data == last.data
            and state == HEAD
            and not self.buffer
            and last.version == self.plane.version
        ):
            pool = last.frontend.pool
            if pool.plain and not self.full:
                server = pool.robin.pick()
                if server is not None:
                    if server.idle:
                        self.state = WAIT
                        self.since = self.plane.now
                        last.repeat(server)
                        return
                    pool.robin.unpick()
        if state == TUNNEL:
            self.since = self.plane.now
            last.tunnel(data)
        elif state == BODY:
            self.since = self.plane.now
            last.body(data)
        elif state != CLOSING and not (state == HEAD and self._whole(data)):
            self._requests(data)

    def _whole(self, data: bytes) -> bool:
        """Start a request whose head is all that came; false when it is something else.

        The usual case of a keep-alive connection, without what reads pieces and pipelines.
        """
        if self.buffer or self.full or self._busy:
            return False
        try:
            request = self.memory.reader.whole(data, self.plane.limits.head_bytes)
        except RemoteProtocolError:  # read again, and answered, by `_head`
            return False
        if request is None:
            return False
        self.since = self.plane.now
        self._start(request, data, b"")
        return True

    def _start(self, request: Request, data: bytes, rest: bytes) -> None:
        """Begin a request whose head is at the begin of `data`; `rest` is what stands behind it."""
        fields = request.fields
        self.fresh = False
        self.buffer = rest
        close = fields.close or not (request.minor or fields.keep_alive) or self.listener.closing
        transaction = self._transaction
        transaction.start(request, b"" if rest else data, close)
        if self.state == BODY:
            if fields.expect and request.minor and not rest:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if rest:
                self.buffer = b""
                transaction.body(rest)

    def _requests(self, data: bytes) -> None:
        if self.buffer:
            self.buffer += data
        else:
            if self.state == HEAD:
                self.since = self.plane.now  # of a head: when its first byte came
            self.buffer = data
        if self.state == HEAD:
            if not self._busy:
                self._advance()
        elif len(self.buffer) > _PIPELINE:
            self.hold(True)

    # requests

    def _advance(self) -> None:
        """Serve what `buffer` holds, one request after the other, without recursion."""
        self._busy = True
        try:
            while self.state == HEAD and self.buffer and not self.full and self._head():
                pass
        finally:
            self._busy = False

    def _head(self) -> bool:
        """Read one head and start its request; false when more bytes are needed."""
        data = self.buffer
        if data[:2] == b"\r\n":  # RFC 9112 §2.2: an empty line before a request is ignored
            data = data.lstrip(b"\r\n") if data[:4] == b"\r\n\r\n" else data[2:]
            self.buffer = data
            self._scanned = 0
            if not data:
                return False
        limit = self.plane.limits.head_bytes
        try:
            end = find_head(data, limit, self._scanned)
            if end < 0:  # what comes byte by byte is not searched from its start each time
                self._scanned = max(0, len(data) - 3)
                return False
            self._scanned = 0
            request = self.memory.reader.read(data, end)
        except RemoteProtocolError as error:
            self.plane.refused += 1
            self._scanned = 0
            self.buffer = b""
            self._transaction.refuse(error.hint, _said(error))
            return False
        self._start(request, data, data[end + 4 :])
        return True

    @property
    def phase(self) -> str:
        """What statsd counts it as: new, active or idle; "" for a stream of another connection."""
        if isinstance(self.transport, Stream):
            return ""
        if self.state == HEAD and not self.buffer:
            return "new" if self.fresh else "idle"
        return "active"

    @property
    def upgraded(self) -> bool:
        """Whether it is a tunnel now."""
        return self.state == TUNNEL

    def answered(self, data: bytes) -> None:
        """Send a whole response of a request that was whole; the hot path."""
        self.write(data)
        if self.held or self.buffer:
            self.next(close=False)
            return
        self.state = HEAD
        self.since = self.plane.now

    def next(self, *, close: bool) -> None:
        """The response was sent: the next request, or the end."""
        if close:
            self._linger()
            return
        self.state = HEAD
        self.since = self.plane.now
        if self.held:
            self.hold(False)
        if self.buffer and not self._busy:
            self._advance()

    # bytes out

    def write(self, data: bytes) -> None:
        """Send bytes."""
        # straight to the socket when nothing is queued: 0.9 µs less than the transport's own queue
        if self.fd >= 0 and (not self._queued or not self.transport.get_write_buffer_size()):
            try:
                sent = os_write(self.fd, data)
            except OSError:  # full, or broken: the transport finds out which
                sent = 0
            self._queued = sent < len(data)
            if not self._queued:
                return
            data = data[sent:]
        self.transport.write(data)

    def spliceable(self) -> bool:
        """Whether the kernel may write to the socket now."""
        if self._queued and not self.transport.get_write_buffer_size():
            self._queued = False
        return self.fd >= 0 and not self._queued

    def hold(self, wait: bool) -> None:
        """Stop or go on reading from the client."""
        if wait != self.held and not self.transport.is_closing():
            self.held = wait
            if wait:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # the end

    def _linger(self) -> None:
        """Close, but read on for a while.

        A close with bytes unread resets the connection, and that may take the response along
        before the client has read it (RFC 9112 §9.6).
        """
        self.state = CLOSING
        self.since = self.plane.now
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.hold(False)
        else:
            self.transport.close()

    def close(self) -> None:
        """Close when what is queued went out."""
        self.state = CLOSING
        self.since = self.plane.now
        self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def check(self, now: float) -> None:
        """Act on what is overdue; called by the sweep."""
        state = self.state
        waited = now - self.since
        if state == HEAD:
            self._check_idle(waited)
        elif state == BODY:
            self._transaction.check_body(now, waited)
        elif state == WAIT:
            self._transaction.check_server(now)
        elif state == TUNNEL:
            self._transaction.check_tunnel(now)
        elif state == CLOSING and waited > _LINGER:
            self.transport.abort()

    def _check_idle(self, waited: float) -> None:
        if waited > _REMEMBERED and self._transaction.request is not NO_REQUEST:
            self.memory.forget()
            self._transaction.forget()
        if self.listener.closing and not self.buffer:
            # not at once: a request may be on its way, or the first one of a new client
            if waited > _PARTING:
                self.transport.close()
        elif self.buffer:
            if waited > self.listener.limits.read_timeout:
                self._transaction.refuse(408)
        elif waited > self.listener.limits.idle:
            self.transport.close()
