# SPDX-License-Identifier: Apache-2.0
"""Ranges written in rows give what ranges walked node by node give."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from fairlead.gotemplate import Func, Template, TemplateError
from fairlead.gotemplate.run import LIMITS
from fairlead.gotemplate.values import Slice, Strings, Struct


class Pair(Struct):
    GO_TYPE: ClassVar[str] = "test.Pair"
    FIELDS: ClassVar[tuple[str, ...]] = ("Key", "Value")

    def __init__(self, key: str, value: str) -> None:
        self.Key = key
        self.Value = value


class Slow(Slice):
    """Makes no promise, so it is walked."""

    GO_TYPE = "[]test.Pair"
    ELEM = "test.Pair"


class Quick(Slow):
    TEXT = frozenset(("Key", "Value"))


PAIRS = [Pair("/a/%s", "100%"), Pair("/b", ""), Pair("\udcff{{", "ä\n")]
WORDS = ["%d", "", "x y"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "50% of { \n",
        "{{.Key}}",
        "{{ .Key -}} = {{- .Value}}%\n",
        "{{$p.Key}}{{$.x}}",
        "{{$p.Key}} {{.Value}}{{/* twice */}}{{$p.Key}}",
        "{{.Key}}{{.Nope}}",
        "{{.}}{{.Key}}",
        "{{.Key | len}}",
        "{{$i}} {{.Key}}",
        "{{.Key}}{{if .Value}}!{{end}}",
        "{{.Key}}{{break}}",
    ],
)
@pytest.mark.parametrize("head", ["range pairs", "range $p := pairs", "range $i, $p := pairs"])
def test_in_rows_as_node_by_node(head: str, body: str) -> None:
    found = []
    for kind in (Slow, Quick):
        text = "{{$i := 0}}{{$p := 1}}{{" + head + "}}" + body + "{{else}}none{{end}}|{{$i}}{{$p}}"
        template = Template("t", text, {"pairs": Func(lambda kind=kind: kind(PAIRS), ())})
        try:
            found.append(template.render({"x": 1}))
        except TemplateError as error:
            found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize("body", ["[{{.}}]", "{{$w}}%{{.}}", "{{.}}{{.x}}", ""])
def test_words(body: str) -> None:
    text = "{{range $w := words}}" + body + "{{else}}none{{end}}"
    found = []
    for items in (list(WORDS), Strings(WORDS)):
        template = Template("t", text, {"words": Func(lambda items=items: items, ())})
        try:
            found.append(template.render({}))
        except TemplateError as error:  # they say `interface {}` and `string`
            found.append(str(error).partition(" in type")[0])
    assert found[0] == found[1]
    empty = Template("t", text, {"words": Func(Strings, ())})
    assert empty.render({}) == "none"


def test_a_variable_from_outside_keeps_its_last_value() -> None:
    text = "{{$w := 0}}{{range $w = words}}{{$w}}{{end}}{{$w}}"
    assert Template("t", text, {"words": Func(lambda: Strings("ab"), ())}).render({}) == "abb"


def test_the_limit_of_output_holds_in_rows() -> None:
    text = "{{range words}}{{.}}{{end}}"
    words = Func(lambda: Strings(["x" * 10] * 50_000), ())
    template = Template("t", text, {"words": words}, limits=replace(LIMITS, output=100_000))
    with pytest.raises(TemplateError, match="exceeded maximum output size"):
        template.render({})
