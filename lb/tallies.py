# SPDX-License-Identifier: Apache-2.0
"""Attempts that have ended: noted by the hot path, counted together by the plane. No IO.

::

    request ends ─► Tally of its frontend and server ─┬─► frontend's codes, lb.stats
                        (two lists of numbers)        └─► runs ─► LivePool.judge

To note one is 0.2 µs and to count it 0.25, since lists of numbers are counted without a line of
Python for each. It matters that what is done at once is short, too: whoever asks meanwhile waits,
so the plane counts often while much ends (`Plane.run`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from lb.liveserver import LiveServer
from lb.pool import LivePool, Run

if TYPE_CHECKING:
    from lb.live import LiveFrontend

Runs = dict[LivePool, list[Run]]


class Tally:
    """Attempts of one frontend at one server that have ended since the last count.

    Attributes:
        server: None: what the proxy itself answered.
        codes: their statuses.
        seconds: what each took.
        counts: how many had which status; when it is taken.
    """

    __slots__ = ("codes", "counts", "frontend", "seconds", "server")

    def __init__(self, frontend: LiveFrontend, server: LiveServer | None) -> None:
        self.frontend = frontend
        self.server = server
        self.codes: list[int] = []
        self.counts: Mapping[int, int] = {}
        self.seconds: list[float] = []


class Tallies:
    """Those of one process.

    A frontend finds its own in its `tallies`, which live from one count to the next: what has gone
    meanwhile is not held.
    """

    def __init__(self) -> None:
        self._begun: list[Tally] = []

    def begin(self, frontend: LiveFrontend, server: LiveServer | None) -> Tally:
        """Return a new tally, found in the frontend from now on."""
        tally = frontend.tallies[server] = Tally(frontend, server)
        self._begun.append(tally)
        return tally

    def note(
        self, frontend: LiveFrontend, server: LiveServer | None, status: int, seconds: float
    ) -> None:
        """Take note of an attempt that has ended; `Transaction.answered` has the same in its lines."""
        tally = frontend.tallies.get(server) or self.begin(frontend, server)
        tally.codes.append(status)
        tally.seconds.append(seconds)
        if server is not None and server.order is not None:
            server.order.append(status)

    def take(self) -> list[Tally]:
        """Return what was noted since the last time, and begin anew."""
        begun, self._begun = self._begun, []
        for tally in begun:
            tally.frontend.tallies.clear()
            tally.counts = _counted(tally.codes)
        return begun


def _counted(codes: list[int]) -> Mapping[int, int]:
    usual = codes[0]
    count = codes.count(usual)  # mostly all are alike: a tenth of a Counter's time
    return {usual: count} if count == len(codes) else Counter(codes)


def runs(tallies: Sequence[Tally]) -> Runs:
    """Return the answers of servers that are judged by them, and forget their order.

    In order, and those that are equal counted together, where failures in a row matter; else one
    run a status.
    """
    found: Runs = {}
    for tally in tallies:
        server = tally.server
        if server is not None and server.pool.judged:
            found.setdefault(server.pool, []).extend(_runs(tally, server))
    return found


def _runs(tally: Tally, server: LiveServer) -> Iterator[Run]:
    if server.order is None:
        for status, count in tally.counts.items():
            yield server, status, count
        return
    order, server.order = server.order, []  # of all frontends: with the first of their tallies
    for status, row in groupby(order):
        yield server, status, sum(1 for _ in row)
