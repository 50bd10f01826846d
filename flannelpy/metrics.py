# SPDX-License-Identifier: Apache-2.0
"""The daemon's own gauges, and what /debug/state and `fairlead net status` show. The original has none."""

from __future__ import annotations

from prometheus_client import Gauge

from fairlead.life import Runtime
from flannelpy.node import Node
from flannelpy.tenure import Tenure


def export(runtime: Runtime, node: Node, tenure: Tenure) -> None:
    """Register the gauges and the state."""
    registry = runtime.metrics.registry
    peers = Gauge("flannelpy_peers", "Hosts that this one has routes to.", registry=registry)
    peers.set_function(lambda: node.overlay.peers)
    ignored = Gauge(
        "flannelpy_leases_ignored", "Leases that give this host nothing.", registry=registry
    )
    ignored.set_function(lambda: len(node.overlay.ignored))
    left = Gauge(
        "flannelpy_lease_remaining_seconds",
        "Until the own lease runs out; +Inf for a reservation.",
        registry=registry,
    )
    left.set_function(lambda: tenure.now(node).expires - runtime.clock.monotonic())
    runtime.state("network", lambda: state(node, tenure))


def state(node: Node, tenure: Tenure) -> dict[str, object]:
    """Return this host's part in the overlay as plain values."""
    held = tenure.now(node)
    return {
        "subnet": str(held.subnets),
        "key": held.key.decode("utf-8", "backslashreplace"),
        "reservation": not held.lease,
        "interface": node.host.uplink.name,
        "backend": node.host.config.backend.type,
        "devices": list(node.overlay.territory.devices),
        "peers": node.overlay.peers,
        "objects": node.overlay.size,
        "ignored": {
            key.decode("utf-8", "backslashreplace"): reason
            for key, reason in node.overlay.ignored.items()
        },
    }
