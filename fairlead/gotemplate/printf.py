# SPDX-License-Identifier: Apache-2.0
"""Values → text as Go's `fmt` writes it (specs/go-template.md §8–§10). Pure.

`sprint`, `sprintln` and `sprintf` never fail: what does not fit a verb shows up in the text
(`%!d(string=x)`), as in Go. The only exception is text beyond `MAX_TEXT`, which is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fairlead.gotemplate.errors import CallError
from fairlead.gotemplate.lex import quote
from fairlead.gotemplate.values import (
    MISSING,
    Func,
    Struct,
    Value,
    Whole,
    from_bytes,
    go_type,
    sorted_keys,
    to_bytes,
)

MAX_TEXT: Final = 64 << 20
"""Characters in one string; a template that makes a longer one is a runaway."""

MAX_WIDTH: Final = 1_000_000  # Go's own bound on widths and precisions


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


_PLAIN: Final = Spec()


def _pad(text: str, spec: Spec) -> str:
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


def _format_float(value: float, verb: str, spec: Spec) -> str | None:
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
        return _pad(body, _without_zero(spec))
    if signed and spec.zero and not spec.minus and spec.width > len(text):
        return text[0] + text[1:].rjust(spec.width - 1, "0")
    return _pad(body, spec)


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


def _format_int(value: int, verb: str, spec: Spec) -> str | None:
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
        return _pad(sign + digits, _without_zero(spec))
    char = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF else "\ufffd"
    if verb == "c":
        return _pad(char, spec)
    if verb == "q":
        return _pad(quote(char, "'", ascii_only=spec.plus), spec)
    if verb == "U":
        code = f"U+{value & (2**64 - 1):04X}"
        if spec.sharp and 0 <= value <= 0x10FFFF and char.isprintable():
            code += f" '{char}'"
        return _pad(code, _without_zero(spec))
    return None


# strings and bytes


def _format_text(text: str, verb: str, spec: Spec) -> str | None:
    if verb in "xX":
        return _hex_bytes(to_bytes(text), verb, spec)
    if spec.precision >= 0:
        text = text[: spec.precision]
    if verb == "s" or (verb == "v" and not spec.syntax):
        return _pad(text, spec)
    if verb in "qv":
        if spec.sharp and _backquotable(text):
            return _pad(f"`{text}`", spec)
        return _pad(quote(text, ascii_only=spec.plus), spec)
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
    return _pad(text, spec)


# any value


def _bad(value: Value, verb: str, spec: Spec) -> str:
    if value is None or value is MISSING:
        return f"%!{verb}(<nil>)"
    return f"%!{verb}({go_type(value)}={format_value(value, 'v', spec)})"


def format_value(value: Value, verb: str = "v", spec: Spec = _PLAIN, depth: int = 0) -> str:
    """Return a value as `verb` writes it with `spec`'s flags."""
    kind = type(value)
    text: str | None
    if kind is str:
        text = _format_text(value, verb, spec)
    elif kind is bool:
        text = _pad("true" if value else "false", spec) if verb in "tv" else None
    elif kind is int:
        text = _format_int(value, verb, spec)
    elif kind is float:
        text = _format_float(value, verb, spec)
    elif value is None or value is MISSING:
        return _format_nil(verb, spec, depth)
    elif kind is bytes:
        text = _format_bytes(value, verb, spec)
    elif kind is complex:
        text = _format_complex(value, verb, spec)
    else:
        return _format_other(value, verb, spec, depth)
    return _bad(value, verb, spec) if text is None else text


def _format_nil(verb: str, spec: Spec, depth: int) -> str:
    if depth:
        return "interface {}(nil)" if spec.syntax else "<nil>"
    return _pad("<nil>", spec) if verb in "vT" else f"%!{verb}(<nil>)"


def _format_bytes(data: bytes, verb: str, spec: Spec) -> str | None:
    if verb in "vd":
        if spec.syntax:
            return "[]byte{" + ", ".join(f"{byte:#x}" for byte in data) + "}"
        return "[" + " ".join(_format_int(byte, "d", spec) or "" for byte in data) + "]"
    return _format_text(from_bytes(data), verb, spec)


