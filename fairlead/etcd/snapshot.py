# SPDX-License-Identifier: Apache-2.0
"""The last-known-good file of a mirror: what it held, for a start while etcd is down.

Replaced by rename, mode 0600 (its octets: `fairlead.etcd.statefile`). A file of many keys is not
written anew for each change: changes are added to its end, until they are half as long as the
rest. 100,000 keys are 13 MB, and their fsync twice a second delayed etcd's own on the same disk.

Encoded on the loop, 100 keys (0.1 ms) in a turn, and written by a thread. Not encoded by the
thread: it would want the interpreter's lock, and a loop that gives the lock up at each system
call waits 5 ms (`sys.getswitchinterval`) each time to get it back; 100,000 keys made a busy name
server stand still for 200 ms.

The time of the file says when its content was last known to be etcd's: `touch` moves it while
nothing changes, so that an old but true state is not taken for a stale one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairlead.clock import SYSTEM, Clock
from fairlead.errors import FairleadError
from fairlead.etcd import statefile
from fairlead.etcd.statefile import Head
from fairlead.etcd.types import KeyRange, KeyValue, Revision

FEWEST = 1_000
"""Keys of a file that is worth adding to; a smaller one is written anew in a moment."""


class StateFileError(FairleadError):
    """The file can not be used; the message names it, says why and what to do."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file held, and how many seconds ago that was known to be etcd's state."""

    kvs: tuple[KeyValue, ...]
    revision: Revision
    age: float


class Snapshot:
    """The last-known-good file at `path`; `max_age` seconds: older is refused (None: any age)."""

    def __init__(self, path: Path, *, max_age: float | None = None, clock: Clock = SYSTEM) -> None:
        self.path = path
        self.max_age = max_age
        self._clock = clock
        self._keys = 0  # of the base, when we wrote the file
        self._size = 0  # of the base
        self._place = (0, 0)  # inode and size of the file as we left it
        self._sum = b""  # of what was written last; empty: the file is not one of ours to add to

    def load(self, name: str, ranges: Sequence[KeyRange]) -> Loaded | None:
        """Return what the file holds, or None when there is none.

        Raises:
            StateFileError: damaged, too old, or of another mirror.
        """
        try:
            with self.path.open("rb") as file:
                body = file.read()
                written = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refuse(f"cannot be read: {error.strerror}") from error
        try:
            found = statefile.parse(body)
        except ValueError as error:
            raise self._refuse(str(error)) from error
        head = found.head
        if head.name != name or head.ranges != _names(ranges):
            raise self._refuse(f'is of mirror "{head.name}" of {head.ranges}, not of ours')
        age = max(0.0, self._clock.wall() - written)
        if self.max_age is not None and age > self.max_age:
            raise self._refuse(f"is {age:.0f} s old, more than the {self.max_age:.0f} s allowed")
        return Loaded(found.kvs, found.revision, age)

    def _refuse(self, reason: str) -> StateFileError:
        return StateFileError(f'state file "{self.path}" {reason}; delete it to start without it')

    async def save(
        self, name: str, ranges: Sequence[KeyRange], kvs: Sequence[KeyValue], revision: Revision
    ) -> None:
        """Replace the file by one that holds `kvs`.

        Raises:
            StateFileError: it cannot be written; the old one stands.
        """
        self._sum = b""
        parts = []
        for part in statefile.base(Head(name, _names(ranges), revision, len(kvs)), kvs):
            parts.append(part)
            await asyncio.sleep(0)
        total, self._place = await asyncio.to_thread(self._replace, parts)
        self._keys, self._size = len(kvs), self._place[1]
        self._sum = total

    def takes(self, keys: int) -> bool:
        """Say whether to add the changes of so many keys, rather than to write the file anew."""
        return (
            bool(self._sum)
            and self._keys >= FEWEST
            and keys * 4 <= self._keys
            and self._place[1] * 2 <= self._size * 3
        )

    async def add(self, put: Sequence[KeyValue], gone: Sequence[bytes], revision: Revision) -> bool:
        """Add changes to the file; `takes` said that it can be done.

        Returns:
            False: it is not there any more as we left it; write it anew.

        Raises:
            StateFileError: it cannot be written; what it held before counts.
        """
        octets, total = statefile.addition(self._sum, revision, put, gone)
        self._sum = b""  # until it is done: after half of it nothing can be added
        if not await asyncio.to_thread(self._append, octets):
            return False
        self._place = (self._place[0], self._place[1] + len(octets))
        self._sum = total
        return True

    def _replace(self, parts: Iterable[bytes]) -> tuple[bytes, tuple[int, int]]:
        """Write the file anew; return its sum, its inode and its size."""
        new = self.path.with_name(self.path.name + ".new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                digest = hashlib.sha256()
                for part in parts:
                    digest.update(part)  # both without the interpreter's lock
                    file.write(part)
                file.write(digest.digest())
                file.flush()
                os.fsync(file.fileno())
                made = os.fstat(file.fileno())
            now = self._clock.wall()
            os.utime(new, (now, now))
            new.replace(self.path)
        except OSError as error:
            raise self._unwritten(error) from error
        return digest.digest(), (made.st_ino, made.st_size)

    def _append(self, octets: bytes) -> bool:
        """Add octets to the file, when it is as we left it."""
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            with os.fdopen(handle, "wb") as file:
                there = os.fstat(file.fileno())
                if (there.st_ino, there.st_size) != self._place:
                    return False  # a daemon that hands over to us may write it still
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            now = self._clock.wall()
            os.utime(self.path, (now, now))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unwritten(error) from error
        return True

    def _unwritten(self, error: OSError) -> StateFileError:
        return StateFileError(f'state file "{self.path}" cannot be written: {error.strerror}')

    def touch(self) -> None:
        """Note that the content is still etcd's state."""
        now = self._clock.wall()
        try:
            os.utime(self.path, (now, now))
        except OSError as error:
            raise StateFileError(f'state file "{self.path}": {error.strerror}') from error


def _names(ranges: Sequence[KeyRange]) -> list[tuple[str, str]]:
    return [(r.start.hex(), r.end.hex()) for r in ranges]
