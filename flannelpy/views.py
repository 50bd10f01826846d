# SPDX-License-Identifier: Apache-2.0
"""What the daemon shows of itself: /debug/state and /peers, behind `fairlead net status` and `peers`."""

from __future__ import annotations

from math import inf

from fairlead import admin
from fairlead.runtime import Runtime
from flannelpy import identity
from flannelpy.node import Node
from flannelpy.tenure import Tenure


def hang_in(runtime: Runtime, node: Node, tenure: Tenure) -> None:
    """Add them to the admin socket."""
    runtime.state("network", lambda: state(node, tenure, runtime.clock.monotonic()))
    runtime.routes["GET", "/peers"] = lambda: admin.as_json(peers(node))


def state(node: Node, tenure: Tenure, now: float) -> dict[str, object]:
    """Return this host's part in the overlay as plain values."""
    held = tenure.now(node)
    uplink = node.host.uplink
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
        "networks": [str(it) for it in node.host.config.ranges],
        "ports": sorted(set(node.backend.ports.values())),
        "mtu": node.backend.mtu,
        "peers": node.overlay.peers,
        "objects": node.overlay.size,
        "ignored": {_text(key): reason for key, reason in node.overlay.ignored.items()},
        "duplicates": {_text(key): address for key, address in node.duplicates.items()},
    }


def peers(node: Node) -> list[dict[str, object]]:
    """Return the other hosts' leases, by subnet."""
    own = node.held.key
    return [
        {
            "subnet": str(lease.subnets),
            "public_ip": str(lease.attributes.public_ip),
            "public_ipv6": str(lease.attributes.public_ipv6 or ""),
            "backend": lease.attributes.backend_type,
            "reservation": lease.is_reservation,
            "revision": int(lease.revision),
            "ignored": node.overlay.ignored.get(key, ""),
        }
        for key, lease in sorted(node.leases.items())
        if key != own
    ]


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
