# SPDX-License-Identifier: Apache-2.0
"""Which hosts need a certificate, and when. Pure."""

from __future__ import annotations

from typing import Final

from lb.acme.entries import Issued, renewal
from lb.catalog import Catalog
from lb.fields import Invalid
from lb.records import Host
from lb.secret import Box, opened

_FIRST_PAUSE: Final = 300.0  # seconds after the first failure; Let's Encrypt allows 5 in an hour
_LONGEST_PAUSE: Final = 12 * 3600.0


class Calendar:
    """When each host's next order is due; remembers what it read of certificates."""

    def __init__(self, catalog: Catalog, box: Box | None) -> None:
        self._catalog = catalog
        self._box = box
        self._read: dict[str, tuple[Issued, float, float]] = {}

    def due(self) -> dict[str, float]:
        """Return host → Unix seconds, for hosts whose certificate is ours to obtain."""
        if self._box is None:  # keys are stored sealed only
            return {}
        return {
            name: self._when(name, host)
            for name, host in self._catalog.hosts.items()
            if host.auto is not None and host.pair is None
        }

    def _when(self, name: str, host: Host) -> float:
        failed = self._catalog.failures.get(name)
        issued = self._catalog.issued.get(name)
        when = 0.0 if issued is None else self._renewal(name, host, issued)
        return when if failed is None else max(when, failed.until)

    def _renewal(self, name: str, host: Host, issued: Issued) -> float:
        before = host.auto.renew_before if host.auto is not None else 0.0
        known = self._read.get(name)
        if known is not None and known[0] is issued and known[1] == before:
            return known[2]
        try:
            when = renewal(opened(issued.pair, self._box).cert, before)
        except (Invalid, ValueError):  # sealed with another key, or no certificate: a new one
            when = 0.0
        self._read[name] = issued, before, when
        return when


def pause(tries: int, asked: float) -> float:
    """Return seconds until an order is made again.

    Args:
        tries: failures in a row, this one counted.
        asked: seconds the server wants to be left alone; 0 where it does not say.
    """
    return max(asked, min(_FIRST_PAUSE * 2.0 ** min(tries - 1, 20), _LONGEST_PAUSE))
