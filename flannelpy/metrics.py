# SPDX-License-Identifier: Apache-2.0
"""The daemon's own gauges; the original has none."""

from __future__ import annotations

from prometheus_client import Gauge

from fairlead.runtime import Runtime
from flannelpy.node import Node
from flannelpy.tenure import Tenure


def export(runtime: Runtime, node: Node, tenure: Tenure) -> None:
    """Register the gauges."""
    registry = runtime.metrics.registry
    peers = Gauge("flannelpy_peers", "Hosts that this one has routes to.", registry=registry)
    peers.set_function(lambda: node.overlay.peers)
    ignored = Gauge(
        "flannelpy_leases_ignored", "Leases that give this host nothing.", registry=registry
    )
    ignored.set_function(lambda: len(node.overlay.ignored))
    twins = Gauge(
        "flannelpy_duplicate_addresses",
        "Other leases with this host's public address.",
        registry=registry,
    )
    twins.set_function(lambda: len(node.duplicates))
    left = Gauge(
        "flannelpy_lease_remaining_seconds",
        "Until the own lease runs out; +Inf for a reservation.",
        registry=registry,
    )
    left.set_function(lambda: tenure.now(node).expires - runtime.clock.monotonic())
