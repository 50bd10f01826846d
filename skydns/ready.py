# SPDX-License-Identifier: Apache-2.0
"""Replies that are ready to go: what stands for one in a table, and where a query's parts are.

A query and a reply are without their ids here, so that a query is the key of its reply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from skydns import keys

Cell = list[int]
"""A counter as the hot loop likes it: `cell[0] += 1`."""

Payload = bytes | Callable[[], bytes]
"""A reply without its id, or what makes one."""

NAME: Final = 10  # where the question's name begins in a query without its id
STAR: Final = frozenset(bytes((len(label),)) + label for label in keys.WILDCARDS)
LONGEST_STAR: Final = max(star[0] for star in STAR)
LEAST: Final = 17  # octets of the shortest query: header, name, type, class
HEADER: Final = slice(NAME + 1)  # of a query without its id, with the first label's length
LABEL: Final = tuple(slice(NAME, NAME + 1 + length) for length in range(256))
ABOVE: Final = tuple(slice(NAME + 1 + length, None) for length in range(256))
"""What cuts a query without its id: what is before its first label's text, that label with its length,
what is after it; by the label's length."""


class Turning:
    """A reply whose addresses take turns in being first."""

    __slots__ = ("at", "head", "ring", "size", "step", "tail")

    def __init__(self, payload: bytes, start: int, step: int, count: int) -> None:
        self.size = step * count
        self.step = step
        self.at = 0
        self.head = payload[:start]
        self.tail = payload[start + self.size :]
        self.ring = payload[start : start + self.size] * 2

    def __call__(self) -> bytes:
        """Return the reply with the next address first."""
        at = self.at + self.step
        if at >= self.size:
            at = 0
        self.at = at
        return self.head + self.ring[at : at + self.size] + self.tail


class Negative:
    """A negative reply around its zone's present serial."""

    __slots__ = ("head", "serial", "tail")

    def __init__(self, payload: bytes, at: int, serial: list[bytes]) -> None:
        self.head = payload[:at]
        self.serial = serial
        self.tail = payload[at + 4 :]

    def __call__(self) -> bytes:
        """Return the reply with the serial of now."""
        return self.head + self.serial[0] + self.tail


class Near:
    """NXDOMAIN for any label that `children` does not hold: `flags`, the label, `after`.

    Args:
        reply: what is before the label, what is after it and before the serial, what after that.
        asked: octets of the question after its first label.

    Attributes:
        after: what follows the first label, around the serial `seen`; its names in lower case.
    """

    __slots__ = ("after", "asked", "cell", "children", "flags", "head", "seen", "serial", "tail")

    def __init__(
        self,
        children: Mapping[bytes, object],
        reply: tuple[bytes, bytes, bytes],
        asked: int,
        serial: list[bytes],
        cell: Cell,
    ) -> None:
        self.children = children
        self.flags, self.head, self.tail = reply
        self.asked = asked
        self.serial = serial
        self.cell = cell
        self.renew()

    def present(self) -> bytes:
        """Return what follows the label now."""
        return self.after if self.seen is self.serial[0] else self.renew()

    def renew(self) -> bytes:
        """Return `after` with the zone's present serial."""
        self.seen = self.serial[0]
        self.after = self.head + self.seen + self.tail
        return self.after

    def to(self, key: bytes) -> bytes:
        """Return the reply to a query whose question is not all in lower case, both without ids."""
        end = NAME + 1 + key[NAME] + self.asked
        return self.flags + key[NAME:end] + self.present()[self.asked :]
