# SPDX-License-Identifier: Apache-2.0
"""The data path of the udp backend: the one case in which packets pass through this process.

::

    container ─► route Network dev flannel0 ─► TUN ─► outbound(packet, table) ─► UDP socket ─► peer
    container ◄───────────────────────────────── TUN ◄─ inbound(packet) ◄────────── UDP socket

On the wire a datagram's payload is the bare inner IPv4 packet (specs/flannel.md §10.4).
`packet` decides and is pure; `pump` moves packets between TUN and socket; `host` makes device and
table of the plan.
"""
