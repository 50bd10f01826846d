# SPDX-License-Identifier: Apache-2.0
"""Go's literals: strings, characters, integers, floats. Pure."""

from __future__ import annotations

import math
import re
from typing import Final


def runes(text: str) -> int:
    """Count the runes of a value whose bytes may have come from escapes."""
    return len(text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"))


_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|)",
)
_NAMED: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\",
}  # fmt: skip


def unquote(text: str) -> str | None:
    r"""Return what a `"…"` or `'…'` literal stands for; None when an escape is wrong.

    `\x` and octal escapes stand for bytes, so `"\xc3\xa9"` is one character.
    """
    mark, inner = text[0], text[1:-1]
    if "\\" not in inner:
        return inner
    wrong = False

    def replaced(found: re.Match[str]) -> str:
        nonlocal wrong
        named, octal, byte, short, long = found.groups()
        if named in ("'", '"'):
            wrong = wrong or named != mark
            return named
        if named:
            return _NAMED[named]
        code = int(octal, 8) if octal else int(byte or short or long or "-1", 16)
        if octal or byte:
            wrong = wrong or code > 255
            return _byte(code)
        if code < 0 or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            wrong = True
            return ""
        return chr(code)

    value = _ESCAPE.sub(replaced, inner)
    if wrong:
        return None
    if any("\udc80" <= char <= "\udcff" for char in value):
        # bytes given one by one may make up characters
        value = value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return value


def _byte(code: int) -> str:
    return chr(code) if code < 0x80 else chr(0xDC00 + (code & 0xFF))


_INT: Final = re.compile(
    r"[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|0(?:_?[0-7])*|[1-9](?:_?[0-9])*)"
)
_FLOAT: Final = re.compile(
    r"[+-]?(?:\d(?:_?\d)*\.?(?:\d(?:_?\d)*)?|\.\d(?:_?\d)*)(?:[eE][+-]?\d(?:_?\d)*)?"
)
_HEX_FLOAT: Final = re.compile(
    r"([+-]?)0[xX]_?((?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?)\.?((?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?)[pP]([+-]?\d(?:_?\d)*)"
)


def parse_int(text: str) -> int | None:
    """Return an integer literal's value as int64 or uint64; None when it is not one or too big."""
    if not _INT.fullmatch(text):
        return None
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-").replace("_", "").lower()
    if len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567":
        digits = "0o" + digits[1:]
    value = sign * int(digits, 0)
    if value < -(2**63) or value >= (2**64 if text[0] not in "+-" else 2**63):
        return None
    return value


def parse_float(text: str) -> float | None:
    """Return a number literal's value as float64; None when it is not one or overflows."""
    if found := _HEX_FLOAT.fullmatch(text):
        sign, whole, fraction, exponent = (part.replace("_", "") for part in found.groups())
        if not whole and not fraction:
            return None
        if abs(int(exponent)) > 10_000:
            return None if int(exponent) > 0 else 0.0
        try:
            value = float.fromhex(f"{sign}0x{whole or '0'}.{fraction or '0'}p{exponent}")
        except OverflowError:
            return None
        return value
    if not _FLOAT.fullmatch(text):
        return None
    value = float(text.replace("_", ""))
    return None if math.isinf(value) else value
