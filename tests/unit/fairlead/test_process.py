# SPDX-License-Identifier: Apache-2.0
import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead import process
from fairlead.process import run


async def test_output_and_status() -> None:
    done = await run("echo a; echo b >&2; exit 3")
    assert (done.status, done.output, done.reason, done.ok) == (
        3,
        b"a\nb\n",
        "exit status 3",
        False,
    )
    assert (await run(["/bin/echo", "$HOME"])).output == b"$HOME\n"
    assert (await run("cat", stdin=b"x")).output == b"x"
    assert (await run("echo $A", environ={"A": "1"})).output == b"1\n"


async def test_a_command_that_is_not_there() -> None:
    done = await run(["/nonexistent"])
    assert (done.status, done.reason) == (None, "cannot be started: No such file or directory")


async def test_a_signal_is_named() -> None:
    assert (await run("kill -9 $$")).reason == "ended by SIGKILL"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  (another process's doing)
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def number(path: Path) -> int:
    return int(path.read_text().strip() or 0) if path.exists() else 0


@pytest.mark.slow
async def test_at_the_limit_the_whole_group_dies() -> None:
    begun = time.monotonic()
    done = await run("sleep 60 & echo $!; wait", timeout=0.3)
    assert time.monotonic() - begun < 2.5
    assert done.timed_out
    assert done.reason == "no end within 0.3 s; it was killed"
    await until(lambda: not alive(int(done.output)))


@pytest.mark.slow
async def test_one_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    done = await run("trap '' TERM; while :; do sleep 1; done", timeout=0.2)
    assert done.status == -9


@pytest.mark.slow
async def test_cancelled_kills_the_group(tmp_path: Path) -> None:
    task = asyncio.create_task(run(f"sleep 60 & echo $! > {tmp_path}/pid; wait"))
    await until(lambda: number(tmp_path / "pid") > 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not alive(number(tmp_path / "pid")))


async def test_output_is_bounded() -> None:
    done = await run("head -c 300000 /dev/zero; echo end")
    assert len(done.output) == process.MOST_OUTPUT
    assert done.output.endswith(b"end\n")


@pytest.mark.slow
async def test_a_daemon_left_behind_is_not_waited_for() -> None:
    begun = time.monotonic()
    done = await run("sleep 5 & echo $!")
    assert done.ok
    assert time.monotonic() - begun < 2
    os.kill(int(done.output), 9)
