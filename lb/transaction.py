# SPDX-License-Identifier: Apache-2.0
"""One request and its response: finds the frontend, has it tried, answers, and ends.

::

    start ─► route ─► lb.attempt ─┬─► the body streams in ─► the response streams out ─► Client.next
      │        │                  └─► TUNNEL (upgrade)
      │        └─ none: 404
      └─ refused: 4xx, 503

    Outward (the client's side) ◄─ Inward (the server's) ◄─ Attempt (which server) ◄─ Transaction

What is in flight keeps the frontend and the server it began with.

A connection has one for its life and begins it anew for each request: one object a request would
cost 0.6 µs. A request that comes again byte for byte (a poll, a health check) is sent again by
`repeat`, all decided but the server: 5 µs less than to read, route and rewrite its head.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from lb.attempt import Attempt
from lb.body import Body
from lb.connection import BODY, TUNNEL, WAIT
from lb.http1 import Request, Response
from lb.liveserver import LiveServer
from lb.outward import NO_FRONTEND, NO_REQUEST, TEXT
from lb.passage import Passage
from lb.pool import LivePool

if TYPE_CHECKING:
    from lb.connection import Connection
    from lb.sides import Answerer

_NOT_FOUND: Final = b'{"error":"not found"}'
_JSON: Final = b"application/json"
_CHALLENGES: Final = b"/.well-known/acme-challenge/"


class Transaction(Attempt):
    """See the module's words.

    Attributes:
        data: the bytes of a request that may be repeated, b"" for none.
        version: of the plane when it was routed.
    """

    __slots__ = ("_deadline", "_wires", "data", "version")

    def __init__(self, client: Connection) -> None:
        super().__init__(client)
        self._deadline = 0.0  # monotonic seconds at which the request ends, whatever its state
        self.forget()

    def forget(self) -> None:
        """Hold nothing of the last request."""
        self.request = NO_REQUEST
        self.frontend = NO_FRONTEND
        self._pool = NO_FRONTEND.pool
        self._tries: list[LiveServer] = []
        self._body = None
        self._tail = self._after = b""
        self.simple = False
        self.data = b""
        self.version = -1
        self._wires: dict[LiveServer, bytes] = {}

    # the request

    def start(self, request: Request, data: bytes, close: bool) -> None:
        """Begin a request.

        Args:
            data: its bytes, if it is all that came; b"" when more follows.
            close: whether the connection ends with it.
        """
        client = self._client
        fields = request.fields
        length = fields.length
        self.request = request
        self.frontend = NO_FRONTEND
        self.data = b""
        self.simple = False
        self._tries = []
        self._begun = monotonic()
        self._started = False
        self._cookie = b""
        self._body = None
        self.counted = 0
        self.sent_all = not length
        self.close_after = close
        if self._plane.challenges and self._challenged(request.path):
            return
        frontend = client.memory.route(self._plane, client.listener, request)
        if frontend is None:
            self._plane.unrouted += 1
            self._turn_away(404, _NOT_FOUND, _JSON)
            return
        self.frontend = frontend
        spec = frontend.spec
        if spec.refuse:
            self._turn_away(503)
            return
        if length and 0 < spec.max_body < length:
            self._turn_away(413)
            return
        self._end_head(length)
        self._target = request.target
        self._pool = frontend.pool
        if frontend.shares is not None:
            self._pool = frontend.shares.pick() or frontend.pool
        if length:
            gather = 0 if request.websocket or self._pool.policy.http2 else spec.gather
            self._body = Body(length, spec.max_body, spec.replay, spec.spill, gather)
        if frontend.usual and not (length or close) and request.minor:
            self.simple = True
            self._wires = {}
            if frontend.shares is None and not fields.upgrade and not self._plane.index.headers:
                self.data = data
                self.version = self._plane.version
        self._stale = False
        longest = spec.policy.patience.request
        self._deadline = self._begun + longest if longest else 0.0
        client.state = BODY if length else WAIT
        client.since = self._plane.now
        if self._body is not None and self._body.gathering:
            return
        pool = self._pool
        if self.simple and pool.plain:  # the usual case without three calls
            server = pool.robin.pick()
            if server is not None:
                if self._onto(server, self._wire(server)):
                    return
                pool.robin.unpick()
        self._try()

    def _end_head(self, length: int) -> None:
        """Set the lines that end the head a server gets; `length` is the body's, or CHUNKED."""
        client = self._client
        tls = client.tls is not None
        self._after = client.memory.after(
            self.request, self.frontend, client.address, length, tls=tls
        )
        self._tail = self.request.kept + self._after

    def _gathered(self, body: Body) -> None:
        """A body that was held back may go to a server: its length is known, or it was too large."""
        self._end_head(body.length)
        self._begun = monotonic()
        self._client.since = self._plane.now
        self._try()

    def _turn_away(self, status: int, body: bytes | None = None, kind: bytes = TEXT) -> None:
        """Answer a request that passes no chain; the access log hears of it all the same."""
        stray = self._plane.stray
        if stray is not None:
            self._passage = Passage(stray, self._exchange(), self._plane.fault)
            self._passage.enter()
        self._own(status, body, kind)

    def _challenged(self, path: bytes) -> bool:
        """Answer an ACME server that asks for a token of ours (RFC 8555 §8.3); no route shadows it."""
        if not path.startswith(_CHALLENGES):
            return False
        token = path.removeprefix(_CHALLENGES).decode("latin-1")
        answer = self._plane.challenges.get(token)
        if answer is not None:
            self._own(200, answer, b"application/octet-stream")
        return answer is not None

    def repeat(self, server: LiveServer) -> None:
        """Send the request whose bytes are `data` once more, to a server with an idle connection."""
        self._started = False
        self._stale = False
        self.simple = True
        self._begun = monotonic()
        wire = self._wires.get(server)
        if wire is None:
            wire = self._wires[server] = self._wire(server)
        if not self._onto(server, wire):
            self._pool.robin.unpick()
            self._tries = []
            self._try()

    # the server's side: what `Upstream` calls

    def write(self, data: bytes) -> None:
        """Send bytes of the response."""
        self._started = True
        collected = self._collected
        if collected is None:
            self._client.write(data)
        elif not collected.add(data) and self._upstream is not None:
            self._collected = None
            self.let_go()
            self._started = False
            self._own(502)

    def answered(self, data: bytes, status: int, server: LiveServer) -> None:
        """Send a whole response: a simple request's; the hot path."""
        self._upstream = None
        frontend = self.frontend
        tally = frontend.tallies.get(server) or self._plane.tallies.begin(frontend, server)
        tally.codes.append(status)
        tally.seconds.append(monotonic() - self._begun)
        if server.order is not None:
            server.order.append(status)
        self._client.answered(data)

    def switched(self, response: Response, upstream: Answerer) -> bool:
        """Go over to a tunnel if one was asked for."""
        client = self._client
        if not self.request.websocket or b"websocket" not in response.upgrade.lower():
            return False
        client.state = TUNNEL
        self._count(101)
        self.write(
            response.line
            + response.kept
            + b"\r\nConnection: Upgrade\r\nUpgrade: "
            + response.upgrade
            + b"\r\n\r\n"
        )
        if client.buffer:
            upstream.send(client.buffer)
            client.buffer = b""
        client.hold(False)
        return True

    def body_end(self, end: bytes, upstream: Answerer) -> None:
        """The server closed, and that was the body's end."""
        if upstream is self._upstream:
            if end:
                self.write(end)
            self.finished()

    def hang_up(self) -> None:
        """The server closed an upgraded connection: what it sent goes out, then the client's closes."""
        self._upstream = None
        self._stop_flow()
        self._leave()
        self._client.close()

    def finished(self) -> None:
        """The response was sent: a copy of the request goes where the frontend mirrors to."""
        mirror = self.frontend.mirror
        if mirror is not None and self._tries and self.sent_all and not self.request.websocket:
            self._copy(mirror)
        super().finished()

    def _copy(self, pool: LivePool) -> None:
        rule, body = self.frontend.spec.policy.mirror, self._body
        if rule is None or (body is not None and not (body.again and body.size <= rule.max_body)):
            return
        mirrors = self._plane.mirrors
        if mirrors.due(self.frontend.spec.id, rule):
            kept = b"" if body is None else body.kept
            mirrors.copy(pool, self.request.method, self._wire, kept, self._client.transport)

    # the end

    def lost(self) -> None:
        """The client is gone: nobody wants the server's answer."""
        self._collected = None
        state = self._client.state
        if state in (BODY, WAIT):
            self._count(499)
        elif state == TUNNEL and self._upstream is not None:
            upstream, self._upstream = self._upstream, None
            upstream.hang_up()
        self._leave()
        self.let_go()

    def check_server(self, now: float) -> None:
        """End a request whose response does not come, or is not taken; called by the sweep."""
        upstream, plane = self._upstream, self._plane
        if self._late(now) or upstream is None:
            return
        upstream.touch(plane.now)
        patience, limits = self.frontend.spec.policy.patience, self._client.listener.limits
        if not self._started:
            if now - max(self._client.since, upstream.since) > self._longest(upstream):
                self._silent(upstream)
        elif now - upstream.since > (patience.write or limits.write_timeout):
            # neither has the server sent nor the client read anything for that long
            self.let_go()
            self.broken()

    def check_body(self, now: float, waited: float) -> None:
        """End a request whose body does not come or is not taken, or that has taken too long."""
        if self._late(now):
            return
        stuck = self._client.held if self._flow is None else self._flow.stuck
        if stuck and self._upstream is not None and not self._started:
            if waited > self._longest(self._upstream):
                self._silent(self._upstream)
        else:
            super().check_body(now, waited)

    def _longest(self, upstream: Answerer) -> float:
        """Return how many seconds a server may say nothing."""
        pool = upstream.server.pool.spec
        most = self.frontend.spec.policy.patience.read
        return most or (pool.read_timeout if pool else self._client.listener.limits.read_timeout)

    def _silent(self, upstream: Answerer) -> None:
        self._upstream = None
        self._stop_flow()
        upstream.abandon()
        self._failure(504, connected=True)

    def _late(self, now: float) -> bool:
        """End a request that has taken longer than its frontend allows."""
        if not self._deadline or now < self._deadline:
            return False
        self.let_go()
        if self._started:
            self.broken()
        else:
            self._own(504)
        return True

    def check_tunnel(self, now: float) -> None:
        """End an upgraded connection on which nothing has moved for long; called by the sweep."""
        most, upstream = self.frontend.spec.policy.patience.idle, self._upstream
        if not most or upstream is None:
            return
        upstream.touch(now)
        if self._flow is not None and self._flow.touched:
            self._flow.touched = False
            self._client.since = now
        if now - max(self._client.since, upstream.since) > most:
            self._upstream = None
            self._stop_flow()
            self._leave()
            upstream.hang_up()
            self._client.close()
