# SPDX-License-Identifier: Apache-2.0
"""Run a shell command: a process group of its own, a time limit, its output together.

The output goes to a file, not a pipe: a child that the command leaves running in the background
keeps a pipe open, and we would wait for it (specs/confd.md §8).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from typing import Final

_MOST: Final = 64 << 10  # bytes of output that are kept


class CommandFailed(Exception):
    """It ended badly or not in time; the text is what the original says."""

    def __init__(self, reason: str, output: str) -> None:
        super().__init__(reason)
        self.output = output


async def run_command(command: str, seconds: float) -> str:
    """Run `command` by /bin/sh and return what it printed.

    Raises:
        CommandFailed: exit status not 0, killed, or not ended after `seconds`.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise CommandFailed(f"cannot run: {error}", "") from error
        try:
            async with asyncio.timeout(seconds or None):
                status = await process.wait()
        except TimeoutError:
            _kill(process.pid)
            await process.wait()
            raise CommandFailed(
                f"command timed out after {seconds:g}s", _text(output.fileno())
            ) from None
        except BaseException:
            _kill(process.pid)
            raise
        text = _text(output.fileno())
    if status < 0:
        raise CommandFailed(f"signal: {signal.strsignal(-status)}".lower(), text)
    if status:
        raise CommandFailed(f"exit status {status}", text)
    return text


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _text(descriptor: int) -> str:
    return os.pread(descriptor, _MOST, 0).decode("utf-8", "surrogateescape")
