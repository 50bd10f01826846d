# SPDX-License-Identifier: Apache-2.0
"""What a server gets: the request's head with our lines in it, its body, an upgraded connection's bytes.

::

    client ─► Body ─► Upstream.transport      small pieces
      └──── Flow (splice) ────┘               the rest of a large body; an upgraded connection's bulk
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from fairlead.errors import RemoteProtocolError
from lb.body import Body
from lb.connection import CLOSING, TUNNEL, WAIT
from lb.kept import Piece
from lb.liveserver import LiveServer
from lb.outward import Outward
from lb.upgrade import BULK, LARGE, Flow

if TYPE_CHECKING:
    from lb.connection import Connection
    from lb.upstream import Upstream


_SLICE: Final = 64 << 10  # bytes of what waited that are sent at once


class Inward(Outward):
    """The half of a transaction that faces the server."""

    __slots__ = (
        "_after",
        "_body",
        "_connecting",
        "_flow",
        "_slow",
        "_tail",
        "_target",
        "_unsent",
        "_upstream",
    )

    def __init__(self, client: Connection) -> None:
        super().__init__(client)
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._flow: Flow | None = None  # the kernel moves what the client sends
        self._body: Body | None = None
        self._unsent: Iterator[Piece] | None = None  # what waited, and the server has not taken yet
        self._slow = False  # the server reads slowly
        self._target = b"/"
        self._after = b""  # the part of the head's end that links do not see
        self._tail = b""

    # the head

    def _wire(self, server: LiveServer) -> bytes:
        """Return the head as a server gets it."""
        request = self.request
        host = request.host if self.frontend.spec.pass_host else server.host
        return b"".join(
            (request.method, b" ", self._target, b" HTTP/1.1\r\nHost: ", host, self._tail)
        )

    # the request's body

    def body(self, data: bytes) -> None:
        """Pass on a piece of the request's body; what is behind its end is the client's `buffer`."""
        body, client = self._body, self._client
        if body is None:
            return
        gathering = body.gathering
        try:
            out = body.take(data)
        except RemoteProtocolError as error:
            self._plane.refused += error.hint != 413
            self.let_go()
            self._end_early(error.hint)
            return
        if body.whole:
            self.sent_all = True
            client.state = WAIT
            client.buffer = body.rest
        if gathering and not body.gathering:
            self._gathered(body)
        if not out:
            return
        if self._upstream is not None and self._unsent is None:
            self._upstream.send(out)
        elif body.wait(out):
            client.hold(True)
        if body.left > LARGE and body.movable and self._unsent is None:
            self._splice(body.left)

    def _pass_on(self) -> None:
        """Send what waited for the connection, as fast as the server takes it."""
        self._slow = False
        self._unsent = None
        if self._body is not None and (waited := self._body.waited()):
            self._unsent = _slices(waited)
            self._send_on()

    def _send_on(self) -> None:
        upstream, body = self._upstream, self._body
        while upstream is not None and body is not None and self._unsent is not None:
            for piece in self._unsent:
                upstream.send(piece)
                self._client.since = self._plane.now
                if self._slow:
                    upstream.single = True  # what has not gone out must not meet a next head
                    return
            more = body.waited()
            self._unsent = _slices(more) if more else None
        self._client.hold(False)

    def _received(self) -> int:
        return self._body.size if self._body is not None else 0

    def _gathered(self, body: Body) -> None:
        """A body that was held back may go to a server."""
        raise NotImplementedError

    def tunnel(self, data: bytes) -> None:
        """Pass on what the client of an upgraded connection sends."""
        if self._upstream is not None:
            self._upstream.send(data)
            if len(data) >= BULK:
                self._splice(None)

    def _splice(self, count: int | None) -> None:
        """Let the kernel move the rest of what the client sends."""
        upstream, client = self._upstream, self._client
        if upstream is None or client.fd < 0 or self._flow is not None or client.held:
            return
        target = upstream.spliceable()
        if target < 0:
            return
        client.transport.pause_reading()
        try:
            self._flow = Flow(self._plane.loop, client.fd, target, count, self._spliced)
        except OSError:  # no descriptors left: copied then
            client.transport.resume_reading()

    def _spliced(self, moved: int, error: OSError | None) -> None:
        """What the client sends is with the server, or it ended."""
        self._flow = None
        client = self._client
        if client.state == TUNNEL or self._body is None:
            client.transport.close()
            return
        self._body.moved(moved)
        client.transport.resume_reading()
        if error is None and self._body.whole:
            self.sent_all = True
            client.state = WAIT
            client.since = self._plane.now
        # else: the end of either stream is read by its transport, which says so

    def _stop_flow(self) -> None:
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.close()
            if not self._client.transport.is_closing():
                self._client.transport.resume_reading()

    def _end_early(self, status: int) -> None:
        """Answer before the body has been read, and close."""
        if self._started:
            self.broken()
        else:
            self._count(status)
            self._reply(status, None, close=True)

    # the response's way: what `Upstream` asks of the client's connection

    @property
    def fd(self) -> int:
        """The descriptor of the client's plain socket."""
        return self._client.fd

    def spliceable(self) -> bool:
        """Whether the kernel may write to the client's socket now."""
        return self._collected is None and self._client.spliceable()

    def hold(self, wait: bool) -> None:
        """Stop or go on reading from the client."""
        self._slow = wait
        if self._unsent is not None and not wait:
            self._send_on()
        else:
            self._client.hold(wait)

    def finished(self) -> None:
        """The response was sent: the next request, or the end."""
        if self._flow is not None:
            self._stop_flow()
        if self._client.full:  # `pause` was for this client: the connection's next one may read
            self._read_on()
        self._upstream = None
        self._unsent = None
        super().finished()

    def pause(self) -> None:
        """The client reads slowly: so do we from the server."""
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume(self) -> bool:
        """The client reads again; false when no server is at work for it."""
        self._read_on()
        return self._upstream is not None

    def _read_on(self) -> None:
        upstream = self._upstream
        if upstream is not None and not upstream.transport.is_closing():
            upstream.transport.resume_reading()

    # the end

    def broken(self) -> None:
        """The response cannot be finished: only a close tells the client so."""
        self._upstream = None
        self._unsent = None
        self._collected = None
        self._stop_flow()
        self._leave()
        self._client.state = CLOSING
        self._client.abort()

    def let_go(self) -> None:
        """Want no answer of the server any more."""
        self._stop_flow()
        self._unsent = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon()

    def check_body(self, now: float, waited: float) -> None:
        """End a request whose body does not come; called by the sweep."""
        gathering = self._body is not None and self._body.gathering
        if (self._upstream is None and not gathering) or self._client.held:
            return
        if self._flow is not None and self._flow.touched:
            self._flow.touched = False
            self._client.since = now
        elif waited > self._client.listener.limits.read_timeout:
            self.let_go()
            self._end_early(408)


def _slices(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Give pieces, large ones bit by bit: a file's must not lie in a transport's queue whole."""
    for piece in pieces:
        if len(piece) <= _SLICE:
            yield piece
        else:
            view = memoryview(piece)
            yield from (view[at : at + _SLICE] for at in range(0, len(view), _SLICE))
