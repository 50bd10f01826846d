# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next try: growth with jitter. Pure.

The wait before try n is drawn uniformly from [½, 1] × min(first × 2ⁿ, most), so that hosts
that failed together do not try again together (specs/etcd.md §5.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

_jitter = Random().random  # noqa: S311  (spreads load; guards nothing)


@dataclass(slots=True)
class Backoff:
    """Delays of one repeated attempt; `reset` when it worked.

    Attributes:
        first: seconds, the longest the first wait may be.
        most: seconds, the longest any wait may be.
        random: returns a float in [0, 1); injected by tests.
    """

    first: float = 0.05
    most: float = 5.0
    random: Callable[[], float] = field(default=_jitter, repr=False)
    failures: int = 0

    def next(self) -> float:
        """Return the seconds to wait now, and count one more failure."""
        ceiling = min(self.first * 2.0 ** min(self.failures, 60), self.most)
        self.failures += 1
        return ceiling * (0.5 + 0.5 * self.random())

    def reset(self) -> None:
        """Forget the failures: the attempt worked."""
        self.failures = 0
