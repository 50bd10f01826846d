# SPDX-License-Identifier: Apache-2.0
"""The keys of one TOML table, each with its type; faults are collected, not raised. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.duration import parse_seconds
from fairlead.errors import ConfigError


@dataclass(slots=True)
class Reader:
    """Reads a table; `errors` gets what is wrong."""

    file: str
    table: Mapping[str, Any]
    errors: list[ConfigError]

    def fault(self, name: str, value: object, reason: str) -> None:
        """Note a fault."""
        shown = "" if value is None else str(value)
        self.errors.append(ConfigError(f'key "{name}"', shown, self.file, reason))

    def get(self, name: str) -> Any:
        """Return a key's value, its exact name preferred, any letter case taken."""
        if name in self.table:
            return self.table[name]
        return next((v for key, v in self.table.items() if key.lower() == name), None)

    def text(self, name: str) -> str:
        """Return a text, "" for none."""
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        self.fault(name, value, "must be a string")
        return ""

    def number(self, name: str) -> int | None:
        """Return a whole number, None for none."""
        value = self.get(name)
        if value is None or (type(value) is int and value >= 0):
            return value
        self.fault(name, value, "must be a whole number, not negative")
        return None

    def strings(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self.get(name)
        if value is None:
            return ()
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self.fault(name, value, "must be a list of strings")
        return ()

    def flag(self, name: str) -> bool:
        """Return yes or no, no for none."""
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.fault(name, value, "must be true or false")
        return False

    def seconds(self, name: str, default: float) -> float:
        """Return a duration."""
        text = self.text(name)
        if not text:
            return default
        try:
            return parse_seconds(text)
        except ValueError as error:
            self.fault(name, text, str(error))
            return default


def read_mode(reader: Reader, warnings: list[str], *, octal: bool = False) -> int | None:
    """Return permission bits as the original reads them; what surprises is warned about.

    Args:
        octal: digits without a leading 0 are octal all the same.
    """
    text = reader.text("mode")
    if not text:
        return None
    plain = text.replace("_", "") if "_" in text else text
    try:
        eight = plain.isdigit() and (octal or plain[0] == "0")
        value = int(plain, 8 if eight else 0)
    except ValueError:
        reader.fault("mode", text, 'not a number; octal is written "0644"')
        return None
    if value < 0 or value >= 1 << 32:
        reader.fault("mode", text, "out of range")
        return None
    if not eight and plain.isdigit() and set(plain) <= set("01234567"):
        # the original reads it as decimal, and so do we (trap 3)
        warnings.append(
            f'mode "{text}" is decimal, so {value & 0o777:04o}; octal is "0{text}", or set -octal-mode'
        )
    return value & 0o777
