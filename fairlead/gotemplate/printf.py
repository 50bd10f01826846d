# SPDX-License-Identifier: Apache-2.0
"""Values → text as Go's `fmt` writes it (specs/go-template.md §8–§10). Pure.

`sprint`, `sprintln` and `sprintf` never fail: what does not fit a verb shows up in the text
(`%!d(string=x)`), as in Go. The only exception is text beyond `MAX_TEXT`, which is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from fairlead.gotemplate.errors import CallError
from fairlead.gotemplate.scalars import PLAIN, Spec, format_float, format_int, format_text, pad
from fairlead.gotemplate.values import (
    MISSING,
    Func,
    Struct,
    Value,
    Whole,
    from_bytes,
    go_type,
    sorted_keys,
)

MAX_TEXT: Final = 64 << 20
"""Characters in one string; a template that makes a longer one is a runaway."""

MAX_WIDTH: Final = 1_000_000  # Go's own bound on widths and precisions


def _bad(value: Value, verb: str, spec: Spec) -> str:
    if value is None or value is MISSING:
        return f"%!{verb}(<nil>)"
    return f"%!{verb}({go_type(value)}={format_value(value, 'v', spec)})"


def format_value(value: Value, verb: str = "v", spec: Spec = PLAIN, depth: int = 0) -> str:
    """Return a value as `verb` writes it with `spec`'s flags."""
    kind = type(value)
    text: str | None
    if kind is str:
        text = format_text(value, verb, spec)
    elif kind is bool:
        text = pad("true" if value else "false", spec) if verb in "tv" else None
    elif kind is int and spec is PLAIN and verb == "v":
        text = str(value)
    elif kind is int:
        text = format_int(value, verb, spec)
    elif kind is float:
        text = format_float(value, verb, spec)
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
    return pad("<nil>", spec) if verb in "vT" else f"%!{verb}(<nil>)"


def _format_bytes(data: bytes, verb: str, spec: Spec) -> str | None:
    if verb in "vd":
        if spec.syntax:
            return "[]byte{" + ", ".join(f"{byte:#x}" for byte in data) + "}"
        return "[" + " ".join(format_int(byte, "d", spec) or "" for byte in data) + "]"
    return format_text(from_bytes(data), verb, spec)


def _format_complex(value: complex, verb: str, spec: Spec) -> str | None:
    real = format_float(value.real, verb, spec)
    signed = Spec(**{name: getattr(spec, name) for name in Spec.__slots__})
    signed.plus = True
    imaginary = format_float(value.imag, verb, signed)
    return None if real is None or imaginary is None else f"({real}{imaginary}i)"


def _format_other(value: Value, verb: str, spec: Spec, depth: int) -> str:
    if verb in "vsxXq" and not spec.syntax:
        stringer = getattr(value, "go_string", None)
        if stringer is not None:
            return format_text(stringer(), "s" if verb == "v" else verb, spec) or ""
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
        text = format_int(value, verb, spec)
        return _bad(value, verb, spec) if text is None else text
    if isinstance(value, Struct):
        return _format_struct(value, verb, spec, depth)
    if isinstance(value, Func):
        return pad(f"{id(value):#x}" if verb == "v" else _bad_pointer(value, verb), spec)
    return pad(str(value), spec)


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
            return pad(go_type(value), spec)
        if verb == "v":
            if spec.sharp:
                spec.sharp, spec.syntax = False, True
            if spec.plus:
                spec.plus, spec.names = False, True
        return format_value(value, verb, spec)
