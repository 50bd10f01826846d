# SPDX-License-Identifier: Apache-2.0
"""`-workers N`: one daemon of several processes, fed by one of them (fairlead.workers)."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fairlead.ask import ask
from fairlead.testing.etcd import Cluster, free_ports, real_etcd

pytestmark = [pytest.mark.integration, pytest.mark.slow]
TEAM = str(Path(__file__).with_name("team.py"))


class Team:
    """A running team.py."""

    def __init__(self, process: asyncio.subprocess.Process, home: Path, port: int) -> None:
        self.process, self.home, self.port, self.log = process, home, port, ""
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.log += line.decode()

    def page(self, path: str) -> Any:
        return ask(self.home / "team.sock", path, "GET").json()

    def workers(self) -> list[dict[str, Any]]:
        return list(self.page("/status")["workers"])

    async def say(self, word: str = "") -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"{word}\n".encode())
        line = await reader.read()
        writer.close()
        return line.decode().strip()

    async def everyone(self, count: int = 60) -> dict[str, str]:
        """Return what each worker says: number → the rest; connections are hashed over them."""
        said = [(await self.say()).split(" ", 1) for _ in range(count)]
        return dict(said)  # type: ignore[arg-type]

    async def until(self, holds: Callable[[], bool], seconds: float = 30.0) -> None:
        begun = time.monotonic()
        while True:
            with suppress(AssertionError, ValueError, KeyError):
                if holds():
                    return
            assert time.monotonic() - begun < seconds, f"not within {seconds} s; log:\n{self.log}"
            assert self.process.returncode is None, f"ended:\n{self.log}"
            await asyncio.sleep(0.02)

    async def ready(self) -> None:
        await self.until(lambda: self.page("/status")["ready"])

    async def ended(self) -> int:
        async with asyncio.timeout(15):
            status = await self.process.wait()
            await self.reader
        return status


@asynccontextmanager
async def team(home: Path, endpoints: str, *argv: str) -> AsyncIterator[Team]:
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, TEAM, f"-machines={endpoints}", f"-state-dir={home}/state",
        f"-admin-socket={home}/team.sock", f"-port={port}", *argv,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    found = Team(process, home, port)
    try:
        yield found
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await found.reader
        process._transport.close()  # type: ignore[attr-defined]


@pytest.fixture
async def etcd() -> AsyncIterator[Cluster]:
    async with real_etcd() as cluster:
        yield cluster


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


async def test_workers_serve_what_the_parent_knows(etcd: Cluster, tmp_path: Path) -> None:
    await etcd.etcdctl("put", "/team/a", "1")
    config = tmp_path / "team.conf"
    config.write_text("")
    async with team(tmp_path, ",".join(etcd.endpoints), "-workers=2", f"-config={config}") as found:
        await found.ready()
        said = await found.everyone()
        assert set(said) == {"0", "1"}
        assert {rest.split()[0] for rest in said.values()} == {
            str(worker["pid"]) for worker in found.workers()
        }
        assert all(rest.endswith(" a=1") for rest in said.values())

        before = found.workers()[0]["revisions"]["values"]
        await etcd.etcdctl("put", "/team/b", "2")
        await etcd.etcdctl("del", "/team/a")
        await found.until(
            lambda: all(w["revisions"]["values"] == before + 2 for w in found.workers())
        )
        assert all(rest.endswith(" b=2") for rest in (await found.everyone()).values())

        # a worker asks, the parent answers
        assert (await found.say("?")).endswith(" b=2 6")

        # what all counted is one figure, and a killed one's share stays in it
        await found.until(
            lambda: found.page("/debug/state")["state"]["figures"]["counts"] == {"answered": 121.0}
        )
        victim = found.workers()[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        other = await found.everyone(20)  # those hashed to the dead one's socket wait for it
        assert len(other) == 2
        await found.ready()
        assert [w["restarts"] for w in found.workers()] == [1, 0]
        assert all(rest.endswith(" b=2") for rest in other.values())
        await found.until(
            lambda: found.page("/debug/state")["state"]["figures"]["counts"] == {"answered": 141.0}
        )
        assert found.page("/debug/state")["state"]["figures"]["gauges"] == {"values": 2.0}
        assert 'ended="signal SIGKILL"' in found.log
        assert (
            "fairlead_worker_restarts_total 1.0"
            in ask(tmp_path / "team.sock", "/metrics", "GET").body.decode()
        )

        # SIGHUP reaches them
        config.write_text('greeting = "hello"\n')
        found.process.send_signal(signal.SIGHUP)
        await found.until(lambda: found.log.count("configuration reloaded") == 3)
        assert all(rest.endswith("hello") for rest in (await found.everyone()).values())

        # etcd gone: all of them go on
        for node in etcd.nodes:
            await node.stop()
        assert all("b=2" in rest for rest in (await found.everyone()).values())

        found.process.send_signal(signal.SIGTERM)
        assert await found.ended() == 0
        assert found.log.count("drained") == 2


async def test_workers_end_when_their_parent_is_killed(etcd: Cluster, tmp_path: Path) -> None:
    async with team(tmp_path, ",".join(etcd.endpoints), "-workers=2") as found:
        await found.ready()
        pids = [worker["pid"] for worker in found.workers()]
        found.process.kill()
        await found.process.wait()
        for _ in range(500):
            if all(map(gone, pids)):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("workers without a parent stay")


async def test_a_fault_in_what_hears_a_worker_ends_the_daemon(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with team(tmp_path, ",".join(etcd.endpoints), "-workers=2") as found:
        await found.ready()
        pids = [worker["pid"] for worker in found.workers()]
        await found.say("!")
        assert await found.ended() == 3
        assert "a fault of ours" in found.log
        assert all(map(gone, pids))


async def test_one_worker_is_no_worker(etcd: Cluster, tmp_path: Path) -> None:
    async with team(tmp_path, ",".join(etcd.endpoints), "-workers=1") as found:
        await found.ready()
        assert (await found.say()).split() == ["0", str(found.process.pid)]
        assert found.workers() == []
        assert json.dumps(found.page("/status"))
