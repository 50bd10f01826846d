# SPDX-License-Identifier: Apache-2.0
"""Destination files as they are. Only those of our resources are looked at."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from confd.state import File, Present


def present_files(dests: Iterable[str], *, reload_due: bool = False) -> Present:
    """Return what stands at each destination."""
    return Present({dest: read_file(dest) for dest in dests}, reload_due)


def read_file(path: str) -> File | None:
    """Return a file; None where there is none or it cannot be read, which counts as changed."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would block
        with open(number, "rb", buffering=0) as file:
            status = os.fstat(number)
            if not stat.S_ISREG(status.st_mode):
                return None
            content = file.read()
    except (OSError, ValueError):
        return None
    return File(content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
