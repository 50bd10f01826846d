# SPDX-License-Identifier: Apache-2.0
"""A client's connection as its transaction sees it (`lb.client` is it). Types and states only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lb.live import LiveListener
    from lb.memory import Memory
    from lb.plane import Plane

HEAD, BODY, WAIT, TUNNEL, CLOSING = range(5)
"""Where a client's connection is: between requests, in one's body, waiting for or sending a
response, upgraded, closing."""


class Connection(Protocol):
    """What bytes come from, and go to; its attributes are told of at `lb.client.Client`."""

    plane: Plane
    listener: LiveListener
    memory: Memory
    transport: asyncio.Transport
    address: bytes
    tls: dict[str, Any] | None
    buffer: bytes
    fd: int
    full: bool
    held: bool
    since: float
    state: int

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def spliceable(self) -> bool:
        """Whether the kernel may write to the socket now."""

    def hold(self, wait: bool) -> None:
        """Stop or go on reading."""

    def answered(self, data: bytes) -> None:
        """Send a whole response of a request that was whole."""

    def next(self, *, close: bool) -> None:
        """The response was sent: the next request, or the end."""

    def close(self) -> None:
        """Close when what is queued went out."""

    def abort(self) -> None:
        """Close at once."""
