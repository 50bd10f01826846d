# SPDX-License-Identifier: Apache-2.0
"""Random templates never hang and never raise anything but TemplateError.

Bounded here; a long run is `FAIRLEAD_FUZZ=200000 pytest tests/unit/fairlead/gotemplate/test_fuzz.py`
(docs/performance.md says what it gave).
"""

from __future__ import annotations

import os
import random
import time

import pytest

from fairlead.gotemplate import Limits, Template, TemplateError

COUNT = int(os.environ.get("FAIRLEAD_FUZZ", "1500"))
LIMITS = Limits(depth=50, steps=2000, output=100_000)
WORDS = (
    *"{{ }} {{- -}} | ( ) . $ , := = \" ` ' \\ \n % # @ é \x00 \ud800".split(" "),  # noqa: SIM905
    "if", "else", "end", "range", "with", "define", "template", "block", "break", "continue",
    "$x", "$y", ".a", ".b.c", ".l", ".n", "$.a", "nil", "true", "1", "-1", "1.5", "0x1F", "1e400", "'a'",
    '"s"', "`r`", '"t"', "len", "index", "slice", "print", "printf", "println", "html", "js",
    "urlquery", "eq", "lt", "and", "or", "not", "call", '"%d %v %q %+v %x %5.2f %[2]*[1]d %!"', "/*", "*/", " ",
)  # fmt: skip
PIECES = (
    "{{if .a}}", "{{else}}", "{{else if .n}}", "{{end}}", "{{range .l}}", "{{range $i, $e := .l}}",
    "{{with .b}}", '{{define "t"}}', '{{template "t" .}}', '{{block "t" .}}', "{{.}}", "{{$}}", "text",
    '{{printf "%v" .}}', "{{break}}", "{{continue}}", "{{index .l 1}}", "{{.b.c | printf \"%q\"}}",
    "{{$x := 1}}", "{{$x = 2}}", "{{- /* c */ -}}", "{{slice .a 1 2}}", "{{len .l}}", "{{call .a}}",
)  # fmt: skip
DATA = {"a": "text", "b": {"c": [1, "x", None]}, "l": [1, 2.5, "z", {"k": True}], "n": None}


def random_template(source: random.Random) -> str:
    match source.randrange(3):
        case 0:  # words in any order
            return "".join(source.choices(WORDS, k=source.randrange(30)))
        case 1:  # blocks in any order
            return "".join(source.choices(PIECES, k=source.randrange(20)))
        case _:  # actions that are mostly well formed
            parts = [
                "{{" + " ".join(source.choices(WORDS, k=source.randrange(1, 7))) + "}}"
                for _ in range(source.randrange(1, 5))
            ]
            return source.choice(PIECES).join(parts)


@pytest.mark.slow
def test_random_templates() -> None:
    seed = int(os.environ.get("FAIRLEAD_SEED", random.randrange(1 << 32)))
    print(f"FAIRLEAD_SEED={seed}")
    source = random.Random(seed)
    rendered = 0
    for _ in range(COUNT):
        text = random_template(source)
        begun = time.monotonic()
        try:
            Template("t", text, limits=LIMITS).render(DATA)
            rendered += 1
        except TemplateError:
            pass
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} for {text!r}") from error
        assert time.monotonic() - begun < 5, text
    assert rendered > COUNT // 50, "some of them must be good"
