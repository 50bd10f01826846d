# SPDX-License-Identifier: Apache-2.0
"""JSON as Go's encoding/json reads and writes it, to and from typed records. Pure.

A schema is a frozen dataclass or a `msgspec.Struct`; its annotations say what Go's struct said::

    @dataclass(frozen=True, slots=True)
    class Service:
        host: str = ""
        port: Annotated[int, Bits(64), OMITEMPTY] = 0
        ttl: Annotated[int, UINT32] = 0
        target_strip: Annotated[int, Name("targetstrip")] = 0
        extra: Extra = ()                    # unknown fields, kept for rewriting

Reading (SkyDNS spec §2.1, vulcand spec §3): a field's exact name is preferred, any letter case
taken; of two occurrences the last wins (objects and maps merge); `null` changes nothing; absent is
the default; unknown fields are skipped; types are exact: no number in quotes, no 80.0 for an
integer, no -1 for an unsigned. Invalid UTF-8 and lone surrogates become U+FFFD.

Writing: fields in declared order, OMITEMPTY as Go's `omitempty`, map keys sorted, floats in Go's
shortest form, `<` `>` `&` and U+2028/9 escaped unless told not to.

Types: str, bool, int (64 bits unless a `Bits`), float, bytes (base64), T | None (a pointer:
null is None), tuple[T, ...] (a slice), dict[str, T], another schema, `Any` (a `Tree`).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar, Union

from fairlead.errors import FairleadError, RecordError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Bits:
    """Width of an integer."""

    width: int
    signed: bool = True

    def holds(self, number: int) -> bool:
        """Say whether `number` fits."""
        if self.signed:
            return -(1 << (self.width - 1)) <= number < 1 << (self.width - 1)
        return 0 <= number < 1 << self.width

    def __str__(self) -> str:
        return f"{'' if self.signed else 'u'}int{self.width}"


INT64: Final = Bits(64)
UINT8: Final = Bits(8, signed=False)
UINT16: Final = Bits(16, signed=False)
UINT32: Final = Bits(32, signed=False)
UINT64: Final = Bits(64, signed=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """The field's name in JSON, where it is not the attribute's."""

    name: str


class _OmitEmpty:
    """Marker type of OMITEMPTY."""


OMITEMPTY: Final = _OmitEmpty()


class Number(str):
    """A number's text as it was read, so that it is written back as it was."""

    __slots__ = ()


class Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object as read: names in order, doubles too."""

    __slots__ = ()


Tree = Any
"""str | bool | None | Number | list[Tree] | Pairs (encode takes int, float, tuple, dict too)."""

Extra = tuple[tuple[str, Tree], ...]
"""Annotate one field of a schema with it: the unknown fields, in order."""


class DecodeError(FairleadError):
    """The text is not JSON, or does not fit the schema; the message names the field."""


# ---------------------------------------------------------------------- text → tree


def _refuse(constant: str) -> Any:
    raise DecodeError(f"not JSON: {constant} is no value of JSON")


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _clean(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text) if not text.isascii() else text


def _pairs(pairs: list[tuple[str, Any]]) -> Pairs:
    return Pairs(pairs)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=Number, parse_float=Number, parse_constant=_refuse
)


def parse(data: bytes | str) -> Tree:
    """Return the tree of a JSON text.

    Raises:
        DecodeError: it is not JSON.
    """
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    if not text.strip(" \t\r\n"):
        raise DecodeError("not JSON: unexpected end of the text; it is empty")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg[:1].lower()}{error.msg[1:]}"
        raise DecodeError(f"not JSON: {reason} at byte {error.pos}") from error
    except RecursionError as error:
        raise DecodeError("not JSON that can be used: nested too deep") from error


# ---------------------------------------------------------------------- tree → record


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """One field of a schema."""

    attribute: str
    name: str
    read: Callable[[Tree, str], Any]
    default: Any
    omit_empty: bool
    merges: bool
    extra: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class _Schema:
    """A schema, prepared once."""

    make: Callable[..., Any]
    fields: tuple[_Field, ...]
    exact: Mapping[str, _Field]
    folded: Mapping[str, _Field]
    extra: str


def decode(schema: type[T], data: bytes | str) -> T:
    """Return the record that a JSON text holds; top-level `null` gives the zero record.

    Raises:
        DecodeError: not JSON, not an object, or a field of the wrong type; it is named.
    """
    return from_tree(schema, parse(data))


def decode_record(schema: type[T], key: bytes, value: bytes, revision: int = 0) -> T:
    """Return the record stored under `key`.

    Raises:
        RecordError: as `decode`.
    """
    try:
        return decode(schema, value)
    except DecodeError as error:
        raise RecordError(key, str(error), revision) from error


def from_tree(schema: type[T], tree: Tree) -> T:
    """Return the record that a parsed object holds; errors as `decode`."""
    record: T = _read_struct(_schema(schema), tree, "")
    return record


def _read_struct(schema: _Schema, tree: Tree, path: str) -> Any:
    if tree is None:
        tree = Pairs()
    if not isinstance(tree, Pairs):
        raise _wrong(path, tree, "an object")
    found: dict[str, Any] = {}
    merged: dict[str, Tree] = {}
    unknown: list[tuple[str, Tree]] = []
    for name, value in tree:
        field = schema.exact.get(name) or schema.folded.get(name.casefold())
        if field is None:
            unknown.append((name, value))
            continue
        if value is None:  # changes nothing, but sets a pointer back to nil
            if isinstance(field.default, _Pointer):
                found[field.attribute] = None
            continue
        where = f"{path}.{name}" if path else name
        if field.merges and isinstance(value, Pairs):
            value = Pairs((*merged.get(field.attribute, ()), *value))
            merged[field.attribute] = value
        found[field.attribute] = field.read(value, where)
    if schema.extra:
        found[schema.extra] = tuple(unknown)
    for field in schema.fields:
        if field.attribute not in found:
            default = field.default
            found[field.attribute] = None if isinstance(default, _Pointer) else default
    return schema.make(**found)


class _Pointer:
    """The default of a field that null sets back to None."""


def _wrong(path: str, tree: Tree, wanted: str) -> DecodeError:
    where = f'field "{path}": ' if path else ""
    return DecodeError(f"{where}{_kind(tree)} is not {wanted}")


def _kind(tree: Tree) -> str:
    match tree:
        case Number():
            return f"number {tree}" if len(tree) < 40 else "a long number"
        case str():
            return f'string "{tree}"' if len(tree) < 40 else "a long string"
        case bool():
            return "true" if tree else "false"
        case None:
            return "null"
        case Pairs():
            return "an object"
        case _:
            return "an array"


_SCHEMAS: Final[dict[type, _Schema]] = {}


def _schema(cls: type) -> _Schema:
    if cls not in _SCHEMAS:
        _SCHEMAS[cls] = _prepare(cls)
    return _SCHEMAS[cls]


def _prepare(cls: type) -> _Schema:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: list[_Field] = []
    extra = ""
    for attribute, name, default in _declared(cls):
        hint = hints[attribute]
        if hint == Extra:
            extra = attribute
            fields.append(
                _Field(attribute, "", _read_any, (), omit_empty=True, merges=False, extra=True)
            )
            continue
        marks: tuple[Any, ...] = ()
        if typing.get_origin(hint) is Annotated:
            hint, *rest = typing.get_args(hint)
            marks = tuple(rest)
        name = next((mark.name for mark in marks if isinstance(mark, Name)), name)
        bits = next((mark for mark in marks if isinstance(mark, Bits)), INT64)
        read, zero, merges = _reader(hint, bits)
        if default is not dataclasses.MISSING and not (
            default is None and isinstance(zero, _Pointer)
        ):
            zero = default
        fields.append(_Field(attribute, name, read, zero, OMITEMPTY in marks, merges))
    folded: dict[str, _Field] = {}
    for field in fields:
        if not field.extra:
            folded.setdefault(field.name.casefold(), field)
    exact = {field.name: field for field in fields if not field.extra}
    return _Schema(cls, tuple(fields), exact, folded, extra)


def _declared(cls: type) -> Iterable[tuple[str, str, Any]]:
    """Give attribute, JSON name and default (or MISSING) of each field."""
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            made = field.default_factory
            default = field.default if made is dataclasses.MISSING else made()
            yield field.name, field.name, default
        return
    import msgspec

    for info in msgspec.structs.fields(cls):
        default = info.default
        if default is msgspec.NODEFAULT:
            made = info.default_factory
            default = dataclasses.MISSING if made is msgspec.NODEFAULT else made()
        yield info.name, info.encode_name, default


def _reader(hint: Any, bits: Bits) -> tuple[Callable[[Tree, str], Any], Any, bool]:
    """Return how to read a type, its zero value, and whether two occurrences merge."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, *marks = typing.get_args(hint)
        return _reader(inner, next((mark for mark in marks if isinstance(mark, Bits)), bits))
    if origin in (Union, types.UnionType):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        if len(inner) != 1:
            raise TypeError(f"{hint}: of unions only T | None is possible")
        read, _, merges = _reader(inner[0], bits)
        return read, _Pointer(), merges
    if origin in (tuple, list):
        inner = typing.get_args(hint)
        read, zero, _ = _reader(inner[0], bits)
        return functools.partial(_read_list, read, zero, origin), origin(), False
    if origin is dict:
        read, zero, _ = _reader(typing.get_args(hint)[1], bits)
        return functools.partial(_read_map, read, zero), {}, True
    if hint is Any:
        return _read_any, None, False
    simple = {
        str: (_read_str, ""),
        bool: (_read_bool, False),
        float: (_read_float, 0.0),
        bytes: (_read_bytes, b""),
    }
    if hint in simple:
        read, zero = simple[hint]
        return read, zero, False
    if hint is int:
        return functools.partial(_read_int, bits), 0, False
    schema = _schema(hint)
    return functools.partial(_read_struct, schema), _read_struct(schema, Pairs(), ""), True


