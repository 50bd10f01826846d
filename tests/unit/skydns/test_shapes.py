# SPDX-License-Identifier: Apache-2.0
"""Flags that say something else of some zones (specs/skydns.md §3.1, §3.3, §3.4)."""

import re

import pytest

from skydns import keys, shapes
from skydns.policy import PROFILES, Own, Shape

ZONES = keys.zones("a.test,b.a.test,10.0.0.0/8")
A, B, REVERSE = ZONES
STRICT = PROFILES["strict"]


def test_one_value_is_for_all() -> None:
    own = shapes.own(["union"], STRICT, ZONES)
    assert (own.rest, own.zones) == (Own.UNION, {})
    assert shapes.own(["profile"], STRICT, ZONES).rest is Own.FIRST
    assert shapes.own([], STRICT, ZONES).rest is Own.FIRST
    assert shapes.depth(["-1"], ZONES).rest is None
    assert (
        shapes.of_all(ZONES, own, shapes.depth([], ZONES), shapes.catch_all([], STRICT, ZONES))
        == {}
    )


def test_a_zone_may_have_another() -> None:
    own = shapes.own(["B.a.test.=union"], STRICT, ZONES)
    depth = shapes.depth(["1", "10.0.0.0/8=0"], ZONES)
    catch_all = shapes.catch_all(["b.a.test=false", "true"], STRICT, ZONES)
    assert shapes.of_all(ZONES, own, depth, catch_all) == {
        A: Shape(Own.FIRST, 1, True),
        B: Shape(Own.UNION, 1, False),
        REVERSE: Shape(Own.FIRST, 0, True),
    }


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (["1", "2"], '"2": that was said before'),
        (["a.test=1", "A.test=2"], '"A.test=2": that was said before'),
        (["c.test=1"], '"c.test=1": c.test. is no zone of -domain'),
        (["deep"], '"deep" is no number'),
        (["=1"], '"=1": no zone is named'),
        (["a.test="], '"" is no number'),
        (["a..test=1"], "neither a domain name nor a CIDR"),
    ],
)
def test_what_means_nothing_is_refused(parts: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        shapes.depth(parts, ZONES)


def test_a_word_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match='"some" is none of children, first, union, profile'):
        shapes.own(["a.test=some"], STRICT, ZONES)
    with pytest.raises(ValueError, match='"some" is none of true, false, profile'):
        shapes.catch_all(["some"], STRICT, ZONES)
