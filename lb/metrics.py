# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads: the data plane's counters, looked at when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lb.certificates import Certificates
from lb.plane import Plane
from lb.stats import Stats
from lb.window import QUANTILES


class Counts(Collector):
    """The data plane's counters, read when somebody asks."""

    def __init__(
        self, plane: Plane, stats: Stats, certificates: Certificates, orders: Mapping[str, int]
    ) -> None:
        self._plane = plane
        self._stats = stats
        self._certificates = certificates
        self._orders = orders

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        """Return the families."""
        plane = self._plane
        requests = CounterMetricFamily(
            "lb_requests", "Requests answered, by frontend and status.", labels=["frontend", "code"]
        )
        for name, frontend in plane.frontends.items():
            for code, count in frontend.codes.items():
                requests.add_metric([name, str(code)], count)
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
        for name, pool in plane.pools.items():
            for one in pool.servers.values():
                labels = [name, one.spec.id]
                sent.add_metric(labels, one.requests)
                active.add_metric(labels, one.active)
                idle.add_metric(labels, len(one.idle))
        unrouted = CounterMetricFamily(
            "lb_unrouted_requests", "Requests that no route matched.", plane.unrouted
        )
        refused = CounterMetricFamily(
            "lb_malformed_requests", "Requests refused as malformed.", plane.refused
        )
        clients = GaugeMetricFamily(
            "lb_client_connections", "Client connections open.", plane.clients()
        )
        latency = GaugeMetricFamily(
            "lb_frontend_latency_seconds",
            "Time of the last minute's round trips at a quantile.",
            labels=["frontend", "quantile"],
        )
        now = self._stats.now()
        for name, figures in self._stats.frontends.items():
            for quantile, value in zip(QUANTILES, figures.quantiles(now), strict=True):
                latency.add_metric([name, f"{quantile / 100:g}"], value / 1e6)
        orders = CounterMetricFamily(
            "lb_acme_orders", "Orders of certificates by this process.", labels=["result"]
        )
        for result, count in self._orders.items():
            orders.add_metric([result], count)
        mirrored = CounterMetricFamily(
            "lb_mirrored_requests", "Copies of requests to another backend.", labels=["result"]
        )
        for result, count in plane.mirrors.counts.items():
            mirrored.add_metric([result], count)
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
