# SPDX-License-Identifier: Apache-2.0
"""What issue and specs/confd.md call faults, each mended without anybody's help."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.testing.etcd import real_etcd
from tests.integration.confd.conftest import Confd, eventually

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VALUE = '{{getv "/k"}}'


def fill(path: Path) -> None:
    """Write until the file system is full."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT)

    def on_and_on() -> None:
        while True:
            os.write(number, b"x" * 4096)

    try:
        with pytest.raises(OSError, match="No space"):
            on_and_on()
    finally:
        os.close(number)


def lives(pid: int) -> bool:
    """Say whether a process runs; a zombie waits only for its parent."""
    found = text(Path(f"/proc/{pid}/stat"))
    return found != "" and found.rpartition(")")[2].split()[0] != "Z"


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


@ROOT
async def test_disk_full(confd: Confd) -> None:
    """A small tmpfs in a mount namespace of confd's own, seen from here by /proc/PID/root."""
    dest = confd.resource("a", VALUE * 40, ["/k"])
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/k", "a")
        mount = f'mount -t tmpfs -o size=64k none {confd.out} && exec "$@"'
        words = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            mount,
            "sh",
            *confd.words(etcd.endpoints, "-watch"),
        ]
        with confd.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log)
        seen = Path(f"/proc/{process.pid}/root{dest}")
        try:
            await eventually(lambda: text(seen) == "a" * 40)
            filler = seen.with_name("filler")
            fill(filler)
            await etcd.etcdctl("put", "/k", "b" * 400)
            await eventually(lambda: "No space left on device" in text(confd.log))
            assert text(seen) == "a" * 40, "the old file stands"
            assert sorted(os.listdir(seen.parent)) == ["a", "filler"], "no staged file"
            filler.unlink()
            await eventually(lambda: text(seen) == "b" * 16000, 20)
        finally:
            process.terminate()
            await process.wait()


@ROOT
async def test_directory_read_only_then_writable(confd: Confd) -> None:
    """By a read-only mount: root would write into a directory without rights."""
    dest = confd.resource("a", VALUE, ["/k"])
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/k", "one")
        mount = f'mount -t tmpfs none {confd.out} && mount -o remount,ro {confd.out} && exec "$@"'
        words = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            mount,
            "sh",
            *confd.words(etcd.endpoints, "-watch"),
        ]
        with confd.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log)
        try:
            await eventually(lambda: "read-only file system" in text(confd.log))
            remount = [
                "nsenter",
                "--mount",
                "-t",
                str(process.pid),
                "mount",
                "-o",
                "remount,rw",
                str(confd.out),
            ]
            subprocess.run(remount, check=True, timeout=10)  # noqa: ASYNC221
            await eventually(lambda: text(Path(f"/proc/{process.pid}/root{dest}")) == "one", 20)
        finally:
            process.terminate()
            await process.wait()


async def test_a_check_that_fails_five_times_and_then_passes(confd: Confd) -> None:
    tries = confd.root / "tries"
    check = f"echo x >> {tries}; test $(wc -l < {tries}) -gt 5"
    dest = confd.resource("a", VALUE, ["/k"], check_cmd=check)
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/k", "one")
        async with confd.running(
            etcd.endpoints, "-watch", "-retry-base-delay", "100ms", "-retry-max-delay", "300ms"
        ):
            await eventually(lambda: text(dest) == "one", 30)
        assert text(tries) == "x\n" * 6


async def test_a_hanging_reload_is_killed_and_holds_up_nobody(confd: Confd) -> None:
    marks = confd.root / "pids"
    hang = f"sh -c 'trap \"\" TERM; echo $$ >> {marks}; while :; do sleep 1; done'"
    slow = confd.resource("slow", VALUE, ["/k"], reload_cmd=hang, reload_cmd_timeout="5s")
    quick = confd.resource("quick", VALUE, ["/k"])
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/k", "one")
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(lambda: text(slow) == "one" and text(marks) != "")
            await etcd.etcdctl("put", "/k", "two")
            await eventually(lambda: text(quick) == "two")
            assert "command timed out" not in text(confd.log), "the other's reload still hangs"
            await eventually(lambda: "command timed out after 5s" in text(confd.log), 15)
            await eventually(lambda: text(slow) == "two", 15)
            first = int(text(marks).split()[0])
            await eventually(lambda: not lives(first))  # its whole group is dead


