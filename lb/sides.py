# SPDX-License-Identifier: Apache-2.0
"""The two sides of a request, each as the other sees it. Types only.

::

    Connection ◄─ Transaction ─── Asker ◄──► Answerer ─── Upstream ─► server
     (client)     Sink (a copy) ──┘              └── a stream of HTTP/2 too

Who asks knows nothing of who answers but this, and the other way round; so neither imports the
other, and a copy's `Sink` is as good an asker as a client's transaction.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lb.http1 import Response
    from lb.liveserver import LiveServer
    from lb.state import Pool


class ServerTls(Protocol):
    """TLS settings of pools → contexts."""

    def client(self, pool: Pool) -> ssl.SSLContext:
        """Return what is spoken to the https servers of a pool."""


class Surroundings(Protocol):
    """What a connection to a server needs of the process it is in (`lb.plane`)."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    @property
    def now(self) -> float:
        """Monotonic seconds at the last sweep."""

    @property
    def upstreams(self) -> set[Any]:
        """The connections to servers that are open."""

    @property
    def contexts(self) -> ServerTls | None:
        """What is spoken to https servers; None where none can be spoken to."""


class Answerer(Protocol):
    """Who brings an answer: what an asker sees of a connection to a server.

    Attributes:
        plain: the client takes no chunks (HTTP/1.0).
        room: bytes that a body of unknown length may still have; -1: any number.
    """

    plain: bool
    room: int

    @property
    def server(self) -> LiveServer:
        """Whose answer it is."""

    @property
    def reused(self) -> bool:
        """Whether it answered others before."""

    def send(self, data: bytes | memoryview) -> None:
        """Send what follows a request's head."""

    def abandon(self) -> None:
        """Want no answer any more."""


class Asker(Protocol):
    """Who wants an answer: what a connection to a server sees of the client's side.

    Attributes:
        counted: bytes of a body whose length nobody had said.
        simple: a whole response may go out by `answered`.
        close_after: the client's connection ends with this response.
        sent_all: the request was read to its end.
    """

    counted: int
    simple: bool
    close_after: bool
    sent_all: bool

    @property
    def fd(self) -> int:
        """The descriptor of the client's plain socket; -1 where there is none."""

    def spliceable(self) -> bool:
        """Whether the kernel may write to the client's socket now."""

    def hold(self, wait: bool) -> None:
        """Stop or go on sending."""

    def write(self, data: bytes) -> None:
        """Take bytes of the response."""

    def answered(self, data: bytes, status: int, server: LiveServer) -> None:
        """Take a whole response to a simple request."""

    def interim(self, response: Response) -> None:
        """Take an interim response."""

    def response_head(self, response: Response, upstream: Answerer) -> bytes | None:
        """Return the head to send on; None when another server is asked instead."""

    def switched(self, response: Response, upstream: Answerer) -> bool:
        """Go over to a tunnel; false when none was asked for."""

    def body_end(self, end: bytes, upstream: Answerer) -> None:
        """The server closed, and that was the body's end."""

    def finished(self) -> None:
        """The whole response came."""

    def failed(self, status: int, upstream: Answerer) -> None:
        """The server failed before its response began."""

    def broken(self) -> None:
        """The response cannot be finished."""

    def hang_up(self) -> None:
        """The server closed an upgraded connection."""
