# SPDX-License-Identifier: Apache-2.0
"""A record type's annotations → how each of its fields is read and written."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Union

from fairlead.gojson.read import (
    INT64,
    Bits,
    Field,
    Pointer,
    Schema,
    read_any,
    read_bool,
    read_bytes,
    read_float,
    read_int,
    read_list,
    read_map,
    read_str,
    read_struct,
)
from fairlead.gojson.tree import Extra, Pairs, Tree


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """The field's name in JSON, where it is not the attribute's."""

    name: str


class _OmitEmpty:
    """Marker type of OMITEMPTY."""


OMITEMPTY: Final = _OmitEmpty()


_SCHEMAS: Final[dict[type, Schema]] = {}


def schema_of(cls: type) -> Schema:
    """Return what a record type's annotations say; prepared once."""
    if cls not in _SCHEMAS:
        _SCHEMAS[cls] = _prepare(cls)
    return _SCHEMAS[cls]


def _prepare(cls: type) -> Schema:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: list[Field] = []
    extra = ""
    for attribute, name, default in _declared(cls):
        hint = hints[attribute]
        if hint == Extra:
            extra = attribute
            fields.append(
                Field(attribute, "", read_any, (), omit_empty=True, merges=False, extra=True)
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
            default is None and isinstance(zero, Pointer)
        ):
            zero = default
        fields.append(Field(attribute, name, read, zero, OMITEMPTY in marks, merges))
    folded: dict[str, Field] = {}
    for field in fields:
        if not field.extra:
            folded.setdefault(field.name.casefold(), field)
    exact = {field.name: field for field in fields if not field.extra}
    return Schema(cls, tuple(fields), exact, folded, extra)


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
        return read, Pointer(), merges
    if origin in (tuple, list):
        inner = typing.get_args(hint)
        read, zero, _ = _reader(inner[0], bits)
        return functools.partial(read_list, read, zero, origin), origin(), False
    if origin is dict:
        read, zero, _ = _reader(typing.get_args(hint)[1], bits)
        return functools.partial(read_map, read, zero), {}, True
    if hint is Any:
        return read_any, None, False
    simple = {
        str: (read_str, ""),
        bool: (read_bool, False),
        float: (read_float, 0.0),
        bytes: (read_bytes, b""),
    }
    if hint in simple:
        read, zero = simple[hint]
        return read, zero, False
    if hint is int:
        return functools.partial(read_int, bits), 0, False
    schema = schema_of(hint)
    return functools.partial(read_struct, schema), read_struct(schema, Pairs(), ""), True
