# SPDX-License-Identifier: Apache-2.0
"""Overlay networking: leases each host a subnet and programs routes to the others.

::

    <prefix>/config ──► records ─► backends.build ─┐
    <prefix>/subnets ─► Mirror ─► records ─► desired.Overlay ─┐
                                                              ├─► plan ─► apply ─► netlink, subnet file
    netlink, subnet file ─► observe ──────────────────────────┘

`allocate` chooses this host's subnet and `lease` gets, keeps and regains it; `uplink` finds the
interface that faces the other hosts; `kernel`
and `netlink` speak with the kernel in messages that `rtnetlink` packs and parses.
"""
