# SPDX-License-Identifier: Apache-2.0
"""One value of a tree → its Python value, as Go's decoder would take it for that type.

Each `read_…` takes the value and the path of its field, for the error.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from fairlead.gojson.tree import DecodeError, Number, Pairs, Tree, clean


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


class Pointer:
    """The default of a field that null sets back to None."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a schema."""

    attribute: str
    name: str
    read: Callable[[Tree, str], Any]
    default: Any
    omit_empty: bool
    merges: bool
    extra: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """A schema, prepared once."""

    make: Callable[..., Any]
    fields: tuple[Field, ...]
    exact: Mapping[str, Field]
    folded: Mapping[str, Field]
    extra: str


def wrong(path: str, tree: Tree, wanted: str) -> DecodeError:
    """Return the error of a value that is not what was wanted."""
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


def read_any(tree: Tree, path: str) -> Tree:
    """Take what there is."""
    return tree


def read_str(tree: Tree, path: str) -> str:
    """Read a string."""
    if isinstance(tree, Number) or not isinstance(tree, str):
        raise wrong(path, tree, "a string")
    return clean(tree)


def read_bool(tree: Tree, path: str) -> bool:
    """Read a boolean."""
    if not isinstance(tree, bool):
        raise wrong(path, tree, "true or false")
    return tree


_INTEGER: Final = re.compile(r"-?[0-9]+")


def read_int(bits: Bits, tree: Tree, path: str) -> int:
    """Read a whole number that fits."""
    if not isinstance(tree, Number) or not _INTEGER.fullmatch(tree):
        raise wrong(path, tree, "a whole number" if bits.signed else "a whole number from 0 on")
    if len(tree) > 20 or not bits.holds(int(tree)):
        raise wrong(path, tree, f"within {bits}")
    return int(tree)


def read_float(tree: Tree, path: str) -> float:
    """Read a float64."""
    if not isinstance(tree, Number):
        raise wrong(path, tree, "a number")
    number = float(tree)
    if math.isinf(number):
        raise wrong(path, tree, "within float64")
    return number


def read_bytes(tree: Tree, path: str) -> bytes:
    """Read base64."""
    text = read_str(tree, path)
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        raise wrong(path, tree, "base64") from None


def read_list(
    read: Callable[[Tree, str], Any], zero: Any, kind: type, tree: Tree, path: str
) -> Any:
    """Read an array, each element by `read`."""
    if not isinstance(tree, list):
        raise wrong(path, tree, "an array")
    return kind(_element(read, zero, item, f"{path}[{i}]") for i, item in enumerate(tree))


def read_map(read: Callable[[Tree, str], Any], zero: Any, tree: Tree, path: str) -> dict[str, Any]:
    """Read an object as a map, each value by `read`."""
    if not isinstance(tree, Pairs):
        raise wrong(path, tree, "an object")
    return {clean(name): _element(read, zero, item, f"{path}.{name}") for name, item in tree}


def _element(read: Callable[[Tree, str], Any], zero: Any, item: Tree, path: str) -> Any:
    if item is None:
        return None if isinstance(zero, Pointer) else zero
    return read(item, path)


def read_struct(schema: Schema, tree: Tree, path: str) -> Any:
    """Read an object as a record; fields that are absent have their defaults."""
    if tree is None:
        tree = Pairs()
    if not isinstance(tree, Pairs):
        raise wrong(path, tree, "an object")
    found: dict[str, Any] = {}
    merged: dict[str, Tree] = {}
    unknown: list[tuple[str, Tree]] = []
    for name, value in tree:
        field = schema.exact.get(name) or schema.folded.get(name.casefold())
        if field is None:
            unknown.append((name, value))
            continue
        if value is None:  # changes nothing, but sets a pointer back to nil
            if isinstance(field.default, Pointer):
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
            found[field.attribute] = None if isinstance(default, Pointer) else default
    return schema.make(**found)
