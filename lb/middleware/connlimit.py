# SPDX-License-Identifier: Apache-2.0
"""connlimit: so many requests at once for each value of a variable (specs/vulcand.md §4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fairlead.flags import Kind, Setting
from lb.fields import Fields, Invalid
from lb.middleware import Exchange, Link, Reply
from lb.middleware.types import Type
from lb.middleware.variable import Variable, variable

if TYPE_CHECKING:
    from lb.ledger import Counts, Ledger


class ConnLimit(Link):
    """Counts requests, not sockets."""

    __slots__ = ("_active", "_most", "_name", "_shared", "_variable")

    def __init__(self, most: int, of: Variable) -> None:
        self._most = most
        self._variable = of
        self._active: dict[bytes, int] = {}
        self._shared: Counts | None = None
        self._name = b""

    def share(self, ledger: Ledger, name: bytes) -> None:
        """Count what all processes have under way."""
        self._shared, self._name = ledger.counts, name + b" "

    def on_request(self, exchange: Exchange) -> Reply | None:
        """Let it pass while there is room."""
        value = self._variable(exchange)
        if value is None:
            return Reply(500, b"Internal Server Error")
        if not self._enter(value, exchange.now):
            return Reply(429, b"max connections reached: %d" % self._most)
        exchange.notes[self] = value
        return None

    def _enter(self, value: bytes, now: float) -> bool:
        if self._shared is not None:
            return self._shared.enter(self._name + value, self._most, now)
        active = self._active.get(value, 0)
        if active >= self._most:
            return False
        self._active[value] = active + 1
        return True

    def released(self, exchange: Exchange) -> None:
        """Make room."""
        value = exchange.notes.pop(self)
        if self._shared is not None:
            self._shared.leave(self._name + value)
            return
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
    zeros={"Connections": 0, "Variable": ""},
)  # fmt: skip
