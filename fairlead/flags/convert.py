# SPDX-License-Identifier: Apache-2.0
"""Words ↔ values: what Go's flag package reads, what a TOML or JSON file holds, what is shown.

Source: flannel spec §2, confd spec §6.1.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any, Final

from fairlead.duration import format_seconds, parse_seconds
from fairlead.flags.setting import MANY, Kind, Setting

_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "false", "FALSE", "False"))


def convert(setting: Setting, text: str) -> Any:
    """Read one word as Go's flag package does.

    Raises:
        ValueError: says what is wrong, in lower case.
    """
    match setting.kind:
        case Kind.STR:
            return text
        case Kind.BOOL:
            if text in _TRUE:
                return True
            if text in _FALSE:
                return False
            raise ValueError("neither true nor false")
        case Kind.INT:
            return parse_int(text)
        case Kind.FLOAT:
            try:
                return float(text)
            except ValueError:
                raise ValueError("not a number") from None
        case Kind.DURATION:
            if not text and setting.empty is not None:
                return setting.empty
            return parse_seconds(text)
        case Kind.REPEAT:
            return (text,)
        case Kind.COMMA | Kind.LIST:
            return tuple(part for part in (part.strip() for part in text.split(",")) if part)


_DIGITS: Final = (
    (re.compile(r"0[xX](?:_?[0-9a-fA-F])+"), 16, 2),
    (re.compile(r"0[bB](?:_?[01])+"), 2, 2),
    (re.compile(r"0[oO](?:_?[0-7])+"), 8, 2),
    (re.compile(r"0(?:_?[0-7])+"), 8, 1),
    (re.compile(r"0|[1-9](?:_?[0-9])*"), 10, 0),
)


def parse_int(text: str) -> int:
    """Read an integer literal of Go that fits 64 bits: 0x1f, 0b1, 017 (octal), 1_000.

    Raises:
        ValueError: in lower case.
    """
    body = text[1:] if text[:1] in ("+", "-") else text
    for shape, base, skip in _DIGITS:
        if shape.fullmatch(body):
            number = int(body[skip:].replace("_", ""), base)
            number = -number if text.startswith("-") else number
            if not -(1 << 63) <= number < 1 << 63:
                raise ValueError("value out of range")
            return number
    raise ValueError("not a whole number")


def from_file(setting: Setting, value: object) -> Any:
    """Take a value of a TOML or JSON file; types are exact, durations may be Go texts.

    Raises:
        ValueError: says what was expected, with the value.
    """
    kind = setting.kind
    if kind in MANY:
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return tuple(value)
        if isinstance(value, str):
            return convert(setting, value)
        raise ValueError(f"{_json(value)} is not a list of strings")
    if kind is Kind.DURATION and isinstance(value, str):
        return convert(setting, value)
    expected: dict[Kind, tuple[type | tuple[type, ...], str]] = {
        Kind.STR: (str, "a string"),
        Kind.BOOL: (bool, "true or false"),
        Kind.INT: (int, "a whole number"),
        Kind.FLOAT: ((int, float), "a number"),
        Kind.DURATION: ((), 'a duration such as "1m30s"'),
    }
    types, words = expected[kind]
    if isinstance(value, bool) is not (kind is Kind.BOOL) or not isinstance(value, types):
        raise ValueError(f"{_json(value)} is not {words}")
    return float(value) if kind is Kind.FLOAT and isinstance(value, int) else value


def _json(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def show(setting: Setting, value: Any) -> str:
    """Return a value as it would be written on the command line; secrets masked."""
    if setting.secret and value:
        return "********"
    if setting.kind is Kind.DURATION:
        return format_seconds(value)
    if setting.kind is Kind.BOOL:
        return "true" if value else "false"
    if setting.kind in MANY:
        return ",".join(value)
    return str(value)


def literal(setting: Setting, value: Any) -> str:
    """Return a value as TOML would write it."""
    if setting.kind in MANY and not setting.secret:
        return _json(list(value))
    text = show(setting, value)
    return text if setting.kind in (Kind.BOOL, Kind.INT, Kind.FLOAT) else _json(text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` was probably meant to be."""
    by_plain = {plain(name): name for name in known}
    close = difflib.get_close_matches(plain(word), by_plain, n=1, cutoff=0.72)
    return by_plain[close[0]] if close else None


def plain(name: str) -> str:
    """Return a name as it is compared: `-` and `_` are one, and so are letter cases."""
    return name.replace("_", "-").lower()


def upper(name: str) -> str:
    """Return a name as environment variables are spelt."""
    return name.upper().replace("-", "_").replace(".", "_")
