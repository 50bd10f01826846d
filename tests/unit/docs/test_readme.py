# SPDX-License-Identifier: Apache-2.0
"""README and its neighbours: every link leads somewhere, every program and target is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
    *(ROOT / "docs" / f"{name}.md" for name in ("quickstart", "flow", "demo", "fairlead-register")),
]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_table_has_every_program_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"^\| `([a-z.-]+)` \|", README, re.MULTILINE) == list(project["scripts"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)
    assert [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
