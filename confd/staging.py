# SPDX-License-Identifier: Apache-2.0
"""Staged files: written beside their destination, renamed onto it, never left behind.

A staged file is `.` + the destination's name + 13 digits, as the original's; the first seven are
our process id, so the next start knows whose litter it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from fairlead.log import Log

_BUSY: Final = (errno.EBUSY, errno.EXDEV)  # a bind-mounted file can only be written in place
_digits: Final = random.Random()  # noqa: S311  (names, not secrets; O_EXCL guards)


class StageError(Exception):
    """The file system refused; the text says what."""


def beside(dest: str) -> str:
    """Return a name for a staged file."""
    directory, base = os.path.split(dest)
    return os.path.join(directory, f".{base}{os.getpid():07d}{_digits.randrange(10**6):06d}")


def make_directory(path: str) -> None:
    """Make a directory, and those above it, where they are missing.

    Raises:
        StageError: it is refused.
    """
    try:
        os.makedirs(path or ".", exist_ok=True)
    except OSError as error:
        raise StageError(f"mkdir {path}: {(error.strerror or '').lower()}") from error


def sync(directories: Iterable[str]) -> None:
    """Have the names in these directories on the disk.

    Raises:
        StageError: the disk refuses.
    """
    for directory in directories:
        try:
            number = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(number)
            finally:
                os.close(number)
        except OSError as error:
            raise StageError(f"fsync {directory}: {(error.strerror or '').lower()}") from error


def write(dest: str, content: bytes, mode: int, uid: int, gid: int, *, fsync: bool = False) -> str:
    """Write a staged file for `dest` and return its path; `fsync`: it is on the disk then.

    Raises:
        StageError: it cannot be written; nothing is left behind.
    """
    for _ in range(100):
        path = beside(dest)
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise StageError(f"open {path}: {(error.strerror or '').lower()}") from error
    else:
        raise StageError(f"open {dest}: no free name for a staged file")
    try:
        with open(number, "wb", buffering=0) as file:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
            if (uid, gid) != (os.geteuid(), os.getegid()):
                os.fchown(number, uid, gid)
            os.fchmod(number, mode)
            _copy_labels(dest, number)
            if fsync:
                os.fsync(number)
    except OSError as error:
        drop(path)
        raise StageError(f"cannot write {path}: {error.strerror}") from error
    return path


def _copy_labels(dest: str, number: int) -> None:
    """Give the staged file the extended attributes (SELinux, ACL) of what it will replace."""
    with contextlib.suppress(OSError):  # none, no such file, or a file system without them
        for name in os.listxattr(dest, follow_symlinks=False):
            with contextlib.suppress(OSError):
                os.setxattr(number, name, os.getxattr(dest, name, follow_symlinks=False))


def install(staged: Sequence[tuple[str, str]], log: Log, *, keep: bool) -> None:
    """Rename every (path, destination) in order; when one is refused, take the others back.

    Raises:
        StageError: one was refused; the destinations are as they were.
    """
    done: list[tuple[str, str]] = []  # destination, what was there ("" for nothing)
    several = len(staged) > 1
    path = dest = ""
    try:
        for path, dest in staged:
            saved = _save(dest) if several else ""
            if several:
                done.append((dest, saved))
            _one(path, dest, log, keep=keep)
    except OSError as error:
        for dest, saved in reversed(done):
            _take_back(dest, saved, log)
        reason = (error.strerror or str(error)).lower()
        raise StageError(f"rename {path} {dest}: {reason}") from error
    for _, saved in done:
        if saved:
            drop(saved)


def _one(path: str, dest: str, log: Log, *, keep: bool) -> None:
    source = path
    if keep and not os.path.isdir(dest):
        status = os.stat(path)
        source = f"{path}0"
        Path(source).write_bytes(Path(path).read_bytes())
        os.chown(source, status.st_uid, status.st_gid)
        os.chmod(source, stat.S_IMODE(status.st_mode))
    try:
        os.rename(source, dest)
    except OSError as error:
        if error.errno not in _BUSY:
            raise
        log.debug("Rename failed - target is likely a mount. Trying to write instead")
        _write_in_place(source, dest)
        drop(source)


def _write_in_place(path: str, dest: str) -> None:
    """Write through a mount point; mode and owner too, or it would never be in sync."""
    status = os.stat(path)
    with open(dest, "r+b") as file:
        file.write(Path(path).read_bytes())
        file.truncate()
        os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
        file.flush()
        os.fsync(file.fileno())  # no rename guards it


def _save(dest: str) -> str:
    """Keep what stands at a destination under a second name; "" when nothing does."""
    if not os.path.lexists(dest):
        return ""
    saved = beside(dest)
    try:
        os.link(dest, saved, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        Path(saved).write_bytes(Path(dest).read_bytes())
        os.chmod(saved, stat.S_IMODE(os.stat(dest).st_mode))
    return saved


def _take_back(dest: str, saved: str, log: Log) -> None:
    try:
        if saved:
            _one(saved, dest, log, keep=False)
            drop(saved)  # one inode under two names: the rename did nothing
        else:
            drop(dest)
    except OSError as error:
        log.error("roll-back refused", dest=dest, reason=error.strerror)


def drop(path: str) -> None:
    """Remove a file; one already gone counts as done."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


class Litter:
    """Staged files that a dead process left; a directory is read once, at its first question."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[str]]] = {}  # directory → base of dest → paths

    def beside(self, dests: Iterable[str], ours: Iterable[str] = ()) -> list[str]:
        """Return those that stand beside these destinations, each once; none that is ours."""
        found: list[str] = []
        kept = set(ours)
        for dest in dests:
            directory, base = os.path.split(dest)
            if directory not in self._found:
                self._found[directory] = _litter(directory)
            found += self._found[directory].pop(base, ())
        return [path for path in found if path not in kept]


_STAGED: Final = re.compile(r"\.(.+)(\d{7})\d{6}", re.DOTALL)


def _litter(directory: str) -> dict[str, list[str]]:
    """Return base of a destination → the staged files for it whose process is dead."""
    found: dict[str, list[str]] = {}
    with contextlib.suppress(OSError):  # a directory that is not there has none
        for entry in os.listdir(directory or "."):
            # with -keep-stage-file one more digit, a 0, stands behind a copy's name
            for name in (entry, entry[:-1]) if entry.endswith("0") else (entry,):
                match = _STAGED.fullmatch(name) if name.startswith(".") else None
                if match and not _lives(int(match[2])):
                    found.setdefault(match[1], []).append(os.path.join(directory, entry))
    return found


def _lives(pid: int) -> bool:
    """Say whether another process of this id runs; in a container ours is always the same."""
    return pid != os.getpid() and os.path.exists(f"/proc/{pid}")
