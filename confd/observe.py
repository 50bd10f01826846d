# SPDX-License-Identifier: Apache-2.0
"""Destination files as they are. Only those of our resources are looked at."""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from confd.records import TemplateResource
from confd.state import File, Present, State


def present_files(resources: Iterable[TemplateResource], owed: Collection[str]) -> State:
    """Return what stands at each destination.

    Args:
        resources: those of the scope.
        owed: resource files whose reload has not succeeded since the file was replaced.
    """
    return {
        resource.file: Present(_read(Path(resource.dest)), resource.file in owed)
        for resource in resources
    }


def _read(path: Path) -> File | None:
    """Return a file; None where there is none or it cannot be read, which counts as changed."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        content = path.read_bytes()
    except (OSError, ValueError):
        return None
    return File(content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
