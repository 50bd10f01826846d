# SPDX-License-Identifier: Apache-2.0
"""Requests under way in a backend and at its servers, where `MaxConns` limits them.

Counted in this process, or in the ledger where several processes count together. A place is taken
in the whole backend first, and given back when the server has none.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lb.ledger import Counts
    from lb.liveserver import LiveServer

MOST: Final = 1 << 30
"""Places where there is no limit: they are counted all the same, since one may come."""


class Places:
    """See the module's words.

    Attributes:
        counts: where several processes count them together; None in a lone one.
    """

    __slots__ = ("_entered", "_name", "_whole", "counts")

    def __init__(self, backend: str) -> None:
        self.counts: Counts | None = None
        self._name = backend.encode()
        self._whole = b"pool " + self._name
        self._entered = 0  # in the whole backend, of this process

    def _of(self, server: LiveServer) -> bytes:
        return b"server %b %b" % (self._name, server.key)

    def left(self, server: LiveServer) -> bool:
        """Say whether a server may get another request now."""
        most = server.spec.policy.max_conns
        if not most:
            return True
        counts = self.counts
        taken = server.entered if counts is None else counts.count(self._of(server))
        return taken < most

    def enter(self, server: LiveServer, most: int) -> bool:
        """Take a place for a request; false when there is none. `leave` gives it back.

        Args:
            most: requests at once in the whole backend; 0 for no limit.
        """
        of_server = server.spec.policy.max_conns
        counts = self.counts
        if counts is None:
            if 0 < most <= self._entered or 0 < of_server <= server.entered:
                return False
            self._entered += 1
            server.entered += 1
            return True
        now = monotonic()
        if not counts.enter(self._whole, most or MOST, now):
            return False
        if counts.enter(self._of(server), of_server or MOST, now):
            return True
        counts.leave(self._whole)
        return False

    def leave(self, server: LiveServer) -> None:
        """Give a place back."""
        if self.counts is None:
            self._entered -= 1
            server.entered -= 1
            return
        self.counts.leave(self._whole)
        self.counts.leave(self._of(server))
