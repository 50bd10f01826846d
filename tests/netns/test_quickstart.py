# SPDX-License-Identifier: Apache-2.0
"""docs/quickstart.md, run: every command of it, on two hosts that are namespaces."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fairlead.demo.hosts import Namespace, Site, environment

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.usefixtures("namespaces")]

QUICKSTART = Path(__file__).parents[2] / "docs" / "quickstart.md"
END = "end-of-step"


@dataclass(frozen=True)
class Step:
    """A block of commands, where it is run, and the lines that its output must hold."""

    line: int
    hosts: tuple[str, ...]
    commands: str
    output: tuple[str, ...]


def steps(text: str) -> Iterator[Step]:
    """Read the page: "On **a**" says where the next block runs."""
    hosts: tuple[str, ...] = ()
    pending: Step | None = None
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        where = re.match(r"On \*\*(a|b|both)\*\*", line)
        if where:
            hosts = ("a", "b") if where[1] == "both" else (where[1],)
        if not line.startswith("```"):
            continue
        kind, block = line[3:], []
        for _, inner in lines:
            if inner == "```":
                break
            block.append(inner)
        if kind == "output":
            assert pending is not None, f"line {number}: output of nothing"
            yield Step(pending.line, pending.hosts, pending.commands, tuple(block))
            pending = None
            continue
        if pending is not None:
            yield pending
            pending = None
        if kind == "sh":
            pending = Step(number, hosts, "\n".join(block), ())
    if pending is not None:
        yield pending


class Shell:
    """A shell on a host, kept open as a user keeps a terminal open."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def open(cls, where: Namespace) -> Shell:
        process = await asyncio.create_subprocess_exec(
            *where.enter("bash"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )
        return cls(process)

    async def run(self, commands: str) -> str:
        """Run a block and return what it printed; the last command's status must be 0."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{commands}\necho {END} $?\n".encode())
        lines: list[str] = []
        try:
            async with asyncio.timeout(30):
                while line := (await self.process.stdout.readline()).decode():
                    if line.startswith(END):
                        assert line.split()[1] == "0", "".join(lines)
                        return "".join(lines)
                    lines.append(line)
        except TimeoutError:
            pass
        raise AssertionError(f"no end of:\n{commands}\nafter:\n{''.join(lines)}")

    async def close(self) -> None:
        """Kill it and all it left running in the background."""
        assert self.process.stdout is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.stdout.read()
        await self.process.wait()


def test_page_is_read_as_it_is_meant() -> None:
    found = list(steps(QUICKSTART.read_text()))
    assert len(found) > 10
    assert all(step.hosts for step in found)
    assert sum(bool(step.output) for step in found) > 6


@pytest.mark.timeout(120)
async def test_every_command_of_the_page() -> None:
    absent = [tool for tool in ("etcd", "etcdctl", "dig", "curl", "ping") if not shutil.which(tool)]
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")
    async with Site("a", "b") as site:
        shells = {name: await Shell.open(site[name]) for name in ("a", "b")}
        try:
            for step in steps(QUICKSTART.read_text()):
                for name in step.hosts:
                    try:
                        printed = await shells[name].run(step.commands)
                    except AssertionError as error:
                        logs = await site[name].run("sh", "-c", "tail -n 5 /run/quickstart/*.log")
                        raise AssertionError(
                            f"line {step.line} on {name}: {error}\n{logs}"
                        ) from None
                    for wanted in step.output:
                        assert wanted in printed, f"line {step.line} on {name}: {printed}"
        finally:
            for shell in shells.values():
                await shell.close()
