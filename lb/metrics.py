# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads: the data plane's counters, looked at when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from fairlead.workers.figures import Figures
from lb.certificates import Certificates
from lb.plane import Plane
from lb.stats import Stats
from lb.statsd import connections
from lb.window import QUANTILES

Family = CounterMetricFamily | GaugeMetricFamily
Row = tuple[tuple[str, ...], float]
"""Labels and a value."""
_AT_ONCE: Final = 100  # rows of a piece


def figures(plane: Plane, *, phases: bool = False) -> Figures:
    """Return what one process has counted, and what is so in it now; `phases`: of connections too."""
    counts: dict[tuple[str, ...], float] = {
        ("unrouted",): plane.unrouted,
        ("malformed",): plane.refused,
    }
    for result, copies in plane.mirrors.counts.items():
        counts["mirrored", result] = copies
    gauges: dict[tuple[str, ...], float] = {("clients",): plane.clients()}
    for name, frontend in plane.frontends.items():
        for code, count in frontend.codes.items():
            counts["requests", name, str(code)] = count
    for name, pool in plane.pools.items():
        for one in pool.servers.values():
            if one.requests:
                counts["sent", name, one.spec.id] = one.requests
                gauges["active", name, one.spec.id] = one.active
                gauges["idle", name, one.spec.id] = len(one.idle)
    if phases:
        gauges |= {("conns", *key): count for key, count in connections(plane).items()}
    return Figures(counts, gauges)


def phases_of(look: Callable[[], Figures]) -> dict[tuple[str, str], float]:
    """Return the connections of clients in figures, by address and phase."""
    return {(key[1], key[2]): count for key, count in look().gauges.items() if key[0] == "conns"}


class Counts(Collector):
    """The data plane's counters, read when somebody asks.

    Args:
        look: returns the figures of all processes.
    """

    def __init__(
        self,
        plane: Plane,
        stats: Stats,
        look: Callable[[], Figures],
        certificates: Certificates,
        orders: Mapping[str, int],
    ) -> None:
        self._plane = plane
        self._stats = stats
        self._look = look
        self._certificates = certificates
        self._orders = orders

    def collect(self) -> Iterator[Family]:
        """Give the families; the data plane goes on between two pieces, so nothing of it is held."""
        seen = self._look()
        yield from self._of_frontends(seen)
        yield from self._of_servers(seen)
        open_ = [((), seen.gauges.get(("clients",), 0))]
        yield from _gauge("lb_client_connections", "Client connections open.", open_)
        for what, name, words in (
            ("unrouted", "lb_unrouted_requests", "Requests that no route matched."),
            ("malformed", "lb_malformed_requests", "Requests refused as malformed."),
        ):
            yield from _counter(name, words, [((), seen.counts.get((what,), 0))])
        copies = _rows(seen.counts, "mirrored")
        yield from _counter(
            "lb_mirrored_requests", "Copies of requests to another backend.", copies, "result"
        )
        yield from self._of_certificates()

    def _of_frontends(self, seen: Figures) -> Iterator[Family]:
        known = self._plane.frontends
        answered = (row for row in _rows(seen.counts, "requests") if row[0][0] in known)
        words = "Requests answered, by frontend and status."
        yield from _counter("lb_requests", words, answered, "frontend", "code")
        now = self._stats.now()
        latencies = (
            ((name, f"{quantile / 100:g}"), value / 1e6)
            for name, figures in tuple(self._stats.frontends.items())
            for quantile, value in zip(QUANTILES, figures.quantiles(now), strict=True)
        )
        words = "Time of the last minute's round trips at a quantile."
        yield from _gauge("lb_frontend_latency_seconds", words, latencies, "frontend", "quantile")

    def _of_servers(self, seen: Figures) -> Iterator[Family]:
        labels = "backend", "server"
        standing = [
            ((name, one.spec.id), one, one in pool.usable)
            for name, pool in self._plane.pools.items()
            for one in pool.servers.values()
        ]

        def rows(of: Mapping[tuple[str, ...], float], what: str) -> list[Row]:
            return [(place, of.get((what, *place), 0)) for place, *_ in standing]

        words = "Requests sent to a server, tries counted."
        yield from _counter("lb_server_requests", words, rows(seen.counts, "sent"), *labels)
        words = "Requests under way."
        yield from _gauge("lb_server_active_requests", words, rows(seen.gauges, "active"), *labels)
        words = "Connections kept."
        yield from _gauge("lb_server_idle_connections", words, rows(seen.gauges, "idle"), *labels)
        up: list[Row] = [(place, usable) for place, _, usable in standing]
        words = "Whether a server gets requests: healthy, not left out, not draining."
        yield from _gauge("lb_server_up", words, up, *labels)
        weights: list[Row] = [(place, one.weight) for place, one, _ in standing]
        words = "A server's weight now, as the rebalancer and slow start have it."
        yield from _gauge("lb_server_weight", words, weights, *labels)

    def _of_certificates(self) -> Iterator[Family]:
        ends: list[Row] = [
            ((host,), until) for host, (_, until) in self._certificates.facts().items()
        ]
        words = "When the certificate of a host ends, Unix time."
        yield from _gauge("lb_certificate_expiry_timestamp_seconds", words, ends, "host")
        orders: list[Row] = [((result,), count) for result, count in self._orders.items()]
        words = "Orders of certificates by this process."
        yield from _counter("lb_acme_orders", words, orders, "result")


def _rows(of: Mapping[tuple[str, ...], float], what: str) -> list[Row]:
    """Return the figures of one kind, with their labels."""
    return [(key[1:], value) for key, value in of.items() if key[0] == what]


def _counter(name: str, words: str, rows: Iterable[Row], *labels: str) -> Iterator[Family]:
    return _pieces(partial(CounterMetricFamily, name, words, labels=labels), rows)


def _gauge(name: str, words: str, rows: Iterable[Row], *labels: str) -> Iterator[Family]:
    return _pieces(partial(GaugeMetricFamily, name, words, labels=labels), rows)


def _pieces(make: Callable[[], Family], rows: Iterable[Row]) -> Iterator[Family]:
    """Give a family, in pieces where it has many rows (`fairlead.metrics`)."""
    left = iter(rows)
    some = [*islice(left, _AT_ONCE)]
    while True:
        family = make()
        for labels, value in some:
            family.add_metric(labels, float(value))
        yield family
        some = [*islice(left, _AT_ONCE)]
        if not some:
            return
