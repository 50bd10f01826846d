# SPDX-License-Identifier: Apache-2.0
"""Check and reload commands, with the original's words for how they end (specs/confd.md §8)."""

from __future__ import annotations

import signal

from fairlead import process


class CommandFailed(Exception):
    """It ended badly or not in time; the text is what the original says."""

    def __init__(self, reason: str, output: str) -> None:
        super().__init__(reason)
        self.output = output


async def run_command(command: str, seconds: float) -> str:
    """Run `command` by /bin/sh in a process group of its own and return what it printed.

    Raises:
        CommandFailed: exit status not 0, killed, or not ended after `seconds`.
    """
    if "\0" in command:
        raise CommandFailed("cannot run: the command holds a NUL byte", "")
    ended = await process.run(command, timeout=seconds or None)
    text = ended.output.decode("utf-8", "surrogateescape")
    if ended.timed_out:
        raise CommandFailed(f"command timed out after {seconds:g}s", text)
    if ended.status is None:
        raise CommandFailed(f"cannot run: {ended.reason}", text)
    if ended.status < 0:
        raise CommandFailed(f"signal: {signal.strsignal(-ended.status)}".lower(), text)
    if ended.status:
        raise CommandFailed(f"exit status {ended.status}", text)
    return text
