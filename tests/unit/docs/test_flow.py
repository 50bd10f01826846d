# SPDX-License-Identifier: Apache-2.0
"""docs/flow.md names modules that are there, and every daemon has the modules of the one shape."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FLOW = (ROOT / "docs" / "flow.md").read_text()
NAMED = sorted(set(re.findall(r"\b(?:fairlead|flannelpy|skydns|confd|lb)(?:\.[a-z_0-9]+)+", FLOW)))


def stands(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@pytest.mark.parametrize("module", NAMED)
def test_named_module_is_there(module: str) -> None:
    assert stands(module)


@pytest.mark.parametrize("package", ["flannelpy", "skydns", "confd", "lb"])
@pytest.mark.parametrize(
    "module", ["keys", "records", "state", "desired", "observe", "plan", "apply"]
)
def test_every_daemon_has_the_shape(package: str, module: str) -> None:
    assert stands(f"{package}.{module}")
