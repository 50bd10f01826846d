# SPDX-License-Identifier: Apache-2.0
"""What is served: the records as a tree of labels, and what goes with them.

One `Node` for every name that is a key or has keys below it (an inner name exists, RFC 8020),
found by its folded wire form in one dictionary; a node knows its children by label. So

* whether a name exists costs one look-up, whatever the number of records;
* putting or removing a record costs its number of labels;
* the records below a name are walked only when an answer is made, not when it is sent.

Changed only by `apply`, between two turns of the loop; `answer` only reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from fairlead.etcd.types import LeaseID
from skydns import keys, names
from skydns.records import Service

MOST_RECORDS: Final = 4096
"""Records looked at for one answer: an address takes 16 octets, so no message holds more."""

MOST_VISITS: Final = 50_000
"""Nodes walked for one answer, ~10 ms: a question with wildcards cannot stall the server."""


class Node:
    """A name that exists: `own` holds its records, `children` the names one label below.

    A child is found by its label as it stands in messages, length octet first: so a batch of
    questions is compared with them as it was cut out (`skydns.flood`).
    """

    __slots__ = ("children", "own")

    def __init__(self) -> None:
        self.children: dict[bytes, Node] | None = None
        self.own: tuple[Service, ...] = ()


class Index:
    """Services by key, and the tree of their names."""

    def __init__(self) -> None:
        self._services: dict[bytes, Service] = {}
        self._nodes: dict[bytes, Node] = {names.ROOT: Node()}
        self._owners: dict[bytes, bytes | tuple[bytes, ...]] = {}  # address → keys that hold it
        self.services: Mapping[bytes, Service] = MappingProxyType(self._services)

    def put(self, service: Service) -> None:
        """Add a record, replacing the one of the same key."""
        if service.key in self._services:
            self.remove(service.key)
        self._services[service.key] = service
        if address := service.address:
            held = self._owners.get(address)  # mostly one: a tuple for each would be 56 octets more
            if held is None:
                self._owners[address] = service.key
            else:
                self._owners[address] = (*_several(held), service.key)
        name = service.name.lower()
        node = self._grow(name)
        # two keys that differ only in letter case are one name (§1.1): in the order of keys
        node.own = tuple(sorted((*node.own, service), key=_by_key)) if node.own else (service,)

    def remove(self, key: bytes) -> None:
        """Forget a record, and the names that existed only by it; a strange key does nothing."""
        service = self._services.pop(key, None)
        if service is None:
            return
        if service.address:
            left = tuple(other for other in _several(self._owners[service.address]) if other != key)
            if left:
                self._owners[service.address] = left
            else:
                del self._owners[service.address]
        name = service.name.lower()
        node = self._nodes[name]
        node.own = tuple(other for other in node.own if other.key != key)
        while not node.own and not node.children and name != names.ROOT:
            del self._nodes[name]
            above = names.parent(name)
            node = self._nodes[above]
            if node.children is not None:
                del node.children[name[: 1 + name[0]]]
            name = above

    def holders(self, address: bytes) -> list[Service]:
        """Return the records whose host is this address, in the order of their keys."""
        held = self._owners.get(address)
        return [self._services[key] for key in sorted(_several(held))] if held else []

    def node(self, name: bytes) -> Node | None:
        """Return what stands at a folded name, None when nothing exists there or below."""
        return self._nodes.get(name)

    def exists(self, name: bytes) -> bool:
        """Say whether a folded name is a key or has keys below it."""
        return name in self._nodes

    def below(
        self, name: bytes, *, without: bytes = b"", depth: int | None = None
    ) -> list[Service]:
        """Return the records of all descendants in the order of their keys (§3.4).

        Args:
            without: a label directly below, its length octet first, that is left out with all under it.
            depth: how many labels below `name` are looked at; None: all.
        """
        node = self._nodes.get(name)
        if node is None or not node.children:
            return []
        found: list[Service] = []
        walk = _walk(node, without) if depth is None else _shallow(node, without, depth)
        for visits, part in enumerate(walk, 1):
            found.extend(part.own)
            if len(found) >= MOST_RECORDS or visits >= MOST_VISITS:
                break
        return sorted(found, key=_by_key)

    def matching(self, base: bytes, question: bytes) -> list[Service]:
        """Return the records that answer a question with wildcards, in the order of keys (§3.1).

        Args:
            base: the question's part above its wildcards; `keys.wildcard_base` gives it.
        """
        node = self._nodes.get(base)
        if node is None:
            return []
        wanted = list(names.labels(question))[: -names.count(base) or None]
        found: list[Service] = []
        visits = 0
        level = [node]
        for want in reversed(wanted):  # from the base towards the leaves
            following: list[Node] = []
            for node in level:
                children = node.children or {}
                if want in keys.WILDCARDS:
                    following.extend(children.values())
                elif child := children.get(bytes((len(want),)) + want):
                    following.append(child)
                if len(following) >= MOST_VISITS:
                    break
            level = following
        for top in level:
            for part in _walk(top):
                visits += 1
                found.extend(part.own)
            found.extend(top.own)
            if len(found) >= MOST_RECORDS or visits >= MOST_VISITS:
                break
        return sorted(found, key=_by_key)

    def _grow(self, name: bytes) -> Node:
        """Return the node of a name, made with all above it when it is new."""
        nodes = self._nodes
        node = nodes.get(name)
        if node is not None:
            return node
        made = nodes[name] = Node()
        child = made
        while True:
            label, name = name[: 1 + name[0]], names.parent(name)
            above = nodes.get(name)
            known = above is not None
            if above is None:
                above = nodes[name] = Node()
            if above.children is None:
                above.children = {}
            above.children[label] = child
            if known:
                return made
            child = above


def _several(held: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return keys as a tuple, be it one or more."""
    return (held,) if isinstance(held, bytes) else held


def _by_key(service: Service) -> bytes:
    """Return what records are ordered by: as etcd, their keys' octets."""
    return service.key


def _walk(node: Node, without: bytes = b"") -> Iterator[Node]:
    """Yield the nodes below one, not itself."""
    stack = [child for label, child in reversed((node.children or {}).items()) if label != without]
    while stack:
        node = stack.pop()
        yield node
        if node.children:
            stack.extend(reversed(node.children.values()))


def _shallow(node: Node, without: bytes, depth: int) -> Iterator[Node]:
    """Yield the nodes at most `depth` labels below one, not itself."""
    level = [child for label, child in (node.children or {}).items() if label != without]
    for _ in range(depth):
        yield from level
        level = [child for each in level for child in (each.children or {}).values()]


@dataclass(slots=True)
class Served:
    """What answers are made from.

    Attributes:
        serials: SOA serial by zone: the store's revision of the last change in it (§5.7).
        start_serial: serial of a zone that did not change since the first list.
        leases: when a lease runs out, on the monotonic clock; unknown ones count as none.
    """

    index: Index = field(default_factory=Index)
    serials: dict[bytes, int] = field(default_factory=dict)
    start_serial: int = 1
    leases: dict[LeaseID, float] = field(default_factory=dict)

    def serial(self, zone: bytes) -> int:
        """Return a zone's SOA serial, 32 bits (RFC 1982)."""
        return self.serials.get(zone, self.start_serial) & 0xFFFFFFFF
