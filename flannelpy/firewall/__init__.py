# SPDX-License-Identifier: Apache-2.0
"""Masquerade, forward and guard rules: wanted once, written in two dialects.

::

    NetworkConfig, own subnet, flags ─► wanted, rules ─┬─► nftables: tables ↔ nft's text and JSON
                                                       └─► iptables: chains ↔ iptables-restore's text
    leases ─► wanted ─► elements: who may send to the tunnel's port ↔ nfnetlink

All of it is pure but `host`, the part of the host that observes and applies them.
"""
