# SPDX-License-Identifier: Apache-2.0
"""What a client gets: a server's response with our lines in it, or an answer of our own.

::

    server's head ─► links see and change it ─► our lines ─► Client.write
                        └─ a filter: collected whole, changed, then sent
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from lb import http1
from lb.http1 import Fields, Request, Response
from lb.live import LiveFrontend
from lb.liveserver import LiveServer
from lb.middleware import Answer
from lb.passage import Collected, Passage
from lb.pool import LivePool
from lb.state import Frontend

if TYPE_CHECKING:
    from lb.connection import Connection
    from lb.sides import Answerer

TEXT: Final = b"text/plain; charset=utf-8"

# what stands before a request is read or routed; its counts mean nothing
NO_REQUEST: Final = Request(b"GET", b"/", 1, Fields(), b"", b"/")
NO_FRONTEND: Final = LiveFrontend(Frontend("", "", ""), LivePool(""))


class Outward:
    """The half of a transaction that faces the client; `lb.transaction` has the other.

    Attributes:
        request: the one being answered.
        frontend: its; NO_FRONTEND while it is not routed.
        sent_all: the request was read to its end.
        close_after: the connection ends with this response.
        counted: bytes of its body, where nobody had said how many there are.
    """

    __slots__ = (
        "_begun",
        "_client",
        "_collected",
        "_cookie",
        "_passage",
        "_place",
        "_plane",
        "_started",
        "close_after",
        "counted",
        "frontend",
        "request",
        "sent_all",
    )

    def __init__(self, client: Connection) -> None:
        self._client = client
        self._plane = client.plane
        self._passage: Passage | None = None
        self._collected: Collected | None = None
        self._place: LiveServer | None = None  # whose places are limited, and one of them is ours
        self._started = False  # bytes of the response were written
        self._begun = 0.0
        self._cookie = b""
        self.counted = 0
        self.close_after = False
        self.sent_all = True
        self.request = NO_REQUEST
        self.frontend = NO_FRONTEND

    # a server's response

    def _head(self, response: Response, upstream: Answerer) -> bytes:
        """Return the head to send for a response; b"" when it is collected first."""
        request = self.request
        if self._passage is not None and self._changed(response):
            upstream.plain = True
            self._sample(None, response.status)
            return b""
        framing = b""
        if not self.sent_all:
            self.close_after = True  # the rest of the body would be read as the next request
        if response.length < 0:
            if request.minor:
                framing = b"\r\nTransfer-Encoding: chunked"
            else:
                upstream.plain = True
                self.close_after = True
        if request.minor:
            upstream.plain = False
        self._sample(upstream.server, response.status)
        own = self._own_lines(response)
        return b"".join((response.line, response.kept, self._cookie, framing, own, b"\r\n\r\n"))

    def _own_lines(self, response: Response) -> bytes:
        """Return the lines that every response gets from us: Date, and what becomes of the connection."""
        lines = b"" if response.dated else b"\r\nDate: " + self._plane.date
        if self.close_after or self._client.listener.closing:
            self.close_after = True
            return lines + b"\r\nConnection: close"
        return lines if self.request.minor else lines + b"\r\nConnection: keep-alive"

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
        bodiless = self.request.method == b"HEAD" or response.status in (204, 304)
        if answer.filter is None or bodiless:
            response.kept = answer.fields + length
            return False
        self.close_after = self.close_after or not self.sent_all
        head = response.line + answer.fields + self._cookie + self._own_lines(response)
        self._collected = Collected(answer, head, self.frontend.spec.id, self._plane.fault)
        return True

    def finished(self) -> None:
        """The response was sent: the next request, or the end."""
        collected, self._collected = self._collected, None
        if collected is not None:
            whole = collected.whole()
            self.counted = len(whole) - whole.index(b"\r\n\r\n") - 4
            self._client.write(whole)
        if self._passage is not None or self._place is not None:
            self._leave()
        self._client.next(close=self.close_after or not self.sent_all)

    def interim(self, response: Response) -> None:
        """Relay 103 and the like where the frontend streams; 100 was answered by us."""
        if self.frontend.spec.stream and self.request.minor and response.status != 100:
            self._client.write(response.line + response.kept + b"\r\n\r\n")

    # the links that let the attempt pass

    def _respond(self, answer: Answer) -> None:
        if self._passage is not None:
            self._passage.answered(answer, monotonic())

    def _leave(self) -> None:
        """The attempt is over."""
        place, self._place = self._place, None
        if place is not None:
            place.pool.places.leave(place)
        passage, self._passage = self._passage, None
        if passage is not None:
            passage.over(monotonic(), self._received(), self.counted)

    def _received(self) -> int:
        """Return the bytes of the request's body that came."""
        raise NotImplementedError

    # answers of our own

    def _own(self, status: int, body: bytes | None = None, content_type: bytes = TEXT) -> None:
        """Answer the request ourselves and go on to the next."""
        self._count(status)
        self.close_after = self.close_after or not self.sent_all
        self._reply(status, body, content_type, close=self.close_after)

    def refuse(self, status: int, body: bytes | None = None) -> None:
        """Answer what could not be read as a request, or not in time, and close."""
        self.request = NO_REQUEST
        self.frontend = NO_FRONTEND
        self._reply(status, body, close=True)

    def _sample(self, server: LiveServer | None, status: int) -> None:
        self._plane.tallies.note(self.frontend, server, status, monotonic() - self._begun)

    def _count(self, status: int) -> None:
        self._sample(None, status)

    def _reply(
        self,
        status: int,
        body: bytes | None,
        content_type: bytes = TEXT,
        *,
        close: bool,
        fields: bytes = b"",
    ) -> None:
        request = self.request
        if self._passage is not None:
            answer = Answer(status, fields, -1 if body is None else len(body))
            self._respond(answer)
            status, fields = answer.status, answer.fields
            self._leave()
        self._started = True
        self._client.write(
            http1.own_response(
                status,
                body,
                content_type=content_type,
                date=self._plane.date,
                close=close,
                minor=request.minor,
                head_only=request.method == b"HEAD",
                fields=fields,
            )
        )
        self.close_after = close
        self.finished()
