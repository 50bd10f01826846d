# SPDX-License-Identifier: Apache-2.0
"""confd's function vectors (specs/confd.md §14), answers from both originals.

functions.jsonl: one case a line, over the keys of store.json. `original` is 0.16's answer and
ours where it knows the function; `fork` is the maintained fork's where it differs. Where both
know the function and differ, ours is the original's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from confd.funcs import functions
from confd.include import including
from confd.values import Tree
from confd.world import Machine
from fairlead.etcd.types import KeyValue, Revision
from fairlead.gotemplate import Template, TemplateError

HERE = Path(__file__).parent
CASES = [
    json.loads(line) for line in (HERE / "functions.jsonl").read_text(encoding="utf-8").splitlines()
]
STORE = json.loads((HERE / "store.json").read_text(encoding="utf-8"))


def tree() -> Tree:
    made = Tree("/", ("/",))
    one = Revision(1)
    made.apply(
        (key.encode(), KeyValue(key.encode(), value.encode(), one, one, 1))
        for key, value in STORE.items()
    )
    return made


def test_all_vectors_are_here() -> None:
    assert len(CASES) == 120


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["template"][:60])
def test_function(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FV_X", "fx")
    monkeypatch.setenv("FV_E", "")
    templates = tmp_path / "templates"
    templates.mkdir()
    source = templates / "a.tmpl"
    source.write_text(case["template"], encoding="utf-8")
    store = tree()
    known = functions(lambda: store, Machine())
    known = including(known, templates)
    want = case["original"]
    if want.get("unknown"):
        want = case["fork"]
    if "prints" in want:
        assert Template("a.tmpl", case["template"], known).render() == want["prints"]
        return
    with pytest.raises(TemplateError) as caught:
        Template("a.tmpl", case["template"], known).render()
    assert caught.value.reason == want["error"].replace("{C}", str(tmp_path))
