# SPDX-License-Identifier: Apache-2.0
r"""The last-known-good file of a mirror: what it held, for a start while etcd is down.

::

    "fairlead state 1\n"   magic
    {json}\n               name, ranges, revision, keys
    chunk …                u32 length, msgpack list of [key, value, create, mod, version, lease]
    u32 0, sha256          of everything before it

Replaced by rename, mode 0600. Encoded on the loop, 100 keys (0.1 ms) in a turn, and written by a
thread. Not encoded by the thread: it would want the interpreter's lock, and a loop that gives the
lock up at each system call waits 5 ms (`sys.getswitchinterval`) each time to get it back; 100,000
keys made a busy name server stand still for 200 ms.

The time of the file says when its content was last known to be etcd's: `touch` moves it while
nothing changes, so that an old but true state is not taken for a stale one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fairlead.clock import SYSTEM, Clock
from fairlead.errors import FairleadError
from fairlead.etcd.types import KeyRange, KeyValue, LeaseID, Revision

MAGIC = b"fairlead state 1\n"
CHUNK = 100  # keys; less than 0.1 ms of the interpreter
_Row = tuple[bytes, bytes, int, int, int, int]
_rows = msgspec.msgpack.Decoder(list[_Row])


class StateFileError(FairleadError):
    """The file can not be used; the message names it, says why and what to do."""


class _Head(msgspec.Struct, frozen=True):
    name: str
    ranges: list[tuple[str, str]]
    revision: int
    keys: int


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
        head, rows = self._parse(body)
        if head.name != name or head.ranges != _names(ranges):
            raise self._refuse(f'is of mirror "{head.name}" of {head.ranges}, not of ours')
        age = max(0.0, self._clock.wall() - written)
        if self.max_age is not None and age > self.max_age:
            raise self._refuse(f"is {age:.0f} s old, more than the {self.max_age:.0f} s allowed")
        return Loaded(
            tuple(
                KeyValue(k, v, Revision(c), Revision(m), n, LeaseID(lease))
                for k, v, c, m, n, lease in rows
            ),
            Revision(head.revision),
            age,
        )

    def _refuse(self, reason: str) -> StateFileError:
        return StateFileError(f'state file "{self.path}" {reason}; delete it to start without it')

    def _parse(self, body: bytes) -> tuple[_Head, list[_Row]]:
        if not body.startswith(MAGIC):
            raise self._refuse("is not a state file of this version")
        if hashlib.sha256(body[:-32]).digest() != body[-32:]:
            raise self._refuse("is damaged: its checksum does not match")
        try:
            end = body.index(b"\n", len(MAGIC))
            head = msgspec.json.decode(body[len(MAGIC) : end], type=_Head)
            rows: list[_Row] = []
            at = end + 1
            while size := struct.unpack_from("!I", body, at)[0]:
                rows += _rows.decode(body[at + 4 : at + 4 + size])
                at += 4 + size
        except (ValueError, struct.error, msgspec.MsgspecError) as error:
            raise self._refuse(f"is damaged: {error}") from error
        if len(rows) != head.keys:
            raise self._refuse(f"is damaged: {len(rows)} keys, {head.keys} announced")
        return head, rows

    async def save(
        self, name: str, ranges: Sequence[KeyRange], kvs: Sequence[KeyValue], revision: Revision
    ) -> None:
        """Replace the file by one that holds `kvs`.

        Raises:
            StateFileError: it cannot be written; the old one stands.
        """
        head = _Head(name, _names(ranges), revision, len(kvs))
        parts = []
        for part in _parts(head, kvs):
            parts.append(part)
            await asyncio.sleep(0)
        await asyncio.to_thread(self._replace, parts)

    def save_now(
        self, name: str, ranges: Sequence[KeyRange], kvs: Sequence[KeyValue], revision: Revision
    ) -> None:
        """Do the same, and wait."""
        self._replace(_parts(_Head(name, _names(ranges), revision, len(kvs)), kvs))

    def _replace(self, parts: Iterable[bytes]) -> None:
        """Write the file anew."""
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
            now = self._clock.wall()
            os.utime(new, (now, now))
            new.replace(self.path)
        except OSError as error:
            raise StateFileError(
                f'state file "{self.path}" cannot be written: {error.strerror}'
            ) from error

    def touch(self) -> None:
        """Note that the content is still etcd's state."""
        now = self._clock.wall()
        try:
            os.utime(self.path, (now, now))
        except OSError as error:
            raise StateFileError(f'state file "{self.path}": {error.strerror}') from error


def _names(ranges: Sequence[KeyRange]) -> list[tuple[str, str]]:
    return [(r.start.hex(), r.end.hex()) for r in ranges]


def _parts(head: _Head, kvs: Sequence[KeyValue]) -> Iterator[bytes]:
    yield MAGIC + msgspec.json.encode(head) + b"\n"
    encode = msgspec.msgpack.Encoder().encode
    for at in range(0, len(kvs), CHUNK):
        body = encode(
            [
                (kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
                for kv in kvs[at : at + CHUNK]
            ]
        )
        yield struct.pack("!I", len(body)) + body
    yield struct.pack("!I", 0)
