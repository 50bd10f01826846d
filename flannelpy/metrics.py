# SPDX-License-Identifier: Apache-2.0
"""The daemon's own gauges, and what /debug/state and `fairlead net status` show. The original has none."""

from __future__ import annotations

from math import inf

from prometheus_client import Gauge

from fairlead.life import Runtime
from flannelpy import identity
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
    runtime.state("network", lambda: state(node, tenure, runtime.clock.monotonic()))


def state(node: Node, tenure: Tenure, now: float) -> dict[str, object]:
    """Return this host's part in the overlay as plain values."""
    held = tenure.now(node)
    uplink, loop = node.host.uplink, node.loop
    return {
        "subnet": str(held.subnets),
        "key": _text(held.key),
        "reservation": not held.lease,
        "expires_seconds": None if held.expires == inf else round(held.expires - now, 1),
        "interface": uplink.name,
        "address": str(uplink.v4 or uplink.v6),
        "public": str(identity.public(node.host)),
        "backend": node.host.config.backend.type,
        "devices": list(node.overlay.territory.devices),
        "mtu": node.backend.mtu,
        "peers": node.overlay.peers,
        "objects": node.overlay.size,
        "undone": 0 if loop.last is None else len(loop.last.failures) + loop.last.held,
        "ignored": {_text(key): reason for key, reason in node.overlay.ignored.items()},
        "duplicates": {_text(key): address for key, address in node.duplicates.items()},
    }


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