@pytest.mark.parametrize("stage", ["check", "reload"])
async def test_kill_9_leaves_old_or_new_and_no_litter(confd: Confd, stage: str) -> None:
    """Killed while the check runs: the old file. While the reload runs: the new, and the reload is made up."""
    hold, done = confd.root / "hold", confd.root / "done"
    waits = f"echo $$ > {confd.root}/pid; while test -e {hold}; do sleep 0.05; done"
    commands = {"check_cmd": f"test -s {{{{.src}}}}; {waits}"} if stage == "check" else {
        "reload_cmd": f"{waits}; echo x >> {done}"}  # fmt: skip
    dest = confd.resource("a", VALUE, ["/k"], **commands)
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/k", "old")
        async with confd.running(etcd.endpoints, "-watch") as process:
            await eventually(
                lambda: text(dest) == "old" and (stage == "check" or text(done) == "x\n")
            )
            hold.touch()
            (confd.root / "pid").unlink()
            await etcd.etcdctl("put", "/k", "new")
            await eventually(lambda: text(confd.root / "pid") != "")
            process.send_signal(signal.SIGKILL)
            await process.wait()
            os.killpg(
                int(text(confd.root / "pid")), signal.SIGKILL
            )  # the command died with its host
        hold.unlink()
        assert text(dest) == ("old" if stage == "check" else "new")
        assert len(os.listdir(confd.out)) == (2 if stage == "check" else 1)
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(lambda: text(dest) == "new" and os.listdir(confd.out) == ["a"])
            if stage == "reload":
                await eventually(lambda: text(done) == "x\nx\n")


async def test_kill_9_at_random_moments(confd: Confd) -> None:
    dest = confd.resource("a", '{{getv "/k"}}' * 500, ["/k"], check_cmd="true", reload_cmd="true")
    async with real_etcd() as etcd, connect(Options(endpoints=etcd.endpoints)) as store:
        await store.put(b"/k", b"0000")
        for turn in range(3):  # test_kill.py has every single step
            async with confd.running(etcd.endpoints, "-watch") as process:
                await eventually(lambda: text(dest) != "" and len(os.listdir(confd.out)) == 1, 20)
                for step in range(15 + turn * 3):
                    await store.put(b"/k", b"%02d%02d" % (turn, step))
                    found = text(dest)
                    assert found == found[:4] * 500
                process.send_signal(signal.SIGKILL)
                await process.wait()
            found = text(dest)
            assert found == found[:4] * 500
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(
                lambda: text(dest)[:4] == "0220" and os.listdir(confd.out) == ["a"], 20
            )


async def test_etcd_absent_then_there_then_gone_and_back(confd: Confd) -> None:
    dest = confd.resource("a", VALUE, ["/k"])
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/k", "one")
        await etcd.nodes[0].kill()
        async with confd.running(etcd.endpoints, "-watch"):
            await asyncio.sleep(1.5)
            assert not dest.exists()
            await etcd.nodes[0].start()
            await etcd.healthy()
            await eventually(lambda: text(dest) == "one", 15)
            await etcd.nodes[0].kill()
            await asyncio.sleep(0.5)
            assert text(dest) == "one"
            await etcd.nodes[0].start()
            await etcd.healthy()
            await etcd.etcdctl("put", "/k", "two")
            await eventually(lambda: text(dest) == "two", 15)


async def test_compacted_while_frozen(confd: Confd) -> None:
    """The watch's revision is compacted while confd does not run: it lists again."""
    dest = confd.resource("a", VALUE, ["/k"])
    async with real_etcd() as etcd, connect(Options(endpoints=etcd.endpoints)) as store:
        await store.put(b"/k", b"one")
        async with confd.running(etcd.endpoints, "-watch") as process:
            await eventually(lambda: text(dest) == "one")
            process.send_signal(signal.SIGSTOP)
            for number in range(50):
                put = await store.put(b"/k", b"%d" % number)
            await store.compact(put.header.revision)
            process.send_signal(signal.SIGCONT)
            await eventually(lambda: text(dest) == "49", 20)


