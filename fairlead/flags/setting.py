# SPDX-License-Identifier: Apache-2.0
"""What a setting is: names, type, default, sentence; and where a value came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from fairlead.errors import ConfigError, FairleadError


class Kind(Enum):
    """A setting's type; the value is Go's word for it in `-help`."""

    STR = "string"
    BOOL = ""
    INT = "int"
    FLOAT = "float"
    DURATION = "duration"  # float seconds inside
    COMMA = "list"  # one value, split at commas; the last occurrence wins
    REPEAT = "value"  # each occurrence adds one element; nothing is split
    LIST = "values"  # each occurrence is split at commas and added


MANY: Final = (Kind.COMMA, Kind.REPEAT, Kind.LIST)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: the flag without its dash, spelt as the original spells it.
        default: of the kind's type: str, bool, int, float seconds, tuple of str.
        help: one sentence; ends with a full stop.
        env: the variable; None: the program's prefix + name, if it has a prefix; "": none.
        file_key: the key in the program's configuration file; None: none. `-` and `_` are one.
        unit: printed after the default, e.g. "minutes".
        aliases: other spellings of the flag.
        secret: never printed.
        ours: not a flag of the original.
        choices: the words it takes, compared without case.
        check: says what is wrong with a value, or None.
        refused: not empty: the flag is known, not built or gone; using it is an error, with
            this hint.
        ignored: not empty: accepted with this warning, without effect.
        empty: for DURATION: what the empty text means, in seconds; None: an error.
    """

    name: str
    kind: Kind = Kind.STR
    default: Any = None
    help: str = ""
    env: str | None = None
    file_key: str | None = None
    unit: str = ""
    aliases: tuple[str, ...] = ()
    secret: bool = False
    ours: bool = False
    choices: tuple[str, ...] = ()
    check: Callable[[Any], str | None] | None = None
    refused: str = ""
    ignored: str = ""
    empty: float | None = None

    def initial(self) -> Any:
        """Return the default, or the kind's zero value."""
        if self.default is not None:
            return self.default
        return _ZERO[self.kind]


_ZERO: Final[dict[Kind, Any]] = {
    Kind.STR: "",
    Kind.BOOL: False,
    Kind.INT: 0,
    Kind.FLOAT: 0.0,
    Kind.DURATION: 0.0,
    Kind.COMMA: (),
    Kind.REPEAT: (),
    Kind.LIST: (),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value came from; `str` reads "default", "command line", "environment X", "file:3"."""

    kind: str
    detail: str = ""
    key: str = ""  # the key as written in the file

    def __str__(self) -> str:
        if self.kind == "file":
            return self.detail
        return f"{self.kind} {self.detail}".strip()


DEFAULT: Final = Source("default")
COMMAND_LINE: Final = Source("command line")


class UsageError(FairleadError):
    """The command line is wrong; `faults` has a line for each, `help` is true for -h."""

    def __init__(self, faults: tuple[str, ...], *, help_asked: bool = False) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        self.help_asked = help_asked


def config_error(setting: Setting, shown: str, source: Source, reason: str) -> ConfigError:
    """Make the error of a value, named as its source names it: a flag, or a key of a file."""
    if source.kind == "file":
        return ConfigError(f'key "{source.key}"', shown, source.detail, reason)
    return ConfigError(f"-{setting.name}", shown, str(source), reason)
