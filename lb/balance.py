# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: weighted round robin, smooth. Pure.

The turns of one round are laid out once, when servers or weights change; a pick is then one index
step (about 0.1 µs). Smooth means that a server of weight w among a sum of W comes every W/w picks,
not w times in a row: each turn goes to the server with the most credit, where every turn gives
each server its weight and takes W from the one that was served.

Weights are divided by their greatest common divisor and scaled down to at most MOST_TURNS turns a
round. With all weights 1 a round is the servers in the order given (vulcand's default, §5).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import gcd
from typing import Final, Generic, TypeVar

Server = TypeVar("Server")

MOST_TURNS: Final = 4096  # vulcand's largest weight (§5); bounds a round's memory


def turns(weights: Sequence[int]) -> tuple[int, ...]:
    """Return one round as indexes into `weights`; a weight of 0 gets no turn, negative count as 0."""
    clean = [max(0, weight) for weight in weights]
    total = sum(clean)
    if total == 0:
        return ()
    if total > MOST_TURNS:
        clean = [
            max(1, weight * (MOST_TURNS - len(clean)) // total) if weight else 0 for weight in clean
        ]
    divisor = reduce(gcd, clean)
    clean = [weight // divisor for weight in clean]
    total = sum(clean)
    if max(clean) == 1:
        return tuple(i for i, weight in enumerate(clean) if weight)
    credit = [0] * len(clean)
    round_ = []
    for _ in range(total):
        for i, weight in enumerate(clean):
            credit[i] += weight
        best = max(range(len(clean)), key=credit.__getitem__)
        credit[best] -= total
        round_.append(best)
    return tuple(round_)


class RoundRobin(Generic[Server]):
    """The servers of one pool and whose turn is next."""

    __slots__ = ("_at", "_round", "servers")

    def __init__(self, servers: Sequence[Server] = (), weights: Sequence[int] = ()) -> None:
        self.servers: tuple[Server, ...] = tuple(servers)
        order = turns(weights or [1] * len(self.servers))
        self._round: tuple[Server, ...] = tuple(self.servers[i] for i in order)
        self._at = 0

    def pick(self) -> Server | None:
        """Return the next server, None when none has a turn."""
        round_ = self._round
        if not round_:
            return None
        at = self._at
        if at >= len(round_):
            at = 0
        self._at = at + 1
        return round_[at]

    def pick_other(self, tried: Sequence[Server]) -> Server | None:
        """Return the next server not in `tried`; when all were tried, just the next."""
        if tried:
            for _ in range(len(self._round)):
                server = self.pick()
                if server not in tried:
                    return server
        return self.pick()
