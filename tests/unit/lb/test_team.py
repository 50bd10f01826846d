# SPDX-License-Identifier: Apache-2.0
"""lb/team.py: who accepts for workers that do not serve."""

from __future__ import annotations

import pytest

from lb.team import heirs


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (["serving"] * 3, {}),
        (["down", "serving", "serving"], {0: 1}),
        (["serving", "serving", "starting"], {2: 0}),
        (["down", "starting", "serving"], {0: 2, 1: 2}),
        (["down", "down"], {}),
        (["starting"], {}),
    ],
)
def test_the_next_one_that_serves_inherits(states: list[str], wanted: dict[int, int]) -> None:
    assert heirs(states) == wanted
