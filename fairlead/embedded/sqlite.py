# SPDX-License-Identifier: Apache-2.0
"""The embedded store's file: one SQLite database in a directory that one process holds.

The file has the present only (keys, leases, revision); the history is memory's. What
arrives together is one SQLite transaction in WAL mode, on disk when it ends (`synchronous=FULL`). The directory::

    DIR/fairlead.db (+ -wal, -shm)   mode 0600
    DIR/lock                         flock; held while the store is open, freed by any death
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from fairlead.embedded.mvcc import DEFAULT_BOUNDS, Bounds, Fresh, Mvcc
from fairlead.embedded.refusals import Refusal
from fairlead.errors import FairleadError, StoreError
from fairlead.etcd.errors import Unavailable
from fairlead.etcd.types import KeyValue, LeaseID, Revision

FILE = "fairlead.db"
LOCK = "lock"
SOCKET = "fairlead.sock"  # where `fairlead.embedded.inside` may listen
FORMAT = 1
_APPLICATION = 0x464C5231  # "FLR1": what `file` and we know the database by
_OURS: Final = frozenset({FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal", LOCK, SOCKET})

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE kv (
  k BLOB PRIMARY KEY, create_rev INTEGER NOT NULL, mod_rev INTEGER NOT NULL,
  version INTEGER NOT NULL, value BLOB NOT NULL, lease INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL, expires_wallclock REAL NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_PUT = "INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM kv WHERE k = ?"
_PUT_LEASE = "INSERT OR REPLACE INTO lease VALUES (?, ?, ?)"
_DELETE_LEASE = "DELETE FROM lease WHERE id = ?"
_PUT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


class DirectoryInUse(FairleadError):
    """Another process has the data directory open."""

    transient = True


class NotOurs(FairleadError):
    """The data directory cannot be used: something else is in it, or it is damaged or closed."""


class Database:
    """An open store directory; one thread at a time may call its methods."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, lock: int, wall: Callable[[], float]
    ) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._wall = wall

    @classmethod
    def open(
        cls, path: Path, *, synchronous: str = "FULL", wall: Callable[[], float] = time.time
    ) -> Database:
        """Lock the directory and open its database, making both when absent.

        Raises:
            DirectoryInUse: somebody else has it.
            NotOurs: it holds something else, or cannot be read or written.
        """
        if synchronous not in {"FULL", "NORMAL"}:
            raise ValueError(f'synchronous "{synchronous}": FULL or NORMAL')
        try:
            lock = lock_directory(path)
        except OSError as error:
            raise NotOurs(f'data directory "{path}": {error.strerror}') from error
        try:
            _check_content(path)
            connection = _connect(path / FILE, synchronous)
        except sqlite3.Error as error:
            os.close(lock)
            raise NotOurs(f'data directory "{path}": {FILE}: {error}; is it damaged?') from error
        except OSError as error:
            os.close(lock)
            raise NotOurs(f'data directory "{path}": {FILE}: {error.strerror}') from error
        except BaseException:
            os.close(lock)
            raise
        return cls(path, connection, lock, wall)

    def load(self, now: float, bounds: Bounds = DEFAULT_BOUNDS) -> Mvcc:
        """Return the state the file holds; every lease starts with its full TTL (§9.3)."""
        read = self._connection.execute
        meta: dict[str, int] = dict(read("SELECT key, value FROM meta").fetchall())
        return Mvcc(
            cluster_id=meta["cluster_id"],
            member_id=meta["member_id"],
            revision=meta["revision"],
            pairs=(
                KeyValue(key, value, Revision(created), Revision(mod), version, LeaseID(lease))
                for key, created, mod, version, value, lease in read("SELECT * FROM kv")
            ),
            leases=[(LeaseID(id), ttl) for id, ttl, _ in read("SELECT * FROM lease")],
            now=now,
            bounds=bounds,
        )

    def prepare(self, fresh: Fresh) -> None:
        """Put what changed into a transaction; nothing of it is on disk before `finish`.

        Short and without IO (pages go to the log at the commit), so for the loop's own thread: a
        second thread would have to win the interpreter back after each of its statements, up to
        5 ms each while the loop is busy.

        Raises:
            StoreError: nothing of it will be written.
        """
        last: dict[bytes, KeyValue | None] = {}
        for commit in fresh.commits:
            for event in commit.events:
                last[event.kv.key] = None if event.deleted else event.kv
        puts = [
            (k, kv.create_revision, kv.mod_revision, kv.version, kv.value, kv.lease)
            for k, kv in last.items()
            if kv is not None
        ]
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_PUT, puts)
            if len(puts) < len(last):
                connection.executemany(_DELETE, [(k,) for k, kv in last.items() if kv is None])
            for lease, ttl in fresh.leases:
                if ttl is None:
                    connection.execute(_DELETE_LEASE, (lease,))
                else:
                    connection.execute(_PUT_LEASE, (lease, ttl, self._wall() + ttl))
            meta = (("revision", fresh.revision), ("compact_revision", fresh.compact_revision))
            connection.executemany(_PUT_META, meta)
        except sqlite3.Error as error:
            raise self._given_up(error) from error

    def finish(self) -> None:
        """Write the transaction; it is on disk when this returns. It waits for the disk.

        Raises:
            StoreError: nothing of it was written: NoSpace when the disk is full.
        """
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._given_up(error) from error

    def _given_up(self, error: sqlite3.Error) -> StoreError:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        return self._translate(error)

    def _translate(self, error: sqlite3.Error) -> StoreError:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            return Refusal.NO_SPACE.error()
        return Unavailable(f'etcdserver: "{self.path / FILE}" cannot be written: {error}')

    def size_bytes(self) -> int:
        """Return the bytes of the database, its write-ahead log included."""
        sizes = 0
        for name in (FILE, f"{FILE}-wal"):
            try:
                sizes += (self.path / name).stat().st_size
            except FileNotFoundError:  # a WAL that nothing was written to
                continue
        return sizes

    def close(self) -> None:
        """Close the file and give the directory free."""
        self._connection.close()
        os.close(self._lock)