def _read_any(tree: Tree, path: str) -> Tree:
    return tree


def _read_str(tree: Tree, path: str) -> str:
    if isinstance(tree, Number) or not isinstance(tree, str):
        raise _wrong(path, tree, "a string")
    return _clean(tree)


def _read_bool(tree: Tree, path: str) -> bool:
    if not isinstance(tree, bool):
        raise _wrong(path, tree, "true or false")
    return tree


_INTEGER: Final = re.compile(r"-?[0-9]+")


def _read_int(bits: Bits, tree: Tree, path: str) -> int:
    if not isinstance(tree, Number) or not _INTEGER.fullmatch(tree):
        raise _wrong(path, tree, "a whole number" if bits.signed else "a whole number from 0 on")
    if len(tree) > 20 or not bits.holds(int(tree)):
        raise _wrong(path, tree, f"within {bits}")
    return int(tree)


def _read_float(tree: Tree, path: str) -> float:
    if not isinstance(tree, Number):
        raise _wrong(path, tree, "a number")
    number = float(tree)
    if math.isinf(number):
        raise _wrong(path, tree, "within float64")
    return number


def _read_bytes(tree: Tree, path: str) -> bytes:
    text = _read_str(tree, path)
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(path, tree, "base64") from None


def _read_list(
    read: Callable[[Tree, str], Any], zero: Any, kind: type, tree: Tree, path: str
) -> Any:
    if not isinstance(tree, list):
        raise _wrong(path, tree, "an array")
    return kind(_element(read, zero, item, f"{path}[{i}]") for i, item in enumerate(tree))


