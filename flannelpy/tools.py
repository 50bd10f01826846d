# SPDX-License-Identifier: Apache-2.0
"""The system's programs: found, run, and what they refused as an error."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import IO

from fairlead.errors import ActionError

_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"
_LIMIT = 10.0  # seconds; iptables waits for its lock


class ToolError(ActionError):
    """A program ended with another status than 0."""


def tool(name: str) -> str | None:
    """Return where a program lies: on PATH, or where the system's own are."""
    return shutil.which(name) or shutil.which(name, path=_PATH)


async def run(*argv: str, stdin: str = "") -> str:
    """Run a program and return what it wrote.

    Raises:
        ToolError: it is missing, or refused.
    """
    where = tool(argv[0])
    if where is None:
        raise ToolError(argv[0], "not installed", transient=False)
    # files, no pipes: a program may end before it has read all, or leave one behind that goes on
    with _memory(argv[0], stdin) as given, _memory(argv[0]) as out, _memory(argv[0]) as err:
        process = await asyncio.create_subprocess_exec(
            where, *argv[1:], stdin=given, stdout=out, stderr=err, start_new_session=True
        )
        try:
            async with asyncio.timeout(_LIMIT):
                await process.wait()
        except TimeoutError as error:
            raise ToolError(argv[0], f"no end within {_LIMIT:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            words = _text(err).strip() or f"exit status {process.returncode}"
            raise ToolError(argv[0], words.splitlines()[0])
        return _text(out)


def _memory(name: str, text: str = "") -> IO[bytes]:
    file = os.fdopen(os.memfd_create(name), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
