# SPDX-License-Identifier: Apache-2.0
"""The store inside daemons (`-etcd-embedded`), and copies to and from an etcd."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fairlead.embedded.cli import run
from fairlead.embedded.copying import BadExport, export_lines, import_lines
from fairlead.embedded.inside import inside
from fairlead.embedded.sqlite import NotOurs
from fairlead.embedded.store import EmbeddedStore
from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.etcd.types import KeyRange, LeaseID


async def test_the_first_serves_the_others_share_and_one_takes_over(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    def report(name: str) -> object:
        return lambda state, error: told.append((name, state))

    first = inside(tmp_path / "d", report=report("first"))  # type: ignore[arg-type]
    endpoints = await first.__aenter__()
    async with (
        inside(tmp_path / "d", report=report("second")) as same,  # type: ignore[arg-type]
        connect(Options(same)) as client,
    ):
        assert same == endpoints
        await client.put(b"k", b"1")
        await first.__aexit__(None, None, None)
        async with asyncio.timeout(10):
            while ("second", "serving") not in told:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        kv = await client.get(b"k")
        assert kv is not None
        assert kv.value == b"1"
        assert (await client.put(b"k", b"2")).header.revision == 3
    assert told == [("first", "serving"), ("second", "sharing"), ("second", "serving")]


async def test_a_directory_that_is_not_ours_stops_the_daemon(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(NotOurs, match=r"letter\.txt"):
        async with inside(tmp_path):
            pass
    with pytest.raises(NotOurs, match="too long for a socket"):
        async with inside(tmp_path / ("x" * 120)):
            pass


async def test_an_export_imports_into_another_store() -> None:
    async with await EmbeddedStore.open() as old, await EmbeddedStore.open() as new:
        await old.grant(500, LeaseID(7))
        await old.put(b"/a\xff\x00", b"\x00binary", lease=LeaseID(7))
        for i in range(250):
            await old.put(b"/k/%d" % i, b"v" * i)
        lines = [line async for line in export_lines(old)]
        copied = await import_lines(new, lines)
        assert (copied.keys, copied.leases) == (251, 1)
        assert {k: (kv.value, kv.lease) for k, kv in new.core.live.items()} == {
            k: (kv.value, kv.lease) for k, kv in old.core.live.items()
        }
        assert (await new.time_to_live(LeaseID(7), keys=True)).keys == (b"/a\xff\x00",)
        with pytest.raises(BadExport, match="holds 251 keys; give -merge"):
            await import_lines(new, lines)
        await new.delete(KeyRange(b"/k/1"))
        await import_lines(new, lines, merge=True)
        assert await new.get(b"/k/1") is not None
        assert new.core.leases[LeaseID(7)].keys == {b"/a\xff\x00"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: not an export"),
        ('{"format": "fairlead-etcd-export", "version": 9}', "line 1: version 9"),
        ('{"format": "fairlead-etcd-export", "version": 1}\n{"key": "%"}', "line 2: neither"),
        ('{"format": "fairlead-etcd-export", "version": 1}\n7', "line 2: neither"),
    ],
)
async def test_a_bad_export_is_refused_by_line(text: str, reason: str) -> None:
    async with await EmbeddedStore.open() as store:
        with pytest.raises(BadExport, match=reason):
            await import_lines(store, text.splitlines())


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["-initial-cluster=x"], 2, "flag -initial-cluster is not supported: this store is one"),
        (["-auto-compaction-retention=1h"], 2, "the history is always bounded"),
        (["-nonsense"], 2, "flag provided but not defined: -nonsense"),
        (["backup"], 2, '"backup" is no verb'),
        (["export"], 2, "export takes one file"),
        (["-h"], 0, "-listen-client-urls"),
        (["-listen-client-urls=http://0.0.0.0:1"], 1, "reachable from other machines"),
        (["-user=root"], 1, "must be name:password"),
        (["-cert-file=/nowhere"], 1, "needs the other of the pair"),
        (["-client-cert-auth"], 1, "needs -cert-file and -key-file"),
    ],
)
def test_the_command_line_refuses_in_words(
    argv: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == status
    assert words in capsys.readouterr().err
