# SPDX-License-Identifier: Apache-2.0
"""From a name to the records that it stands for (specs/skydns.md §3). Pure.

::

    name ─► wildcards? zone's own name? key, or keys below? ─► groups ─► records, or None: no such name

A name stands for *all records below it*, its own only when there are none, unless the profile or
`-own` says otherwise. What was looked at is noted: a record that comes or goes at or below one of
these names makes what was found stale, nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from skydns import keys, names, rrs
from skydns.policy import Apex, Own, Policy
from skydns.records import Service
from skydns.rrs import RR
from skydns.state import Served

APEX: Final = b"\x04apex\x03dns"
NS: Final = b"\x02ns\x03dns"
_DNS: Final = b"\x03dns"


def zone_of(name: bytes, policy: Policy) -> bytes:
    """Return the longest zone of ours that a folded name lies in, b"" for none."""
    return names.longest(name, policy.zones)


def in_stub(name: bytes, zone: bytes, policy: Policy) -> bool:
    """Say whether a stub zone has a name: one as long as our zone wins (§9.2)."""
    stubs = policy.stubs
    return any(above in stubs and len(above) >= len(zone) for above in names.ancestors(name))


def grouped(services: Sequence[Service]) -> list[Service]:
    """Return the records that the groups leave (§4.4, trap 16): the originals' algorithm.

    The shallowest key that has a group decides; the walk stops at the first groupless key that is
    shallower; two groups at the deciding depth switch the filter off.
    """
    if not services:
        return []
    group, depth = services[0].group, services[0].key.count(b"/")
    depths = [0] * len(services)
    for at, service in enumerate(services):
        depths[at] = level = service.key.count(b"/")
        if level < depth:
            if not service.group:
                break
            depth, group = level, service.group
    if not group:
        return list(services)
    kept = []
    for level, service in zip(depths, services, strict=True):
        if not service.group or service.group == group:
            kept.append(service)
        elif level == depth:
            return list(services)
    return kept


@dataclass(slots=True)
class Lookup:
    """Looks names up for one answer.

    Attributes:
        zone: that the question lies in, b"" for none.
        reads: folded names that were looked at.
    """

    served: Served
    policy: Policy
    zone: bytes
    reads: dict[bytes, None] = field(default_factory=dict)

    def find(self, name: bytes, rtype: int) -> list[Service] | None:
        """Return the records that a folded name stands for, None when it does not exist."""
        index = self.served.index
        self.reads[name] = None
        base = keys.wildcard_base(name)
        if base is not None:
            self.reads[base] = None
            if not index.exists(base) and base not in self.policy.zones:
                return None
            return grouped(index.matching(base, name))
        if name in self.policy.zones:
            return grouped(self._apex(name, rtype))
        node, shape = index.node(name), self.policy.shape(name)
        if node is None:
            return self._catch_all(name) if shape.catch_all else None
        if node.own and (shape.own is Own.FIRST or not node.children or shape.depth == 0):
            return grouped(node.own)
        below = index.below(name, depth=shape.depth)
        return grouped([*node.own, *below] if shape.own is Own.UNION else below)

    def existence(self, name: bytes) -> list[RR] | None:
        """Return an empty list for a name that exists, else None; reads no records."""
        if keys.wildcard_base(name) is not None:
            return None if self.find(name, 0) is None else []
        self.reads[name] = None
        if name in self.policy.zones or self.served.index.exists(name) or self.is_our_ns(name):
            return []
        if self.policy.shape(name).catch_all and self._catch_all(name) is not None:
            return []
        return None

    def _apex(self, zone: bytes, rtype: int) -> list[Service]:
        """Return the records of a zone's own name (§5.1, 1; trap 11); its `dns` child aside (§1.2)."""
        index, apex = self.served.index, self.policy.profile.apex
        if rtype in {rrs.A, rrs.AAAA} and apex is not Apex.TREE:
            place = APEX + zone
            self.reads[place] = None
            if node := index.node(place):
                return index.below(place) if node.children else list(node.own)
        if apex is Apex.ONLY or (apex is Apex.EXACT and rtype in {rrs.A, rrs.AAAA}):
            node = index.node(zone)
            return list(node.own) if node else []
        found = index.below(zone, without=_DNS, depth=self.policy.shape(zone).depth)
        if not found and (node := index.node(zone)):
            return list(node.own)
        return found

    def _catch_all(self, name: bytes) -> list[Service] | None:
        """Return the records of the `*` below the closest name that exists (RFC 4592)."""
        index = self.served.index
        for above in names.ancestors(names.parent(name)):
            if index.exists(above) or above in self.policy.zones:
                star = b"\x01*" + above
                self.reads[above] = None
                node = index.node(star)
                if node is None:
                    return None
                return grouped(index.below(star) if node.children else node.own)
        return None

    def is_our_ns(self, name: bytes) -> bool:
        """Say whether a name is the server's that `ns` makes up for a zone without NS records."""
        return (
            bool(self.policy.addresses)
            and name == NS + self.zone
            and not self.served.index.exists(name)
        )
