# SPDX-License-Identifier: Apache-2.0
"""The file that tells a supervisor our process id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fairlead.errors import ConfigError, ConfigErrors


def write(path: str, flag: str) -> None:
    """Write our process id.

    Args:
        flag: that named the file, with its dash.

    Raises:
        ConfigErrors: it cannot be written.
    """
    try:
        Path(path).write_text(f"{os.getpid()}\n")
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise ConfigErrors((ConfigError(flag, path, "start", reason),)) from error


@contextmanager
def held(path: str, flag: str) -> Iterator[None]:
    """Have our process id in a file as long as this goes on; "": in none.

    A file that holds another id by then, of who took our place, stays.
    """
    if not path:
        yield
        return
    write(path, flag)
    try:
        yield
    finally:
        with suppress(OSError):
            if Path(path).read_text() == f"{os.getpid()}\n":
                os.unlink(path)
