# SPDX-License-Identifier: Apache-2.0
"""Weights and ejections by what servers answer. Pure: the clock comes from outside.

Two judges look at the attempts that ended since the last sweep:

* `Rebalancer`, vulcand's (specs/vulcand.md §5): a server's rating is the share of 500 to 504 among
  its last 10 s. It is bad above 1.5 × (median + median absolute deviation) of all ratings (with a
  0 beside an even count). With good and bad ones, the good get 4 times the weight, up to 4096;
  else all converge by quarters to 1. At most one change in 10 s, and none before all have 10 s
  of meter.
* `Outlier`, ours: so many failures of the network kind in a row and a server is left out for a
  while, each time longer (`lb.policy.Outliers`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import reduce
from math import gcd
from statistics import median
from typing import Final

from lb.policy import Outliers

WINDOW: Final = 10
"""Seconds of a meter, and between two changes of weights."""
_MOST: Final = 4096
_TIMES: Final = 4
_BAD: Final = 1.5
FAILURES: Final = frozenset({502, 503, 504})


class Meter:
    """Share of bad answers of one server in the last ten seconds that had any."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: deque[list[int]] = deque(maxlen=WINDOW)

    def note(self, second: int, total: int, bad: int) -> None:
        """Count what ended in a second."""
        if not self._buckets or self._buckets[-1][0] != second:
            self._buckets.append([second, 0, 0])
        self._buckets[-1][1] += total
        self._buckets[-1][2] += bad

    def ready(self, second: int) -> bool:
        """Say whether the window is full enough to be judged."""
        recent = [bucket for bucket in self._buckets if bucket[0] > second - WINDOW]
        return len(recent) >= WINDOW // 2

    def rating(self, second: int) -> float:
        """Return the share of bad answers."""
        recent = [bucket for bucket in self._buckets if bucket[0] > second - WINDOW]
        total = sum(bucket[1] for bucket in recent)
        return sum(bucket[2] for bucket in recent) / total if total else 0.0


def split(ratings: Sequence[float]) -> list[bool]:
    """Return which ratings stand out as bad."""
    sample = [*ratings, 0.0] if len(ratings) % 2 == 0 else list(ratings)
    middle = median(sample)
    deviation = median(abs(value - middle) for value in sample)
    return [rating > _BAD * (middle + deviation) for rating in ratings]


class Rebalancer:
    """The factors by which the weights of a pool's servers are multiplied."""

    def __init__(self) -> None:
        self._changed = 0

    def look(self, second: int, meters: Sequence[Meter], factors: Sequence[int]) -> list[int]:
        """Return the factors from now on; the same when nothing is to change."""
        same = list(factors)
        if len(meters) < 2 or second < self._changed + WINDOW:
            return same
        if not all(meter.ready(second) for meter in meters):
            return same
        bad = split([meter.rating(second) for meter in meters])
        if any(bad) and not all(bad):
            new = [
                factor if is_bad else min(factor * _TIMES, _MOST)
                for factor, is_bad in zip(factors, bad, strict=True)
            ]
        else:
            new = [max(1, factor // _TIMES) for factor in factors]
        divisor = reduce(gcd, new)
        new = [factor // divisor for factor in new]
        if new != same:
            self._changed = second
        return new


class Outlier:
    """Failures in a row of one server, and until when it is left out (monotonic seconds)."""

    __slots__ = ("_row", "_times", "until")

    def __init__(self) -> None:
        self._row = 0
        self._times = 0
        self.until = 0.0

    def note(self, status: int, rule: Outliers, now: float, *, may: bool) -> bool:
        """Take note of an answer; return whether the server is left out from now on.

        Args:
            may: whether the pool can spare another server.
        """
        if status not in FAILURES:
            self._row = 0
            if now > self.until + WINDOW * rule.ejection:
                self._times = 0
            return False
        self._row += 1
        if self._row < rule.consecutive or now < self.until or not may:
            return False
        self._row = 0
        self._times = min(self._times + 1, 10)
        self.until = now + rule.ejection * self._times
        return True
