# SPDX-License-Identifier: Apache-2.0
"""What decides answers: profile, flags and the store's `config` key, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from skydns import names, records
from skydns.order import Order


class Apex(Enum):
    """Where A and AAAA of a zone's own name come from (§5.1, 1; §16)."""

    TREE = "every record below it"
    FALLBACK = "`dns/apex`, else every record below it"
    EXACT = "`dns/apex` or nothing for addresses, every record below for other types"
    ONLY = "`dns/apex` or nothing; the apex is never expanded"


class Own(Enum):
    """What a name that has both a record and children answers with (§3.3)."""

    CHILDREN = "the records below"
    FIRST = "its own record"
    UNION = "its own record and those below"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a zone's keys are to a name that they stand below.

    Attributes:
        own: what a name that has both a record and children answers with (§3.3).
        depth: how many labels below a name are part of its answers; None: all, 0: its own
            key's only (§3.4).
        catch_all: a stored `*` answers for missing names (§3.1, RFC 4592).
    """

    own: Own = Own.CHILDREN
    depth: int | None = None
    catch_all: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """One column of the table in §16.

    Attributes:
        ttl: seconds, for records that set none.
        min_ttl: seconds negative answers may be kept; the SOA's minimum.
        flatten: several aliases, or an alias beside addresses, become addresses; else the
            lowest key's alias is the one that counts.
        least_weight: SRV weights below are lifted to it.
        portless: a record whose port is -1 is in SRV all the same (§5.3).
        refuse_any: ANY is refused; else answered as RFC 8482 says.
        always_ra: RA is set in every answer; else only when forwarding.
        least_lease, most_lease: what a lease counts as at least and at most, in seconds (§4.1).
        links: aliases followed in a row; more: NODATA, in `strict` SERVFAIL.
    """

    name: str
    ttl: int = 300
    min_ttl: int = 30
    apex: Apex = Apex.FALLBACK
    catch_all: bool = False
    own: Own = Own.CHILDREN
    flatten: bool = True
    least_weight: int = 1
    portless: bool = False
    refuse_any: bool = False
    always_ra: bool = False
    least_lease: int = 30
    most_lease: int = 86400
    links: int = 16
    strict: bool = False


PROFILES: Final[Mapping[str, Profile]] = {
    "coredns": Profile("coredns"),
    "skydns": Profile(
        "skydns", ttl=3600, min_ttl=60, apex=Apex.TREE, flatten=False, least_weight=0, portless=True,
        refuse_any=True, always_ra=True, least_lease=1, most_lease=records.MOST_TTL, links=8,
    ),
    "strict": Profile(
        "strict", apex=Apex.ONLY, catch_all=True, own=Own.FIRST, least_lease=1, strict=True,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything `answer` needs to know beside the records.

    Attributes:
        zones: folded names we are authoritative for.
        ttl: seconds, for records that set none.
        priority: for records that set none.
        hostmaster: RNAME of every SOA; b"": `hostmaster.` and the zone.
        local: the name looked up for `local.dns.<zone>`, folded; b"": none.
        rotate: the addresses of an answer take turns in being first, or as `order` says.
        auto_ptr: an address of a record answers PTR with the record's name.
        depth: as in `Shape`, where `shapes` has no other.
        shapes: by zone, where one is not as the profile and `depth` have it; else none at all.
        minimal: an answer with data has nothing in its other sections.
        fallthrough: zones of ours whose missing names are asked of the servers.
        stubs: folded names that other servers answer for, ours or not.
        forwarding: there are servers to ask about names that are not ours.
        chasing: there are servers to ask about aliases that lead out of our zones (`no_rec` ends
            the one and not the other, §9.1).
        addresses: ours, packed, for the NS record of a zone that has none in the store.
        version: the text answered for `version.bind`; "": refused.
        host: the text answered for `hostname.bind` and `id.server`; "": refused.
        nsid: what queries with NSID are answered (RFC 5001); b"": nothing.
        mname: MNAME of every SOA; b"": `ns.dns.` and the zone.
        authors: the texts for `authors.bind`; none: refused.
        catalog: folded name of the zone that lists ours (RFC 9432); b"": there is none.
        bufsize: octets of a reply by UDP at most.
        minimal_tc: a cut reply by UDP has no records, unless its client has a good cookie.
    """

    zones: frozenset[bytes]
    profile: Profile = PROFILES["coredns"]
    ttl: int = 300
    min_ttl: int = 30
    priority: int = 10
    hostmaster: bytes = b""
    local: bytes = b""
    rotate: bool = True
    auto_ptr: bool = False
    depth: int | None = None
    shapes: Mapping[bytes, Shape] = field(default_factory=dict)
    minimal: bool = False
    fallthrough: frozenset[bytes] = frozenset()
    stubs: frozenset[bytes] = frozenset()
    forwarding: bool = False
    chasing: bool = False
    addresses: tuple[bytes, ...] = ()
    version: str = "Fairlead"
    host: str = ""
    nsid: bytes = b""
    mname: bytes = b""
    authors: tuple[str, ...] = ()
    order: Order = field(default_factory=Order)
    catalog: bytes = b""
    bufsize: int = 1232
    minimal_tc: bool = False

    def shape(self, name: bytes) -> Shape:
        """Return that of the zone in which a folded name lies."""
        found = self.shapes.get(names.longest(name, self.zones)) if self.shapes else None
        return found or Shape(self.profile.own, self.depth, self.profile.catch_all)

    @property
    def by_client(self) -> bool:
        """Whether the order of addresses depends on who asks."""
        return self.rotate and self.order.client
