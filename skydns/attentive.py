# SPDX-License-Identifier: Apache-2.0
"""The loop that looks at every query: for access lists, rules that rewrite, an order by client, a log without `recvmmsg`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import perf_counter
from typing import Any

from skydns.acl import Screen
from skydns.compiled import Answers
from skydns.fastpath import BATCH, NO_CLIENTS, Loop, Started, back, packed, shown
from skydns.limit import Limiter
from skydns.places import QUERY
from skydns.querylog import QueryLog
from skydns.tally import Tally


class Attentive(Loop):
    """The loop that looks at every query, one datagram at a time.

    Args:
        taken: says whether a query is answered elsewhere, and later.
    """

    def __init__(
        self,
        sock: socket.socket,
        answers: Answers,
        forward: Started,
        log: QueryLog | None,
        screen: Screen | None,
        limiter: Limiter | None = None,
        taken: Callable[[bytes, Any], bool] = lambda data, sender: False,
        *,
        wildcard: bool = False,
        tally: Tally | None = None,
    ) -> None:
        super().__init__(sock, answers, forward, limiter, wildcard=wildcard, tally=tally)
        self.log = log
        self._screen = screen
        self._taken = taken
        self.drain = self._drain_attentively

    def _drain_attentively(self) -> None:
        """Answer what may be answered of what is queued, and write it down."""
        try:
            for _ in range(BATCH):
                data, control, _, peer = self.sock.recvmsg(QUERY, 64)
                begun = perf_counter()
                way = [back(*item) for item in control]
                sender: Any = (peer, way) if self.wildcard else peer
                if self._taken(data, sender):
                    continue
                reply = self._screened(data, peer)
                if reply is None:
                    reply = self._answer(data, sender)
                    policy = self.answers.policy
                    if reply and policy.by_client:
                        reply = policy.order.for_client(reply, packed(peer[0]))
                if reply and (reply := self._limited(data, reply, peer)):
                    self.send(reply, sender)
                    if self.log is not None:
                        self.log.note(data, reply, shown(peer), "udp", perf_counter() - begun)
        except BlockingIOError:
            return
        except OSError:
            self.tally.unsent += 1

    def _screened(self, data: bytes, peer: Any) -> bytes | None:
        """Return what is sent instead of an answer, b"" for nothing; None: the query may pass."""
        if self._screen is None:
            return None
        found = self._screen.verdict(data, packed(peer[0]), udp=True)
        return b"" if found and peer[1] in NO_CLIENTS else found
