# SPDX-License-Identifier: Apache-2.0
"""What the round trips were like, by frontend and by server (specs/vulcand.md §10.1).

::

    plane ─ tallies of attempts ─► Stats.take ─► Figures by frontend, by server ─► /v2/top, statsd

Each try of a request counts. Figures outlive changes of the configuration (V15).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, Final

from lb.state import ALIAS
from lb.tallies import Tally
from lb.window import QUANTILES, Figures, buckets

JSON = dict[str, Any]
_ANOMALY: Final = 1.5  # times median and deviation (§5)
_LATENCY: Final = 2.0
_MESSAGES: Final = {
    1: "50.00 quantile latency stands out",
    2: "Error rate stands out",
    3: "App error rate (status 500) stands out",
}


class Stats:
    """Figures of this process.

    Args:
        now: the monotonic clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.frontends: dict[str, Figures] = {}
        self.servers: dict[tuple[str, str], Figures] = {}

    def take(self, tallies: Sequence[Tally], _: object = None) -> None:
        """Count attempts that have ended."""
        for tally in tallies:
            server = tally.server
            place = (server.pool.id, server.spec.id) if server is not None else None
            self.add(tally.frontend.spec.id, place, tally.counts, buckets(tally.seconds))

    def add(
        self,
        frontend: str,
        server: tuple[str, str] | None,
        codes: Mapping[int, int],
        latencies: Sequence[int],
    ) -> None:
        """Count attempts of one frontend and server (backend and id): statuses, buckets.

        Args:
            frontend: its id; "" where only the server is to be counted: another one was asked after it.
            codes: how many had which status.
            latencies: the bucket of each.
        """
        now = self._now()
        if frontend:
            self.frontend(frontend.removesuffix(ALIAS)).add_all(now, codes, latencies)
        if server is not None:
            if server not in self.servers:
                self.servers[server] = Figures()
            self.servers[server].add_all(now, codes, latencies)

    def frontend(self, name: str) -> Figures:
        """Return a frontend's figures."""
        found = self.frontends.get(name)
        if found is None:
            found = self.frontends[name] = Figures()
        return found

    def forget(
        self, frontends: Mapping[str, object], servers: Mapping[str, Mapping[str, object]]
    ) -> None:
        """Drop the figures of what is gone.

        Args:
            servers: those of each backend.
        """
        for name in self.frontends.keys() - frontends.keys():
            del self.frontends[name]
        for backend, server in [*self.servers]:
            if server not in servers.get(backend, ()):
                del self.servers[backend, server]

    def now(self) -> float:
        """Return the time that figures are asked at."""
        return self._now()


def tree(figures: Figures, now: float, anomalies: Sequence[int] = ()) -> JSON:
    """Return figures as vulcand prints them."""
    codes = figures.codes.total(now)
    return {
        "Verdict": {
            "IsBad": bool(anomalies),
            "Anomalies": [{"Code": code, "Message": _MESSAGES[code]} for code in anomalies] or None,
        },
        "Counters": {
            "Period": 10_000_000_000,
            "NetErrors": codes[502] + codes[504],
            "Total": codes.total(),
            "StatusCodes": [{"Code": code, "Count": codes[code]} for code in sorted(codes)],
        },
        "LatencyBrackets": [
            {"Quantile": quantile, "Value": value * 1000}
            for quantile, value in zip(QUANTILES, figures.quantiles(now), strict=True)
        ],
    }


def rank(figures: Figures, now: float) -> tuple[float, float, int]:
    """Order by network errors, then 500s to 2xx, then requests; the worst sorts first."""
    codes = figures.codes.total(now)
    return (
        -figures.network_error_ratio(now),
        -figures.code_ratio(now, (500, 501, 200, 300)),
        -codes.total(),
    )


def anomalies(group: Mapping[str, Figures], now: float) -> dict[str, list[int]]:
    """Return the anomaly codes of servers of one backend that stand out from the others."""
    names = sorted(group)
    found: dict[str, list[int]] = {name: [] for name in names}
    looks: tuple[tuple[int, Callable[[Figures], float], float], ...] = (
        (1, lambda f: f.quantiles(now, (50.0,))[0] // 1000, _LATENCY),
        (2, lambda f: f.network_error_ratio(now), _ANOMALY),
        (3, lambda f: f.code_ratio(now, (500, 501, 0, 600)), _ANOMALY),
    )
    for code, look, threshold in looks:
        values = [float(look(group[name])) for name in names]
        for name, bad in zip(names, _stands_out(values, threshold), strict=True):
            if bad:
                found[name].append(code)
    return found


def _stands_out(values: Sequence[float], threshold: float) -> list[bool]:
    """Say of each value whether it lies above threshold × (median + median absolute deviation)."""
    if len(values) < 2:
        return [False] * len(values)
    whole = [*values, 0.0] if len(values) % 2 == 0 else [*values]
    middle = median(whole)
    deviation = median(abs(value - middle) for value in whole)
    return [value > threshold * (middle + deviation) for value in values]
