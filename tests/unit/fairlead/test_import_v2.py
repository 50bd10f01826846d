"""A v2 dump becomes v3 puts (specs/flannel.md §21, specs/etcd.md §6.9)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead import import_v2
from fairlead.import_v2 import DumpError, Entry, Step

NOW = 1_700_000_000.0
NETWORK = "/coreos.com/network"


def leaf(key: str, value: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "value": value, "modifiedIndex": 7, "createdIndex": 7, **more}


def tree(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"action": "get", "node": {"dir": True, "nodes": list(nodes), **more}}


def test_a_tree_gives_its_leaves() -> None:
    dump = tree({"key": "/a", "dir": True, "nodes": [leaf("/a/b", "1"), leaf("/a/c", "2")]})
    assert list(import_v2.entries(dump, NOW)) == [Entry("/a/b", "1"), Entry("/a/c", "2")]


def test_expiration_counts_over_ttl_because_the_dump_may_be_old() -> None:
    dump = tree(leaf("/a", "1", ttl=100, expiration="2023-11-14T22:13:30.5Z"))
    assert list(import_v2.entries(dump, 0)) == [Entry("/a", "1", NOW + 10.5)]


def test_ttl_alone_counts_from_the_dumps_time() -> None:
    assert list(import_v2.entries(tree(leaf("/a", "1", ttl=30)), NOW)) == [
        Entry("/a", "1", NOW + 30)
    ]


def test_a_directorys_ttl_counts_for_all_below() -> None:
    dump = tree({"key": "/d", "dir": True, "ttl": 5, "nodes": [leaf("/d/a", "1", ttl=9)]})
    assert list(import_v2.entries(dump, NOW)) == [Entry("/d/a", "1", NOW + 5)]


def test_ttl_becomes_a_lease_none_a_reservation_and_the_expired_are_told() -> None:
    subnets = f"{NETWORK}/subnets"
    steps, expired = import_v2.plan(
        [
            Entry(f"{subnets}/10.5.2.0-24", "{}", NOW + 59.2),
            Entry(f"{subnets}/10.5.1.0-24", '{"PublicIP":"192.0.2.1"}'),
            Entry(f"{subnets}/10.5.3.0-24", "{}", NOW - 1),
            Entry("/other", "x"),
        ],
        [NETWORK],
        NOW,
    )
    assert steps == (
        Step(f"{subnets}/10.5.1.0-24".encode(), b'{"PublicIP":"192.0.2.1"}', None),
        Step(f"{subnets}/10.5.2.0-24".encode(), b"{}", 60),
    )
    assert expired == (f"{subnets}/10.5.3.0-24",)


@pytest.mark.parametrize(
    ("key", "prefix", "inside"),
    [
        ("/skydns/local", "/skydns", True),
        ("/skydns", "/skydns", True),
        ("/skydns2/local", "/skydns", False),
        ("/anything", "/", True),
    ],
)
def test_a_prefix_is_a_directory_not_a_string(key: str, prefix: str, inside: bool) -> None:
    assert import_v2.under(key, [prefix]) is inside


@pytest.mark.parametrize(
    ("dump", "reason"),
    [
        ({"errorCode": 100, "message": "Key not found", "cause": "/x"}, "Key not found: /x"),
        ([1], "not an object"),
        (tree({"key": "/a"}), '"/a": neither a directory nor a key'),
        (tree(leaf("/a", "1", ttl="9")), '"/a": ttl "9"'),
        (tree(leaf("/a", "1", expiration="soon")), '"/a": expiration "soon"'),
        (tree({"key": "/a", "dir": True, "nodes": {}}), '"/a": "nodes" is not a list'),
    ],
)
def test_a_bad_dump_names_the_node(dump: Any, reason: str) -> None:
    with pytest.raises(DumpError, match=reason):
        list(import_v2.entries(dump if isinstance(dump, dict) else {"node": dump}, NOW))


def test_main_refuses_what_is_no_dump(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dump.json"
    file.write_text("{")
    assert import_v2.main([str(file)]) == 2
    assert str(file) in capsys.readouterr().err


def test_dry_run_shows_the_puts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dump.json"
    file.write_text(json.dumps(tree(leaf("/skydns/a", "1"), leaf("/vulcand/b", "2", ttl=50))))
    assert import_v2.main(["--dry-run", str(file)]) == 0
    assert capsys.readouterr().out == "put /skydns/a\nput /vulcand/b (lease 50 s)\n"
