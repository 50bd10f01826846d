# SPDX-License-Identifier: Apache-2.0
"""JSON as templates read and write it: all numbers float64, Go's messages (go-template §12.4). Pure.

Good text takes the standard library's fast path; text it refuses is scanned once more by hand,
only to say what is wrong as encoding/json says it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

from fairlead.gotemplate.errors import CallError
from fairlead.gotemplate.lex import quote
from fairlead.gotemplate.scalars import go_float
from fairlead.gotemplate.values import (
    ANY_LIST,
    ANY_MAP,
    Struct,
    Type,
    Value,
    go_type,
    sorted_keys,
    to_bytes,
)

_MAX_DEPTH: Final = 10_000


def decode(text: str, *, exact: bool = False) -> Value:
    """Return the value of a JSON text.

    Args:
        exact: whole numbers of 64 bits are ints.

    Raises:
        CallError: with encoding/json's message.
    """
    text = _replace_bad(text)
    if text[:1] == "\ufeff":
        raise CallError("invalid character 'ï' looking for beginning of value")
    try:
        return _repaired((_EXACT if exact else _DECODER).decode(text))
    except (ValueError, RecursionError):
        _Scan(text).explain()


def decode_as(text: str, want: Type, *, exact: bool = False) -> Value:
    """Return a JSON text's value as `[]any` or `map[string]any`; null is the empty one."""
    value = decode(text, exact=exact)
    if value is None:
        return [] if want is ANY_LIST else {}
    if type(value) not in want.accepts:
        kinds = {list: "array", dict: "object", str: "string", bool: "bool"}
        raise CallError(
            f"json: cannot unmarshal {kinds.get(type(value), 'number')} into Go value of type {want.name}"
        )
    return value


def decode_object(text: str, *, exact: bool = False) -> Value:
    """`json`: an object, or null."""
    return decode_as(text, ANY_MAP, exact=exact)


def decode_array(text: str, *, exact: bool = False) -> Value:
    """`jsonArray`: an array, or null."""
    return decode_as(text, ANY_LIST, exact=exact)


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise CallError(f"json: cannot unmarshal number {text} into Go value of type float64")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(text)  # NaN and Infinity are no JSON


def _whole(text: str) -> float | int:
    value = int(text) if len(text) < 21 else 1 << 64
    return value if -(1 << 63) <= value < 1 << 63 and text != "-0" else _number(text)


_EXACT: Final = json.JSONDecoder(parse_int=_whole, parse_float=_number, parse_constant=_constant)
_DECODER: Final = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_constant)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _replace_bad(text: str) -> str:
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return to_bytes(text).decode("utf-8", "replace")


def _repaired(value: Value) -> Value:
    r"""Replace unpaired surrogates, which `\ud800` leaves behind, by U+FFFD."""
    if type(value) is str:
        return _SURROGATE.sub("\ufffd", value)
    if type(value) is list:
        return [_repaired(item) for item in value]
    if type(value) is dict:
        return {_repaired(key): _repaired(item) for key, item in value.items()}
    return value


