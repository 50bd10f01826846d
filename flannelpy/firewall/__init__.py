# SPDX-License-Identifier: Apache-2.0
"""Masquerade, forward and guard rules: wanted once, written in two dialects.

::

    NetworkConfig, own subnet, flags ─► rules ─┬─► nftables: chains ↔ nft's text and JSON
                                               └─► iptables: chains ↔ iptables-restore's text

All of it is pure; `flannelpy.observe` and `flannelpy.apply` run the tools.
"""
