# SPDX-License-Identifier: Apache-2.0
"""A daemon's life on a real etcd: start, ready, faults, reload, stop, and a start without etcd."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairlead.ask import ask
from fairlead.testing.etcd import Cluster, free_ports, real_etcd

pytestmark = [pytest.mark.integration, pytest.mark.slow]
TINY = str(Path(__file__).with_name("tiny.py"))


class Daemon:
    """A running tiny."""

    def __init__(
        self, process: asyncio.subprocess.Process, home: Path, notify: socket.socket
    ) -> None:
        self.process = process
        self.home = home
        self.log = ""
        self._notify = notify
        self.notified: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.log += line.decode()

    def ask(self, page: str, method: str = "GET") -> object:
        reply = ask(self.home / "tiny.sock", page, method)
        assert not reply.error, reply.error
        return reply.json() if reply.body.startswith((b"{", b"[")) else reply.body.decode()

    async def until(self, holds: Callable[[], bool], seconds: float = 30.0) -> float:
        begun = time.monotonic()
        while not holds():
            self.poll()
            assert time.monotonic() - begun < seconds, f"not within {seconds} s; log:\n{self.log}"
            assert self.process.returncode is None or holds(), f"ended:\n{self.log}"
            await asyncio.sleep(0.02)
        return time.monotonic() - begun

    def poll(self) -> None:
        try:
            while True:
                self.notified += self._notify.recv(4096).decode().split("\n")
        except BlockingIOError:
            return

    async def ready(self) -> None:
        await self.until(lambda: "READY=1" in self.notified)

    async def ended(self, seconds: float = 10.0) -> int:
        async with asyncio.timeout(seconds):
            status = await self.process.wait()
            await self._reader
        self.poll()
        return status


@asynccontextmanager
async def tiny(home: Path, endpoints: str, *argv: str, **environ: str) -> AsyncIterator[Daemon]:
    (home / "out").mkdir(exist_ok=True)
    (home / "notify").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
        notify.bind(str(home / "notify"))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            TINY,
            f"-machines={endpoints}",
            f"-dir={home}/out",
            f"-state-dir={home}/state",
            f"-admin-socket={home}/tiny.sock",
            *argv,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NOTIFY_SOCKET": str(home / "notify"), **environ},
        )
        daemon = Daemon(process, home, notify)
        try:
            yield daemon
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await daemon._reader
            process._transport.close()  # type: ignore[attr-defined]


@pytest.fixture
async def etcd() -> AsyncIterator[Cluster]:
    async with real_etcd() as cluster:
        yield cluster


async def run(*argv: str, **environ: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        TINY,
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def entries(home: Path) -> list[Path]:
    return sorted(home.iterdir())


def files(home: Path) -> dict[str, str]:
    found = {}
    for path in (home / "out").iterdir():
        with contextlib.suppress(FileNotFoundError):  # removed since
            found[path.name] = path.read_text()
    return found


async def test_start_serve_drain(etcd: Cluster, tmp_path: Path) -> None:
    await etcd.etcdctl("put", "/tiny/a", "one")
    async with tiny(
        tmp_path, etcd.endpoints[0], TINY_LOG_FORMAT="json", WATCHDOG_USEC="200000"
    ) as daemon:
        await daemon.ready()
        await daemon.until(lambda: files(tmp_path) == {"a": "one"})
        await etcd.etcdctl("put", "/tiny/b", "two")
        await daemon.until(lambda: files(tmp_path) == {"a": "one", "b": "two"})
        assert daemon.ask("/healthz") == "ok\n"
        assert daemon.ask("/readyz") == "ready\n"
        assert "WATCHDOG=1" in daemon.notified
        metrics = str(daemon.ask("/metrics"))
        assert "fairlead_etcd_connected 1.0" in metrics
        assert 'fairlead_reconcile_actions_total{action="Write",result="done"} 2.0' in metrics
        assert stat.S_IMODE((tmp_path / "tiny.sock").stat().st_mode) == 0o600
        daemon.process.terminate()
        assert await daemon.ended() == 0
        assert "STOPPING=1" in daemon.notified
        assert [json.loads(line)["msg"] for line in daemon.log.splitlines()][-3:] == [
            "stopping",
            "drained",
            "stopped",
        ]
        assert not (tmp_path / "tiny.sock").exists()


async def test_a_bad_record_costs_itself_and_is_shown(etcd: Cluster, tmp_path: Path) -> None:
    await etcd.etcdctl("put", "/tiny/good", "one")
    await etcd.etcdctl("put", "/tiny/bad", "--", "not a word")
    async with tiny(tmp_path, etcd.endpoints[0]) as daemon:
        await daemon.until(
            lambda: files(tmp_path) == {"good": "one"} if (tmp_path / "out").exists() else False
        )
        status = daemon.ask("/status")
        assert isinstance(status, dict)
        (records,) = status["records"]
        assert records["rejected"][0]["key"] == "/tiny/bad"
        assert "is not a word" in records["rejected"][0]["reason"]
        assert 'fairlead_records_rejected_total{records="values"} 1.0' in str(
            daemon.ask("/metrics")
        )
        assert 'msg="record rejected" key=/tiny/bad' in daemon.log
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fairlead",
            "status",
            "--socket",
            f"{tmp_path}/tiny.sock",
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert "/tiny/bad" in out.decode()
        assert out.decode().splitlines()[1].split()[:3] == ["tiny", str(daemon.process.pid), "yes"]


async def test_removals_held_back_until_released(etcd: Cluster, tmp_path: Path) -> None:
    for name in "abcdef":
        await etcd.etcdctl("put", f"/tiny/{name}", "x")
    async with tiny(tmp_path, etcd.endpoints[0]) as daemon:
        await daemon.until(lambda: (tmp_path / "out").exists() and len(files(tmp_path)) == 6)
        await etcd.etcdctl("del", "--prefix", "/tiny/")
        await daemon.until(lambda: "removals held back" in daemon.log)
        assert len(files(tmp_path)) == 6
        conditions = {c["name"]: c for c in daemon.ask("/status")["conditions"]}  # type: ignore[index]
        assert not conditions["in-sync"]["holds"]
        assert daemon.ask("/plan") == {"files": [f"remove {name}" for name in "abcdef"]}
        daemon.ask("/release", "POST")
        await daemon.until(lambda: files(tmp_path) == {})


async def test_sighup_applies_what_is_live_and_names_the_rest(
    etcd: Cluster, tmp_path: Path
) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text('greeting = "one"\n')
    async with tiny(tmp_path, etcd.endpoints[0], f"-config={config}") as daemon:
        await daemon.ready()
        config.write_text('greeting = "two"\nport = 7\n')
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.until(lambda: "configuration reloaded" in daemon.log)
        assert "msg=greeting greeting=two" in daemon.log
        assert 'msg="settings need a restart" settings=port' in daemon.log
        config.write_text('greting = "three"\n')
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.until(lambda: "configuration not reloaded" in daemon.log)
        assert "did you mean" in daemon.log
        assert daemon.ask("/readyz") == "ready\n"


async def test_sigusr1_dumps(etcd: Cluster, tmp_path: Path) -> None:
    async with tiny(tmp_path, etcd.endpoints[0]) as daemon:
        await daemon.ready()
        daemon.process.send_signal(signal.SIGUSR1)
        await daemon.until(lambda: 'msg="dump: task"' in daemon.log)
        assert 'msg="dump: mirror" name=values' in daemon.log


@pytest.mark.parametrize(
    ("fail", "status", "words"),
    [
        ("ends", 3, 'msg="a task ended by itself; so does the daemon" task=short-lived'),
        ("raises", 3, "KeyError: 'a fault of ours'"),
        ("returns", 0, "msg=stopped"),
    ],
)
async def test_a_task_that_ends_ends_the_daemon_loudly(
    etcd: Cluster, tmp_path: Path, fail: str, status: int, words: str
) -> None:
    async with tiny(tmp_path, etcd.endpoints[0], f"-fail={fail}") as daemon:
        assert await daemon.ended() == status
        assert words in daemon.log
        assert not (tmp_path / "tiny.sock").exists()


async def test_without_etcd_and_without_a_file_it_waits_and_says_what_for(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with tiny(tmp_path, f"http://127.0.0.1:{port}") as daemon:
        await daemon.until(lambda: 'msg="waiting for etcd"' in daemon.log)
        reply = ask(tmp_path / "tiny.sock", "/readyz")
        assert reply.status == 503
        assert b"first-sync: etcd at http" in reply.body
        assert daemon.ask("/healthz") == "ok\n"
        daemon.poll()
        assert "READY=1" not in daemon.notified
        assert any(line.startswith("STATUS=waiting for etcd") for line in daemon.notified)
        daemon.process.terminate()
        assert await daemon.ended() == 0


async def test_started_while_etcd_is_down_it_serves_from_the_file(
    etcd: Cluster, tmp_path: Path
) -> None:
    await etcd.etcdctl("put", "/tiny/a", "one")
    async with tiny(tmp_path, etcd.endpoints[0]) as daemon:
        await daemon.ready()
        await daemon.until(
            lambda: (
                any((tmp_path / "state").glob("*.state"))
                if (tmp_path / "state").exists()
                else False
            )
        )
        daemon.process.kill()
        await daemon.process.wait()
    (state,) = (tmp_path / "state").glob("*.state")
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    await etcd.nodes[0].kill()
    (tmp_path / "out" / "a").unlink()
    async with tiny(tmp_path, etcd.endpoints[0]) as daemon:
        assert await daemon.until(lambda: files(tmp_path) == {"a": "one"}) < 5.0
        await daemon.ready()
        status = daemon.ask("/status")
        assert isinstance(status, dict)
        assert status["mirrors"][0]["stale_seconds"] > 0
        metrics = str(daemon.ask("/metrics"))
        assert "fairlead_etcd_connected 0.0" in metrics
        assert "fairlead_etcd_stale_seconds 0.0" not in metrics
        assert 'msg="serving from the state file"' in daemon.log
        await etcd.nodes[0].start()
        await daemon.until(lambda: "fairlead_etcd_connected 1.0" in str(daemon.ask("/metrics")), 20)
        conditions = {c["name"]: c["holds"] for c in daemon.ask("/status")["conditions"]}  # type: ignore[index]
        assert conditions["etcd-connected"]
        assert "fairlead_etcd_stale_seconds 0.0" in str(daemon.ask("/metrics"))


async def test_a_damaged_file_is_refused_in_words(etcd: Cluster, tmp_path: Path) -> None:
    async with tiny(tmp_path, etcd.endpoints[0]) as daemon:
        await daemon.ready()
        await daemon.until(
            lambda: (
                any((tmp_path / "state").glob("*.state"))
                if (tmp_path / "state").exists()
                else False
            )
        )
    (state,) = (tmp_path / "state").glob("*.state")
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    await etcd.nodes[0].kill()
    async with tiny(tmp_path, etcd.endpoints[0]) as daemon:
        await daemon.until(lambda: "state file refused" in daemon.log)
        assert "damaged" in daemon.log


async def test_plan_prints_and_does_nothing(etcd: Cluster, tmp_path: Path) -> None:
    await etcd.etcdctl("put", "/tiny/a", "one")
    (tmp_path / "out").mkdir()
    status, out, err = await run(
        f"-machines={etcd.endpoints[0]}",
        f"-dir={tmp_path}/out",
        f"-state-dir={tmp_path}/state",
        "-plan",
    )
    assert (status, out) == (0, "files: write a=one\n"), err
    assert files(tmp_path) == {}
    assert not (tmp_path / "state").exists()


async def test_bad_flags_have_the_originals_exit_status() -> None:
    status, out, err = await run("-machine=x", "-port=y")
    assert (status, out) == (7, "")
    assert "flag provided but not defined: -machine; did you mean -machines?" in err
    assert 'invalid value "y" for flag -port' in err
    assert "Usage of tiny:" in err


async def test_check_config(tmp_path: Path) -> None:
    """All faults at once, in under 300 ms; opens no socket and writes nothing."""
    config = tmp_path / "tiny.toml"
    config.write_text('dir = ""\nport = 70000\n')
    before = entries(tmp_path)
    status, out, err = await run(f"-config={config}", "-check-config", HOME=str(tmp_path))
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f'{config}:1: key "dir": must name a directory',
        f'{config}:2: key "port" "70000": must be at most 65535',
    ]
    config.write_text('machins = "x"\nport = "x"\n')
    status, _, err = await run(f"-config={config}", "-check-config")
    assert status == 1
    assert err.splitlines() == [
        f'{config}:1: key "machins": unknown; did you mean "machines"?',
        f'{config}:2: key "port": "x" is not a whole number',
    ]
    config.write_text('dir = "/x"\n')
    status, *_ = await run(f"-config={config}", "-check-config")
    assert status == 0
    assert entries(tmp_path) == before


async def test_print_config() -> None:
    status, out, _ = await run("-dir=/x", "-print-config", TINY_PORT="0x10")
    assert status == 0
    rows = [line.split("#") for line in out.splitlines()]
    assert {left.strip(): right.strip() for left, right in rows}[
        "port = 16"
    ] == "environment TINY_PORT"


async def test_admin_address_is_read_only(etcd: Cluster, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with tiny(tmp_path, etcd.endpoints[0], f"-admin-addr=127.0.0.1:{port}") as daemon:
        await daemon.ready()
        for method, page, status in (
            ("GET", "/healthz", 200),
            ("POST", "/release", 403),
            ("GET", "/x", 404),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"{method} {page} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (await reader.read()).split(b" ")[1] == str(status).encode()
            writer.close()
            await writer.wait_closed()
    async with tiny(tmp_path, etcd.endpoints[0], "-admin-addr=127.0.0.1:99999") as daemon:
        assert await daemon.ended() == 1
        assert "99999" in daemon.log


async def test_embedded_store(tmp_path: Path) -> None:
    async with tiny(tmp_path, "http://127.0.0.1:1", f"-etcd-embedded={tmp_path}/etcd") as daemon:
        await daemon.ready()
        assert 'msg="embedded store" state=serving' in daemon.log
        daemon.process.terminate()
        assert await daemon.ended() == 0
