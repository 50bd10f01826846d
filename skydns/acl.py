# SPDX-License-Identifier: Apache-2.0
"""Who may ask what: the plugin `acl` of a Corefile (specs/skydns.md §15.4).

The server block with the longest zone that has the name decides, by its directives in their
order; in one, the first line that matches type and client. `block` is answered with REFUSED,
`filter` as if there were no data, `drop` not at all; what no line matches is allowed.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from skydns import ede, message, names, rrs
from skydns.addresses import Network
from skydns.seen import Seen, bucket


class Action(Enum):
    """What becomes of a query."""

    ALLOW = "allow"
    BLOCK = "block"
    FILTER = "filter"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        types: asked for; empty: any.
        networks: of clients; empty: any.
    """

    action: Action
    types: frozenset[int] = frozenset()
    networks: tuple[Network, ...] = ()

    def matches(self, rtype: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Say whether the line is about this type and client."""
        return (not self.types or rtype in self.types) and (
            not self.networks or any(address in network for network in self.networks)
        )


@dataclass(frozen=True, slots=True)
class Directive:
    """One `acl`: folded zones and lines."""

    zones: frozenset[bytes]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Acl:
    """What a file says.

    Attributes:
        blocks: folded zone of each server block → its directives.
    """

    blocks: Mapping[bytes, tuple[Directive, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.blocks.values())

    def decide(self, name: bytes, rtype: int, client: bytes) -> Action:
        """Return what becomes of a query.

        Args:
            name: folded.
            client: its address, 4 or 16 octets.
        """
        address = ipaddress.ip_address(client)
        for directive in self.blocks.get(self.block(name), ()):
            if directive.zones.isdisjoint(names.ancestors(name)):
                continue
            for line in directive.lines:
                if line.matches(rtype, address):
                    return line.action
        return Action.ALLOW

    def block(self, name: bytes) -> bytes:
        """Return the zone of the server block that has a name, b"" for none."""
        return names.longest(name, self.blocks)


Decided = Counter[tuple[Action, str]]
"""Queries by what became of them and the zone of the server block."""


class Screen:
    """Applies an access list to queries as they come.

    Args:
        count: told of each query that is not let through.
        decided: what became of queries in zones that have a list.
    """

    def __init__(self, acl: Acl, count: Callable[[Seen], None], decided: Decided) -> None:
        self._acl = acl
        self._count = count
        self.decided = decided

    def verdict(self, data: bytes, client: bytes, *, udp: bool) -> bytes | None:
        """Return what is sent instead of an answer, b"" for nothing; None: the query may pass.

        Args:
            client: its address, 4 or 16 octets.
        """
        end = message.question_end(data) if len(data) > message.HEADER else 0
        if not end:
            return None  # no question that a line could be about: it gets no data anyway
        name = data[message.HEADER : end - 4].lower()
        rtype = int.from_bytes(data[end - 4 : end - 2], "big")
        action = self._acl.decide(name, rtype, client)
        if self._acl.blocks.get(zone := self._acl.block(name)):
            self.decided[action, names.to_text(zone)] += 1
        if action is Action.ALLOW:
            return None
        query = message.parse(data)
        if action is Action.DROP or query is None:
            return b""
        if not isinstance(query, message.Query):
            return query
        blocked = action is Action.BLOCK
        rcode = rrs.REFUSED if blocked else rrs.NOERROR
        reply = message.failure(
            query, rcode, recursion=False, trouble=ede.BLOCKED if blocked else ede.FILTERED
        )
        self._count(Seen(
            "dropped", rrs.TYPES.get(rtype, "other"), rrs.RCODES[rcode], "udp" if udp else "tcp",
            query.do, "auth", bucket(len(data)), bucket(len(reply)),
        ))  # fmt: skip
        return reply


def screen(acl: Acl, count: Callable[[Seen], None], decided: Decided) -> Screen | None:
    """Return what applies a list, None when there is none to apply."""
    return Screen(acl, count, decided) if acl else None
