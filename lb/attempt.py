# SPDX-License-Identifier: Apache-2.0
"""A request's way to a server: whose turn it is, a connection, the head; when that fails, another.

::

    pick ─► begin ─┬─► the response's head ─► the client
      ▲  └ none: 503└─ failed ─► predicate ─┬─► 502, 504, or the server's own answer
      └─────────────────────────────────────┘

Each try passes the frontend's chain again (specs/vulcand.md §1).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from lb import predicate
from lb.connection import BODY, WAIT
from lb.dial import connect
from lb.http1 import Response
from lb.inward import Inward
from lb.liveserver import LiveServer
from lb.middleware import Answer, Exchange
from lb.outward import NO_FRONTEND
from lb.passage import Passage
from lb.pool import header_of

if TYPE_CHECKING:
    from lb.connection import Connection
    from lb.sides import Answerer
    from lb.upstream import Upstream


class Attempt(Inward):
    """What of a transaction chooses servers; `lb.transaction` has the rest.

    Attributes:
        simple: a usual response can go out by `answered`.
    """

    __slots__ = ("_pool", "_stale", "_tries", "simple")

    def __init__(self, client: Connection) -> None:
        super().__init__(client)
        self.simple = False
        self._stale = False  # a kept connection was closed under it, and a fresh one is tried
        self._pool = NO_FRONTEND.pool
        self._tries: list[LiveServer] = []

    def _onto(self, server: LiveServer, wire: bytes) -> bool:
        """Send a simple request's head on an idle connection of a server; false if there is none."""
        idle = server.idle
        while idle:
            upstream: Upstream = idle.pop()
            if upstream.transport.is_closing():
                continue
            self._tries = [server]
            self._upstream = upstream
            upstream.begin(self, self.request.method, wire)  # type: ignore[arg-type]  # a Transaction
            return True
        return False

    def _try(self) -> None:
        """Send the request to the next server."""
        if self.frontend.chain is not None and not self._enter():
            return
        pool = self._pool
        server = pool.pick(self._tries, self._key)
        if server is None:
            self._own(503)
            return
        if pool.limited:
            self._place = server
            self.simple = False
        if pool.policy.sticky is not None:
            self._cookie = pool.cookie(server, self._key)
            self.simple = self.simple and not self._cookie
        self._tries.append(server)
        if self._passage is not None:
            self._passage.chose(server.spec.authority)
        idle = server.idle
        while idle:
            upstream = idle.pop()
            if not upstream.transport.is_closing():
                self._begin(upstream)
                return
        self._connecting = self._plane.loop.create_task(self._connect(server), name="connect")

    def _key(self, variable: str) -> bytes:
        """Return what a variable (specs/vulcand.md §4.7) is in this request."""
        request = self.request
        match variable:
            case "client.ip":
                return self._client.address
            case "request.host":
                return request.host
            case "request.path":
                return request.path
        return request.value(header_of(variable))

    async def _connect(self, server: LiveServer) -> None:
        try:
            upstream = await connect(self._plane, server, self._client.transport)
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
        self._client.since = self._plane.now
        wire = self._wire(upstream.server)
        upstream.begin(self, self.request.method, wire)  # type: ignore[arg-type]  # a Transaction
        if self._body is not None:
            self._pass_on()

    # the frontend's chain

    def _enter(self) -> bool:
        """Run an attempt through the links; false when one of them answered."""
        chain = self.frontend.chain
        assert chain is not None  # noqa: S101  (the caller looked)
        exchange = self._exchange()
        self._passage = Passage(chain, exchange, self._plane.fault)
        reply = self._passage.enter()
        if reply is not None:
            self.close_after = self.close_after or not self.sent_all
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
        return True

    def _exchange(self) -> Exchange:
        """Return what links see of this attempt."""
        request, client = self.request, self._client
        fields = request.fields
        now = monotonic()
        return Exchange(
            self.frontend.spec.id, request.method, request.target, request.minor, request.host,
            request.block, request.kept, client.address, client.tls, fields.length, now, now,
            len(self._tries) + 1,
        )  # fmt: skip

    # its answer

    def response_head(self, response: Response, upstream: Answerer) -> bytes | None:
        """Return the head to send for a response; None when another server is tried instead."""
        status = response.status
        frontend = self.frontend
        if (frontend.on_any or status in (502, 504)) and self._may_retry(status, connected=True):
            self._upstream = None
            upstream.abandon()
            self._sample(upstream.server, status)
            self._respond(Answer(status, response.kept))
            self._try_again()
            return None
        most = frontend.spec.policy.max_response
        if 0 < most < response.length:
            self._upstream = None
            upstream.abandon()
            self._own(502)
            return None
        upstream.room = most or -1
        return self._head(response, upstream)

    # failures

    def failed(self, status: int, upstream: Answerer) -> None:
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
            and self.request.method in predicate.IDEMPOTENT
            and self._replayable
        ):
            self._stale = True
            if self._body is not None:
                self._body.rewind()
            self._connecting = self._plane.loop.create_task(
                self._connect(upstream.server), name="reconnect"
            )
            return
        self._failure(status, connected=True)

    def _failure(self, status: int, *, connected: bool) -> None:
        if self._client.state not in (BODY, WAIT):
            return
        if self._tries:
            took = monotonic() - self._begun
            self._plane.tallies.note(NO_FRONTEND, self._tries[-1], status, took)
        if self._may_retry(status, connected=connected):
            self._respond(Answer(status, b""))
            self._try_again()
        else:
            self._own(status)

    @property
    def _replayable(self) -> bool:
        return self._body is None or self._body.again

    def _may_retry(self, status: int, *, connected: bool) -> bool:
        test = self.frontend.predicate
        request = self.request
        if test is None or self._started or request.websocket or not self._pool.usable:
            return False
        if connected and not self._replayable:
            return False
        attempt = predicate.Attempt(
            request.method, request.path, len(self._tries), status, connected
        )
        return predicate.again(test, attempt) and self._pool.may_retry()

    def _try_again(self) -> None:
        self._leave()
        self._begun = monotonic()
        if self._body is not None:
            self._body.rewind()
        self._try()
