# SPDX-License-Identifier: Apache-2.0
"""The value and source of every setting of a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.errors import ConfigError
from fairlead.flags.convert import show
from fairlead.flags.setting import DEFAULT, Setting, Source, config_error


class Typed:
    """Reads settings by name as what they are; who knows the values gives `__getitem__`."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        raise NotImplementedError

    def text(self, name: str) -> str:
        """Return a STR."""
        return str(self[name])

    def flag(self, name: str) -> bool:
        """Return a BOOL."""
        return bool(self[name])

    def number(self, name: str) -> int:
        """Return an INT."""
        return int(self[name])

    def real(self, name: str) -> float:
        """Return a FLOAT."""
        return float(self[name])

    def seconds(self, name: str) -> float:
        """Return a DURATION."""
        return float(self[name])

    def many(self, name: str) -> tuple[str, ...]:
        """Return a COMMA, REPEAT or LIST."""
        return tuple(self[name])


@dataclass(slots=True)
class Values(Typed):
    """The value and source of every setting of a program.

    Attributes:
        settings: by name, in the order they are declared.
        args: what followed the flags on the command line.
        warnings: what the operator should hear: unknown keys, overridden file values, flags
            without effect.
    """

    settings: Mapping[str, Setting]
    _values: dict[str, tuple[Any, Source]]
    args: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self._values[name][0]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def source(self, name: str) -> Source:
        """Say where the value came from."""
        return self._values[name][1]

    def given(self, name: str) -> bool:
        """Say whether somebody set it: anything but the default."""
        return self._values[name][1] is not DEFAULT

    def error(self, name: str, reason: str) -> ConfigError:
        """Make the ConfigError of a value that a check across settings refuses."""
        setting = self.settings[name]
        return config_error(setting, show(setting, self[name]), self.source(name), reason)

    def fingerprint(self) -> dict[str, Any]:
        """Return name → value, for comparing two configurations at a reload."""
        return {name: value for name, (value, _) in self._values.items()}
