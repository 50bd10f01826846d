# SPDX-License-Identifier: Apache-2.0
"""Which packets are masqueraded, let through or kept out (specs/flannel.md §11). Pure.

C is the overlay's range, P this host's subnet, M all multicast. Masquerading hides container
addresses from what lies outside the overlay, and nothing else:

    marked by kube-proxy ─► as it is     P → C, C → P ─► as it is     outside → P ─► as it is
    C → excluded         ─► as it is     C → not M    ─► masquerade   outside → C ─► masquerade

The original's nft flavour compares `not P → C` in the fifth of these, which makes the last one
unreachable (trap T8); ours is that of its iptables flavour in both dialects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network

IPNetwork = IPv4Network | IPv6Network

KUBE_MARK = 0x4000  # kube-proxy's "masquerade this": it has decided already
MASQUERADED = "flanneld masq"
FORWARDED = "flanneld forward"
_MULTICAST = {4: ip_network("224.0.0.0/4"), 6: ip_network("ff00::/8")}


class Verdict(Enum):
    """What a rule does; the words are nft's."""

    RETURN = "return"
    ACCEPT = "accept"
    MASQUERADE = "masquerade"


@dataclass(frozen=True, slots=True)
class Match:
    """A range that an address lies in, or with `negate` does not."""

    net: IPNetwork
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; all its conditions hold together.

    Attributes:
        marked: the packet carries kube-proxy's mark.
        random: choose the source port fully at random; for MASQUERADE.
    """

    verdict: Verdict
    src: Match | None = None
    dst: Match | None = None
    marked: bool = False
    random: bool = False


def masquerade(
    network: IPNetwork, subnet: IPNetwork, *, random: bool, exclude: Sequence[IPNetwork] = ()
) -> tuple[Rule, ...]:
    """Return the rules of the postrouting chain, in order.

    Args:
        network: the overlay's range.
        subnet: this host's part of it.
        random: masquerade with fully random ports.
        exclude: destinations outside that see container addresses all the same; ranges of the
            other family are passed over.
    """
    inside, ours, many = Match(network), Match(subnet), _MULTICAST[network.version]
    outside = Match(network, negate=True)
    return (
        Rule(Verdict.RETURN, marked=True),
        Rule(Verdict.RETURN, ours, inside),
        Rule(Verdict.RETURN, inside, ours),
        Rule(Verdict.RETURN, outside, ours),
        *(
            Rule(Verdict.RETURN, inside, Match(net))
            for net in exclude
            if net.version == network.version
        ),
        Rule(Verdict.MASQUERADE, inside, Match(many, negate=True), random=random),
        Rule(Verdict.MASQUERADE, outside, inside, random=random),
    )


def forward(network: IPNetwork) -> tuple[Rule, ...]:
    """Return the rules of the forward chain: overlay traffic passes both ways."""
    return (Rule(Verdict.ACCEPT, src=Match(network)), Rule(Verdict.ACCEPT, dst=Match(network)))
