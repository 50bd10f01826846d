# SPDX-License-Identifier: Apache-2.0
"""Names from files like /etc/hosts: the plugin `hosts` of a Corefile (specs/skydns.md §15.4).

::

    file, inline lines ─► Table ─► Hosts.answer(question) ─► Reply, or None: the next plugin's
       ▲ looked at every `reload` seconds

The server block with the longest zone that has the name decides whether there is such a file. A
name that is in none of the lines is the next plugin's with `fallthrough`, else SERVFAIL as in the
original: there is no SOA that NXDOMAIN could come with.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from skydns import names, rrs
from skydns.files import Stamp, stamp
from skydns.reply import Reply
from skydns.rrs import RR, Question

_FAMILIES: Final = {rrs.A: 4, rrs.AAAA: 16}


@dataclass(frozen=True, slots=True)
class Spec:
    """One `hosts` of a file.

    Attributes:
        path: "": none.
        zones, fallthrough: folded.
        reverse: PTR is answered from the lines.
        reload: seconds between two looks at the file; 0: none.
    """

    path: str
    zones: frozenset[bytes]
    inline: tuple[str, ...] = ()
    ttl: int = 3600
    reverse: bool = True
    reload: float = 5.0
    fallthrough: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class Table:
    """What the lines say: folded name → addresses, address → names."""

    addresses: dict[bytes, list[bytes]] = field(default_factory=dict)
    names: dict[bytes, list[bytes]] = field(default_factory=dict)

    def add(self, line: str, zones: frozenset[bytes]) -> bool:
        """Take a line over; False: it is none. Names outside the zones are left out."""
        words = line.partition("#")[0].split()
        if not words:
            return True
        try:
            address = ipaddress.ip_address(words[0].partition("%")[0])
            found = [names.from_text(word).lower() for word in words[1:]]
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        packed = (mapped or address).packed
        for name in found:
            if zones.isdisjoint(names.ancestors(name)):
                continue
            places = [(self.addresses.setdefault(name, []), packed)]
            if not name.startswith(b"\1*"):  # PTR of a pattern would name nobody
                places.append((self.names.setdefault(packed, []), name))
            for place, value in places:
                if value not in place:
                    place.append(value)
        return bool(found)

    def of(self, name: bytes, size: int) -> list[bytes]:
        """Return a name's addresses of so many octets; a leftmost `*` stands for one label."""
        for candidate in (name, b"\1*" + names.parent(name)) if name != names.ROOT else ():
            if found := [each for each in self.addresses.get(candidate, ()) if len(each) == size]:
                return found
        return []


class Hosts:
    """Answers from the tables of all server blocks.

    Args:
        said: told what is wrong with a file.
    """

    def __init__(self, said: Callable[[str, str], None]) -> None:
        self._said = said
        self._blocks: Mapping[bytes, Spec | None] = {}
        self._tables: dict[Spec, Table] = {}
        self._seen: dict[str, Stamp] = {}

    def __bool__(self) -> bool:
        return bool(self._tables)

    @property
    def entries(self) -> int:
        """How many addresses names have, and names addresses."""
        tables = self._tables.values()
        return sum(len(found) for each in tables for part in (each.addresses, each.names) for found in part.values())  # fmt: skip

    @property
    def changed_wall(self) -> float:
        """When the latest of the files was written, in seconds since 1970; 0: there is none."""
        return max((written for _, written, _ in self._seen.values()), default=0) / 1e9

    @property
    def pauses(self) -> list[float]:
        """How often the files want to be looked at, in seconds."""
        return [spec.reload for spec in self._tables if spec.reload]

    def use(self, blocks: Mapping[bytes, Spec | None]) -> None:
        """Answer by these from now on."""
        self._blocks = blocks
        specs = {spec for spec in blocks.values() if spec is not None}
        for spec in specs:
            self._seen[spec.path] = stamp(spec.path)
        self._tables = {spec: self._read(spec) for spec in specs}

    def answer(self, question: Question) -> Reply | None:
        """Return what the files say about a name; None: it is the next plugin's."""
        spec = self._blocks.get(names.longest(question.name, self._blocks))
        if spec is None or question.rclass != rrs.IN:
            return None
        name, table = question.name, self._tables[spec]
        zone = names.longest(name, spec.zones)
        if question.rtype == rrs.PTR:
            targets = table.names.get(names.address_of(name), ()) if spec.reverse else ()
            if not targets:
                return None
            records = tuple(RR(name, rrs.PTR, spec.ttl, names=(target,)) for target in targets)
            return Reply(rrs.NOERROR, answer=records, zone=zone or name, reads=(name,))
        if not zone:
            return None
        size = _FAMILIES.get(question.rtype, 0)
        found = table.of(name, size) if size else []
        if not (found or table.of(name, 4) or table.of(name, 16)):
            if not spec.fallthrough.isdisjoint(names.ancestors(name)):
                return None
            return Reply(rrs.SERVFAIL, authoritative=False, reads=(name,))
        records = tuple(RR(name, question.rtype, spec.ttl, address) for address in found)
        return Reply(rrs.NOERROR, answer=records, zone=zone, reads=(name,))

    async def look(self) -> bool:
        """Read the files that have changed; say whether there is anything new."""
        blocks, changed = self._blocks, False
        stamps = {spec.path: stamp(spec.path) for spec in self._tables}
        for spec in tuple(self._tables):
            now = stamps[spec.path]
            if not spec.reload or not any(now) or now == self._seen[spec.path]:
                continue
            table = await asyncio.to_thread(self._read, spec)
            if self._blocks is blocks:
                self._tables[spec] = table
                changed = True
        self._seen |= stamps
        return changed

    def _read(self, spec: Spec) -> Table:
        lines: list[str] = []
        if spec.path:
            try:
                lines = Path(spec.path).read_text("utf-8", "replace").splitlines()
            except OSError as error:
                self._said(spec.path, str(error))
        return _table((*lines, *spec.inline), spec.zones)


def _table(lines: Iterable[str], zones: frozenset[bytes]) -> Table:
    """Return what lines say; one that cannot be read is left out, as by the C library."""
    table = Table()
    for line in lines:
        table.add(line, zones)
    return table
