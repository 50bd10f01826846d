# SPDX-License-Identifier: Apache-2.0
import asyncio
import socket
from pathlib import Path

import pytest

from fairlead.notify import Notify
from fairlead.tasks import TaskEnded, Tasks


async def test_a_task_that_returns_ends_all() -> None:
    async def life() -> None:
        async with Tasks() as tasks:
            tasks.start("short", asyncio.sleep(0))
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await life()
    (error,) = caught.value.exceptions
    assert isinstance(error, TaskEnded)
    assert str(error) == 'task "short" ended by itself'


async def test_a_task_that_may_end() -> None:
    async with Tasks() as tasks:
        task = tasks.once("short", asyncio.sleep(0, 7))
        assert tasks.names() == ("short",)
        assert await task == 7
        tasks.start("long", asyncio.sleep(3600))
        tasks.cancel()
    assert tasks.names() == ()


def test_notify(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "2000000"})
        assert notify.watchdog_seconds == 2.0
        assert notify.send("READY=1", "STATUS=x")
        assert manager.recv(100) == b"READY=1\nSTATUS=x"
        assert notify.reloading()
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


def test_notify_without_a_manager() -> None:
    assert not Notify({}).send("READY=1")
    assert not Notify({"NOTIFY_SOCKET": "/nonexistent/n"}).send("READY=1")
    other = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}
    assert Notify(other).watchdog_seconds is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0fairlead-test-notify")
        assert Notify({"NOTIFY_SOCKET": "@fairlead-test-notify"}).send("READY=1")
