# SPDX-License-Identifier: Apache-2.0
"""Flags, network, own subnet, what Docker did → the rules this host should have. Pure.

The rules depend on what else stands on the host: where Docker drops what is forwarded, an accept
in a table of our own does not help, so in the nftables flavour too the accepting chain then goes
into iptables' filter table. `Firewall.docker` is what was seen last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flannelpy.firewall import iptables, nftables, rules
from flannelpy.firewall.docker import Docker
from flannelpy.firewall.elements import Element
from flannelpy.firewall.legacy import Legacy
from flannelpy.firewall.nftables import Guard
from flannelpy.firewall.rules import Rule
from flannelpy.keys import Subnets
from flannelpy.records import Lease, NetworkConfig
from flannelpy.state import IPNetwork, Key, Object

DEFAULT_PREFIX: Final = "/coreos.com/network"


def suffix(prefix: str) -> str:
    """Return what tells the names of this network's things from another's on one host (trap T27)."""
    if prefix.strip("/") == DEFAULT_PREFIX.strip("/"):
        return ""
    return "-" + hashlib.sha256(prefix.strip("/").encode()).hexdigest()[:6]


def all_keys(suffix: str) -> frozenset[Key]:
    """Return every key that a rule of this network can have, wanted or left by others."""
    found = set()
    for version in (4, 6):
        found.add(nftables.Table(version, (), suffix).key)
        found.add(Legacy(version, ()).key)
        for place in iptables.places(suffix):
            found.add(iptables.Rules(place, (), family=version).key)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the command line asks for.

    Attributes:
        masquerade: hide container addresses from what lies outside the overlay.
        random: masquerade with fully random ports, where kernel and tool can.
        forward: accept the overlay's traffic in FORWARD.
        guard: let only peers send to the tunnel's port.
        exclude: destinations that see container addresses all the same.
        flavour: "auto", "nftables" or "iptables".
    """

    masquerade: bool = False
    random: bool = True
    forward: bool = True
    guard: bool = True
    exclude: tuple[IPNetwork, ...] = ()
    flavour: str = "auto"


@dataclass(slots=True)
class Firewall:
    """This network's rules on this host.

    Attributes:
        nft: the flavour: nftables, else iptables; the guard is nftables' in both.
        ports: by family, the UDP port of the tunnel that only peers may send to.
        docker: by family, as last seen.
    """

    policy: Policy
    config: NetworkConfig
    nft: bool
    uplink: str = ""
    ports: Mapping[int, int] = field(default_factory=dict)
    suffix: str = ""
    docker: dict[int, Docker] = field(default_factory=dict)

    def rules(self, own: Subnets) -> dict[Key, Object]:
        """Return the tables and chains, by key."""
        things: list[Object] = []
        for version, network, subnet in self._families(own):
            masq, forward = self._rules(network, subnet)
            if self.nft:
                table = self._table(version, masq, forward)
                masq = ()
                if not self._blocked(version):
                    forward = ()
            else:
                table = self._table(version, (), ())
            things += [table] if table.chains else []
            things += self._chains(version, masq, forward)
        return {thing.key: thing for thing in things}

    def peer(self, lease: Lease) -> list[Element]:
        """Return what lets a peer in."""
        if not self.policy.guard:
            return []
        has = lease.attributes
        found = []
        if 4 in self.ports and lease.subnets.v4 is not None and int(has.public_ip):
            found.append(Element(has.public_ip, self.suffix))
        if 6 in self.ports and lease.subnets.v6 is not None and has.public_ipv6 is not None:
            found.append(Element(has.public_ipv6, self.suffix))
        return found

    def _families(self, own: Subnets) -> Sequence[tuple[int, IPNetwork, IPNetwork]]:
        found: list[tuple[int, IPNetwork, IPNetwork]] = []
        if self.config.v4 is not None and own.v4 is not None:
            found.append((4, self.config.v4.network, own.v4))
        if self.config.v6 is not None and own.v6 is not None:
            found.append((6, self.config.v6.network, own.v6))
        return found

    def _rules(
        self, network: IPNetwork, subnet: IPNetwork
    ) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
        policy = self.policy
        masq = rules.masquerade(network, subnet, random=policy.random, exclude=policy.exclude)
        return masq if policy.masquerade else (), rules.forward(network) if policy.forward else ()

    def _table(
        self, version: int, masq: tuple[Rule, ...], forward: tuple[Rule, ...]
    ) -> nftables.Table:
        guard = None
        if self.policy.guard and version in self.ports:
            guard = Guard(self.uplink, self.ports[version])
        return nftables.table(
            version, suffix=self.suffix, postrtg=masq, forward=forward, guard=guard
        )

    def _chains(
        self, version: int, masq: tuple[Rule, ...], forward: tuple[Rule, ...]
    ) -> list[Object]:
        nat, filter_ = iptables.places(self.suffix)
        things: list[Object] = []
        if masq:
            things.append(iptables.Rules(nat, masq, family=version))
        if forward:
            docker = self.docker.get(version, Docker())
            user = 1 if docker.user else None
            things.append(
                iptables.Rules(filter_, forward, family=version, user=user, user_at=docker.user_at)
            )
        return things

    def _blocked(self, version: int) -> bool:
        docker = self.docker.get(version, Docker())
        return docker.drops or docker.user
