# SPDX-License-Identifier: Apache-2.0
"""`-exec`: start a command when all files are in place, tell it of changes, end with it.

As process 1 of a container, or beside it, orphans come to us; they are reaped here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import Final

from confd.config import Child
from fairlead.log import Log

_REAP_SECONDS: Final = 1.0
_SUBREAPER: Final = 36  # prctl(PR_SET_CHILD_SUBREAPER)
_GATHER_SECONDS: Final = 0.05  # several files of one change are one signal


class Supervisor:
    """Keeps the command of `-exec`."""

    def __init__(self, child: Child, log: Log) -> None:
        self._child = child
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._signal: asyncio.TimerHandle | None = None

    async def run(self) -> int:
        """Start the command, wait for its end, return the status confd ends with."""
        self._process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f"exec {self._child.command}", start_new_session=True
        )
        self._log.info("started", command=self._child.command, pid=self._process.pid)
        status = await self._process.wait()
        self._log.info("the command ended, and so does confd", status=status)
        return status if status >= 0 else 128 - status

    def changed(self, file: str) -> None:
        """Files of a resource were replaced: send the signal, once for several."""
        if self._signal is None and self._child.reload_signal and self._process is not None:
            loop = asyncio.get_running_loop()
            self._signal = loop.call_later(_GATHER_SECONDS, self._tell)

    def _tell(self) -> None:
        self._signal = None
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self._child.reload_signal)
                self._log.info(
                    "told the command", signal=signal.Signals(self._child.reload_signal).name
                )

    async def stop(self) -> None:
        """Ask the command to end; kill its process group when it does not in time."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self._child.kill_signal)
        try:
            async with asyncio.timeout(self._child.kill_seconds):
                await process.wait()
        except TimeoutError:
            self._log.warning("the command did not end in time; killed", pid=process.pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def adopt_orphans(log: Log) -> None:
    """Become the parent of orphaned descendants, as process 1 is by nature."""
    if os.getpid() != 1 and ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0):
        log.debug("cannot adopt orphans", reason=os.strerror(ctypes.get_errno()))


async def reap() -> None:
    """Reap orphans for ever.

    The event loop reaps what we started ourselves at once; what is still a zombie at two looks
    in a row is nobody else's.
    """
    seen: set[int] = set()
    while True:
        await asyncio.sleep(_REAP_SECONDS)
        found = _zombies()
        for pid in found & seen:
            _bury(pid)
        seen = found


def _zombies() -> set[int]:
    """Return the children that have ended and nobody has waited for."""
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return set()
    except ChildProcessError:
        return set()
    ours = str(os.getpid())
    return {
        int(pid)
        for pid in os.listdir("/proc")
        if pid.isdigit() and _state_and_parent(pid) == ["Z", ours]
    }


def _state_and_parent(pid: str) -> list[str]:
    try:
        stat = Path("/proc", pid, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []  # gone meanwhile
    return stat.rpartition(")")[2].split()[:2]  # the name before may hold anything


def _bury(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # somebody was quicker
        os.waitpid(pid, os.WNOHANG)
