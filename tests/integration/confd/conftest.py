# SPDX-License-Identifier: Apache-2.0
"""A confd process with a confdir of its own, and what to wait with."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest


class Confd:
    """A confdir and the confd processes started on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf = root / "conf"
        self.out = root / "out"
        self.log = root / "confd.log"
        for directory in (self.conf / "conf.d", self.conf / "templates", self.out):
            directory.mkdir(parents=True)

    def resource(self, name: str, template: str, keys: list[str], **more: str) -> Path:
        """Write a resource and its template; return the destination."""
        dest = self.out / name
        lines = [f'src = "{name}.tmpl"', f'dest = "{dest}"', f"keys = {keys}"]
        lines += [f"{key} = '''{value}'''" for key, value in more.items()]
        (self.conf / "templates" / f"{name}.tmpl").write_text(template)
        (self.conf / "conf.d" / f"{name}.toml").write_text("[template]\n" + "\n".join(lines))
        return dest

    def words(self, endpoints: tuple[str, ...], *flags: str) -> list[str]:
        own = ("-confdir", str(self.conf), "-state-dir", str(self.root / "state"))
        sockets = ("-admin-socket", str(self.root / "admin.sock"))
        nodes = [word for endpoint in endpoints for word in ("-node", endpoint)]
        return [sys.executable, "-m", "confd", *own, *sockets, *nodes, *flags]

    async def run(self, endpoints: tuple[str, ...], *flags: str) -> int:
        """Run confd to its end; return its exit status."""
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.words(endpoints, *flags), stdout=log, stderr=log
            )
            async with asyncio.timeout(30):
                return await process.wait()

    @asynccontextmanager
    async def running(
        self, endpoints: tuple[str, ...], *flags: str
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run confd beside the block; afterwards it is stopped and must end well."""
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.words(endpoints, *flags), stdout=log, stderr=log
            )
        try:
            yield process
            if process.returncode is None:
                process.terminate()
                async with asyncio.timeout(15):
                    assert await process.wait() == 0, self.log.read_text()
        finally:
            if process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)
                await process.wait()


async def eventually(claim: Callable[[], bool], seconds: float = 30.0) -> float:
    """Return the seconds it took until `claim` held."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.timeout(seconds):
        while not claim():  # noqa: ASYNC110  (files and other processes wake nobody)
            await asyncio.sleep(0.01)
    return loop.time() - begun


@pytest.fixture
def confd(tmp_path: Path) -> Confd:
    return Confd(tmp_path)
