# SPDX-License-Identifier: Apache-2.0
"""Run a command: in a process group of its own, with a time limit and bounded output.

What the command started dies with it: at the limit, and when the caller is cancelled, the whole
group gets SIGTERM and, after a grace, SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MOST_OUTPUT: Final = 64 * 1024
GRACE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: its exit status; negative: the signal that ended it; None: it could not be started.
        output: stdout and stderr as they came, the last 64 KiB.
        timed_out: it was ended at the limit.
        reason: "" when it ended with 0, else in words.
    """

    status: int | None
    output: bytes
    timed_out: bool = False
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Say whether it ended with 0, in time."""
        return self.status == 0 and not self.timed_out


async def run(
    command: str | Sequence[str],
    *,
    timeout: float | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: bytes = b"",
) -> Outcome:
    """Run a command to its end.

    Args:
        command: a text is for /bin/sh -c, words are run as they are.
        timeout: seconds; None: no limit.
    """
    words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    # a file, no pipe: a command may end before it has read all, and then there is nobody to tell
    with _Output() as output, os.fdopen(os.memfd_create("stdin"), "w+b") as given:
        given.write(stdin)
        given.seek(0)
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=given if stdin else asyncio.subprocess.DEVNULL,
                stdout=output.theirs,
                stderr=output.theirs,
                env=None if environ is None else dict(environ),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(None, b"", reason=f"cannot be started: {error.strerror or error}")
        timed_out = False
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            timed_out = True
        finally:
            await asyncio.shield(_end(process))
    kept = output.kept
    status = process.returncode
    reason = ""
    if timed_out:
        reason = f"no end within {timeout:g} s; it was killed"
    elif status is not None and status < 0:
        reason = f"ended by {_signal_name(-status)}"
    elif status:
        reason = f"exit status {status}"
    return Outcome(status, bytes(kept), timed_out, reason)


class _Output:
    """A pipe read as it fills; the last 64 KiB are kept.

    Not asyncio's pipe: `wait()` would wait for it too, and a daemon that the command left behind
    holds it open for as long as it lives.
    """

    def __enter__(self) -> _Output:
        self.kept = bytearray()
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self.theirs)
        self._read()
        os.close(self._ours)

    def _read(self) -> None:
        try:
            while part := os.read(self._ours, 65536):
                self.kept += part
                del self.kept[: max(0, len(self.kept) - MOST_OUTPUT)]
        except BlockingIOError:
            return


async def _end(process: asyncio.subprocess.Process) -> None:
    """See to it that the command is over: its group gets TERM, then KILL."""
    if process.returncode is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await process.wait()
                    break
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # who of the group ignored TERM


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
