# SPDX-License-Identifier: Apache-2.0
"""A client's connection: reads requests, finds the frontend, picks a server, answers.

::

    HEAD ─► match ─► pick ─► begin ─┬─► BODY (request streams) ─► WAIT (response streams) ─► HEAD
      │       │        └─ none: 503 │                                  └─► TUNNEL (upgrade)
      │       └─ none: 404          └─ failed ─► predicate ─► pick again, or 502/504
      └─ malformed: 4xx, close

One request at a time; pipelined ones wait in `_buffer`. Every response begins while its request
is the oldest, so order is kept by construction.

What is in flight keeps the frontend and the server it began with.
"""

from __future__ import annotations

import asyncio
from os import write as os_write
from time import monotonic
from typing import Any, Final, cast

from fairlead.errors import RemoteProtocolError
from lb import forward, http1, predicate
from lb.http1 import (
    CHUNKED,
    Chunks,
    Fields,
    Request,
    Response,
    chunk,
    find_head,
    last_chunk,
)
from lb.http2 import Clients, Stream
from lb.middleware import Answer, Exchange
from lb.plane import LiveFrontend, LiveListener, Plane
from lb.pool import LivePool, LiveServer, header_of
from lb.route.match import Query, host_subject
from lb.state import Frontend
from lb.upgrade import BULK, LARGE, Flow
from lb.upstream import Upstream, connect, plain_fd

HEAD, BODY, WAIT, TUNNEL, CLOSING = range(5)
_PIPELINE: Final = 64 << 10  # bytes of requests read ahead before the client is made to wait
_UNSENT: Final = 256 << 10  # bytes of body kept while a connection is made
_LINGER: Final = 5.0  # seconds for the client to read our last words; as nginx's lingering_timeout
_PARTING: Final = 1.0  # seconds an idle connection is waited for when its listener closes
_REMEMBERED: Final = 2.0  # seconds a connection remembers its last request
_COLLECT: Final = 16 << 20  # bytes of a response that a link may ask to be collected
_NOT_FOUND: Final = b'{"error":"not found"}'
_JSON: Final = b"application/json"

# what stands before a request is read or routed; its counts mean nothing
_NO_REQUEST: Final = Request(b"GET", b"/", 1, Fields(), b"", b"/")
_NO_FRONTEND: Final = LiveFrontend(Frontend("", "", ""), LivePool(""))


def tls_facts(transport: asyncio.BaseTransport) -> dict[str, Any]:
    """Return what the trace and access logs tell of a client's TLS (specs/vulcand.md §4.5)."""
    tls = transport.get_extra_info("ssl_object")
    cipher = transport.get_extra_info("cipher")
    return {
        "version": str(tls.version() or "").replace("TLSv1.", "TLS1") if tls else "",
        "resume": bool(tls and tls.session_reused),
        "cipher_suite": cipher[0] if cipher else "",
        "server": getattr(tls, "server_name_sent", "") or "",
    }


class Ready:
    """A request as this connection sent it last, all decided but the server.

    A keep-alive client that asks the same again (a poll, a health check, a benchmark) costs one
    comparison: 5 µs less than to read, route and rewrite its head. `wires`: what each server of
    the pool gets.
    """

    __slots__ = ("data", "frontend", "method", "version", "wires")

    def __init__(self, data: bytes, frontend: LiveFrontend, method: bytes, version: int) -> None:
        self.data = data
        self.frontend = frontend
        self.method = method
        self.version = version
        self.wires: dict[LiveServer, bytes] = {}


_NOTHING: Final = Ready(b"", _NO_FRONTEND, b"", -1)  # no bytes that come are equal to b""


