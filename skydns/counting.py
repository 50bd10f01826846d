# SPDX-License-Identifier: Apache-2.0
"""Queries counted by what they were: a cell for each kind that was seen (`skydns.seen`)."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from skydns import message, names, rrs
from skydns.ready import Cell
from skydns.seen import AT_ONCE, Seen, bucket, moment


class Counts:
    """The counts of one process."""

    def __init__(self) -> None:
        self._cells: dict[Seen, Cell] = {}

    @property
    def numbers(self) -> dict[Seen, int]:
        """Queries answered so far, by what they were."""
        return {seen: cell[0] for seen, cell in self._cells.items()}

    def totals(self) -> Counter[str]:
        """Return queries by rcode."""
        found: Counter[str] = Counter()
        for seen, cell in self._cells.items():
            found[seen.rcode] += cell[0]
        return found

    def add(self, seen: Seen) -> None:
        """Count one query."""
        self._cells.setdefault(seen, [0])[0] += 1

    def ours(
        self, zone: bytes, rtype: int, rcode: int, data: bytes, reply: bytes, *,
        system: str = "auth", do: bool = False, udp: bool, seconds: float,
    ) -> Cell:  # fmt: skip
        """Count a query that was answered here; return the cell of those that are answered from what is ready.

        Args:
            zone: b"": of none of ours.
            system: SkyDNS's word for where the answer came from (§14.1).
            seconds: that it took.
        """
        seen = Seen(
            shown(zone) if zone else "dropped", rrs.TYPES.get(rtype, "other"),
            rrs.RCODES.get(rcode, str(rcode)), "udp" if udp else "tcp", do, system,
            bucket(len(data)), bucket(len(reply)), bool(reply[2] & message.TC >> 8),
        )  # fmt: skip
        cell = self._cells.setdefault(seen, [0])
        took = moment(seconds)
        if took == AT_ONCE:
            cell[0] += 1
        else:
            self.add(seen._replace(took=took))
        return cell


shown = lru_cache(1024)(names.to_text)
"""A zone as text; there are few."""