def lock_directory(path: Path) -> int:
    """Make `path` if need be and lock it; return the descriptor that holds the lock.

    Raises:
        DirectoryInUse: somebody else holds it.
        OSError: it cannot be made or written.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise DirectoryInUse(
            f'data directory "{path}" is in use by another process (pid {holder or "unknown"});'
            " one store, one process: connect to it, or give another directory"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _check_content(path: Path) -> None:
    others = sorted({entry.name for entry in path.iterdir()} - _OURS)
    if "member" in others:
        raise NotOurs(
            f'data directory "{path}" belongs to a real etcd ("member" is in it);'
            " give another one; `fairlead etcd import` copies from a running etcd"
        )
    if others and not (path / FILE).exists():
        raise NotOurs(
            f'data directory "{path}" is not ours: it holds "{others[0]}"; give an empty one'
        )


def _connect(file: Path, synchronous: str) -> sqlite3.Connection:
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    file.chmod(0o600)
    connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    try:
        tables = _check_program(file, connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        if not tables:
            with closing(connection.cursor()) as cursor:
                cursor.executescript("BEGIN IMMEDIATE;" + _SCHEMA + _first_meta() + "COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _first_meta() -> str:
    values = {
        "revision": 1,
        "compact_revision": -1,
        "cluster_id": secrets.randbits(63) or 1,
        "member_id": secrets.randbits(63) or 1,
        "format": FORMAT,
    }
    return "".join(f"INSERT INTO meta VALUES ('{k}', {v});" for k, v in values.items())  # noqa: S608


def _check_program(file: Path, connection: sqlite3.Connection) -> int:
    """Refuse a database that is not ours; return how many tables it has."""

    def number(query: str) -> int:
        found: int = connection.execute(query).fetchone()[0]
        return found

    tables, version = number("SELECT count(*) FROM sqlite_master"), number("PRAGMA user_version")
    if tables and number("PRAGMA application_id") != _APPLICATION:
        raise NotOurs(f'"{file}" is an SQLite file of another program')
    if version > FORMAT:
        raise NotOurs(f'"{file}" has format {version}; this program knows {FORMAT} at most')
    return tables
