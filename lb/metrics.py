# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads: the data plane's counters, looked at when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from fairlead.workers.figures import Figures
from lb.certificates import Certificates
from lb.plane import Plane
from lb.stats import Stats
from lb.statsd import connections
from lb.window import QUANTILES


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

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        """Return the families."""
        seen = self._look()
        requests = CounterMetricFamily(
            "lb_requests", "Requests answered, by frontend and status.", labels=["frontend", "code"]
        )
        for (what, *labels), count in seen.counts.items():
            if what == "requests" and labels[0] in self._plane.frontends:
                requests.add_metric(labels, count)
        sent = CounterMetricFamily(
            "lb_server_requests",
            "Requests sent to a server, tries counted.",
            labels=["backend", "server"],
        )
        active = GaugeMetricFamily(
            "lb_server_active_requests", "Requests under way.", labels=["backend", "server"]
        )
        idle = GaugeMetricFamily(
            "lb_server_idle_connections", "Connections kept.", labels=["backend", "server"]
        )
        for name, pool in self._plane.pools.items():
            for one in pool.servers.values():
                labels = [name, one.spec.id]
                sent.add_metric(labels, seen.counts.get(("sent", *labels), 0))
                active.add_metric(labels, seen.gauges.get(("active", *labels), 0))
                idle.add_metric(labels, seen.gauges.get(("idle", *labels), 0))
        unrouted = CounterMetricFamily(
            "lb_unrouted_requests",
            "Requests that no route matched.",
            seen.counts.get(("unrouted",), 0),
        )
        refused = CounterMetricFamily(
            "lb_malformed_requests",
            "Requests refused as malformed.",
            seen.counts.get(("malformed",), 0),
        )
        clients = GaugeMetricFamily(
            "lb_client_connections", "Client connections open.", seen.gauges.get(("clients",), 0)
        )
        latency = GaugeMetricFamily(
            "lb_frontend_latency_seconds",
            "Time of the last minute's round trips at a quantile.",
            labels=["frontend", "quantile"],
        )
        now = self._stats.now()
        for name, known in self._stats.frontends.items():
            for quantile, value in zip(QUANTILES, known.quantiles(now), strict=True):
                latency.add_metric([name, f"{quantile / 100:g}"], value / 1e6)
        orders = CounterMetricFamily(
            "lb_acme_orders", "Orders of certificates by this process.", labels=["result"]
        )
        for result, count in self._orders.items():
            orders.add_metric([result], count)
        mirrored = CounterMetricFamily(
            "lb_mirrored_requests", "Copies of requests to another backend.", labels=["result"]
        )
        for (what, *labels), count in seen.counts.items():
            if what == "mirrored":
                mirrored.add_metric(labels, count)
        ends = GaugeMetricFamily(
            "lb_certificate_expiry_timestamp_seconds",
            "When the certificate of a host ends, Unix time.",
            labels=["host"],
        )
        for host, (_, until) in self._certificates.facts().items():
            ends.add_metric([host], until)
        return [
            latency,
            requests,
            sent,
            active,
            idle,
            unrouted,
            refused,
            clients,
            mirrored,
            ends,
            orders,
        ]
