# SPDX-License-Identifier: Apache-2.0
"""lb/balance.py."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb import balance
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


class Place:
    def __init__(self, name: str, weight: int = 1, active: int = 0) -> None:
        self.key = name.encode()
        self.weight = weight
        self.active = active


def test_least_active_counts_by_weight() -> None:
    a, b, c = Place("a", 1, 1), Place("b", 4, 3), Place("c", 0, 0)
    assert balance.least_active([a, b, c], 0) is b
    assert balance.least_active([], 0) is None


def test_the_less_busy_of_two() -> None:
    places = [Place(n, 1, 9 * (n == "a")) for n in "abc"]
    picks = [balance.better_of_two(places, turn) for turn in range(60)]
    assert places[0] not in picks
    assert len({id(pick) for pick in picks}) == 2


def test_a_ring_moves_only_the_share_of_who_goes() -> None:
    places = [Place(f"10.0.0.{i}:80") for i in range(5)]
    keys = [b"%d" % i for i in range(2000)]
    ring = balance.Ring(places)
    before = {key: ring.pick(key, lambda _: True) for key in keys}
    gone = places[2]
    less = balance.Ring([p for p in places if p is not gone])
    for key, place in before.items():
        if place is not gone:
            assert less.pick(key, lambda _: True) is place
        else:  # and so does one that is merely full
            assert ring.pick(key, lambda p: p is not gone) is less.pick(key, lambda _: True)
    shares = [sum(p is place for p in before.values()) for place in places]
    assert min(shares) > 2000 / 5 / 2


def test_a_turn_that_was_not_used_comes_again() -> None:
    robin = RoundRobin("ab")
    for _ in range(3):
        assert robin.pick() == "a"
        robin.unpick()
    assert [robin.pick(), robin.pick(), robin.pick()] == ["a", "b", "a"]
