# SPDX-License-Identifier: Apache-2.0
"""What containers bring: process 1 with its orphans, and files that are mounts."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from fairlead.testing.etcd import real_etcd
from tests.integration.confd.conftest import Confd, eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed"),
]


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def test_process_1_reaps_orphans(confd: Confd) -> None:
    """Six orphans of the -exec command end at once; soon nothing of them is left."""
    confd.resource("a", "x", [])
    pids = confd.root / "ps"
    child = confd.root / "child.sh"
    child.write_text(
        "for n in 1 2 3 4 5 6; do (sh -c 'sleep 0.2' &); done; sleep 3.5\n"
        f"for f in /proc/[0-9]*/stat; do cat $f; done > {pids} 2>/dev/null\n"
    )
    words = confd.words((), "-watch", "-backend", "env", "-exec", f"sh {child}")
    command = ["unshare", "--pid", "--fork", "--mount-proc", *words]
    with confd.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    async with asyncio.timeout(30):
        assert await process.wait() == 0, text(confd.log)
    stats = [line for line in text(pids).splitlines() if ")" in line]
    assert any(line.startswith("1 (") for line in stats), "confd is process 1"
    zombies = [line for line in stats if line.rpartition(")")[2].split()[0] == "Z"]
    assert zombies == []


async def test_a_file_that_is_a_mount_is_written_in_place(confd: Confd) -> None:
    """Trap 12, on a real bind mount: same inode, and its mode too; in sync afterwards."""
    dest = confd.resource(
        "a", '{{getv "/k"}}', ["/k"], mode="0600", reload_cmd=f"echo x >> {confd.root}/n"
    )
    dest.write_text("old")
    source = confd.root / "source"
    source.write_text("old")
    inode = source.stat().st_ino
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/k", "new")
        mount = f'mount --bind {source} {dest} && exec "$@"'
        words = ["unshare", "--mount", "sh", "-c", mount, "sh"]
        for _ in range(2):
            run = [*words, *confd.words(etcd.endpoints, "-onetime")]
            with confd.log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(*run, stdout=log, stderr=log)
            async with asyncio.timeout(30):
                assert await process.wait() == 0, text(confd.log)
    status = source.stat()
    assert (source.read_text(), status.st_ino, status.st_mode & 0o777) == ("new", inode, 0o600)
    assert text(confd.root / "n") == "x\n", "the second run finds it in sync"
    assert os.listdir(confd.out) == ["a"]


async def test_removals_are_held_back_when_most_would_go(confd: Confd) -> None:
    """A prefix that somebody emptied does not take every file with it."""
    confd.resource("v", "{{.Name}}", ["/v"], for_each="/v/*")
    file = confd.conf / "conf.d" / "v.toml"
    file.write_text(file.read_text().replace(f"{confd.out}/v", f"{confd.out}/{{{{.Name}}}}"))
    async with real_etcd() as etcd:
        for number in range(24):
            await etcd.etcdctl("put", f"/v/{number}", "x")
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(lambda: len(os.listdir(confd.out)) == 24)
            await etcd.etcdctl("del", "/v/1")
            await eventually(lambda: len(os.listdir(confd.out)) == 23)
            await etcd.etcdctl("del", "--prefix", "/v/")
            await eventually(lambda: "removals held back" in text(confd.log))
            assert len(os.listdir(confd.out)) == 23
