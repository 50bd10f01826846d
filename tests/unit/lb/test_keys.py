# SPDX-License-Identifier: Apache-2.0
"""lb/keys.py: specs/vulcand.md §2."""

from __future__ import annotations

import pytest

from fairlead.errors import RecordError
from lb import keys
from lb.keys import ROOTS, Kind, Ref


@pytest.mark.parametrize(
    ("tail", "ref"),
    [
        ("backends/b1/backend", Ref(Kind.BACKEND, "b1")),
        ("backends/b1", Ref(Kind.BACKEND, "b1")),
        ("backends/b1/servers/s1", Ref(Kind.SERVER, "s1", "b1")),
        ("frontends/f1/frontend", Ref(Kind.FRONTEND, "f1")),
        ("frontends/f1", Ref(Kind.FRONTEND, "f1")),
        ("frontends/f1/middlewares/m1", Ref(Kind.MIDDLEWARE, "m1", "f1")),
        ("hosts/a.example.org/host", Ref(Kind.HOST, "a.example.org")),
        ("listeners/l1", Ref(Kind.LISTENER, "l1")),
        ("listeners/l1/listener", Ref(Kind.LISTENER, "l1")),
        ("frontends/f1/other", None),
        ("backends/b1/servers", None),
        ("autocert_cache/x", Ref(Kind.ACME, "x")),
        ("autocert_cache/x/y", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("root", ROOTS)
def test_parse_with_and_without_leading_slash(root: str, tail: str, ref: Ref | None) -> None:
    assert keys.parse(f"{root}/{tail}".encode(), ROOTS) == ref
    if ref is not None:
        assert keys.parse(keys.build(root, ref), ROOTS) == ref


def test_other_roots_are_not_ours() -> None:  # §2.1, third trap (V2)
    assert keys.parse(b"/vulcand-staging/backends/b1/backend", ROOTS) is None
    assert not any(keys.range_of(root).holds(b"/vulcand-staging/x") for root in ROOTS)


def test_delete_range_spares_longer_ids() -> None:  # §2.1, first trap (V2)
    (below,) = keys.below("/vulcand", Ref(Kind.FRONTEND, "f1"))
    assert below.holds(b"/vulcand/frontends/f1/middlewares/m")
    assert not below.holds(b"/vulcand/frontends/f10/frontend")


def test_rank_prefers_first_root_and_full_spelling() -> None:
    spelt = [
        b"vulcand/frontends/f/frontend",
        b"/vulcand/frontends/f",
        b"/vulcand/frontends/f/frontend",
    ]
    assert min(spelt, key=lambda key: keys.rank(key, ROOTS)) == b"/vulcand/frontends/f/frontend"


def test_id_not_utf8_is_a_record_error() -> None:
    with pytest.raises(RecordError, match="not UTF-8"):
        keys.parse(b"/vulcand/backends/\xff/backend", ROOTS)