class _Scan:
    """Finds the first character that encoding/json would refuse."""

    _NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def explain(self) -> NoReturn:
        try:
            self.value("looking for beginning of value")
        except RecursionError:
            raise CallError("exceeded max depth") from None
        self.space()
        if self.at < len(self.text):
            self.bad("after top-level value")
        raise CallError("unexpected end of JSON input")

    def bad(self, where: str) -> NoReturn:
        if self.at >= len(self.text):
            raise CallError("unexpected end of JSON input")
        char = self.text[self.at]
        shown = "'\\''" if char == "'" else "'\"'" if char == '"' else quote(char, "'")
        if not char.isascii():  # it looks at bytes
            shown = f"'{chr(char.encode('utf-8', 'surrogateescape')[0])}'"
        raise CallError(f"invalid character {shown} {where}")

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
            self.at += 1

    def peek(self) -> str:
        self.space()
        return self.text[self.at : self.at + 1]

    def value(self, where: str) -> None:
        char = self.peek()
        if char == "{":
            self.object()
        elif char == "[":
            self.array()
        elif char == '"':
            self.string()
        elif char == "-" or char.isdigit():
            self.number()
        elif char in ("t", "f", "n") and char:
            self.word({"t": "true", "f": "false", "n": "null"}[char])
        else:
            self.bad(where)

    def word(self, word: str) -> None:
        for expected in word:
            if self.text[self.at : self.at + 1] != expected:
                self.bad(f"in literal {word} (expecting {quote(expected, chr(39))})")
            self.at += 1

    def number(self) -> None:
        found = self._NUMBER.match(self.text, self.at)
        if found is None:
            self.at += 1
            self.bad("in numeric literal")
        self.at = found.end()
        rest = self.text[self.at : self.at + 1]
        if rest == ".":
            self.at += 1
            self.bad("after decimal point in numeric literal")
        if rest and rest in "eE":
            self.at += 1 + (self.text[self.at + 1 : self.at + 2] in ("+", "-"))
            self.bad("in exponent of numeric literal")

    def string(self) -> None:
        self.at += 1
        while True:
            char = self.text[self.at : self.at + 1]
            if not char or char < " ":
                self.bad("in string literal")
            self.at += 1
            if char == '"':
                return
            if char == "\\":
                escaped = self.text[self.at : self.at + 1]
                if escaped not in tuple('"\\/bfnrtu'):
                    self.bad("in string escape code")
                self.at += 1
                for _ in range(4 if escaped == "u" else 0):
                    if self.text[self.at : self.at + 1] not in tuple("0123456789abcdefABCDEF"):
                        self.bad("in \\u hexadecimal character escape")
                    self.at += 1

    def object(self) -> None:
        self.at += 1
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            if self.peek() != '"':
                self.bad("looking for beginning of object key string")
            self.string()
            if self.peek() != ":":
                self.bad("after object key")
            self.at += 1
            self.value("looking for beginning of value")
            if self.peek() == "}":
                self.at += 1
                return
            if self.peek() != ",":
                self.bad("after object key:value pair")
            self.at += 1

    def array(self) -> None:
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            self.value("looking for beginning of value")
            if self.peek() == "]":
                self.at += 1
                return
            if self.peek() != ",":
                self.bad("after array element")
            self.at += 1


# encoding

_HTML: Final = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def encode(value: Value, indent: str | None = None, level: int = 0) -> str:
    """Return a value as encoding/json writes it: keys sorted, HTML characters escaped."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        clean = _replace_bad(value)
        return json.dumps(clean, ensure_ascii=False).translate(_HTML).replace("\x7f", "\x7f")
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    parts: list[str]
    if isinstance(value, dict):
        colon = ":" if indent is None else ": "
        parts = [
            json.dumps(str(key), ensure_ascii=False).translate(_HTML)
            + colon
            + encode(value[key], indent, level + 1)
            for key in sorted_keys(value)
        ]
        return _enclosed("{", parts, "}", indent, level)
    if isinstance(value, Struct):
        pairs: dict[str, Any] = {name: getattr(value, name) for name in value.FIELDS}
        return encode(pairs, indent, level)
    if isinstance(value, list):
        if not value and go_type(value) == "memkv.KVPairs":
            return "null"  # the original's `gets` gives a nil slice
        parts = [encode(item, indent, level + 1) for item in value]
        return _enclosed("[", parts, "]", indent, level)
    raise CallError(f"json: unsupported type: {go_type(value)}")


def _enclosed(opening: str, parts: list[str], closing: str, indent: str | None, level: int) -> str:
    if indent is None or not parts:
        return opening + ",".join(parts) + closing
    margin = "\n" + indent * (level + 1)
    return f"{opening}{margin}{f',{margin}'.join(parts)}\n{indent * level}{closing}"


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise CallError(f"json: unsupported value: {go_float(value)}")
    if value and not 1e-6 <= abs(value) < 1e21:
        return re.sub(r"e([+-])0(\d)$", r"e\1\2", go_float(value, "e"))
    return go_float(value, "f")