def _format_complex(value: complex, verb: str, spec: Spec) -> str | None:
    real = _format_float(value.real, verb, spec)
    signed = Spec(**{name: getattr(spec, name) for name in Spec.__slots__})
    signed.plus = True
    imaginary = _format_float(value.imag, verb, signed)
    return None if real is None or imaginary is None else f"({real}{imaginary}i)"


def _format_other(value: Value, verb: str, spec: Spec, depth: int) -> str:
    if verb in "vsxXq" and not spec.syntax:
        stringer = getattr(value, "go_string", None)
        if stringer is not None:
            return _format_text(stringer(), "s" if verb == "v" else verb, spec) or ""
    if isinstance(value, list):
        parts = [_element(item, verb, spec, depth) for item in value]
        if spec.syntax:
            return f"{go_type(value)}{{{', '.join(parts)}}}"
        return f"[{' '.join(parts)}]"
    if isinstance(value, dict):
        keys = sorted_keys(value)
        if spec.syntax:
            pairs = (
                f"{_element(key, verb, spec, depth)}:{_element(value[key], verb, spec, depth)}"
                for key in keys
            )
            return f"{go_type(value)}{{{', '.join(pairs)}}}"
        pairs = (
            f"{format_value(key, verb, spec, depth + 1)}:{_element(value[key], verb, spec, depth)}"
            for key in keys
        )
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, Whole):
        text = _format_int(value, verb, spec)
        return _bad(value, verb, spec) if text is None else text
    if isinstance(value, Struct):
        return _format_struct(value, verb, spec, depth)
    if isinstance(value, Func):
        return _pad(f"{id(value):#x}" if verb == "v" else _bad_pointer(value, verb), spec)
    return _pad(str(value), spec)


def _bad_pointer(value: Func, verb: str) -> str:
    return f"%!{verb}({value.go_type}={id(value):#x})"


def _element(value: Value, verb: str, spec: Spec, depth: int) -> str:
    return format_value(value, verb, spec, depth + 1)


def _format_struct(value: Struct, verb: str, spec: Spec, depth: int) -> str:
    name = value.GO_TYPE
    pointer = name.startswith("*")
    if pointer and depth:
        return f"0xc{id(value) & 0xFFFFFFFFF:09x}"  # an address, as Go: never useful
    named = spec.names or spec.syntax
    parts = [
        (f"{field}:" if named else "") + _element(getattr(value, field), verb, spec, depth)
        for field in value.FIELDS
    ]
    if spec.syntax:
        return f"{'&' if pointer else ''}{name.lstrip('*')}{{{', '.join(parts)}}}"
    return f"{'&' if pointer else ''}{{{' '.join(parts)}}}"


# the three functions


def bounded(text: str) -> str:
    """Return `text`, or refuse it when it is longer than any real file.

    Raises:
        CallError: it has more than MAX_TEXT characters.
    """
    if len(text) > MAX_TEXT:
        raise CallError(f"result of {len(text)} characters is too long (limit {MAX_TEXT})")
    return text


def sprint(values: Sequence[Value]) -> str:
    """Join operands, with a space between two neighbours only when neither is a string."""
    if len(values) == 1:
        value = values[0]
        return value if type(value) is str else format_value(value)
    out: list[str] = []
    was_text = True
    for value in values:
        is_text = type(value) is str
        if out and not is_text and not was_text:
            out.append(" ")
        out.append(value if is_text else format_value(value))
        was_text = is_text
    return bounded("".join(out))


def sprintln(values: Sequence[Value]) -> str:
    """Join operands with spaces and end the line."""
    return bounded(" ".join(map(format_value, values)) + "\n")


_VERB: Final = re.compile(
    r"([+\-# 0]*)"  # flags
    r"(\[[^\]]*\])?(\*|\d+)?"  # argument index, width
    r"(?:(\.)(\[[^\]]*\])?(\*|\d+)?)?"  # precision
    r"(\[[^\]]*\])?"  # argument index
    r"(.)?",
    re.DOTALL,
)