def _read_map(read: Callable[[Tree, str], Any], zero: Any, tree: Tree, path: str) -> dict[str, Any]:
    if not isinstance(tree, Pairs):
        raise _wrong(path, tree, "an object")
    return {_clean(name): _element(read, zero, item, f"{path}.{name}") for name, item in tree}


def _element(read: Callable[[Tree, str], Any], zero: Any, item: Tree, path: str) -> Any:
    if item is None:
        return None if isinstance(zero, _Pointer) else zero
    return read(item, path)


# ---------------------------------------------------------------------- record → text

_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",  # since Go 1.22; \u0008 before
    "\f": "\\f",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_PLAIN_STRING: Final = re.compile('["\\\\\x00-\x1f\u2028\u2029\ud800-\udfff]')
_HTML_STRING: Final = re.compile('["\\\\\x00-\x1f<>&\u2028\u2029\ud800-\udfff]')


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char >= "\ud800" and char <= "\udfff":
        return "\\ufffd"
    return _ESCAPES.get(char) or f"\\u{ord(char):04x}"


def encode(record: object, *, html: bool = True, newline: bool = False) -> bytes:
    """Write a record or a tree as Go's encoder does.

    Args:
        html: escape `<`, `>`, `&`, as `json.Marshal` does.
        newline: end with one, as `json.Encoder` does.

    Raises:
        ValueError: a float that JSON lacks.
    """
    out: list[str] = []
    _write(record, _HTML_STRING if html else _PLAIN_STRING, out)
    if newline:
        out.append("\n")
    return "".join(out).encode()


def _write(value: Any, special: re.Pattern[str], out: list[str]) -> None:
    match value:
        case None:
            out.append("null")
        case bool():
            out.append("true" if value else "false")
        case Number():
            out.append(value)
        case str():
            out.append(f'"{special.sub(_escape, value)}"')
        case int():
            out.append(str(int(value)))
        case float():
            out.append(format_float(value))
        case bytes():
            out.append(f'"{base64.b64encode(value).decode()}"')
        case Pairs():
            _write_object(value, special, out)
        case list() | tuple():
            out.append("[")
            for i, item in enumerate(value):
                if i:
                    out.append(",")
                _write(item, special, out)
            out.append("]")
        case Mapping():
            _write_object(sorted(value.items()), special, out)
        case _:
            _write_object(_fields(value), special, out)


def _write_object(
    pairs: Iterable[tuple[str, Any]], special: re.Pattern[str], out: list[str]
) -> None:
    out.append("{")
    first = True
    for name, item in pairs:
        out.append(f'{"" if first else ","}"{special.sub(_escape, name)}":')
        first = False
        _write(item, special, out)
    out.append("}")


def _fields(record: object) -> Iterable[tuple[str, Any]]:
    schema = _schema(type(record))
    for field in schema.fields:
        value = getattr(record, field.attribute)
        if field.extra:
            continue
        if field.omit_empty and _empty(value):
            continue
        yield field.name, value
    if schema.extra:
        yield from getattr(record, schema.extra)


def _empty(value: Any) -> bool:
    """Say what `omitempty` calls empty: false, 0, nil, and what has no length; no struct is."""
    return value is None or (
        isinstance(value, (bool, int, float, str, bytes, tuple, list, dict)) and not value
    )


def format_float(value: float) -> str:
    """Write a float64 as Go's encoder: shortest digits, exponents below 1e-6 and from 1e21 on.

    Raises:
        ValueError: NaN or infinite.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} has no form in JSON")
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)  # noqa: S101  (finite: see above)
    point = len(digits) + exponent  # value = 0.digits × 10^point
    text = "".join(map(str, digits))
    if -6 < point <= 21:
        if point <= 0:
            text = "0." + "0" * -point + text
        elif exponent < 0:
            text = f"{text[:point]}.{text[point:]}"
        else:
            text += "0" * exponent
    else:
        power = point - 1
        mantissa = text[0] + ("." + text[1:] if len(text) > 1 else "")
        text = f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):d}"
    return "-" + text if sign else text
