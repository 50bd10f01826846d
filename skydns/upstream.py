# SPDX-License-Identifier: Apache-2.0
"""What decides how other name servers are asked: a frozen value."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from skydns import names, rrs
from skydns.addresses import Server
from skydns.cache import Bounds


class Probe(NamedTuple):
    """How a server that is down is asked whether it answers again.

    Attributes:
        first: seconds until the first probe; the pauses grow to ten times as much.
        recursive: RD is set.
        name: of the NS records that are asked for, folded.
    """

    first: float = 0.5
    recursive: bool = True
    name: bytes = names.ROOT


USUAL: Final = Probe()


@dataclass(frozen=True, slots=True)
class Upstream:
    """Who is asked about a part of the name space, and how.

    Attributes:
        timeout: seconds a server gets.
        hedge: seconds after which the next server is asked too.
        rotate: begin with another server each time.
        ndots: names with fewer labels are not asked for.
        clients: networks whose queries are passed on.
        fails: failures in a row after which a server is asked last until a probe reaches it.
        probe: how it is found out that one answers again.
        tcp: begin with TCP.
        excepted: folded names that are not asked for, with all below.
        stub: queries carry the mark by which a loop is seen.
        attempts: questions to servers for one of a client at most; 0: two for each server.
        failover: rcodes after which the next server is asked.
        next_rcodes, next_on_nodata: answers after which `following` is asked.
        failfast: when all servers are down none is asked.
        concurrent: questions under way; more are refused; 0: any number.
        source: address to ask from; "": the system's choice.
        expire: seconds a TCP or TLS connection is kept.
        idle: connections kept to one server; 0: any number.
        files: of CA, certificate and key for servers that speak TLS; "": the system's CAs, none.
        get: over HTTPS questions go by GET, not by POST.
        resolv_conf: without servers those of /etc/resolv.conf are asked.
        local_names: `localhost`, `invalid` and the like are answered here (RFC 6761, 6303).
    """

    servers: tuple[Server, ...]
    timeout: float = 2.0
    rotate: bool = True
    ndots: int = 2
    clients: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    hedge: float = 0.4
    fails: int = 2
    probe: Probe = USUAL
    tcp: bool = False
    excepted: frozenset[bytes] = frozenset()
    stub: bool = False
    local_names: bool = True
    resolv_conf: bool = True
    attempts: int = 0
    failover: frozenset[int] = frozenset((rrs.SERVFAIL, rrs.REFUSED))
    next_rcodes: frozenset[int] = frozenset()
    next_on_nodata: bool = False
    following: Upstream | None = None
    failfast: bool = False
    concurrent: int = 0
    source: str = ""
    expire: float = 10.0
    idle: int = 0
    files: tuple[str, str, str] = ("", "", "")
    get: bool = False

    def passes_on(self, found: bytes) -> bool:
        """Say whether an answer makes the next `forward` be asked."""
        rcode = found[3] & 0xF
        empty = rcode == rrs.NOERROR and found[6:8] == b"\0\0"
        return rcode in self.next_rcodes or (self.next_on_nodata and empty)

    def serves(self, host: str) -> bool:
        """Say whether a client's address lies in the networks we ask for."""
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.clients)


@dataclass(frozen=True, slots=True)
class Routes:
    """Whom to ask about which names.

    Attributes:
        default: for names that no other route is for.
        by_zone: folded zone → who is asked about it and what lies below.
        bounds: of the cache.
        concurrent: questions under way; more get SERVFAIL at once.
        by_client: of one client's.
    """

    default: Upstream
    by_zone: Mapping[bytes, Upstream] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=Bounds)
    concurrent: int = 1000
    by_client: int = 200

    def upstream(self, name: bytes) -> Upstream:
        """Return who is asked about a folded name: by the longest suffix."""
        return self.by_zone.get(names.longest(name, self.by_zone), self.default)

    def with_stubs(self, stubs: Mapping[bytes, tuple[Server, ...]]) -> Routes:
        """Return these with stub zones added."""
        added = {
            zone: replace(self.default, servers=servers, stub=True, ndots=0, excepted=frozenset())
            for zone, servers in stubs.items()
        }
        return replace(self, by_zone={**self.by_zone, **added})

    @property
    def servers(self) -> frozenset[Server]:
        """All servers of all routes."""
        return frozenset(server for upstream in self.every for server in upstream.servers)

    @property
    def every(self) -> tuple[Upstream, ...]:
        """All routes, and those that follow them."""
        found: list[Upstream] = []
        for first in (self.default, *self.by_zone.values()):
            each: Upstream | None = first
            while each is not None:
                found.append(each)
                each = each.following
        return tuple(found)
