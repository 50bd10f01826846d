# SPDX-License-Identifier: Apache-2.0
"""The template functions (specs/confd.md §11): the original's, then the maintained fork's.

What looks at the machine is `confd.lookups`; all others are pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from typing import Any, Final

from confd import jsontext, lookups, regexes
from confd.lookups import World
from confd.paths import base, directory
from confd.values import KVPAIRS, KVList, KVPair, KVPairs, Tree
from fairlead.gotemplate.errors import CallError
from fairlead.gotemplate.lex import quote
from fairlead.gotemplate.values import (
    ANY,
    ANY_LIST,
    ANY_MAP,
    BOOL,
    INT,
    STRING,
    STRINGS,
    Func,
    Ints,
    Strings,
    Value,
    from_bytes,
    text_length,
    to_bytes,
    truth,
    wrap64,
)

MAX_SEQUENCE: Final = 1_000_000


# numbers


def _atoi(text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit():
        raise CallError(f"strconv.Atoi: parsing {quote(text)}: invalid syntax")
    number = int(text) if len(digits) < 40 else 2**63
    if not -(2**63) <= number < 2**63:
        raise CallError(f"strconv.Atoi: parsing {quote(text)}: value out of range")
    return number


def _truncated(one: int, other: int) -> int:
    quotient = abs(one) // abs(other)
    return quotient if (one < 0) == (other < 0) else -quotient


def _div(one: int, other: int) -> int:
    if not other:
        raise CallError("runtime error: integer divide by zero")
    return wrap64(_truncated(one, other))


def _mod(one: int, other: int) -> int:
    if not other:
        raise CallError("runtime error: integer divide by zero")
    return one - other * _truncated(one, other)


def _seq(first: int, last: int) -> Ints:
    if last - first >= MAX_SEQUENCE:
        raise CallError(f"{last - first + 1} numbers are too many (limit {MAX_SEQUENCE})")
    return Ints(range(first, last + 1))


_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def _parse_bool(text: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise CallError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


# strings


def _per_rune(change: Callable[[str], str]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        if text.isascii():
            return change(text)
        # Go maps rune by rune: ß has no capital of one rune, so it stays
        return "".join(new if len(new := change(char)) == 1 else char for char in text)

    return changed


def _split(text: str, separator: str) -> Strings:
    if not separator:
        return Strings(text)
    return Strings(text.split(separator))


def _replace(text: str, old: str, new: str, count: int) -> str:
    hits = len(text) + 1 if not old else text.count(old)
    if hits * len(new) > 1 << 26:
        raise CallError("result is too long")
    return text.replace(old, new, count)


def _repeat(count: int, text: str) -> str:
    if count * len(text) > 1 << 26:
        raise CallError("result is too long")
    return text * max(0, count)


def _decode64(text: str) -> str:
    """Decode as Go does: padding required, line ends ignored, the first bad byte named."""
    data = to_bytes(text)
    kept = [(at, byte) for at, byte in enumerate(data) if byte not in b"\r\n"]
    quad: list[int] = []
    for place, (at, byte) in enumerate(kept):
        if byte not in _ALPHABET:
            if byte != ord("=") or len(quad) < 2:
                raise CallError(f"illegal base64 data at input byte {at}")
            missing = 4 - len(quad)
            for step in range(missing):
                if place + step >= len(kept):
                    raise CallError(f"illegal base64 data at input byte {len(data)}")
                if kept[place + step][1] != ord("="):
                    raise CallError(f"illegal base64 data at input byte {kept[place + step][0]}")
            if place + missing < len(kept):
                raise CallError(f"illegal base64 data at input byte {kept[place + missing][0]}")
            quad = []
            break
        quad = [] if len(quad) == 3 else [*quad, byte]
    if quad:
        first = kept[len(kept) - len(quad)][0]
        raise CallError(f"illegal base64 data at input byte {first}")
    try:
        return from_bytes(base64.b64decode(bytes(byte for _, byte in kept)))
    except binascii.Error as error:
        raise CallError(f"illegal base64 data: {error}") from error


_ALPHABET: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def _indent(width: int, text: str) -> str:
    if not text:
        return ""
    margin = " " * max(0, min(width, 1 << 16))
    return "\n".join(margin + line for line in text.split("\n"))


def _nindent(width: int, text: str) -> str:
    return "\n" + _indent(width, text)


_BREAKS: Final = re.compile(
    r"[_\-\s]+"
    r"|(?<=[^\W_A-Z])(?=[A-Z])"  # fooBar, a1B2
    r"|(?<=[A-Z])(?=[A-Z][a-z])"  # HTTPServer
)


def _words(text: str) -> list[str]:
    return [word for word in _BREAKS.split(text) if word]


def _camel(text: str) -> str:
    words = _words(text)
    return "".join(
        word.lower() if not at else word[:1].upper() + word[1:].lower()
        for at, word in enumerate(words)
    )


# collections


def _map(*pairs: Value) -> dict[str, Value]:
    if len(pairs) % 2:
        raise CallError("invalid map call")
    found: dict[str, Value] = {}
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if type(key) is not str:
            raise CallError("map keys must be strings")
        found[key] = value
    return found


def _reverse(values: Value) -> Value:
    if type(values) in (Strings, KVList):
        values.reverse()  # in place, as the original: the variable it came from changes too
    return values


def _by_length(values: Strings) -> Strings:
    values.sort(key=text_length)
    return values


def _pairs_by_length(pairs: Value) -> KVList:
    pairs.sort(key=lambda pair: text_length(pair.Key))
    return KVList(pairs)


def _first_true(*values: Value) -> Value:
    return next((value for value in values if truth(value)), None)


# regular expressions


# the whole set


def _store(view: Callable[[], Tree], *, strict: bool) -> dict[str, Func]:
    """Functions that read keys; `view` gives the tree of the resource being rendered."""

    def some(found: Any, what: str) -> Any:
        if strict and not found:
            raise CallError(f"nothing found: {what}")
        return found

    def found(name: str, function: str) -> str:
        value = view().find(name)
        if value is None:
            raise CallError(f"key does not exist: {name}")
        return value

    def getv(name: str, *defaults: str) -> str:
        value = view().find(name)
        if value is not None:
            return value
        if defaults:
            return defaults[0]
        raise CallError(f"key does not exist: {name}")

    def gets(pattern: str) -> Value:
        return KVPairs(some(view().match(pattern), pattern))

    def getvs(pattern: str) -> Strings:
        return Strings(sorted(pair.Value for pair in some(view().match(pattern), pattern)))

    return {
        "getv": Func(getv, (STRING,), STRING),
        "get": Func(lambda name: KVPair(name, found(name, "get")), (STRING,)),
        "exists": Func(lambda name: view().find(name) is not None, (STRING,)),
        "gets": Func(gets, (STRING,)),
        "getvs": Func(getvs, (STRING,)),
        "ls": Func(lambda path: some(view().listing(path), path), (STRING,)),
        "lsdir": Func(lambda path: some(view().listing(path, directories=True), path), (STRING,)),
    }


_PURE: Final[dict[str, Func]] = {
    "base": Func(base, (STRING,)),
    "dir": Func(directory, (STRING,)),
    "split": Func(_split, (STRING, STRING)),
    "join": Func(lambda parts, separator: separator.join(parts), (STRINGS, STRING)),
    "toUpper": Func(_per_rune(str.upper), (STRING,)),
    "toLower": Func(_per_rune(str.lower), (STRING,)),
    "contains": Func(lambda text, part: part in text, (STRING, STRING)),
    "replace": Func(_replace, (STRING, STRING, STRING, INT)),
    "trimSuffix": Func(str.removesuffix, (STRING, STRING)),
    "json": Func(jsontext.decode_object, (STRING,)),
    "jsonArray": Func(jsontext.decode_array, (STRING,)),
    "map": Func(_map, (), ANY),
    "base64Encode": Func(lambda text: base64.b64encode(to_bytes(text)).decode(), (STRING,)),
    "base64Decode": Func(_decode64, (STRING,)),
    "parseBool": Func(_parse_bool, (STRING,)),
    "atoi": Func(_atoi, (STRING,)),
    "seq": Func(_seq, (INT, INT)),
    "add": Func(lambda one, other: wrap64(one + other), (INT, INT)),
    "sub": Func(lambda one, other: wrap64(one - other), (INT, INT)),
    "mul": Func(lambda one, other: wrap64(one * other), (INT, INT)),
    "div": Func(_div, (INT, INT)),
    "mod": Func(_mod, (INT, INT)),
    "reverse": Func(_reverse, (ANY,)),
    "sortByLength": Func(_by_length, (STRINGS,)),
    "sortKVByLength": Func(_pairs_by_length, (KVPAIRS,)),
    # the fork's
    "default": Func(lambda other, value: value if truth(value) else other, (ANY, ANY)),
    "ternary": Func(lambda one, other, choice: one if choice else other, (ANY, ANY, BOOL)),
    "coalesce": Func(_first_true, (), ANY),
    "empty": Func(lambda value: not truth(value), (ANY,)),
    "toJson": Func(jsontext.encode, (ANY,)),
    "toPrettyJson": Func(lambda value: jsontext.encode(value, "  "), (ANY,)),
    "fromJson": Func(jsontext.decode, (STRING,)),
    "indent": Func(_indent, (INT, STRING)),
    "nindent": Func(_nindent, (INT, STRING)),
    "quote": Func(quote, (STRING,)),
    "squote": Func(lambda text: "'" + text.replace("'", "''") + "'", (STRING,)),
    "regexMatch": Func(
        lambda pattern, text: bool(regexes.compiled(pattern).search(text)), (STRING, STRING)
    ),
    "regexFind": Func(regexes.find, (STRING, STRING)),
    "regexReplaceAll": Func(regexes.replace_all, (STRING, STRING, STRING)),
    "trimPrefix": Func(str.removeprefix, (STRING, STRING)),
    "repeat": Func(_repeat, (INT, STRING)),
    "nospace": Func(lambda text: "".join(text.split()), (STRING,)),
    "snakecase": Func(lambda text: "_".join(_words(text)).lower(), (STRING,)),
    "camelcase": Func(_camel, (STRING,)),
    "kebabcase": Func(lambda text: "-".join(_words(text)).lower(), (STRING,)),
    "dict": Func(_map, (), ANY),
    "list": Func(lambda *values: list(values), (), ANY),
    "hasKey": Func(lambda mapping, key: key in mapping, (ANY_MAP, STRING)),
    "keys": Func(lambda mapping: Strings(sorted(mapping)), (ANY_MAP,)),
    "values": Func(lambda mapping: [mapping[key] for key in sorted(mapping)], (ANY_MAP,)),
    "append": Func(lambda values, value: [*values, value], (ANY_LIST, ANY)),
    "pluck": Func(
        lambda key, *mappings: [mapping[key] for mapping in mappings if key in mapping],
        (STRING,),
        ANY_MAP,
    ),
    "sha256sum": Func(lambda text: hashlib.sha256(to_bytes(text)).hexdigest(), (STRING,)),
}


_EXACT: Final[dict[str, Func]] = {
    "json": Func(lambda text: jsontext.decode_object(text, exact=True), (STRING,)),
    "jsonArray": Func(lambda text: jsontext.decode_array(text, exact=True), (STRING,)),
    "fromJson": Func(lambda text: jsontext.decode(text, exact=True), (STRING,)),
}


def functions(
    view: Callable[[], Tree], world: World, *, strict: bool = False, exact: bool = False
) -> dict[str, Func]:
    """Return all functions but `include`, which needs the template directory.

    Args:
        view: gives the tree of the resource being rendered.
        world: the machine.
        strict: a pattern or listing that finds nothing is an error.
        exact: JSON's whole numbers are ints, not floats.
    """
    known = {**_PURE, **_store(view, strict=strict), **lookups.functions(world)}
    return known | _EXACT if exact else known
