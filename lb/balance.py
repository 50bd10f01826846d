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

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import reduce
from hashlib import blake2b
from math import gcd
from typing import Final, Generic, Protocol, TypeVar

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

    def __init__(
        self, servers: Sequence[Server] = (), weights: Sequence[int] = (), start: int = 0
    ) -> None:
        self.servers: tuple[Server, ...] = tuple(servers)
        order = turns(weights or [1] * len(self.servers))
        self._round: tuple[Server, ...] = tuple(self.servers[i] for i in order)
        self._at = start % len(self._round) if self._round else 0

    @property
    def at(self) -> int:
        """Whose turn is next, for the one that takes over."""
        return self._at

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

    def unpick(self) -> None:
        """Give the last turn back: it was not used."""
        self._at -= 1

    def pick_other(self, tried: Sequence[Server]) -> Server | None:
        """Return the next server not in `tried`; when all were tried, just the next."""
        if tried:
            for _ in range(len(self._round)):
                server = self.pick()
                if server not in tried:
                    return server
        return self.pick()


class Candidate(Protocol):
    """What the choosers below look at."""

    active: int
    weight: int
    key: bytes


Some = TypeVar("Some", bound=Candidate)


def least_active(servers: Sequence[Some], turn: int) -> Some | None:
    """Return the server with the fewest requests under way for its weight; `turn` breaks ties."""
    best: Some | None = None
    count = len(servers)
    for i in range(count):
        server = servers[(turn + i) % count]
        if server.weight and (
            best is None or (server.active + 1) * best.weight < (best.active + 1) * server.weight
        ):
            best = server
    return best


def better_of_two(servers: Sequence[Some], turn: int) -> Some | None:
    """Return the less busy of two servers that `turn` picks as if by chance."""
    usable = [server for server in servers if server.weight]
    if len(usable) < 2:
        return usable[0] if usable else None
    spread = (turn * 2654435761) & 0xFFFFFFFF  # Knuth's multiplicative hash
    first = spread % len(usable)
    second = (first + 1 + (spread >> 16) % (len(usable) - 1)) % len(usable)
    return least_active((usable[first], usable[second]), 0)


class Ring(Generic[Some]):
    """Consistent hash: a server that comes or goes moves only its own share of the keys.

    Each server has points on a circle in proportion to its weight; a key belongs to the first
    point at or after its own. Points depend on `key` (host and port) only, so that every process
    and every restart agrees.
    """

    POINTS: Final = 160  # a server of the largest weight; as ketama

    def __init__(self, servers: Sequence[Some]) -> None:
        most = max((server.weight for server in servers), default=0)
        points = []
        for server in servers:
            share = -(-self.POINTS * server.weight // most) if most else 0
            points += [(_place(b"%b#%d" % (server.key, i)), server) for i in range(share)]
        points.sort(key=lambda point: (point[0], point[1].key))
        self._places = [place for place, _ in points]
        self._servers = [server for _, server in points]

    def pick(self, key: bytes, usable: Callable[[Some], bool]) -> Some | None:
        """Return the key's server, or the next on the circle that is usable."""
        count = len(self._servers)
        start = bisect_left(self._places, _place(key))
        for i in range(count):
            server = self._servers[(start + i) % count]
            if usable(server):
                return server
        return None


def _place(key: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
