# SPDX-License-Identifier: Apache-2.0
"""The zones of master files as they stand now, read anew when they change."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from skydns import names, rrs, zonefile
from skydns.reply import Reply
from skydns.rrs import Question
from skydns.zonefile import Stamp, Zone, Zonefile, ZonefileError

__all__ = ["Files", "Stamp", "digest", "stamp"]


class Files:
    """Answers from the zones of all server blocks.

    Args:
        said: told what is wrong with a file.
    """

    def __init__(self, said: Callable[[str, str], None]) -> None:
        self._said = said
        self._blocks: Mapping[bytes, Sequence[Zonefile]] = {}
        self._zones: dict[tuple[Zonefile, bytes], Zone | None] = {}
        self._seen: dict[str, Stamp] = {}
        self._due: dict[Zonefile, float] = {}

    def __bool__(self) -> bool:
        return bool(self._zones)

    @property
    def pauses(self) -> list[float]:
        """How often the files want to be looked at, in seconds."""
        return [spec.reload for spec, _ in self._zones if spec.reload]

    def use(self, blocks: Mapping[bytes, Sequence[Zonefile]]) -> None:
        """Answer by these from now on."""
        self._blocks = blocks
        every = {spec for specs in blocks.values() for spec in specs}
        self._seen = {spec.path: spec.seen or stamp(spec.path) for spec in every}
        self._zones = {
            (spec, zone): spec.at_hand.pop(zone, None) or self._read(spec, zone)
            for spec in every
            for zone in spec.zones
        }

    def answer(self, question: Question) -> Reply | None:
        """Return what the files say about a name; None: they have nothing to say."""
        name = question.name
        block = names.longest(name, self._blocks)
        if not block or question.rclass not in {rrs.IN, rrs.ANY_CLASS}:
            return None
        for spec in self._blocks[block]:
            origin = names.longest(name, spec.zones)
            if not origin or question.rtype in {rrs.AXFR, rrs.IXFR}:
                continue
            zone = self._zones.get((spec, origin))
            if zone is None:  # there is such a zone, and nothing is known of it
                return Reply(rrs.SERVFAIL, authoritative=False, zone=origin)
            reply = zone.answer(question)
            missing = reply.rcode == rrs.NXDOMAIN
            if missing and not spec.fallthrough.isdisjoint(names.ancestors(name)):
                continue
            return reply
        return None

    @property
    def zones(self) -> dict[bytes, Zone]:
        """The zones that were read, by folded name; the first file of a zone counts."""
        found: dict[bytes, Zone] = {}
        for (_, origin), zone in self._zones.items():
            if zone is not None:
                found.setdefault(origin, zone)
        return found

    async def look(self) -> bool:
        """Read the files that have changed; say whether there is anything new."""
        blocks, changed = self._blocks, False
        stamps = {spec.path: stamp(spec.path) for spec, _ in self._zones}
        for (spec, origin), before in tuple(self._zones.items()):
            if not spec.reload or stamps[spec.path] == self._seen.get(spec.path):
                continue
            zone = await asyncio.to_thread(self._read, spec, origin)
            if zone is None or self._blocks is not blocks:
                continue
            if before is None or spec.by_time or zone.serial != before.serial:
                self._zones[spec, origin] = zone
                changed = True
        if self._blocks is blocks:
            self._seen = stamps
        return changed

    def _read(self, spec: Zonefile, origin: bytes) -> Zone | None:
        """Return a zone, None when the file is no good."""
        try:
            return zonefile.read(spec.path, origin)
        except ZonefileError as error:
            self._said(spec.path, str(error))
            return None


def digest(path: str) -> bytes:
    """Return the SHA-512 of a file's content, b"" when it cannot be read."""
    try:
        return hashlib.sha512(Path(path).read_bytes()).digest()
    except OSError:
        return b""


def stamp(path: str) -> Stamp:
    """Return what changes when a file is written; zeros: it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
