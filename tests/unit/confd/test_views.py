# SPDX-License-Identifier: Apache-2.0
"""Trees, what renders read of them, and which resources a change wakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confd.records import TemplateResource
from confd.values import Reads, Tree
from confd.views import Views
from fairlead.etcd.types import KeyValue, Revision
from fairlead.gotemplate import CallError


def put(key: str, value: str = "x") -> tuple[bytes, KeyValue | None]:
    one = Revision(1)
    return key.encode(), KeyValue(key.encode(), value.encode(), one, one, 1)


def gone(key: str) -> tuple[bytes, KeyValue | None]:
    return key.encode(), None


def resource(name: str, *keys: str, prefix: str = "/") -> TemplateResource:
    return TemplateResource(name, "a.tmpl", f"/etc/{name}", keys, prefix)


def test_tree_takes_its_own_keys_only() -> None:
    tree = Tree("/p", ("/p/app",))
    changed = tree.apply([put("/p/app"), put("/p/app/a"), put("/p/appx"), put("/q")])
    assert changed == {"/app", "/app/a"}
    assert tree.names() == ["/app", "/app/a"]
    assert tree.apply([put("/p/app/a"), gone("/p/app"), gone("/p/zz")]) == {"/app"}
    assert tree.names() == ["/app/a"]


def test_bad_pattern_fails_once_there_are_keys() -> None:
    tree = Tree("/", ("/",))
    assert tree.match("[") == []
    assert tree.reads.touched_by({"/anything"})
    tree.apply([put("/a")])
    with pytest.raises(CallError, match="syntax error in pattern"):
        tree.match("[")


def test_reads_are_noted() -> None:
    tree = Tree("/", ("/",))
    tree.find("/a")
    tree.match("/web/*")
    tree.listing("/dir")
    assert tree.reads == Reads({"/a"}, {"/web/", "/dir", ""})
    tree.apply([put("/z")])
    tree.reads = Reads()
    tree.find("/a")
    tree.match("/web/*")
    assert [tree.reads.touched_by({name}) for name in ("/a", "/a/b", "/web/1", "/we")] == [
        True,
        False,
        True,
        False,
    ]


def test_views_wake_only_who_read() -> None:
    views = Views()
    one, two, new = resource("one", "/a"), resource("two", "/a"), resource("new", "/a")
    assert len(views.assign([one, two, new])) == 1, "the same keys: one tree"
    views.apply([put("/a/1"), put("/a/2")])
    views.start_reads(one).find("/a/1")
    views.start_reads(two).match("/a/*")
    assert views.apply([put("/a/2", "y")]) == {"two", "new"}
    assert views.apply([put("/a/2", "y")]) == set(), "same value: nobody"
    assert views.apply([put("/b", "y")]) == set()
    assert views.assign([two]) == []
    assert views.apply([put("/a/1", "z")]) == {"two"}


@given(st.lists(st.tuples(st.sampled_from(["abc/ab/a", "/b", "/a", "/a/b"]), st.booleans())))
def test_tree_equals_a_plain_dict(steps: list[tuple[str, bool]]) -> None:
    tree, plain = Tree("/", ("/",)), dict[str, str]()
    for at, (key, stays) in enumerate(steps):
        tree.apply([put(key, str(at)) if stays else gone(key)])
        if not key.startswith("/"):
            continue
        if stays:
            plain[key] = str(at)
        else:
            plain.pop(key, None)
    assert {name: tree.find(name) for name in tree.names()} == plain
