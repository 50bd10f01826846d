# SPDX-License-Identifier: Apache-2.0
"""The query log: a line of CoreDNS's form (specs/skydns.md §14.4) for one query of so many.

The hot loop writes none: with the log on, `Attentive` stands in its place, which answers in the same
way, one datagram at a time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from skydns import message, names, rrs
from skydns.acl import Screen
from skydns.batch import QUERY
from skydns.compiled import Answers
from skydns.fastpath import BATCH, NO_CLIENTS, Loop, Started, back, packed
from skydns.limit import Limiter

_FLAGS: Final = (
    (0x8000, "qr"), (0x0400, "aa"), (0x0200, "tc"), (0x0100, "rd"), (0x0080, "ra"), (0x0020, "ad"), (0x0010, "cd"),
)  # fmt: skip


class QueryLog:
    """Writes lines.

    Args:
        write: takes a line.
        every: one query of so many is written.
    """

    def __init__(self, write: Callable[[str], None], every: int = 1) -> None:
        self._write = write
        self._every = max(every, 1)
        self._seen = 0

    def note(self, data: bytes, reply: bytes, client: str, proto: str, seconds: float) -> None:
        """Take note of one query and its reply."""
        self._seen += 1
        if self._seen % self._every == 0:
            self._write(line(data, reply, client, proto, seconds))


def line(data: bytes, reply: bytes, client: str, proto: str, seconds: float) -> str:
    """Return the line for a query."""
    query = message.parse(data)
    if isinstance(query, message.Query):
        name = names.to_text(query.question[:-4])
        rtype = rrs.TYPES.get(query.rtype, f"TYPE{query.rtype}")
        rclass = {rrs.IN: "IN", rrs.CHAOS: "CH", rrs.ANY_CLASS: "ANY"}.get(
            query.rclass, f"CLASS{query.rclass}"
        )
        asked = (
            f'"{rtype} {rclass} {name} {proto} {len(data)} {str(query.do).lower()} {query.size}"'
        )
    else:
        asked = f'"- - - {proto} {len(data)} false 512"'
    bits = int.from_bytes(reply[2:4], "big")
    flags = ",".join(text for bit, text in _FLAGS if bits & bit)
    rcode = rrs.RCODES.get(bits & 0xF, str(bits & 0xF))
    number = int.from_bytes(data[:2], "big")
    return f"{client} - {number} {asked} {rcode} {flags} {len(reply)} {seconds:.9f}s"


class Attentive(Loop):
    """The loop that looks at every query: with a log, with an access list, or both."""

    def __init__(
        self,
        sock: socket.socket,
        answers: Answers,
        forward: Started,
        log: QueryLog | None,
        screen: Screen | None,
        limiter: Limiter | None = None,
        *,
        wildcard: bool = False,
    ) -> None:
        super().__init__(sock, answers, forward, limiter, wildcard=wildcard)
        self._log = log
        self._screen = screen
        self.drain = self._drain_attentively

    def _drain_attentively(self) -> None:
        """Answer what may be answered of what is queued, and write it down."""
        try:
            for _ in range(BATCH):
                data, control, _, peer = self.sock.recvmsg(QUERY, 64)
                begun = perf_counter()
                way = [back(*item) for item in control]
                sender: Any = (peer, way) if self.wildcard else peer
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
