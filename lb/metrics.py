# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads: the data plane's counters, looked at when somebody asks."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lb.plane import Plane


class Counts(Collector):
    """The data plane's counters, read when somebody asks."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

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
        return [requests, sent, active, idle, unrouted, refused, clients]
