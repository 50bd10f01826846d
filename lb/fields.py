# SPDX-License-Identifier: Apache-2.0
"""A JSON object as Go's encoding/json reads it (specs/vulcand.md §3). Pure.

Names in any letter case, the last of two wins, null is the zero value, types exact (a number in
quotes or 1.0 for an integer is an error), unknown names ignored and kept.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from fairlead.duration import parse_ns, parse_seconds

JSON = dict[str, Any]


class Invalid(ValueError):
    """An object breaks a rule; the message names field and reason."""


class Fields:
    """One object; reads name what is wrong with a field."""

    def __init__(self, value: object, path: str = "") -> None:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise Invalid(f"{path or 'value'}: {kind_of(value)} where an object is wanted")
        self._path = path
        self._fields: JSON = {}
        self._spelt: dict[str, str] = {}
        for name, item in value.items():
            folded = name.lower()
            if item is None and folded in self._fields:
                continue  # null leaves what an earlier spelling gave
            self._fields[folded] = item
            self._spelt[folded] = name
        self._read: set[str] = set()

    def get(self, name: str, kind: type, zero: Any) -> Any:
        """Return a field of this type, or `zero`."""
        value = self.any(name)
        if value is None:
            return zero
        if type(value) is not kind:
            raise Invalid(f"{self._path}{name}: {kind_of(value)} where {_WORDS[kind]} is wanted")
        return value

    def any(self, name: str) -> Any:
        """Return a field of whatever type."""
        self._read.add(name.lower())
        return self._fields.get(name.lower())

    def text(self, name: str) -> str:
        """Return a string."""
        return str(self.get(name, str, ""))

    def flag(self, name: str) -> bool:
        """Return true or false."""
        return bool(self.get(name, bool, False))

    def number(self, name: str) -> int:
        """Return an integer of 64 bits."""
        value = int(self.get(name, int, 0))
        if not -(1 << 63) <= value < 1 << 63:
            raise Invalid(f"{self._path}{name}: {value} does not fit 64 bits")
        return value

    def object(self, name: str) -> Fields:
        """Return an object, empty when absent."""
        return Fields(self.get(name, dict, {}), f"{self._path}{name}.")

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        found = self.get(name, list, [])
        if not all(isinstance(item, str) for item in found):
            raise Invalid(f"{self._path}{name}: a list of strings is wanted")
        return tuple(found)

    def data(self, name: str) -> bytes:
        """Return what a base64 string holds."""
        try:
            return base64.b64decode(
                self.text(name).replace("\n", "").replace("\r", ""), validate=True
            )
        except (binascii.Error, ValueError):
            raise Invalid(f"{self._path}{name}: base64 is wanted") from None

    def seconds(self, name: str) -> float:
        """Return a duration in seconds, of a Go duration or an integer of nanoseconds."""
        value = self.any(name)
        if isinstance(value, str) and value:
            try:
                return parse_seconds(value)
            except ValueError as error:
                raise Invalid(f"{self._path}{name}: {error}") from error
        return 0.0 if value in (None, "") else self.number(name) / 1e9

    def nanoseconds(self, name: str) -> int:
        """Return a duration in nanoseconds, of a Go duration or an integer."""
        value = self.any(name)
        if isinstance(value, str) and value:
            try:
                return parse_ns(value)
            except ValueError as error:
                raise Invalid(f"{self._path}{name}: {error}") from error
        return 0 if value in (None, "") else self.number(name)

    def given(self, name: str) -> bool:
        """Say whether a field is there and not null."""
        return self._fields.get(name.lower()) is not None

    def pick(self, names: tuple[str, ...]) -> JSON:
        """Return those of the fields that are there, under these names."""
        self._read.update(name.lower() for name in names)
        return {n: self._fields[n.lower()] for n in names if self.given(n)}

    def rest(self) -> JSON:
        """Return the fields nobody read, as spelt."""
        return {
            self._spelt[n]: v
            for n, v in self._fields.items()
            if n not in self._read and n != "stats"
        }

    def all(self) -> JSON:
        """Return every field, names in lower case."""
        return self._fields


_WORDS: Final = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def kind_of(value: object) -> str:
    """Return the words for a value's type."""
    match value:
        case bool():
            return "true or false"
        case int():
            return "an integer"
        case float():
            return "a fraction"
        case str():
            return "a string"
        case list():
            return "a list"
        case None:
            return "null"
        case _:
            return "an object"
