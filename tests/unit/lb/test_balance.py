# SPDX-License-Identifier: Apache-2.0
"""lb/balance.py."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.balance import MOST_TURNS, RoundRobin, turns


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ([], ""),
        ([0, 0], ""),
        ([1, 1, 1], "abc"),
        ([5, 5], "ab"),
        ([3, 0, 3], "ac"),
        ([5, 1, 1], "aabacaa"),  # smooth, as nginx orders these weights
        ([2, 1], "aba"),
    ],
)
def test_turns(weights: list[int], order: str) -> None:
    assert "".join("abc"[i] for i in turns(weights)) == order


@given(st.lists(st.integers(0, 100), min_size=1, max_size=8))
def test_shares_are_exact(weights: list[int]) -> None:
    count = Counter(turns(weights))
    total = sum(weights)
    for i, weight in enumerate(weights):
        assert count[i] * total == weight * count.total() or not total


def test_huge_weights_are_bounded() -> None:
    order = turns([1 << 40, 1, 1 << 39])
    assert len(order) <= MOST_TURNS
    assert set(order) == {0, 1, 2}


def test_pick() -> None:
    robin = RoundRobin(["a", "b", "c"])
    assert [robin.pick() for _ in range(5)] == ["a", "b", "c", "a", "b"]
    assert robin.pick_other(["c", "a"]) == "b"
    assert robin.pick_other(["a", "b", "c"]) in ("a", "b", "c")
    assert RoundRobin[str]().pick() is None