def sprintf(layout: str, values: Sequence[Value]) -> str:
    """Format as Go's printf: §9, its error texts included."""
    if "%" not in layout and not values:
        return layout
    return bounded(_Printer(values).run(layout))


class _Printer:
    def __init__(self, values: Sequence[Value]) -> None:
        self.values = values
        self.at = 0
        self.reordered = False
        self.good_index = True
        self.size = 0

    def run(self, layout: str) -> str:
        out: list[str] = []
        pos = 0
        while True:
            percent = layout.find("%", pos)
            if percent < 0:
                out.append(layout[pos:])
                break
            out.append(layout[pos:percent])
            found = _VERB.match(layout, percent + 1)
            if found is None:  # the pattern matches the empty string
                break
            pos = found.end()
            text = self.verb(found)
            self.size += len(text)
            if self.size > MAX_TEXT:
                bounded(" " * (MAX_TEXT + 1))
            out.append(text)
        if not self.reordered and self.at < len(self.values):
            rest = (
                "<nil>"
                if value is None or value is MISSING
                else f"{go_type(value)}={format_value(value)}"
                for value in self.values[self.at :]
            )
            out.append(f"%!(EXTRA {', '.join(rest)})")
        return "".join(out)

    def index(self, text: str | None) -> bool:
        """Follow an explicit argument index `[n]`; say whether there was one."""
        if text is None:
            return False
        self.reordered = True
        digits = text[1:-1]
        if digits.isascii() and digits.isdigit() and 1 <= int(digits[:9]) <= len(self.values):
            self.at = int(digits) - 1
        else:
            self.good_index = False
        return True

    def star(self) -> int | None:
        """Take an int argument for a `*`; None when it is none or too big."""
        value = self.values[self.at] if self.at < len(self.values) else None
        if self.at < len(self.values):
            self.at += 1
        if type(value) is not int and not isinstance(value, Whole):
            return None
        return int(value) if abs(value) <= MAX_WIDTH else None

    def verb(self, found: re.Match[str]) -> str:
        flags, first, width, dot, second, precision, third, verb = found.groups()
        self.good_index = True
        spec = Spec(
            plus="+" in flags,
            minus="-" in flags,
            sharp="#" in flags,
            space=" " in flags,
            zero="0" in flags,
        )
        before = ""
        indexed = self.index(first)
        if width == "*":
            star = self.star()
            indexed = False
            if star is None:
                before += "%!(BADWIDTH)"
            else:
                spec.width = abs(star)
                if star < 0:
                    spec.minus, spec.zero = True, False
        elif width is not None:
            if indexed:  # "%[3]2d"
                self.good_index = False
            spec.width = int(width[:9]) if len(width) < 8 else -1
        if dot:
            if indexed:
                self.good_index = False
            indexed = self.index(second)
            if precision == "*":
                star = self.star()
                indexed = False
                if star is None or star < 0:
                    before += "%!(BADPREC)"
                else:
                    spec.precision = star
            else:
                spec.precision = int(precision[:9]) if precision and len(precision) < 8 else 0
        if third is not None:
            self.index(third)
        if spec.minus:
            spec.zero = False
        if verb is None:
            return before + "%!(NOVERB)"
        if verb == "%":
            return before + "%"
        if not self.good_index:
            return f"{before}%!{verb}(BADINDEX)"
        if self.at >= len(self.values):
            return f"{before}%!{verb}(MISSING)"
        value = self.values[self.at]
        self.at += 1
        return before + self.one(value, verb, spec)

    def one(self, value: Value, verb: str, spec: Spec) -> str:
        if verb == "T":
            return _pad(go_type(value), spec)
        if verb == "v":
            if spec.sharp:
                spec.sharp, spec.syntax = False, True
            if spec.plus:
                spec.plus, spec.names = False, True
        return format_value(value, verb, spec)