@asynccontextmanager
async def slow_road(endpoint: str, seconds: float) -> AsyncIterator[str]:
    """Give an endpoint that leads to another; whatever goes there and back is late."""
    host, _, port = endpoint.removeprefix("http://").rpartition(":")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                loop.call_later(seconds, writer.write, data)
        loop.call_later(seconds, writer.close)

    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(host, int(port))
        writers.extend((writer, ours))
        await asyncio.gather(carry(reader, ours), carry(theirs, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def test_a_slow_etcd(confd: Confd) -> None:
    """0.25 s each way: nothing fails, nothing is lost, and nothing is said to be stale."""
    confd.resource("other", VALUE, ["/k"])
    dest = confd.resource("a", '{{getv "/k"}} {{getv "/own/k"}}', ["/k", "/own"])
    async with real_etcd() as etcd, slow_road(etcd.endpoints[0], 0.25) as endpoint:
        await etcd.etcdctl("put", "/k", "one")
        await etcd.etcdctl("put", "/own/k", "x")
        assert await confd.run((endpoint,), "-onetime") == 0, text(confd.log)
        assert text(dest) == "one x"
        async with confd.running((endpoint,), "-watch"):
            await eventually(lambda: "ready" in text(confd.log))
            for value in ("two", "three", "four"):
                await etcd.etcdctl("put", "/k", value)
            await eventually(lambda: text(dest) == "four x")
            await eventually(lambda: text(confd.out / "other") == "four")
    assert "ERROR" not in text(confd.log)
    assert "WARNING" not in text(confd.log)


async def test_a_new_template_counts_at_once_and_a_faulty_one_not(confd: Confd) -> None:
    dest = confd.resource("a", VALUE, ["/k"])
    template = confd.conf / "templates" / "a.tmpl"
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/k", "one")
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(lambda: text(dest) == "one")
            await asyncio.sleep(0.5)
            template.write_text("new " + VALUE)
            await eventually(lambda: text(dest) == "new one", 10)
            template.write_text("{{")
            await eventually(lambda: "Unable to process template" in text(confd.log), 10)
            assert text(dest) == "new one"


async def test_exec_starts_signals_and_ends_with_the_command(confd: Confd) -> None:
    dest = confd.resource("a", VALUE, ["/k"])
    seen = confd.root / "seen"
    child = confd.root / "child.sh"
    child.write_text(
        f"trap 'cat {dest} >> {seen}' HUP; trap 'echo bye >> {seen}; exit 0' TERM\n"
        f"cat {dest} >> {seen}; (sleep 0.1 &) \nwhile :; do sleep 0.05; done\n"
    )
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/k", "one ")
        async with confd.running(etcd.endpoints, "-watch", "-exec", f"sh {child}"):
            await eventually(lambda: text(seen) == "one ")
            await etcd.etcdctl("put", "/k", "two ")
            await eventually(lambda: text(seen) == "one two ")
        assert text(seen) == "one two bye\n"
        assert await confd.run(etcd.endpoints, "-watch", "-exec", "sh -c 'exit 7'") == 7


async def test_conf_check_diff_and_render(confd: Confd) -> None:
    dest = confd.resource("a", 'x\n{{getv "/k"}}\n', ["/k"])
    keys = confd.root / "keys.json"
    keys.write_text('{"k": "v"}')

    def conf(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fairlead", "conf", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    where = ("--confdir", str(confd.conf), "--keys", str(keys))
    assert conf("check", *where).returncode == 0
    changed = conf("diff", *where)
    assert (changed.returncode, changed.stdout) == (
        2, f"--- /dev/null\n+++ {dest}\n@@ -0,0 +1,2 @@\n+x\n+v\n",
    )  # fmt: skip
    dest.write_text("x\nv\n")
    assert conf("diff", *where).returncode == 0
    source = confd.conf / "templates" / "a.tmpl"
    made = confd.root / "made"
    assert conf("render", "-t", f"{source}:{made}", "--keys", str(keys)).returncode == 0
    assert made.read_text() == "x\nv\n"
    keys.write_text('{"other": "v"}')
    for words in (
        ("check", *where),
        ("diff", *where),
        ("render", "-t", str(source), "--keys", str(keys)),
    ):
        failed = conf(*words)
        assert failed.returncode == 1
        assert "key does not exist: /k" in failed.stdout + failed.stderr
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/p/k", "v2")
        live = (
            "--confdir",
            str(confd.conf),
            "--node",
            etcd.endpoints[0],
            "--prefix",
            "/p",
            "-o",
            "json",
        )
        shown = await asyncio.to_thread(conf, "diff", *live)
        assert shown.returncode == 2, shown.stderr
        assert "+v2" in shown.stdout


async def test_noop_diff_preflight(confd: Confd) -> None:
    dest = confd.resource("a", VALUE, ["/k"])
    dest.write_text("old")
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/k", "new")
        assert await confd.run(etcd.endpoints, "-onetime", "-noop", "-diff") == 0
        assert f"--- {dest}\n+++ {dest}\n@@ -1 +1 @@\n-old\n+new\n" in text(confd.log)
        assert text(dest) == "old"
        assert await confd.run(etcd.endpoints, "-preflight") == 0
        assert "a.toml: 1 keys" in text(confd.log)
        await etcd.nodes[0].kill()
        assert await confd.run(etcd.endpoints, "-preflight", "-preflight-timeout", "1s") == 1


async def test_quiet_time_and_batches(confd: Confd) -> None:
    """Twenty changes in a row are one reload."""
    marks = confd.root / "n"
    dest = confd.resource("a", VALUE, ["/k"], reload_cmd=f"echo x >> {marks}", debounce="400ms")
    async with real_etcd() as etcd, connect(Options(endpoints=etcd.endpoints)) as store:
        await store.put(b"/k", b"start")
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(lambda: text(marks) == "x\n")
            for number in range(20):
                await store.put(b"/k", b"%d" % number)
            await eventually(lambda: text(dest) == "19" and text(marks) == "x\nx\n")


async def test_a_batch_is_one_pass_and_splay_delays(confd: Confd) -> None:
    marks = confd.root / "n"
    dest = confd.resource("a", VALUE, ["/k"], reload_cmd=f"echo x >> {marks}")
    late = confd.resource("b", VALUE, ["/k"], splay="200ms")
    async with real_etcd() as etcd, connect(Options(endpoints=etcd.endpoints)) as store:
        await store.put(b"/k", b"start")
        async with confd.running(etcd.endpoints, "-watch", "-batch-interval", "500ms"):
            await eventually(lambda: text(marks) == "x\n" and text(late) == "start")
            for number in range(20):
                await store.put(b"/k", b"%d" % number)
            await eventually(lambda: text(dest) == text(late) == "19" and text(marks) == "x\nx\n")
            reader, writer = await asyncio.open_unix_connection(confd.root / "admin.sock")
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            metrics = await reader.read()
            writer.close()
            assert b"\nconfd_batch_process_total 0.0" not in metrics
            assert b"\nconfd_batch_process_failed_total 0.0" in metrics
            await store.put(b"/k", b"last")  # pending ones are processed at the end
        assert text(dest) == "last"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_pages_and_state(confd: Confd) -> None:
    confd.resource("a", '{{getv "/db/password"}}', ["/db"], reload_cmd="false")
    async with real_etcd() as etcd:
        await etcd.etcdctl("put", "/db/password", "hunter22")
        async with confd.running(etcd.endpoints, "-watch"):
            await eventually(lambda: "Config reload failed" in text(confd.log))

            def page(path: str) -> str:
                words = [
                    "curl",
                    "-s",
                    "--unix-socket",
                    f"{confd.root}/admin.sock",
                    f"http://x{path}",
                ]
                return subprocess.run(
                    words, capture_output=True, text=True, check=True, timeout=10
                ).stdout

            assert await asyncio.to_thread(page, "/health") == "ok\n"
            assert await asyncio.to_thread(page, "/ready") == "ok\n"
            state = await asyncio.to_thread(page, "/debug/state")
            assert '"reload_due": true' in state
            assert "Config reload failed: exit status 1" in state
            metrics = await asyncio.to_thread(page, "/metrics")
            assert 'confd_command_exit_code_total{exit_code="1",type="reload"}' in metrics
            assert "confd_resource_age_seconds{" in metrics
            assert 'confd_backend_healthy{backend="etcd"} 1.0' in metrics
            await etcd.nodes[0].kill()
            unwell = 'confd_backend_healthy{backend="etcd"} 0.0'
            await eventually(lambda: unwell in page("/metrics"), 15)
        assert "hunter22" not in text(confd.log) + state + metrics
