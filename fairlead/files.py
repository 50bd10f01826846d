# SPDX-License-Identifier: Apache-2.0
"""Files replaced whole: write beside, sync, rename; compare bytes, mode and owner.

A reader sees the old content or the new, never a part, and after a power cut one of both stands.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fairlead.errors import ActionError


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file is, as far as we answer for it.

    Attributes:
        mode: permission bits.
        uid: owner; None: leave it, or do not care.
        gid: group; None: as `uid`.
    """

    content: bytes
    mode: int = 0o644
    uid: int | None = None
    gid: int | None = None


def read(path: Path) -> FileState | None:
    """Return a file's state; None when there is none.

    Raises:
        ActionError: it is there but cannot be read, or is no regular file.
    """
    try:
        with path.open("rb") as file:
            seen = os.fstat(file.fileno())
            if not stat.S_ISREG(seen.st_mode):
                raise _refused("read", path, "is no regular file")
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused("read", path, error.strerror or str(error)) from error
    return FileState(content, stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid)


def same(wanted: FileState, actual: FileState | None) -> bool:
    """Say whether nothing needs to be written."""
    return (
        actual is not None
        and wanted.content == actual.content
        and wanted.mode == actual.mode
        and wanted.uid in (None, actual.uid)
        and wanted.gid in (None, actual.gid)
    )


def replace(path: Path, wanted: FileState, *, in_place: bool = False) -> None:
    """Make `path` be `wanted`; the directory must exist.

    A symbolic link is followed, so that the link stays and its target is replaced. A file that
    is itself a mount (a container's single-file bind mount) cannot be replaced by rename.

    Args:
        in_place: then write into it instead of failing.

    Raises:
        ActionError: the file system refused; the old file stands (unless written in place).
    """
    target = Path(os.path.realpath(path))
    draft = ""
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(wanted.content)
            file.flush()
            if wanted.uid is not None or wanted.gid is not None:
                uid = -1 if wanted.uid is None else wanted.uid
                os.fchown(file.fileno(), uid, -1 if wanted.gid is None else wanted.gid)
            os.fchmod(file.fileno(), wanted.mode)  # after the owner: chown clears set-id bits
            os.fsync(file.fileno())
        try:
            os.rename(draft, target)
        except OSError as error:
            if not (in_place and error.errno == errno.EBUSY):
                raise
            _write_into(target, wanted)
        else:
            draft = ""
            sync_directory(target.parent)
    except OSError as error:
        raise _refused("write", path, error.strerror or str(error)) from error
    finally:
        if draft:
            with contextlib.suppress(OSError):
                os.unlink(draft)


def _write_into(target: Path, wanted: FileState) -> None:
    with target.open("r+b") as file:
        file.write(wanted.content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    target.chmod(wanted.mode)


def remove(path: Path) -> None:
    """Remove a file; one already gone counts as done.

    Raises:
        ActionError: the file system refused.
    """
    try:
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise _refused("remove", path, error.strerror or str(error)) from error


def sync_directory(path: Path) -> None:
    """Make a rename in this directory outlast a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refused(verb: str, path: Path, reason: str) -> ActionError:
    return ActionError(f'{verb} "{path}"', reason)
