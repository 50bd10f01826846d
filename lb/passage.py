# SPDX-License-Identifier: Apache-2.0
"""One attempt's way through its frontend's chain, and back. No IO.

A link may be anybody's plug-in: what it raises is reported and costs this one request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lb.middleware import Answer, Chain, Exchange, Reply

COLLECT: Final = 16 << 20
"""Bytes of a response that a link may ask to be collected."""

Fault = Callable[[str, Exception], None]
"""Told what failed, and how (`Plane.fault`)."""


class Passage:
    """See the module's words."""

    __slots__ = ("_chain", "_exchange", "_fault")

    def __init__(self, chain: Chain, exchange: Exchange, fault: Fault) -> None:
        self._chain = chain
        self._exchange = exchange
        self._fault = fault

    def _report(self, error: Exception) -> None:
        self._fault(f'a middleware of frontend "{self._exchange.frontend}"', error)

    def enter(self) -> Reply | None:
        """Run the attempt inwards; return the answer of a link that did not let it pass."""
        try:
            return self._chain.request(self._exchange)
        except Exception as error:  # noqa: BLE001  (see the module's words)
            self._report(error)
            return Reply(500, b"Internal Server Error")

    def answered(self, answer: Answer, now: float) -> None:
        """Run an answer outwards through the links that let the attempt pass.

        Args:
            now: monotonic seconds.
        """
        self._exchange.now = now
        try:
            self._chain.response(self._exchange, answer)
        except Exception as error:  # noqa: BLE001  (see the module's words)
            self._report(error)

    def chose(self, server: str) -> None:
        """Note which server the attempt goes to."""
        self._exchange.server = server

    def over(self, now: float, received: int, sent: int) -> None:
        """Tell the links, once, that the attempt is over.

        Args:
            now: monotonic seconds.
            received: bytes of the request's body.
            sent: bytes of a response's body whose length nobody had said.
        """
        exchange = self._exchange
        exchange.now, exchange.received, exchange.sent = now, received, sent
        try:
            self._chain.release(self._exchange)
        except Exception as error:  # noqa: BLE001  (see the module's words)
            self._report(error)


class Collected:
    """A response that a link will change, until it is whole."""

    __slots__ = ("_answer", "_fault", "_head", "_pieces", "_size", "_who")

    def __init__(self, answer: Answer, head: bytes, who: str, fault: Fault) -> None:
        """Begin to collect.

        Args:
            answer: with the link's filter.
            head: all lines but Content-Length, without the last CRLF.
            who: the frontend's id.
        """
        self._answer = answer
        self._head = head
        self._pieces: list[bytes] = []
        self._size = 0
        self._who = who
        self._fault = fault

    def add(self, data: bytes) -> bool:
        """Take in a piece of the body; return false when it has become too large."""
        self._pieces.append(data)
        self._size += len(data)
        return self._size <= COLLECT

    def whole(self) -> bytes:
        """Return the response as the client gets it."""
        body = b"".join(self._pieces)
        if self._answer.filter is not None:
            try:
                body = self._answer.filter(body)
            except Exception as error:  # noqa: BLE001  (see the module's words)
                self._fault(f'a middleware of frontend "{self._who}"', error)
        return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)
