# SPDX-License-Identifier: Apache-2.0
"""The functions every template has (specs/go-template.md §7).

`and`, `or` and `call` look at their arguments' nodes, so the evaluator has them itself.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Final
from urllib.parse import quote_from_bytes

from fairlead.gotemplate.errors import CallError
from fairlead.gotemplate.printf import sprint, sprintf, sprintln
from fairlead.gotemplate.values import (
    ANY,
    MISSING,
    RAW,
    STRING,
    Func,
    Mapped,
    Struct,
    Uint8,
    Value,
    from_bytes,
    go_type,
    is_nothing,
    kind,
    text_length,
    to_bytes,
    truth,
)

_INTS: Final = ("int", "uint")


def _length(item: Value) -> int:
    if type(item) is str:
        return text_length(item)
    if isinstance(item, list | dict | bytes):
        return len(item)
    if item is MISSING:
        raise CallError("reflect: call of reflect.Value.Type on zero Value")
    if item is None:
        raise CallError("len of nil pointer")
    raise CallError(f"len of type {go_type(item)}")


def _position(index: Value, limit: int) -> int:
    if is_nothing(index):
        raise CallError("cannot index slice/array with nil")
    if kind(index) not in _INTS:
        raise CallError(f"cannot index slice/array with type {go_type(index)}")
    if index < 0 or index > limit:
        raise CallError(f"index out of range: {int(index)}")
    return int(index)


def _index(item: Value, *indexes: Value) -> Value:
    if is_nothing(item):
        raise CallError("index of untyped nil")
    for index in indexes:
        if item is None:
            raise CallError("index of nil pointer")
        if isinstance(item, list):
            at = _position(index, len(item))
            if at == len(item):
                raise CallError("reflect: slice index out of range")
            item = item[at]
        elif isinstance(item, str | bytes):
            data = to_bytes(item) if isinstance(item, str) else item
            at = _position(index, len(data))
            if at == len(data):
                what = "string" if isinstance(item, str) else "slice"
                raise CallError(f"reflect: {what} index out of range")
            item = Uint8(data[at])
        elif isinstance(item, dict):
            item = _entry(item, index)
        else:
            raise CallError(f"can't index item of type {go_type(item)}")
    return item


def _entry(mapping: dict[Value, Value], index: Value) -> Value:
    wanted = mapping.KEY if isinstance(mapping, Mapped) else "string"
    if is_nothing(index):
        raise CallError(f"value is nil; should be of type {wanted}")
    fits = kind(index) in _INTS if wanted == "int" else type(index) is str
    if not fits:
        raise CallError(f"value has type {go_type(index)}; should be {wanted}")
    return mapping.get(index, mapping.ZERO if isinstance(mapping, Mapped) else None)


def _slice(item: Value, *indexes: Value) -> Value:
    if is_nothing(item):
        raise CallError("slice of untyped nil")
    if len(indexes) > 3:
        raise CallError(f"too many slice indexes: {len(indexes)}")
    if not isinstance(item, str | list | bytes):
        raise CallError(f"can't slice item of type {go_type(item)}")
    if isinstance(item, str) and len(indexes) == 3:
        raise CallError("cannot 3-index slice a string")
    data = to_bytes(item) if isinstance(item, str) else item
    bounds = [_position(index, len(data)) for index in indexes]
    for low, high in itertools.pairwise(bounds):
        if low > high:
            raise CallError(f"invalid slice index: {low} > {high}")
    part = data[slice(*bounds[:2])] if len(bounds) > 1 else data[bounds[0] :] if bounds else data
    if isinstance(item, str):
        return from_bytes(bytes(part))
    return type(item)(part)


# comparison


def _incompatible(one: Value, other: Value) -> CallError:
    return CallError(f"incompatible types for comparison: {go_type(one)} and {go_type(other)}")


def _equal(one: Value, *others: Value) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    mine = kind(one)
    for other in others:
        theirs = kind(other)
        if mine != theirs and {mine, theirs} != {"int", "uint"}:
            if is_nothing(one) or is_nothing(other):
                continue
            raise _incompatible(one, other)
        if mine:
            if one == other:
                return True
        elif is_nothing(one) or is_nothing(other):
            if is_nothing(one) and is_nothing(other):
                return True
        elif _equal_composites(one, other):
            return True
    return False


def _equal_composites(one: Value, other: Value) -> bool:
    if not isinstance(other, Struct):
        if go_type(one) != go_type(other):
            shown = sprintf("%s: %s, %s: %v", (one, go_type(one), go_type(other), other))
            raise CallError(f"non-comparable types {shown}")
        raise CallError(sprintf("non-comparable type %s: %s", (other, go_type(other))))
    if go_type(one) != go_type(other):
        return False
    if other.GO_TYPE.startswith("*"):
        return one is other
    return all(getattr(one, name) == getattr(other, name) for name in other.FIELDS) and bool(
        other.FIELDS or one is other
    )


def _less(one: Value, other: Value) -> bool:
    mine, theirs = kind(one), kind(other)
    if not mine or not theirs:
        raise CallError("invalid type for comparison")
    if mine != theirs:
        if {mine, theirs} != {"int", "uint"}:
            raise _incompatible(one, other)
    elif mine in ("bool", "complex"):
        raise CallError("invalid type for comparison")
    return bool(one < other)


def _less_or_equal(one: Value, other: Value) -> bool:
    return _less(one, other) or _equal(one, other)


# escaping


def _shown(values: tuple[Value, ...]) -> str:
    return sprint(["<no value>" if is_nothing(value) else value for value in values])


_HTML: Final = str.maketrans(
    {'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"}
)
_JS: Final = str.maketrans(
    {"\\": "\\\\", "'": "\\'", '"': '\\"'}
    | {char: f"\\u{ord(char):04X}" for char in (*map(chr, range(32)), "<", ">", "&", "=")}
)


def _html(*values: Value) -> str:
    return _shown(values).translate(_HTML)


def _js(*values: Value) -> str:
    text = _shown(values).translate(_JS)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or "\udc80" <= char <= "\udcff" else f"\\u{ord(char):04X}"
        for char in text
    )


def _urlquery(*values: Value) -> str:
    return quote_from_bytes(to_bytes(_shown(values)), safe=b"-_.~ ").replace(" ", "+")


def _two(call: Callable[[Value, Value], bool]) -> Func:
    return Func(call, (RAW, RAW))


BUILTINS: Final[dict[str, Func]] = {
    # `and`, `or` and `call` stand here for their arity only
    "and": Func(operator.not_, (RAW,), RAW),
    "or": Func(operator.not_, (RAW,), RAW),
    "call": Func(operator.not_, (RAW,), RAW),
    "not": Func(lambda value: not truth(value), (RAW,)),
    "eq": Func(_equal, (RAW,), RAW),
    "ne": _two(lambda one, other: not _equal(one, other)),
    "lt": _two(_less),
    "le": _two(_less_or_equal),
    "gt": _two(lambda one, other: not _less_or_equal(one, other)),
    "ge": _two(lambda one, other: not _less(one, other)),
    "len": Func(_length, (RAW,)),
    "index": Func(_index, (RAW,), RAW),
    "slice": Func(_slice, (RAW,), RAW),
    "print": Func(lambda *values: sprint(values), (), ANY),
    "println": Func(lambda *values: sprintln(values), (), ANY),
    "printf": Func(lambda layout, *values: sprintf(layout, values), (STRING,), ANY),
    "html": Func(_html, (), ANY),
    "js": Func(_js, (), ANY),
    "urlquery": Func(_urlquery, (), ANY),
}
SPECIAL: Final = frozenset(("and", "or", "call"))
