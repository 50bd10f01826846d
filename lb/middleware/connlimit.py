# SPDX-License-Identifier: Apache-2.0
"""connlimit: so many requests at once for each value of a variable (specs/vulcand.md §4.2)."""

from __future__ import annotations

from typing import Final

from fairlead.flags import Kind, Setting
from lb.fields import Fields, Invalid
from lb.middleware import Exchange, Link, Reply
from lb.middleware.types import Type
from lb.middleware.variable import Variable, variable


class ConnLimit(Link):
    """Counts requests, not sockets."""

    __slots__ = ("_active", "_most", "_variable")

    def __init__(self, most: int, of: Variable) -> None:
        self._most = most
        self._variable = of
        self._active: dict[bytes, int] = {}

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Let it pass while there is room."""
        value = self._variable(exchange)
        if value is None:
            return Reply(500, b"Internal Server Error")
        active = self._active.get(value, 0)
        if active >= self._most:
            return Reply(429, b"max connections reached: %d" % self._most)
        self._active[value] = active + 1
        exchange.notes[self] = value
        return None

    def released(self, exchange: Exchange) -> None:
        """Make room."""
        value = exchange.notes.pop(self)
        left = self._active[value] - 1
        if left:
            self._active[value] = left
        else:
            del self._active[value]


def _make(fields: Fields) -> Link:
    most = fields.number("Connections")
    if most < 0:
        raise Invalid(f"connections should be > 0, got {most}")
    return ConnLimit(most, variable(fields.text("Variable")))


TYPE: Final = Type(
    _make,
    (
        Setting("connections", Kind.INT, 1, "Requests at once.", aliases=("conns",)),
        Setting("variable", Kind.STR, "client.ip", "What is counted by: client.ip, request.host or request.header.NAME.", aliases=("var",)),
    ),
    lambda values: {"Connections": values.number("connections"), "Variable": values.text("variable")},
    guards=True,
)  # fmt: skip
