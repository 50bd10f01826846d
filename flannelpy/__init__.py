# SPDX-License-Identifier: Apache-2.0
"""Overlay networking: leases each host a subnet and programs routes to the others.

::

    <prefix>/config ──► sources ─► identity: uplink, backends.build ─► node.host ─┐
                           │            tenure: lease.acquire, keeper ─► node.held ├─► desired.Overlay
    <prefix>/subnets/* ────┴─► records, one lease at a time ──────────────────────┘        │
                                                                         plan ─► apply ─► netlink, file
    netlink, subnet file ─► observe, watch ───────────────────────────────┘

`daemon` wires these in the order of the start. `allocate` chooses this host's subnet, `lease`
gets it by a transaction, `keeper` renews it, `tenure` regains it; `uplink` finds the interface
that faces the other hosts, `relocation` follows it; `kernel` and `netlink` speak with the kernel in messages that
`rtnetlink` and `rtlink` pack and parse. What is no rtnetlink message (`firewall`, `wireguard`, `udp`,
`blackhole`, `checksum`, `gateway`, `commands`) is a part of the host of its own: `parts`.
"""
