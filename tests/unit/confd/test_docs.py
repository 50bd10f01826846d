# SPDX-License-Identifier: Apache-2.0
"""docs/confd.md names every function and resource key there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from confd.funcs import functions
from confd.records import _KNOWN
from confd.values import Tree
from confd.world import Machine

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "confd.md").read_text(encoding="utf-8")


def test_functions() -> None:
    begun = PAGE.index("Templates are Go's text/template")
    text = PAGE[begun : PAGE.index("\n\n", begun)]
    named = {word for code in re.findall(r"`([^`]+)`", text) for word in code.split()}
    assert named == {*functions(lambda: Tree("/", ()), Machine()), "include"}


def test_resource_keys() -> None:
    begun = PAGE.index("| Key | Default | Meaning |")
    text = PAGE[begun : PAGE.index("### Groups", begun)]
    assert all(f"`{name}`" in text for name in _KNOWN)
