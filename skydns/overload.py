# SPDX-License-Identifier: Apache-2.0
"""How long our own page of liveness takes: CoreDNS's measure of overload (specs/skydns.md §14.2).

Asked once a second where a Corefile's `health` serves it; how long it took is what a query waits
that is not answered from what is ready.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Never

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from skydns import originals
from skydns.seen import COREDNS_TIMES, moment

_EVERY: Final = 1.0  # seconds
_PATIENCE: Final = 5.0
_ASKED: Final = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Overload(Collector):
    """Asks the page and counts.

    Args:
        now: monotonic seconds.
    """

    def __init__(self, host: str, port: int, now: Callable[[], float]) -> None:
        self._place = (host or "127.0.0.1", port)
        self._now = now
        self.took: Counter[float] = Counter()  # by upper bound
        self.failures = 0

    async def run(self) -> Never:
        """Ask again and again."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.look()

    async def look(self) -> None:
        """Ask once."""
        begun = self._now()
        try:
            async with asyncio.timeout(_PATIENCE):
                good = await self._asked()
        except (OSError, TimeoutError):
            good = False
        self.took[moment(self._now() - begun)] += 1
        self.failures += not good

    async def _asked(self) -> bool:
        """Say whether the page says that all is well."""
        reader, writer = await asyncio.open_connection(*self._place)
        try:
            writer.write(_ASKED)
            return b" 200 " in await reader.readline()
        finally:
            writer.close()

    def collect(self) -> Iterable[Any]:
        """Return the families with their present values."""
        yield originals.durations(
            "coredns_health_request_duration_seconds", "Times to our own page of liveness.",
            [], {(): self.took}, COREDNS_TIMES,
        )  # fmt: skip
        yield CounterMetricFamily(
            "coredns_health_request_failures", "Failures of it.", value=self.failures
        )
