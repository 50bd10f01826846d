# SPDX-License-Identifier: Apache-2.0
"""The language's conformance vectors (specs/go-template.md §14), answers from Go itself.

vectors.jsonl: one case a line. `data` is dot ({"$kv": …} and the like are typed values of §14);
then `prints`, or `error` with `at` (line:column, plus `node` and `executing` where they are
known), or `parse_error` with `line`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.gotemplate import CallError, Func, Struct, Template, TemplateError
from fairlead.gotemplate.gotime import parse_rfc3339
from fairlead.gotemplate.values import (
    ANY,
    ANY_LIST,
    INT,
    STRING,
    STRINGS,
    IntMap,
    Ints,
    Slice,
    StringMap,
    Strings,
    Uint16,
    wrap64,
)

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "vectors.jsonl").read_text(encoding="utf-8").splitlines()
]


class Pair(Struct):
    GO_TYPE = "memkv.KVPair"
    FIELDS = ("Key", "Value")

    def __init__(self, key: str, value: str) -> None:
        self.Key = key
        self.Value = value


class Pairs(Slice):
    GO_TYPE = "[]memkv.KVPair"
    ELEM = "memkv.KVPair"


class Srv(Struct):
    GO_TYPE = "*net.SRV"
    FIELDS = ("Target", "Port", "Priority", "Weight")

    def __init__(self, target: str, *numbers: int) -> None:
        self.Target = target
        self.Port, self.Priority, self.Weight = map(Uint16, numbers)


TYPED = {
    "$strings": Strings,
    "$ints": Ints,
    "$smap": StringMap,
    "$imap": lambda items: IntMap({int(key): item for key, item in items.items()}),
    "$kv": lambda pair: Pair(*pair),
    "$kvs": lambda pairs: Pairs(Pair(*pair) for pair in pairs),
    "$srv": lambda fields: Srv(*fields),
    "$bytes": str.encode,
    "$uint16": Uint16,
    "$time": parse_rfc3339,
    "$func": lambda head: Func(lambda text: head + text, (STRING,), go_type="func(string) string"),
}


def typed(data: Any) -> Any:
    if isinstance(data, list):
        return [typed(item) for item in data]
    if isinstance(data, dict):
        [(name, item), *_] = [*data.items(), (None, None)]
        if name in TYPED:
            return TYPED[name](item)
        return {name: typed(item) for name, item in data.items()}
    return data


def fail() -> None:
    raise CallError("boom")


def atoi(text: str) -> int:
    if not text.lstrip("+-").isdigit():
        raise CallError(f'strconv.Atoi: parsing "{text}": invalid syntax')
    return int(text)


def div(one: int, other: int) -> int:
    if not other:
        raise CallError("runtime error: integer divide by zero")
    return int(one / other)


def floats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(pairs)


FUNCTIONS = {
    "split": Func(lambda text, sep: Strings(text.split(sep)), (STRING, STRING)),
    "join": Func(lambda parts, sep: sep.join(parts), (STRINGS, STRING)),
    "toUpper": Func(str.upper, (STRING,)),
    "atoi": Func(atoi, (STRING,)),
    "add": Func(lambda one, other: wrap64(one + other), (INT, INT)),
    "div": Func(div, (INT, INT)),
    "seq": Func(lambda first, last: Ints(range(first, last + 1)), (INT, INT)),
    "json": Func(lambda text: json.loads(text, parse_int=float), (STRING,)),
    "fail": Func(fail),
    "nilany": Func(lambda: None),
    "nilmap": Func(dict),
    "strs": Func(lambda *parts: Strings(parts), (), STRING),
    "sorts": Func(lambda parts: Strings(sorted(parts)), (STRINGS,)),
}


def test_all_vectors_are_here() -> None:
    assert len(CASES) == 555
    assert ANY is not ANY_LIST


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_vector(case: dict[str, Any]) -> None:
    left, right = case.get("delimiters", ("", ""))

    def render() -> str:
        template = Template(
            "t",
            case["template"],
            FUNCTIONS,
            left=left,
            right=right,
            missing_key=case.get("missing_key", "default"),
        )
        return template.render(typed(case.get("data")))

    if "prints" in case:
        assert render() == case["prints"]
        return
    with pytest.raises(TemplateError) as caught:
        render()
    error = caught.value
    if "parse_error" in case:
        assert (error.reason, error.line) == (case["parse_error"], case["line"])
        assert str(error) == f"template: t:{error.line}: {error.reason}"
        return
    assert (error.reason, f"{error.line}:{error.column}") == (case["error"], case["at"])
    if "node" in case:
        assert (error.context, error.executing) == (case["node"], case["executing"])
