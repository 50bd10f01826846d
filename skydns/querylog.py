# SPDX-License-Identifier: Apache-2.0
"""The query log: a line, in CoreDNS's form or another (`skydns.logformat`), for one query of so many.

The hot loop writes none: with the log on, `Attentive` stands in its place, which answers in the same
way, one datagram at a time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import perf_counter
from typing import Any

from skydns.acl import Screen
from skydns.batch import QUERY
from skydns.compiled import Answers
from skydns.fastpath import BATCH, NO_CLIENTS, Loop, Started, back, packed
from skydns.limit import Limiter
from skydns.logformat import EVERYTHING, Formats, format_of, line


class QueryLog:
    """Writes lines.

    Args:
        write: takes a line.
        every: one query of so many is written.
        formats: which are, and how.
        local: the address that is asked.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        every: int = 1,
        formats: Formats = EVERYTHING,
        local: str = "-",
    ) -> None:
        self.every = max(every, 1)
        self._write = write
        self._formats = formats
        self._local = local
        self._seen = 0

    def due(self) -> bool:
        """Count one reply; say whether it is to be written."""
        self._seen += 1
        return self._seen % self.every == 0

    def put(self, data: bytes, reply: bytes, client: str, proto: str, seconds: float) -> None:
        """Write one query and its reply, if a format is for it."""
        if text := format_of(data, reply, self._formats):
            self._write(line(data, reply, client, proto, seconds, text, self._local))

    def note(self, data: bytes, reply: bytes, client: str, proto: str, seconds: float) -> None:
        """Take note of one query and its reply."""
        if self.due():
            self.put(data, reply, client, proto, seconds)


class Attentive(Loop):
    """The loop that looks at every query: with a log, an access list, or rules that rewrite.

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
    ) -> None:
        super().__init__(sock, answers, forward, limiter, wildcard=wildcard)
        self._log = log
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
                if reply and (reply := self._limited(data, reply, peer)):
                    self.send(reply, sender)
                    host = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
                    if self._log is None:
                        continue
                    self._log.note(data, reply, f"{host}:{peer[1]}", "udp", perf_counter() - begun)
        except BlockingIOError:
            return
        except OSError:
            self._unsent += 1

    def _screened(self, data: bytes, peer: Any) -> bytes | None:
        """Return what is sent instead of an answer, b"" for nothing; None: the query may pass."""
        if self._screen is None:
            return None
        found = self._screen.verdict(data, packed(peer[0]), udp=True)
        return b"" if found and peer[1] in NO_CLIENTS else found
