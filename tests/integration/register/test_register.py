# SPDX-License-Identifier: Apache-2.0
"""`fairlead register` as a process, on a real etcd."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from fairlead.testing.etcd import Cluster, free_ports, real_etcd

pytestmark = [pytest.mark.integration, pytest.mark.slow]
REGISTER = (sys.executable, "-c", "from fairlead.register.cli import command; command()")
DNS = "/skydns/org/example/web/w1"


@pytest.fixture
async def etcd() -> AsyncIterator[Cluster]:
    async with real_etcd() as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def registered(
    etcd: Cluster, *settings: str, command: tuple[str, ...] = ("sleep", "60")
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run it; killed at the end if it still runs."""
    flags = ("--endpoints", ",".join(etcd.endpoints), "--dns", "web.example.org", "--id", "w1")
    process = await asyncio.create_subprocess_exec(
        *REGISTER, *flags, "--address", "127.0.0.1", "--ttl", "2s", *settings, "--", *command
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def until(look: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await look():  # noqa: ASYNC110  (another process)
            await asyncio.sleep(0.02)


async def keys(etcd: Cluster) -> dict[str, str]:
    found = json.loads(await etcd.etcdctl("get", "--prefix", "/", "-w", "json")).get("kvs", [])
    return {
        base64.b64decode(kv["key"]).decode(): base64.b64decode(kv["value"]).decode() for kv in found
    }


def stands(etcd: Cluster, present: bool = True) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return (DNS in await keys(etcd)) is present

    return look


async def test_all_keys_stand_while_the_command_runs(etcd: Cluster) -> None:
    (port,) = free_ports(1)
    settings = (
        "--port",
        str(port),
        "--backend",
        "web",
        "--check",
        "http:/",
        "--route",
        "Path(`/`)",
    )
    web = (sys.executable, "-m", "fairlead.demo.web", "w1", "127.0.0.1", str(port))
    extra = ("--put", "/services/${name}/${id}=${address}:${port}")
    async with registered(etcd, *settings, *extra, command=web) as process:
        await until(stands(etcd))
        assert await keys(etcd) == {
            DNS: f'{{"host":"127.0.0.1","port":{port}}}',
            "/services/web.example.org/w1": f"127.0.0.1:{port}",
            "/vulcand/backends/web/backend": '{"Id":"web","Type":"http"}\n',
            "/vulcand/backends/web/servers/w1": f'{{"URL":"http://127.0.0.1:{port}"}}\n',
            "/vulcand/frontends/web/frontend": (
                '{"Id":"web","Type":"http","BackendId":"web","Route":"Path(`/`)"}\n'
            ),
        }
        process.terminate()
        assert await process.wait() == 128 + signal.SIGTERM
    assert set(await keys(etcd)) == {
        "/vulcand/backends/web/backend",
        "/vulcand/frontends/web/frontend",
    }


async def test_lost_lease_is_granted_again(etcd: Cluster) -> None:
    async with registered(etcd):
        await until(stands(etcd))
        first = json.loads(await etcd.etcdctl("get", DNS, "-w", "json"))["kvs"][0]["lease"]
        await etcd.etcdctl("lease", "revoke", f"{first:x}")
        await until(stands(etcd))
        second = json.loads(await etcd.etcdctl("get", DNS, "-w", "json"))["kvs"][0]["lease"]
        assert second != first


async def test_etcd_away_longer_than_the_lease(etcd: Cluster) -> None:
    async with registered(etcd) as process:
        await until(stands(etcd))
        await etcd.nodes[0].stop()
        await asyncio.sleep(3)
        assert process.returncode is None
        await etcd.nodes[0].start()
        await etcd.healthy()
        await until(stands(etcd))
        await asyncio.sleep(3)  # longer than the TTL: it is kept alive again
        assert DNS in await keys(etcd)


async def test_failing_check_withdraws(etcd: Cluster, tmp_path: Path) -> None:
    well = tmp_path / "well"
    well.touch()
    check = ("--check", f"exec:test -e {well}", "--check-interval", "100ms")
    async with registered(etcd, *check) as process:
        await until(stands(etcd))
        well.unlink()
        await until(stands(etcd, False))
        assert process.returncode is None
        well.touch()
        await until(stands(etcd))


async def test_killed_register_takes_its_command_along_and_the_lease_runs_out(
    etcd: Cluster, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    command = ("sh", "-c", f"echo $$ >{pid}; exec sleep 60")
    async with registered(etcd, command=command) as process:
        await until(stands(etcd))
        child = int(pid.read_text())
        process.kill()
        await process.wait()

        async def ended() -> bool:
            return not Path(f"/proc/{child}").exists()  # noqa: ASYNC240

        await until(ended)
        await until(stands(etcd, False))


async def test_command_absent_is_127_and_nothing_is_written(etcd: Cluster) -> None:
    async with registered(etcd, command=("/no/such/program",)) as process:
        assert await process.wait() == 127
    assert await keys(etcd) == {}
