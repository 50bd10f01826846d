# SPDX-License-Identifier: Apache-2.0
"""Counters and gauges of many processes as one. Pure.

A counter must not go back when a worker dies, so what it had counted stays; a gauge (connections
open) ends with the worker.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

Labels = tuple[str, ...]
"""Name of a family, then the values of its labels."""


class Figures(msgspec.Struct, frozen=True, array_like=True):
    """What one process has counted since it started, and what is so in it now."""

    counts: dict[Labels, float] = {}
    gauges: dict[Labels, float] = {}

    def encode(self) -> bytes:
        """Return it as a page holds it."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, octets: bytes) -> Figures:
        """Read it back; b"" is nothing counted.

        Raises:
            msgspec.DecodeError: not written by `encode`.
        """
        return msgspec.msgpack.decode(octets, type=cls) if octets else cls()

    def lasting(self) -> Figures:
        """Return what stays when the process is gone."""
        return Figures(self.counts)


def summed(figures: Iterable[Figures]) -> Figures:
    """Add them up."""
    counts: dict[Labels, float] = {}
    gauges: dict[Labels, float] = {}
    for each in figures:
        for total, part in ((counts, each.counts), (gauges, each.gauges)):
            for labels, value in part.items():
                total[labels] = total.get(labels, 0) + value
    return Figures(counts, gauges)
