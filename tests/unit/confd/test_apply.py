# SPDX-License-Identifier: Apache-2.0
"""Carrying plans out, on real files in a directory of the test's own (specs/confd.md §7, §8)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from confd.apply import Applier, reload_command
from confd.command import CommandFailed, run_command
from confd.journal import Journal
from confd.metrics import Metrics
from confd.observe import present_files
from confd.plan import Switches, plan_resource
from confd.records import TemplateResource
from confd.state import Output, Wanted
from fairlead.log import Line, Log, Sink

PLAIN = Switches()


class Lines:
    def __init__(self) -> None:
        self.all: list[str] = []

    def log(self) -> Log:
        def render(line: Line) -> str:
            self.all.append(f"{line.level} {line.message}")
            return ""

        return Log(Sink(write=lambda text: None, level=10, render=render))


def applier(lines: Lines | None = None, *, keep_stage: bool = False) -> Applier:
    log = (lines or Lines()).log()
    return Applier(log, Journal(None, log), Metrics(), keep_stage)


def resource(dest: Path, **more: object) -> TemplateResource:
    return TemplateResource("a.toml", "a.tmpl", str(dest), **more)  # type: ignore[arg-type]


async def converge(
    applier: Applier,
    wanted: TemplateResource,
    content: bytes | dict[str, bytes],
    switches: Switches = PLAIN,
) -> list[str]:
    """Make one pass; return the reasons of what was refused."""
    contents = content if isinstance(content, dict) else {wanted.dest: content}
    entry = applier.journal.entry(wanted.file)
    actual = present_files({*contents, *entry.made}, reload_due=entry.reload_due)
    uid, gid = os.geteuid(), os.getegid()
    outputs = {dest: Output(text, wanted.mode, uid, gid) for dest, text in contents.items()}
    plan = plan_resource(Wanted(wanted, outputs), actual, switches)
    return [error.reason for error in await applier.carry_out(plan)]


async def test_new_file(tmp_path: Path) -> None:
    lines = Lines()
    made, file = applier(lines), resource(tmp_path / "f", mode=0o640)
    assert await converge(made, file, b"one") == []
    assert (tmp_path / "f").read_bytes() == b"one"
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o640
    assert lines.all == [
        f"info Target config {tmp_path}/f out of sync",
        f"info Target config {tmp_path}/f has been updated",
    ]
    lines.all.clear()
    assert await converge(made, file, b"one") == []
    assert lines.all == [], "a pass with nothing to do is silent"


async def test_umask_does_not_matter(tmp_path: Path) -> None:
    """Trap 23."""
    before = os.umask(0o077)
    try:
        await converge(applier(), resource(tmp_path / "f"), b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o644


async def test_failed_check_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    lines = Lines()
    made = applier(lines)
    file = resource(tmp_path / "f", check_cmd='grep -q "$0" {{.src}} || { echo no; exit 3; }')
    (tmp_path / "f").write_text("old")
    assert await converge(made, file, b"new") == ["Config check failed: exit status 3"]
    assert (tmp_path / "f").read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]
    assert 'error "no\\n"' in lines.all


async def test_failed_reload_is_owed(tmp_path: Path) -> None:
    """Trap 11."""
    made = applier()
    file = resource(tmp_path / "f", reload_cmd=f"test -e {tmp_path}/ok")
    assert await converge(made, file, b"new") == ["Config reload failed: exit status 1"]
    assert (tmp_path / "f").read_bytes() == b"new"
    assert await converge(made, file, b"new") == ["Config reload failed: exit status 1"]
    (tmp_path / "ok").touch()
    assert await converge(made, file, b"new") == []
    assert made.journal.owed() == frozenset()


async def test_directory_missing(tmp_path: Path) -> None:
    (reason,) = await converge(applier(), resource(tmp_path / "no" / "f"), b"x")
    assert reason.startswith(f"open {tmp_path}/no/.f")
    assert reason.endswith("no such file or directory")


async def test_dest_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (reason,) = await converge(applier(), resource(tmp_path / "f"), b"x")
    assert reason.startswith("rename ")
    assert os.listdir(tmp_path) == ["f"]


async def test_symlink_at_dest_is_replaced(tmp_path: Path) -> None:
    """Trap 13."""
    (tmp_path / "real").write_text("real")
    (tmp_path / "f").symlink_to(tmp_path / "real")
    await converge(applier(), resource(tmp_path / "f"), b"x")
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "real").read_text() == "real"


async def test_bind_mount_is_written_in_place_with_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 12."""

    def busy(source: object, target: object) -> None:
        raise OSError(16, "Device or resource busy")

    (tmp_path / "f").write_text("a longer old text")
    inode = (tmp_path / "f").stat().st_ino
    monkeypatch.setattr(os, "rename", busy)
    file = resource(tmp_path / "f", mode=0o600)
    made = applier()
    assert await converge(made, file, b"new") == []
    status = (tmp_path / "f").stat()
    assert (status.st_ino, status.st_mode & 0o777) == (inode, 0o600)
    assert (tmp_path / "f").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


async def test_noop_changes_nothing(tmp_path: Path) -> None:
    lines = Lines()
    file = resource(tmp_path / "f", reload_cmd="false")
    assert await converge(applier(lines), file, b"x", Switches(noop=True)) == []
    assert os.listdir(tmp_path) == []
    assert lines.all == [f"warning Noop mode enabled. {tmp_path}/f will not be modified"]


async def test_keep_stage_file(tmp_path: Path) -> None:
    made = applier(keep_stage=True)
    await converge(made, resource(tmp_path / "f"), b"x")
    assert len(os.listdir(tmp_path)) == 2
    assert all((tmp_path / name).read_bytes() == b"x" for name in os.listdir(tmp_path))


def test_reload_command_keeps_foreign_braces(tmp_path: Path) -> None:
    """Trap 10."""
    command = "docker inspect -f '{{.State.Pid}}' {{ .dest }} {{.src}}"
    file = resource(tmp_path / "f", reload_cmd=command)
    expected = f"docker inspect -f '{{{{.State.Pid}}}}' {tmp_path}/f S"
    assert reload_command(file, "S") == expected


async def test_commands() -> None:
    """Trap 25: /bin/sh; a background child does not hold us up; a late one is killed whole."""
    assert await run_command("echo a; echo b >&2; sleep 9 &", 5) == "a\nb\n"
    with pytest.raises(CommandFailed, match="signal: killed"):
        await run_command("kill -9 $$", 5)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(CommandFailed, match=r"command timed out after 0\.1s"):
        await run_command("sleep 9 | cat", 0.1)
    assert asyncio.get_running_loop().time() - begun < 2