class Client(asyncio.Protocol):
    """See the module's words."""

    __slots__ = (
        "_after",
        "_begun",
        "_buffer",
        "_busy",
        "_changing",
        "_chunks",
        "_collected",
        "_connecting",
        "_cookie",
        "_exchange",
        "_fd",
        "_fields",
        "_flow",
        "_frontend",
        "_full",
        "_held",
        "_left",
        "_lines",
        "_lines_of",
        "_matched",
        "_plane",
        "_pool",
        "_queued",
        "_ready",
        "_replay",
        "_request",
        "_scanned",
        "_seen",
        "_since",
        "_stale",
        "_started",
        "_state",
        "_tail",
        "_tail_of",
        "_target",
        "_tls",
        "_total",
        "_transport",
        "_tries",
        "_unsent",
        "_upstream",
        "address",
        "close_after",
        "listener",
        "sent_all",
        "simple",
    )

    def __init__(
        self, plane: Plane, listener: LiveListener, source: tuple[str, int] | None = None
    ) -> None:
        self._plane = plane
        self.listener = listener
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.address = source[0].encode() if source else b""  # as a PROXY header gave it
        self._state = HEAD
        self._buffer = b""
        self._busy = False
        self._held = False
        self._since = plane.now
        self._fields: Fields | None = None
        self._request = _NO_REQUEST
        self._frontend = _NO_FRONTEND
        self._tail = b""
        self._after = b""  # the part of it that links do not see
        self._tail_of: tuple[Fields, LiveFrontend, bytes] | None = None
        self._lines = b""
        self._lines_of: tuple[LiveFrontend, bytes] | None = None
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._tries: list[LiveServer] = []
        self._stale = False
        self._started = False  # bytes of the response were written
        self._left = 0
        self._total = 0
        self._chunks: Chunks | None = None
        self._unsent: list[bytes] = []
        self._replay: list[bytes] | None = None
        self._seen = 0
        self._scanned = 0
        self.sent_all = True
        self.close_after = False
        self.simple = False  # a usual response can go out by `answered`
        self._ready = _NOTHING
        self._matched: tuple[int, bytes, bytes, bytes, LiveFrontend] | None = None
        self._fd = -1
        self._queued = False  # the transport holds bytes that the socket did not take
        self._full = False
        self._begun = 0.0
        self._pool = _NO_FRONTEND.pool
        self._target = b"/"
        self._cookie = b""
        self._exchange: Exchange | None = None
        self._collected: list[bytes] | None = None  # a body that a link will change
        self._flow: Flow | None = None  # the kernel moves what the client sends
        self._changing: tuple[Answer | None, bytes] = (None, b"")
        self._tls: dict[str, Any] | None = None

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is."""
        self._transport = cast(asyncio.Transport, transport)
        tls = transport.get_extra_info("ssl_object")
        if (
            tls is not None
            and tls.selected_alpn_protocol() == "h2"
            and not isinstance(transport, Stream)
        ):
            self._as_http2(self._transport)
            return
        self._fd = plain_fd(self._transport)
        if transport.get_extra_info("sslcontext") is not None:
            self._tls = tls_facts(transport)
        if not self.address:
            self.address = forward.address(transport.get_extra_info("peername"))
        self.listener.clients.add(self)
        self._since = self._plane.now

    def _as_http2(self, transport: asyncio.Transport) -> None:
        """Hand the connection over: each of its streams will be a Client of its own."""
        plane, listener, source = self._plane, self.listener, self.address
        made = Clients(
            plane.loop,
            lambda: Client(plane, listener, (source.decode(), 0) if source else None),
            listener,
            plane.now,
            plane.limits.read_timeout,
        )
        transport.set_protocol(made)
        made.open(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the server: nobody wants its answer."""
        self._fd = -1
        self.listener.clients.discard(self)
        self._collected = None
        if self._state in (BODY, WAIT):
            self._count(499)
            self._release()
        elif self._state == TUNNEL and self._upstream is not None:
            upstream, self._upstream = self._upstream, None
            upstream.hang_up()
        self._state = CLOSING
        self._let_go()

    def _let_go(self) -> None:
        self._stop_flow()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon()

    def pause_writing(self) -> None:
        """The client reads slowly: so do we from the server."""
        self._full = True
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._full = False
        if self._upstream is not None:
            self._upstream.transport.resume_reading()
        elif self._state == HEAD and self._buffer and not self._busy:
            self._advance()

    def data_received(self, data: bytes) -> None:
        """Take in bytes of requests."""
        state = self._state
        ready = self._ready
        if (
            data == ready.data
            and state == HEAD
            and not self._buffer
            and ready.version == self._plane.version
        ):
            pool = ready.frontend.pool
            if pool.plain and not self._full:
                server = pool.robin.pick()
                if server is not None and server.idle:
                    self._same_again(ready, server)
                    return
        if state == TUNNEL:
            if self._upstream is not None:
                self._upstream.transport.write(data)
                if len(data) >= BULK:
                    self._splice(None)
            return
        if state == CLOSING:
            return
        if state == BODY:
            self._since = self._plane.now
            self._body(data)
            return
        if self._buffer:
            self._buffer += data
        else:
            if state == HEAD:
                self._since = self._plane.now  # of a head: when its first byte came
            self._buffer = data
        if state == HEAD:
            if not self._busy:
                self._advance()
        elif len(self._buffer) > _PIPELINE:
            self.hold(True)

    def hold(self, wait: bool) -> None:
        """Stop or go on reading from the client."""
        if wait != self._held and not self._transport.is_closing():
            self._held = wait
            if wait:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes of the response."""
        self._started = True
        if self._collected is not None:
            self._collect(data)
            return
        # straight to the socket when nothing is queued: 0.9 µs less than the transport's own queue
        if self._fd >= 0 and (not self._queued or not self._transport.get_write_buffer_size()):
            try:
                sent = os_write(self._fd, data)
            except OSError:  # full, or broken: the transport finds out which
                sent = 0
            self._queued = sent < len(data)
            if not self._queued:
                return
            data = data[sent:]
        self._transport.write(data)

    def write_interim(self, data: bytes) -> None:
        """Send a head before the response's."""
        self.write(data)
        self._started = False

    def _same_again(self, ready: Ready, server: LiveServer) -> None:
        """Send the request that this connection sent last once more; the hot path."""
        self._state = WAIT
        self._started = False
        self._stale = False
        self._tries = [server]
        self.simple = True
        upstream: Upstream = server.idle.pop()
        self._upstream = upstream
        self._begun = monotonic()
        self._since = self._plane.now
        wire = ready.wires.get(server)
        if wire is None:
            wire = ready.wires[server] = self._wire(server)
        upstream.begin(self, ready.method, wire)

    def answered(self, data: bytes, status: int, server: LiveServer) -> None:
        """Send a whole response: a simple request's; the hot path."""
        self._upstream = None
        self._plane.samples.extend((self._frontend, server, status, monotonic() - self._begun))
        self.write(data)
        if self._held or self._buffer:
            self.finished()
            return
        self._state = HEAD
        self._since = self._plane.now

    def _advance(self) -> None:
        """Serve what `_buffer` holds, one request after the other, without recursion."""
        self._busy = True
        try:
            while self._state == HEAD and self._buffer and not self._full and self._head():
                pass
        finally:
            self._busy = False

    # the request

    def _head(self) -> bool:
        """Read one head and start its request; false when more bytes are needed."""
        plane = self._plane
        data = self._buffer
        try:
            if data[:2] == b"\r\n":  # RFC 9112 §2.2: an empty line before a request is ignored
                data = data.lstrip(b"\r\n") if data[:4] == b"\r\n\r\n" else data[2:]
                self._buffer = data
                self._scanned = 0
                if not data:
                    return False
            end = find_head(data, plane.limits.head_bytes, self._scanned)
            if end < 0:  # a head that comes byte by byte is not searched from its start each time
                self._scanned = max(0, len(data) - 3)
                return False
            self._scanned = 0
            request = http1.parse_request(data, end, self._fields)
        except RemoteProtocolError as error:
            plane.refused += 1
            self._scanned = 0
            self._buffer = b""
            self._request = _NO_REQUEST
            self._frontend = _NO_FRONTEND
            body = b"%d %b: %b" % (error.hint, http1.REASONS[error.hint], str(error).encode())
            self._reply(error.hint, body, close=True)
            return False
        fields = self._fields = request.fields
        self._buffer = data[end + 4 :]
        self._request = request
        self._frontend = _NO_FRONTEND
        self._ready = _NOTHING
        self.simple = False
        self._begun = monotonic()
        self._started = False
        self.sent_all = True
        self.close_after = (
            fields.close or (not request.minor and not fields.keep_alive) or self.listener.closing
        )
        self._left = length = fields.length
        if length:
            self.sent_all = False
            self._total = 0
            self._chunks = Chunks() if length == CHUNKED else None
        frontend = self._route(request)
        if frontend is None:
            plane.unrouted += 1
            self._own(404, _NOT_FOUND, _JSON)
            return True
        self._frontend = frontend
        spec = frontend.spec
        if spec.refuse:
            self._own(503)
            return True
        if spec.max_body and length > spec.max_body:
            self._own(413)
            return True
        self._tail_for(request, frontend)
        self._target = request.target
        self._pool = frontend.pool
        if frontend.shares is not None:
            self._pool = frontend.shares.pick() or frontend.pool
        if (
            not length
            and not self.close_after
            and request.minor
            and not frontend.on_any
            and frontend.chain is None
        ):
            self.simple = True
            if (
                frontend.shares is None
                and end + 4 == len(data)
                and not fields.upgrade
                and not plane.index.headers
            ):
                self._ready = Ready(data, frontend, request.method, plane.version)
        self._tries = []
        self._stale = False
        self._unsent = []
        self._replay = [] if spec.replay and length else None
        self._state = BODY if length else WAIT
        self._since = plane.now
        self._try()
        if length and self._state == BODY:
            if fields.expect and request.minor and not self._buffer:
                self.write_interim(b"HTTP/1.1 100 Continue\r\n\r\n")
            rest, self._buffer = self._buffer, b""
            if rest:
                self._body(rest)
        return True

    def _route(self, request: Request) -> LiveFrontend | None:
        """Return the frontend of a request; the connection's last answer where it must be the same."""
        plane = self._plane
        method, host, path = request.method, request.host, request.path
        found = self._matched
        if (
            found is not None
            and found[0] == plane.version
            and found[1] == path
            and found[2] == host
            and found[3] == method
        ):
            return found[4]
        query = Query(method, host_subject(host), path, request.fields.value)
        for check in self.listener.checks:
            if not check(query):
                return None
        frontend = plane.index.match(query)
        if frontend is not None and not plane.index.headers and not self.listener.checks:
            self._matched = plane.version, path, host, method, frontend
        return frontend

    def _wire(self, server: LiveServer) -> bytes:
        """Return the head as a server gets it."""
        request = self._request
        host = request.host if self._frontend.spec.pass_host else server.host
        return b"".join(
            (request.method, b" ", self._target, b" HTTP/1.1\r\nHost: ", host, self._tail)
        )

    def _tail_for(self, request: Request, frontend: LiveFrontend) -> None:
        """Set the part of the head that does not depend on the server.

        Remembered for the next request: a keep-alive client mostly repeats its header block.
        """
        fields = request.fields
        of = self._tail_of
        if of is not None and of[0] is fields and of[1] is frontend and of[2] == request.host:
            return
        spec = frontend.spec
        websocket = self._websocket(request)
        if websocket:
            framing = b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
        elif fields.length == CHUNKED:
            framing = b"\r\nTransfer-Encoding: chunked"
        elif fields.sized or request.method in (b"POST", b"PUT", b"PATCH"):
            framing = b"\r\nContent-Length: %d" % fields.length
        else:
            framing = b""
        if fields.te:
            framing += b"\r\nTE: trailers" if websocket else b"\r\nConnection: TE\r\nTE: trailers"
        plain = fields.forwarded is None and not websocket
        if plain and self._lines_of == (frontend, request.host):
            forwarding = self._lines
        else:
            forwarding = forward.lines(
                fields.forwarded,
                client=self.address,
                host=request.host,
                tls=self._tls is not None,
                trust=spec.trust_forward,
                server=frontend.hostname,
                websocket=websocket,
            )
            if plain:
                self._lines, self._lines_of = forwarding, (frontend, request.host)
        self._after = forwarding + framing + b"\r\n\r\n"
        self._tail = fields.kept + self._after
        # framing depends on the method too
        self._tail_of = (fields, frontend, request.host) if request.method == b"GET" else None

    @staticmethod
    def _websocket(request: Request) -> bool:
        return (
            request.method == b"GET"
            and request.minor == 1
            and b"websocket" in request.fields.upgrade.lower()
            and not request.fields.length
        )

    def _try(self) -> None:
        """Send the request to the next server."""
        if self._frontend.chain is not None and not self._enter():
            return
        pool = self._pool
        server = pool.pick(self._tries, self._key)
        if server is None:
            self._own(503)
            return
        if pool.policy.sticky is not None:
            self._cookie = pool.cookie(server, self._key)
            self.simple = self.simple and not self._cookie
        self._tries.append(server)
        idle = server.idle
        while idle:
            upstream = idle.pop()
            if not upstream.transport.is_closing():
                self._begin(upstream)
                return
        self._connecting = self._plane.loop.create_task(self._connect(server), name="connect")

    def _key(self, variable: str) -> bytes:
        """Return what a variable (specs/vulcand.md §4.7) is in this request."""
        request = self._request
        match variable:
            case "client.ip":
                return self.address
            case "request.host":
                return request.host
            case "request.path":
                return request.path
        return request.fields.value(header_of(variable))

    # the frontend's chain

    def _enter(self) -> bool:
        """Run an attempt through the links; false when one of them answered."""
        frontend, request = self._frontend, self._request
        chain = frontend.chain
        assert chain is not None  # noqa: S101  (the caller looked)
        fields = request.fields
        now = monotonic()
        exchange = Exchange(
            frontend.spec.id, request.method, request.target, request.minor, request.host,
            fields.block, fields.kept, self.address, self._tls, fields.length, now, now,
            len(self._tries) + 1,
        )  # fmt: skip
        self._exchange = exchange
        try:
            reply = chain.request(exchange)
        except Exception as error:  # noqa: BLE001  (a link may be anybody's plug-in: its fault is one request's)
            self._plane.fault(f'a middleware of frontend "{frontend.spec.id}"', error)
            self._own(500)
            return False
        if reply is not None:
            if not self.sent_all:
                self.close_after = True
            self._count(reply.status)
            self._reply(
                reply.status,
                reply.body,
                reply.content_type,
                close=self.close_after,
                fields=reply.fields,
            )
            return False
        self._target = exchange.target
        self._tail = exchange.fields + self._after
        self._tail_of = None
        return True

    def _respond(self, answer: Answer) -> None:
        """Run an answer outwards through the links that let the attempt pass."""
        exchange, chain = self._exchange, self._frontend.chain
        if exchange is None or chain is None:
            return
        exchange.now = monotonic()
        try:
            chain.response(exchange, answer)
        except Exception as error:  # noqa: BLE001  (as in _enter)
            self._plane.fault(f'a middleware of frontend "{exchange.frontend}"', error)

    def _release(self) -> None:
        """The attempt is over; links hear it once."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self._frontend.chain is not None:
            try:
                self._frontend.chain.release(exchange)
            except Exception as error:  # noqa: BLE001  (as in _enter)
                self._plane.fault(f'a middleware of frontend "{exchange.frontend}"', error)

    def _collect(self, data: bytes) -> None:
        """Keep a piece of a body that a link will change."""
        pieces = self._collected
        if pieces is None:
            return
        pieces.append(data)
        if sum(map(len, pieces)) > _COLLECT and self._upstream is not None:
            self._collected = None
            self._let_go()
            self._started = False
            self._own(502)

    def _flush(self) -> bytes:
        """Return the collected response, changed, whole."""
        pieces, self._collected = self._collected or [], None
        answer, head = self._changing
        body = b"".join(pieces)
        if answer is not None and answer.filter is not None:
            try:
                body = answer.filter(body)
            except Exception as error:  # noqa: BLE001  (as in _enter)
                self._plane.fault(f'a middleware of frontend "{self._frontend.spec.id}"', error)
        return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    async def _connect(self, server: LiveServer) -> None:
        try:
            upstream = await connect(self._plane, server, self._transport)
        except TimeoutError:
            self._connecting = None
            self._failure(504, connected=False)
            return
        except (OSError, ValueError):  # ValueError: a name that cannot be asked for, "a..b"
            self._connecting = None
            self._failure(502, connected=False)
            return
        self._connecting = None
        if upstream.transport.is_closing():  # accepted and closed at once, or spoke first
            self._failure(502, connected=False)
            return
        self._begin(upstream)

    def _begin(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._since = self._plane.now
        upstream.begin(self, self._request.method, self._wire(upstream.server))
        if self._unsent:
            upstream.transport.write(b"".join(self._unsent))
            self._unsent = []
            self.hold(False)

    def _body(self, data: bytes) -> None:
        """Pass on a piece of the request's body."""
        rest = b""
        chunks = self._chunks
        if chunks is None:
            left = self._left - len(data)
            if left < 0:
                data, rest = data[:left], data[left:]
                left = 0
            self._left = left
            self._total += len(data)
            ended = not left
            out = data
        else:
            try:
                pieces = chunks.feed(data)
            except RemoteProtocolError as error:
                self._plane.refused += 1
                self._let_go()
                self._end_early(error.hint)
                return
            self._total += sum(map(len, pieces))
            out = b"".join(map(chunk, pieces))
            ended = chunks.done
            if ended:
                out += last_chunk(chunks.trailers)
                rest = chunks.rest
        most = self._frontend.spec.max_body
        if most and self._total > most:
            self._let_go()
            self._end_early(413)
            return
        if ended:
            self.sent_all = True
            self._state = WAIT
            self._buffer = rest
        if out:
            self._pass_on(out)
            if self._left > LARGE and chunks is None and self._replay is None:
                self._splice(self._left)

    @property
    def fd(self) -> int:
        """The descriptor of the client's plain socket."""
        return self._fd

    def spliceable(self) -> bool:
        """Whether the kernel may write to the client's socket now."""
        if self._queued and not self._transport.get_write_buffer_size():
            self._queued = False
        return self._fd >= 0 and not self._queued and self._collected is None

    def _splice(self, count: int | None) -> None:
        """Let the kernel move the rest of what the client sends."""
        upstream = self._upstream
        if upstream is None or self._fd < 0 or self._flow is not None or self._held:
            return
        target = upstream.spliceable()
        if target < 0:
            return
        self._transport.pause_reading()
        try:
            self._flow = Flow(self._plane.loop, self._fd, target, count, self._spliced)
        except OSError:  # no descriptors left: copied then
            self._transport.resume_reading()

    def _spliced(self, moved: int, error: OSError | None) -> None:
        """What the client sends is with the server, or it ended."""
        self._flow = None
        if self._state == TUNNEL:
            self._transport.close()
            return
        self._left -= moved
        self._total += moved
        self._transport.resume_reading()
        if error is None and not self._left:
            self.sent_all = True
            self._state = WAIT
            self._since = self._plane.now
        # else: the end of either stream is read by its transport, which says so

    def _stop_flow(self) -> None:
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.close()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def hang_up(self) -> None:
        """The server closed an upgraded connection: what it sent goes out, then ours closes."""
        self._upstream = None
        self._stop_flow()
        self._release()
        self._state = CLOSING
        self._since = self._plane.now
        self._transport.close()

    def _pass_on(self, out: bytes) -> None:
        if self._replay is not None:
            self._seen = len(out) if not self._replay else self._seen + len(out)
            if self._seen > self._frontend.spec.replay:
                self._replay = None
            else:
                self._replay.append(out)
        if self._upstream is not None:
            self._upstream.transport.write(out)
            return
        self._unsent.append(out)
        if sum(map(len, self._unsent)) > _UNSENT:
            self.hold(True)

    def _end_early(self, status: int) -> None:
        """Answer before the body has been read, and close."""
        if self._started:
            self.broken()
        else:
            self._count(status)
            self._reply(status, None, close=True)

    # the server's side

    def response_head(self, response: Response, upstream: Upstream) -> bytes | None:
        """Return the head to send for a response; None when another server is tried instead."""
        status = response.status
        frontend = self._frontend
        if (frontend.on_any or status in (502, 504)) and self._again(status, connected=True):
            self._upstream = None
            upstream.abandon()
            self._plane.samples.extend(
                (frontend, upstream.server, status, monotonic() - self._begun)
            )
            self._respond(Answer(status, response.kept))
            self._try_again()
            return None
        request = self._request
        extra = self._cookie
        if self._exchange is not None and self._changed(response):
            upstream.plain = True
            return b""
        status = response.status
        if not self.sent_all:
            self.close_after = True  # the rest of the body would be read as the next request
        if response.length < 0:
            if request.minor:
                extra += b"\r\nTransfer-Encoding: chunked"
            else:
                upstream.plain = True
                self.close_after = True
        if request.minor:
            upstream.plain = False
        if not response.dated:
            extra += b"\r\nDate: " + self._plane.date
        if self.close_after or self.listener.closing:
            self.close_after = True
            extra += b"\r\nConnection: close"
        elif not request.minor:
            extra += b"\r\nConnection: keep-alive"
        self._plane.samples.extend((frontend, upstream.server, status, monotonic() - self._begun))
        return b"".join((response.line, response.kept, extra, b"\r\n\r\n"))

    def _changed(self, response: Response) -> bool:
        """Let links see and change a response's head; true when its body is to be collected."""
        fields = response.kept
        length = b""
        if response.sized:
            at = fields.rfind(b"\r\nContent-Length: ")
            fields, length = fields[:at], fields[at:]
        answer = Answer(response.status, fields, response.length if response.length >= 0 else -1)
        self._respond(answer)
        if answer.status != response.status:
            response.status = answer.status
            response.line = http1.status_line(answer.status)
        bodiless = self._request.method == b"HEAD" or response.status in (204, 304)
        if answer.filter is None or bodiless:
            response.kept = answer.fields + length
            return False
        head = response.line + answer.fields + self._cookie
        if not response.dated:
            head += b"\r\nDate: " + self._plane.date
        if self.close_after or self.listener.closing or not self.sent_all:
            self.close_after = True
            head += b"\r\nConnection: close"
        elif not self._request.minor:
            head += b"\r\nConnection: keep-alive"
        self._changing = answer, head
        self._collected = []
        self._plane.samples.extend(
            (self._frontend, None, response.status, monotonic() - self._begun)
        )
        return True

    def interim(self, response: Response) -> None:
        """Relay 103 and the like where the frontend streams; 100 was answered by us."""
        if self._frontend.spec.stream and self._request.minor and response.status != 100:
            self.write_interim(response.line + response.kept + b"\r\n\r\n")

    def switched(self, response: Response, upstream: Upstream) -> bool:
        """Go over to a tunnel if one was asked for."""
        if not self._websocket(self._request) or b"websocket" not in response.upgrade.lower():
            return False
        self._state = TUNNEL
        self._count(101)
        self.write(
            response.line
            + response.kept
            + b"\r\nConnection: Upgrade\r\nUpgrade: "
            + response.upgrade
            + b"\r\n\r\n"
        )
        if self._buffer:
            upstream.transport.write(self._buffer)
            self._buffer = b""
        self.hold(False)
        return True

    def finished(self) -> None:
        """The response was sent: the next request, or the end."""
        if self._flow is not None:
            self._stop_flow()
        self._upstream = None
        if self._collected is not None:
            self.write(self._flush())
        if self._exchange is not None:
            self._release()
        if self.close_after or not self.sent_all:
            self._linger()
            return
        self._state = HEAD
        self._since = self._plane.now
        if self._held:
            self.hold(False)
        if self._buffer and not self._busy:
            self._advance()

    def body_end(self, end: bytes, upstream: Upstream) -> None:
        """The server closed, and that was the body's end."""
        if upstream is self._upstream:
            if end:
                self.write(end)
            self.finished()

    def failed(self, status: int, upstream: Upstream) -> None:
        """The server failed before its response began."""
        if upstream is not self._upstream:
            return
        self._upstream = None
        self._stop_flow()
        # it closed a kept connection as we used it: a fresh one, without counting a try, where
        # asking twice does no harm (RFC 9110 §9.2.2)
        if (
            upstream.reused
            and not self._stale
            and status == 502
            and self._request.method in predicate.IDEMPOTENT
            and self._replayable()
        ):
            self._stale = True
            self._rewind()
            self._tries.pop()
            self._connecting = self._plane.loop.create_task(
                self._reconnect(upstream.server), name="reconnect"
            )
            return
        self._failure(status, connected=True)

    async def _reconnect(self, server: LiveServer) -> None:
        self._tries.append(server)
        await self._connect(server)

    def _failure(self, status: int, *, connected: bool) -> None:
        if self._state in (BODY, WAIT):
            if self._tries:
                self._plane.samples.extend(
                    (_NO_FRONTEND, self._tries[-1], status, monotonic() - self._begun)
                )
            if self._again(status, connected=connected):
                self._respond(Answer(status, b""))
                self._try_again()
            else:
                self._own(status)

    def _replayable(self) -> bool:
        return not self._request.fields.length or self._replay is not None

    def _rewind(self) -> None:
        if self._replay:
            self._unsent = list(self._replay)

    def _again(self, status: int, *, connected: bool) -> bool:
        test = self._frontend.predicate
        if test is None or self._started or self._websocket(self._request):
            return False
        if connected and not self._replayable():
            return False
        if not self._pool.usable:
            return False
        request = self._request
        attempt = predicate.Attempt(
            request.method, request.path, len(self._tries), status, connected
        )
        return predicate.again(test, attempt) and self._pool.may_retry()

    def _try_again(self) -> None:
        if self._exchange is not None:
            self._release()
        self._begun = monotonic()
        self._rewind()
        self._try()

    def broken(self) -> None:
        """The response cannot be finished: only a close tells the client so."""
        self._upstream = None
        self._collected = None
        self._stop_flow()
        self._release()
        self._state = CLOSING
        self._transport.abort()

    # answers of our own

    def _own(self, status: int, body: bytes | None = None, content_type: bytes = b"") -> None:
        """Answer the request ourselves and go on to the next."""
        self._count(status)
        if not self.sent_all:
            self.close_after = True
        self._reply(status, body, content_type, close=self.close_after)

    def _count(self, status: int) -> None:
        self._plane.samples.extend((self._frontend, None, status, monotonic() - self._begun))

    def _reply(
        self,
        status: int,
        body: bytes | None,
        content_type: bytes = b"",
        *,
        close: bool,
        fields: bytes = b"",
    ) -> None:
        request = self._request
        if self._exchange is not None:
            answer = Answer(status, fields, -1 if body is None else len(body))
            self._respond(answer)
            status, fields = answer.status, answer.fields
            self._release()
        self.write(
            http1.own_response(
                status,
                body,
                content_type=content_type or b"text/plain; charset=utf-8",
                date=self._plane.date,
                close=close,
                minor=request.minor,
                head_only=request.method == b"HEAD",
                fields=fields,
            )
        )
        self._upstream = None
        if close:
            self._linger()
        else:
            self.finished()

    def _linger(self) -> None:
        """Close, but read on for a while.

        A close with bytes unread resets the connection, and that may take the response along
        before the client has read it (RFC 9112 §9.6).
        """
        self._state = CLOSING
        self._since = self._plane.now
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self.hold(False)
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # time

    def check(self, now: float) -> None:
        """Act on what is overdue; called by the sweep."""
        state = self._state
        limits = self._plane.limits
        waited = now - self._since
        if state == HEAD and waited > _REMEMBERED and self._fields is not None:
            self._fields = self._tail_of = self._lines_of = self._matched = None
            self._ready = _NOTHING  # an idle connection is not to hold 4 KiB of memory
            self._request = _NO_REQUEST
            self._frontend = _NO_FRONTEND
            self._tries = []
            self._tail = b""
        if state == HEAD:
            if self.listener.closing and not self._buffer:
                # not at once: a request may be on its way, or the first one of a new client
                if waited > _PARTING:
                    self._transport.close()
            elif waited > limits.read_timeout:
                if self._buffer:
                    self._reply(408, None, close=True)
                else:
                    self._transport.close()
        elif state == BODY and self._upstream is not None and not self._held:
            if self._flow is not None and self._flow.touched:
                self._flow.touched = False
                self._since = now
            elif waited > limits.read_timeout:
                self._let_go()
                self._end_early(408)
        elif state == WAIT:
            self._check_server(now)
        elif state == CLOSING and waited > _LINGER:
            self._transport.abort()

    def _check_server(self, now: float) -> None:
        upstream = self._upstream
        if upstream is None:
            return
        upstream.touch(self._plane.now)
        pool = upstream.server.pool.spec
        if not self._started:
            most = pool.read_timeout if pool is not None else self._plane.limits.read_timeout
            if now - max(self._since, upstream.since) > most:
                self._upstream = None
                upstream.abandon()
                self._failure(504, connected=True)
        elif now - upstream.since > self._plane.limits.write_timeout:
            # neither has the server sent nor the client read anything for that long
            self._let_go()
            self.broken()
