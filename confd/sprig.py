# SPDX-License-Identifier: Apache-2.0
"""sprig's common functions, for templates that ask for them (`sprig = true`).

Where confd or its fork has a function of the same name, theirs stays: `contains`, `replace`,
`split`, `join`, `dict`, `default` and others keep confd's order of arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from fairlead.gotemplate.errors import CallError
from fairlead.gotemplate.printf import sprint
from fairlead.gotemplate.values import (
    ANY,
    ANY_MAP,
    INT,
    STRING,
    Func,
    Ints,
    Strings,
    Value,
    go_type,
    is_nothing,
    kind,
    truth,
    wrap64,
)

_MOST: Final = 1_000_000


def _text(value: Value) -> str:
    return value if isinstance(value, str) else "" if is_nothing(value) else sprint([value])


def _number(value: Value) -> int:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return wrap64(int(value)) if math.isfinite(value) else 0
    try:
        return wrap64(int(_text(value), 0))
    except ValueError:
        return 0


def _real(value: Value) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else float(_text(value))
    except ValueError:
        return 0.0


def _items(value: Value) -> list[Value]:
    if isinstance(value, list):
        return value
    raise CallError(f"cannot use {go_type(value)} as a list")


def _like(source: Value, items: list[Value]) -> Value:
    """Return items in a slice of the source's type."""
    return Strings(items) if isinstance(source, Strings) else list(items)


def _pick_one(at: int) -> Callable[[Value], Value]:
    def one(value: Value) -> Value:
        items = _items(value)
        return items[at] if items else None

    return one


def _uniq(value: Value) -> Value:
    kept: list[Value] = []
    for item in _items(value):
        if item not in kept:
            kept.append(item)
    return _like(value, kept)


def _until(*bounds: int) -> Ints:
    try:
        span = range(*bounds)
    except ValueError as error:
        raise CallError("the step must not be 0") from error
    if len(span) > _MOST:
        raise CallError(f"more than {_MOST} numbers")
    return Ints(span)


def _substr(begin: int, end: int, text: str) -> str:
    if begin < 0:
        return text[: max(end, 0)]
    return text[begin:] if end < 0 or end > len(text) else text[begin:end]


def _trunc(width: int, text: str) -> str:
    return (
        text[width:] if width < 0 and -width < len(text) else text[:width] if width >= 0 else text
    )


def _merge(*maps: dict[str, Value]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for mapping in reversed(maps):  # the first one wins
        found.update(mapping)
    return found


def _has(needle: Value, value: Value) -> bool:
    return any(type(item) is type(needle) and item == needle for item in _items(value))


def _fail(reason: str) -> str:
    raise CallError(reason)


def _dig(*words: Value) -> Value:
    if len(words) < 3 or not isinstance(words[-1], dict):
        raise CallError("dig needs keys, a default and a map")
    *path, other, found = words
    for name in path:
        if not isinstance(found, dict) or name not in found:
            return other
        found = found[name]
    return found


def _title(text: str) -> str:
    return "".join(
        char.upper() if at == 0 or text[at - 1].isspace() else char for at, char in enumerate(text)
    )


SPRIG: Final[dict[str, Func]] = {
    "trim": Func(str.strip, (STRING,)),
    "trimAll": Func(lambda cut, text: text.strip(cut), (STRING, STRING)),
    "upper": Func(str.upper, (STRING,)),
    "lower": Func(str.lower, (STRING,)),
    "title": Func(_title, (STRING,)),
    "untitle": Func(lambda text: text[:1].lower() + text[1:], (STRING,)),
    "swapcase": Func(str.swapcase, (STRING,)),
    "hasPrefix": Func(lambda part, text: text.startswith(part), (STRING, STRING)),
    "hasSuffix": Func(lambda part, text: text.endswith(part), (STRING, STRING)),
    "substr": Func(_substr, (INT, INT, STRING)),
    "trunc": Func(_trunc, (INT, STRING)),
    "cat": Func(lambda *words: " ".join(_text(w) for w in words if not is_nothing(w)), (), ANY),
    "toString": Func(_text, (ANY,)),
    "toStrings": Func(lambda value: Strings(map(_text, _items(value))), (ANY,)),
    "splitList": Func(
        lambda mark, text: Strings(text.split(mark) if mark else text), (STRING, STRING)
    ),
    "sortAlpha": Func(lambda value: Strings(sorted(map(_text, _items(value)))), (ANY,)),
    "first": Func(_pick_one(0), (ANY,)),
    "last": Func(_pick_one(-1), (ANY,)),
    "rest": Func(lambda value: _like(value, _items(value)[1:]), (ANY,)),
    "initial": Func(lambda value: _like(value, _items(value)[:-1]), (ANY,)),
    "uniq": Func(_uniq, (ANY,)),
    "compact": Func(lambda value: _like(value, [v for v in _items(value) if truth(v)]), (ANY,)),
    "has": Func(_has, (ANY, ANY)),
    "without": Func(
        lambda value, *out: _like(value, [v for v in _items(value) if not _has(v, list(out))]),
        (ANY,),
        ANY,
    ),
    "concat": Func(lambda *lists: [item for one in lists for item in _items(one)], (), ANY),
    "prepend": Func(lambda value, item: [item, *_items(value)], (ANY, ANY)),
    "tuple": Func(lambda *values: list(values), (), ANY),
    "until": Func(_until, (INT,)),
    "untilStep": Func(_until, (INT, INT, INT)),
    "add1": Func(lambda value: wrap64(_number(value) + 1), (ANY,)),
    "max": Func(lambda one, *more: max(map(_number, (one, *more))), (ANY,), ANY),
    "min": Func(lambda one, *more: min(map(_number, (one, *more))), (ANY,), ANY),
    "int": Func(_number, (ANY,)),
    "int64": Func(_number, (ANY,)),
    "float64": Func(_real, (ANY,)),
    "floor": Func(lambda value: float(math.floor(_real(value))), (ANY,)),
    "ceil": Func(lambda value: float(math.ceil(_real(value))), (ANY,)),
    "merge": Func(_merge, (), ANY_MAP),
    "pick": Func(lambda m, *names: {n: m[n] for n in names if n in m}, (ANY_MAP,), STRING),
    "omit": Func(
        lambda m, *names: {n: v for n, v in m.items() if n not in names}, (ANY_MAP,), STRING
    ),
    "dig": Func(_dig, (), ANY),
    "kindOf": Func(lambda value: kind(value) or go_type(value).partition("[")[0], (ANY,)),
    "typeOf": Func(go_type, (ANY,)),
    "fail": Func(_fail, (STRING,)),
}


def with_sprig(known: dict[str, Func], world_env: Callable[[str], str]) -> dict[str, Func]:
    """Return `known` and what of sprig it lacks."""
    own = {
        "env": Func(world_env, (STRING,)),
        "b64enc": known["base64Encode"],
        "b64dec": known["base64Decode"],
        "now": known["datetime"],
    }
    return {**SPRIG, **own, **known}
