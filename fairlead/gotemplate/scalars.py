# SPDX-License-Identifier: Apache-2.0
"""Numbers and strings as `fmt` writes them, verb by verb (specs/go-template.md §9, §10). Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from fairlead.gotemplate.lex import quote
from fairlead.gotemplate.values import (
    to_bytes,
)


@dataclass(slots=True)
class Spec:
    """One verb's flags; -1 is an absent width or precision."""

    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    width: int = -1
    precision: int = -1
    names: bool = False  # %+v: structs with field names
    syntax: bool = False  # %#v: Go syntax


PLAIN: Final = Spec()


def pad(text: str, spec: Spec) -> str:
    """Return `text` padded to the width, in runes."""
    missing = spec.width - len(text)
    if missing <= 0:
        return text
    if spec.minus:
        return text + " " * missing
    return ("0" if spec.zero else " ") * missing + text


# floats


def go_float(value: float, verb: str = "g", precision: int = -1) -> str:
    """Return a float as strconv writes it; precision -1 is the shortest that reads back (§10)."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if precision >= 0:  # C's rules, which Python shares
        return f"{value:.{(precision or 1) if verb == 'g' else precision}{verb}}"
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    power = int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + power - (len(whole + fraction) - len(digits))  # digits before the point
    digits = digits.rstrip("0")
    if not digits:
        digits, point = "0", 1
    if verb == "e" or (verb == "g" and not -4 <= point - 1 <= 5):
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}e{point - 1:+03d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    return f"{sign}{digits[:point]}.{digits[point:]}"


def _hex_float(value: float, precision: int) -> str:
    """Return `%x` of a float: Go has no leading zero digits and two exponent digits."""
    if value == 0:
        sign = "-" if math.copysign(1.0, value) < 0 else ""
        return f"{sign}0x0{'.' + '0' * precision if precision > 0 else ''}p+00"
    mantissa, exponent = math.frexp(abs(value))
    power = exponent - 1
    bits = int(math.ldexp(mantissa, 53)) & ((1 << 52) - 1)
    lead = 1
    if precision >= 0 and precision < 13:
        shift = 52 - 4 * precision
        whole = (1 << 52) | bits
        kept, dropped, half = whole >> shift, whole & ((1 << shift) - 1), 1 << (shift - 1)
        kept += dropped > half or (dropped == half and bool(kept & 1))
        if kept >> (53 - shift):
            kept >>= 1
            power += 1
        digits = f"{kept - (1 << (52 - shift)):0{precision}x}" if precision else ""
    else:
        digits = f"{bits:013x}"
        digits = digits.ljust(precision, "0") if precision >= 0 else digits.rstrip("0")
    point = "." if digits else ""
    return f"{'-' if value < 0 else ''}0x{lead}{point}{digits}p{power:+03d}"


def format_float(value: float, verb: str, spec: Spec) -> str | None:
    """Return a float as `verb` writes it; None where the verb takes none."""
    match verb:
        case "v":
            text = go_float(value, "g", spec.precision)
        case "e" | "E" | "f" | "F":
            text = go_float(value, verb.lower(), 6 if spec.precision < 0 else spec.precision)
        case "g" | "G":
            text = go_float(value, "g", spec.precision)
        case "x" | "X" if math.isfinite(value):
            text = _hex_float(value, spec.precision)
        case "x" | "X":
            text = go_float(value)
        case "b":
            text = _binary_float(value)
        case _:
            return None
    finite = math.isfinite(value)
    if verb in "EGX":
        text = text.upper() if finite else text
    if text[0] not in "+-":
        text = "+" + text
    if spec.sharp and finite and verb in "eEfFgGv":
        text = text[0] + _keep_zeros(text[1:], verb, spec)
    if spec.space and text[0] == "+" and not spec.plus:
        text = " " + text[1:]
    signed = spec.plus or text[0] != "+"
    if not finite and not (spec.plus and text[0] == "+") and text[1:] == "NaN":
        signed = spec.space or spec.plus
    body = text if signed else text[1:]
    if not finite:
        return pad(body, _without_zero(spec))
    if signed and spec.zero and not spec.minus and spec.width > len(text):
        return text[0] + text[1:].rjust(spec.width - 1, "0")
    return pad(body, spec)


def _keep_zeros(text: str, verb: str, spec: Spec) -> str:
    """Apply the flag `#`: always a point, and `%g` keeps its trailing zeros."""
    mark = "E" if "E" in text else "e"
    digits, sign, exponent = text.partition(mark)
    if verb in "gGv":
        wanted = spec.precision if spec.precision >= 0 else 6
        have = len(digits.replace(".", "").lstrip("0")) or 1
        missing = max(0, (wanted or 1) - have)
    else:
        missing = 0
    if "." not in digits:
        digits += "."
    return digits + "0" * missing + sign + exponent


def _binary_float(value: float) -> str:
    if not math.isfinite(value):
        return go_float(value)
    mantissa, exponent = math.frexp(abs(value))
    whole = int(math.ldexp(mantissa, 53))
    power = exponent - 53
    if value == 0:
        whole, power = 0, -1074
    elif power < -1074:
        whole >>= -1074 - power
        power = -1074
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    return f"{sign}{whole}p{power:+d}"


def _without_zero(spec: Spec) -> Spec:
    return Spec(minus=spec.minus, width=spec.width)


# integers


_BASES: Final = {"v": "d", "d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_MARKS: Final = {"b": "0b", "x": "0x", "X": "0X"}


def format_int(value: int, verb: str, spec: Spec) -> str | None:
    """Return an integer as `verb` writes it; None where the verb takes none."""
    if verb in _BASES:
        digits = format(abs(value), _BASES[verb])
        precision = spec.precision
        if precision == 0 and value == 0:
            return " " * max(0, spec.width)
        if precision < 0 and spec.zero and not spec.minus and spec.width >= 0:
            precision = spec.width - (value < 0 or spec.plus or spec.space)
        digits = digits.rjust(precision, "0")
        if verb == "O":
            digits = "0o" + digits
        elif spec.sharp and verb == "o":
            digits = digits if digits[0] == "0" else "0" + digits
        elif spec.sharp and verb in _MARKS:
            digits = _MARKS[verb] + digits
        sign = "-" if value < 0 else "+" if spec.plus else " " if spec.space else ""
        return pad(sign + digits, _without_zero(spec))
    char = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF else "\ufffd"
    if verb == "c":
        return pad(char, spec)
    if verb == "q":
        return pad(quote(char, "'", ascii_only=spec.plus), spec)
    if verb == "U":
        code = f"U+{value & (2**64 - 1):04X}"
        if spec.sharp and 0 <= value <= 0x10FFFF and char.isprintable():
            code += f" '{char}'"
        return pad(code, _without_zero(spec))
    return None


# strings and bytes


def format_text(text: str, verb: str, spec: Spec) -> str | None:
    """Return a string as `verb` writes it; None where the verb takes none."""
    if verb in "xX":
        return _hex_bytes(to_bytes(text), verb, spec)
    if spec.precision >= 0:
        text = text[: spec.precision]
    if verb == "s" or (verb == "v" and not spec.syntax):
        return pad(text, spec)
    if verb in "qv":
        if spec.sharp and _backquotable(text):
            return pad(f"`{text}`", spec)
        return pad(quote(text, ascii_only=spec.plus), spec)
    return None


def _backquotable(text: str) -> bool:
    return not any(
        char == "`"
        or char == "\ufeff"
        or "\ud800" <= char <= "\udfff"
        or (char < " " and char != "\t")
        or char == "\x7f"
        for char in text
    )


def _hex_bytes(data: bytes, verb: str, spec: Spec) -> str:
    if spec.precision >= 0:
        data = data[: spec.precision]
    mark = ("0" + verb) if spec.sharp else ""
    parts = [format(byte, "02" + verb) for byte in data]
    if spec.space:
        text = " ".join(mark + part for part in parts)
    else:
        text = (mark if parts else "") + "".join(parts)
    return pad(text, spec)
