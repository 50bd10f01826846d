# SPDX-License-Identifier: Apache-2.0
"""What this host's kernel and tools can do for a firewall, and so whose rules are written."""

from __future__ import annotations

import re

from flannelpy import netlink
from flannelpy.firewall.wanted import Policy
from flannelpy.records import NetworkConfig
from flannelpy.tools import ToolError, run, tool


def flavour(policy: Policy, config: NetworkConfig) -> bool:
    """Say whether masquerade and forward rules are nftables', else iptables'."""
    if policy.flavour == "auto":
        return config.nftables or tool("iptables") is None
    return policy.flavour == "nftables"


_PROBE = """\
add table ip flannel-probe
add chain ip flannel-probe p { type nat hook postrouting priority 100; }
add rule ip flannel-probe p masquerade fully-random
"""


async def random_fully(*, nft: bool) -> bool:
    """Say whether kernel and tool can masquerade with fully random ports."""
    try:
        if nft:
            await run("nft", "-c", "-f", "-", stdin=_PROBE)
            return True
        words = re.findall(r"\d+", await run("iptables", "--version"))
    except ToolError:
        return False
    return [int(word) for word in words[:3]] >= [1, 6, 2]


async def silent() -> bool:
    """Say whether the iptables here are the old ones, which notify nobody of a change."""
    try:
        return "nf_tables" not in await run("iptables", "--version")
    except ToolError:
        return False  # none: nobody can change theirs


def lacks() -> str:
    """Return what is missing for nftables; "": nothing."""
    try:
        with netlink.opened(netlink.NETFILTER):
            pass
    except OSError as error:
        return f"this kernel has no nftables ({error.strerror})"
    return "" if tool("nft") else "nft is not installed"
