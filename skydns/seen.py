# SPDX-License-Identifier: Apache-2.0
"""What queries are counted by: one cell for each combination that was seen.

The hot loop adds one to its reply's cell; all metrics are sums over the cells (`skydns.metrics`).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, NamedTuple

SIZES: Final = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)

COREDNS_TIMES: Final = tuple(0.00025 * 2**power for power in range(16))
SKYDNS_TIMES: Final = (0.001, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

TIMES: Final = tuple(sorted({*COREDNS_TIMES, *SKYDNS_TIMES}))
"""Seconds; upper bounds that both originals' buckets (specs/skydns.md §14) can be added up from."""

AT_ONCE: Final = TIMES[0]
"""What replies that are held ready take: some microseconds."""


class Seen(NamedTuple):
    """What queries are counted by.

    Attributes:
        system: SkyDNS's word for where the answer came from (§14.1).
        query_size, reply_size: upper bounds of CoreDNS's buckets (§14.2).
        cut: TC was set.
        took: upper bound, of `TIMES`.
    """

    zone: str
    rtype: str
    rcode: str
    proto: str
    do: bool
    system: str
    query_size: int
    reply_size: int
    cut: bool = False
    took: float = AT_ONCE


def bucket(size: int) -> int:
    """Return the upper bound of a size's bucket; 65535 for the last."""
    at = bisect_left(SIZES, size)
    return SIZES[at] if at < len(SIZES) else 65535


def moment(seconds: float) -> float:
    """Return the upper bound of a duration's bucket; infinity for the last."""
    at = bisect_left(TIMES, seconds)
    return TIMES[at] if at < len(TIMES) else float("inf")
