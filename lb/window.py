# SPDX-License-Identifier: Apache-2.0
"""Rolling figures of round trips: codes of ten seconds, latencies of a minute. Pure.

Counts: ten parts of one second. Latencies: a histogram of two significant digits from 1 µs to
1 h, six parts of ten seconds (specs/vulcand.md §10.1).
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

QUANTILES: Final = (50.0, 75.0, 95.0, 99.0, 99.9)
_MOST_US: Final = 3_600_000_000
_HIGH: Final = 0 if sys.byteorder == "big" else 1  # which half of a float is its greater part


def buckets(seconds: Sequence[float]) -> list[int]:
    """Return the histogram's bucket of each latency.

    The upper half of a 32-bit float is exponent and seven bits of what follows the first: 128
    steps to a doubling, two significant digits, without a line of Python for each: 0.07 µs.
    """
    return memoryview(array("f", seconds)).cast("B").cast("H")[_HIGH::2].tolist()


def bucket(seconds: float) -> int:
    """Return the histogram's bucket of a latency."""
    return buckets((seconds,))[0]


def microseconds(index: int) -> int:
    """Return the greatest latency that falls into a bucket, from 1 µs to 1 h."""
    (seconds,) = struct.unpack(">f", struct.pack(">HH", index, 0xFFFF))
    return min(max(1, int(seconds * 1e6)), _MOST_US)


class Rolling:
    """Counts of the last `parts` × `length` seconds."""

    __slots__ = ("_length", "_number", "_parts", "seconds_seen")

    def __init__(self, parts: int, length: float) -> None:
        self._length = length
        self._parts: list[Counter[int]] = [Counter() for _ in range(parts)]
        self._number = -1
        self.seconds_seen = 0

    def add(self, now: float, what: int, count: int = 1) -> None:
        """Count."""
        self._turn(now)[what] += count

    def add_all(self, now: float, what: Mapping[int, int] | Iterable[int]) -> None:
        """Count many at once: each that comes, or as many as are said."""
        self._turn(now).update(what)

    def _turn(self, now: float) -> Counter[int]:
        """Return the part of now, and empty those whose time is over."""
        number, parts = int(now / self._length), self._parts
        if number > self._number:
            for late in range(max(self._number + 1, number - len(parts) + 1), number + 1):
                parts[late % len(parts)].clear()
            self._number = number
        return parts[number % len(parts)]

    def total(self, now: float) -> Counter[int]:
        """Return the counts of the window."""
        self._turn(now)
        whole: Counter[int] = Counter()
        for part in self._parts:
            whole.update(part)
        return whole


class Figures:
    """What is known of the round trips of a frontend, a server or a breaker."""

    __slots__ = ("codes", "latencies")

    def __init__(self) -> None:
        self.codes = Rolling(10, 1.0)
        self.latencies = Rolling(6, 10.0)

    def add(self, now: float, status: int, index: int, count: int = 1) -> None:
        """Count round trips of one status and one latency's `bucket`."""
        self.codes.add(now, status, count)
        self.latencies.add(now, index, count)

    def add_all(self, now: float, codes: Mapping[int, int], latencies: Iterable[int]) -> None:
        """Count round trips: how many had which status, and the bucket of each."""
        self.codes.add_all(now, codes)
        self.latencies.add_all(now, latencies)

    def network_error_ratio(self, now: float) -> float:
        """Return the share of 502 and 504."""
        codes = self.codes.total(now)
        total = codes.total()
        return (codes[502] + codes[504]) / total if total else 0.0

    def code_ratio(self, now: float, ranges: tuple[int, int, int, int]) -> float:
        """Return count [a,b) / count [c,d), 0 where that has no sense."""
        codes = self.codes.total(now)
        a, b, c, d = ranges
        below = sum(count for code, count in codes.items() if c <= code < d)
        above = sum(count for code, count in codes.items() if a <= code < b)
        return above / below if below else 0.0

    def requests(self, now: float) -> int:
        """Return how many there were."""
        return self.codes.total(now).total()

    def quantiles(self, now: float, wanted: tuple[float, ...] = QUANTILES) -> list[int]:
        """Return latencies in µs at quantiles given in percent; 0 where nothing was seen."""
        counts = sorted(self.latencies.total(now).items())
        total = sum(count for _, count in counts)
        found = []
        for quantile in wanted:
            rank, seen, value = max(1, int(quantile / 100 * total + 0.5)), 0, 0
            for index, count in counts:
                seen += count
                if seen >= rank:
                    value = microseconds(index)
                    break
            found.append(value)
        return found
