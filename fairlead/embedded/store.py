# SPDX-License-Identifier: Apache-2.0
"""`EmbeddedStore`: the `Store` of `fairlead.etcd.store`, in this process, in memory or on a file.

Theory of operation
-------------------
A call is carried out on the state in memory at once; what it answers leaves when it is on
disk. All that arrives while one commit is written goes into the next one::

    put, put, txn ─► Mvcc (memory) ─► Fresh ─► thread: one SQLite transaction ─┬─► answers
    get ────────────► reads it all ────── waits for what it has read ──────────┴─► watches

A read waits too when it has seen something not yet on disk: an answer that a crash takes back
would be a lie whoever asked. In memory there is nothing to wait for.

A commit that fails (disk full) fails the calls that wait for it, and the state is read again
from the file: memory never stays ahead of the disk.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fairlead.clock import SYSTEM, Clock
from fairlead.embedded.checks import check_size
from fairlead.embedded.mvcc import DEFAULT_BOUNDS, Bounds, Fresh, Mvcc
from fairlead.embedded.refusals import Refusal
from fairlead.embedded.watchers import Hub, Watcher
from fairlead.errors import StoreError
from fairlead.etcd.errors import Compacted, LeaseLost
from fairlead.etcd.types import (
    NO_LEASE,
    Compare,
    Delete,
    DeleteResult,
    Granted,
    Header,
    KeyRange,
    KeyValue,
    LeaseID,
    LeaseInfo,
    Op,
    Put,
    PutResult,
    Range,
    RangeResult,
    Revision,
    Status,
    Txn,
    TxnResult,
    WatchAnswer,
    WatchRequest,
)

if TYPE_CHECKING:
    from fairlead.embedded.sqlite import Database

VERSION = "3.5.30"  # the etcd whose behaviour this store has, for clients that look at versions
PAGE = 2000  # keys of a page (specs/etcd.md §6.3)
PROGRESS_SECONDS = 600.0  # --watch-progress-notify-interval's default


class EmbeddedStore:
    """A store of our own; see the module. Use `open`, then `aclose` (or `async with`).

    Attributes:
        endpoint: how status names it: "embedded:///dir", or "memory://".
        core: the state; read it freely, write through the methods.
        hub: its watches.
    """

    def __init__(
        self,
        core: Mvcc,
        *,
        database: Database | None = None,
        endpoint: str = "memory://",
        clock: Clock = SYSTEM,
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> None:
        self.core = core
        self.hub = Hub(core)
        self.endpoint = endpoint
        self.clock = clock
        self._database = database
        self._progress_seconds = progress_seconds
        self._thread = (
            ThreadPoolExecutor(1, thread_name_prefix="embedded-commit") if database else None
        )
        self._closed = False
        self._queued: asyncio.Future[None] | None = None  # done when all that is fresh is on disk
        self._writing: asyncio.Future[None] | None = None  # the commit under way
        self._flusher: asyncio.Task[None] | None = None
        self._expiry_moved = asyncio.Event()
        self._expiry_due: float | None = None
        self._open_watches: set[EmbeddedWatch] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        path: Path | None = None,
        *,
        clock: Clock = SYSTEM,
        bounds: Bounds = DEFAULT_BOUNDS,
        synchronous: str = "FULL",
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> Self:
        """Open the store in directory `path` (made when absent), or one in memory.

        Args:
            bounds: how much history is kept for watches that resume.
            synchronous: SQLite's "FULL", or "NORMAL": quicker, and a power cut may cost the last
                acknowledged writes.

        Raises:
            DirectoryInUse: another process serves this directory.
            NotOurs: the directory holds something else.
        """
        now = clock.monotonic()
        if path is None:
            core = Mvcc(cluster_id=_new_id(), member_id=_new_id(), now=now, bounds=bounds)
            store = cls(core, clock=clock, progress_seconds=progress_seconds)
        else:
            from fairlead.embedded.sqlite import Database

            database = await asyncio.to_thread(Database.open, path, synchronous=synchronous)
            store = cls(
                await asyncio.to_thread(database.load, now, bounds),
                database=database,
                endpoint=f"embedded://{database.path}",
                clock=clock,
                progress_seconds=progress_seconds,
            )
        store._start()
        return store

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _start(self) -> None:
        for name, work in (("expiry", self._expire_leases()), ("progress", self._tell_progress())):
            self._tasks.append(asyncio.create_task(work, name=f"embedded-{name}"))

    def address_gone(self, address: str) -> None:
        """Do nothing: no connection leads here."""

    async def aclose(self) -> None:
        """Write what is waiting, end every watch with Unavailable, give the directory free."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.drop_watches(Refusal.STOPPED.error())
        if self._flusher is not None:
            await asyncio.wait([self._flusher])
        if self._thread is not None:
            self._thread.shutdown(wait=False)
        if self._database is not None:
            await asyncio.to_thread(self._database.close)

    # -- reads -----------------------------------------------------------------------------

    async def range(self, request: Range, *, timeout: float | None = None) -> RangeResult:
        """Read keys."""
        await self._enter("range")
        result = self.core.range(request)
        await self._settled()
        return result

    async def get(self, key: bytes) -> KeyValue | None:
        """Return the key's present value, or None."""
        result = await self.range(Range(KeyRange(key)))
        return result.kvs[0] if result.kvs else None

    async def pages(
        self, keys: KeyRange, *, keys_only: bool = False, revision: Revision = Revision(0)
    ) -> AsyncIterator[RangeResult]:
        """Read a range in pages, all at the first page's revision."""
        start = keys.start
        while True:
            page = await self.range(
                Range(KeyRange(start, keys.end), limit=PAGE, revision=revision, keys_only=keys_only)
            )
            yield page
            if not page.more:
                return
            revision = revision or page.header.revision
            start = page.kvs[-1].key + b"\x00"

    # -- writes ----------------------------------------------------------------------------

    async def put(
        self,
        key: bytes,
        value: bytes,
        *,
        lease: LeaseID = NO_LEASE,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        repeatable: bool = False,
    ) -> PutResult:
        """Write one key; `repeatable` means nothing here: an outcome is never unclear."""
        await self._enter("put")
        request = Put(key, value, lease, prev_kv, ignore_value, ignore_lease)
        check_size((request,))
        result = self.core.put(request, self.clock.monotonic())
        await self._settled()
        return result

    async def delete(
        self, keys: KeyRange, *, prev_kv: bool = False, repeatable: bool = False
    ) -> DeleteResult:
        """Delete every key of the range."""
        await self._enter("delete")
        result = self.core.delete(Delete(keys, prev_kv), self.clock.monotonic())
        await self._settled()
        return result

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
        *,
        repeatable: bool = False,
    ) -> TxnResult:
        """Run a transaction."""
        await self._enter("txn")
        check_size((*success, *failure))
        result = self.core.txn(Txn(compare, success, failure), self.clock.monotonic())
        await self._settled()
        return result

    async def compact(self, revision: Revision, *, physical: bool = False) -> None:
        """Forget the history before `revision`; "already compacted" counts as done."""
        with suppress(Compacted):
            await self.compact_strictly(revision)

    async def compact_strictly(self, revision: Revision) -> Header:
        """Forget the history before `revision`, as etcd answers it.

        Raises:
            Compacted: that was compacted already.
        """
        await self._enter("compact")
        header = self.core.compact(revision)
        await self._settled()
        return header

    # -- leases ----------------------------------------------------------------------------

    async def grant(self, ttl_seconds: int, lease: LeaseID = NO_LEASE) -> Granted:
        """Grant a lease, with an id of the caller's or a random one."""
        await self._enter("grant")
        granted = self.core.grant(ttl_seconds, lease or LeaseID(_new_id()), self.clock.monotonic())
        due = self.core.leases[granted.id].expires
        if self._expiry_due is None or due < self._expiry_due:
            self.expiry_changed()
        await self._settled()
        return granted

    async def revoke(self, lease: LeaseID) -> None:
        """Revoke a lease and delete its keys; one already gone counts as done."""
        with suppress(LeaseLost):
            await self.revoke_strictly(lease)

    async def revoke_strictly(self, lease: LeaseID) -> Header:
        """Revoke a lease and delete its keys.

        Raises:
            LeaseLost: there is no such lease.
        """
        await self._enter("revoke")
        header = self.core.revoke(lease, self.clock.monotonic())
        await self._settled()
        return header

    async def keep_alive(self, lease: LeaseID) -> int:
        """Renew once and return the new TTL in seconds."""
        await self._enter("keep_alive")
        ttl = self.core.keep_alive(lease, self.clock.monotonic())
        await self._settled()
        if ttl == 0:
            raise Refusal.LEASE_NOT_FOUND.error()
        return ttl

    async def time_to_live(self, lease: LeaseID, *, keys: bool = False) -> LeaseInfo:
        """Return what remains of a lease."""
        await self._enter("time_to_live")
        info = self.core.time_to_live(lease, keys, self.clock.monotonic())
        await self._settled()
        return info

    async def leases(self) -> tuple[LeaseID, ...]:
        """Return the ids of all leases."""
        await self._enter("leases")
        return self.core.lease_ids()

    def expiry_changed(self) -> None:
        """Look again at when the first lease expires."""
        self._expiry_moved.set()

    async def _expire_leases(self) -> None:
        """Revoke leases when their time is over; sleeps until the first is due."""
        while True:
            self._expiry_moved.clear()
            due = self._expiry_due = self.core.next_expiry()
            if due is None:
                await self._expiry_moved.wait()
                continue
            left = due - self.clock.monotonic()
            if left > 0:
                await _first(self.clock.sleep(left), self._expiry_moved.wait())
                continue
            if self.core.expire(self.clock.monotonic()):
                # refused only by the disk: then the state is as in the file, and full TTLs run
                with suppress(StoreError):
                    await self._settled()

    # -- watches ---------------------------------------------------------------------------

    @asynccontextmanager
    async def watch(self, request: WatchRequest) -> AsyncIterator[EmbeddedWatch]:
        """Open one watch."""
        await self._enter("watch")
        watching = EmbeddedWatch(self, request)
        self._open_watches.add(watching)
        try:
            yield watching
        finally:
            self._open_watches.discard(watching)
            watching.close()

    def drop_watches(self, error: StoreError) -> None:
        """End every watch opened in this process with `error`."""
        for watching in tuple(self._open_watches):
            watching.fail(error)
        self._open_watches.clear()

    async def _tell_progress(self) -> None:
        while True:
            await self.clock.sleep(self._progress_seconds)
            self.hub.tick()

    # -- about itself ----------------------------------------------------------------------

    async def status(self) -> Status:
        """Tell about this store as an etcd member would."""
        await self._enter("status")
        size = self.size_bytes()
        return Status(self.core.header(), self.endpoint, VERSION, size, self.core.member_id)

    def size_bytes(self) -> int:
        """Return the size of the file; in memory: of the keys and values."""
        if self._database is not None:
            return self._database.size_bytes()
        return sum(len(kv.key) + len(kv.value) for kv in self.core.live.values())

    # -- the file --------------------------------------------------------------------------

    async def _enter(self, call: str) -> None:
        """Refuse calls on a closed store; `fairlead.testing` plants its faults here."""
        if self._closed:
            raise Refusal.STOPPED.error()

    async def _deliver(self) -> None:
        """Let an answer of a watch go; a frozen fake holds it back here."""

    async def _settled(self) -> None:
        """Return when all that memory holds now is on disk, and shown to the watches."""
        core = self.core
        if self._database is None:
            if core.pending:
                self._publish(core.take())
            return
        if core.pending:
            if self._queued is None:
                self._queued = _quiet_future()
            if self._flusher is None:
                self._flusher = asyncio.create_task(self._flush(), name="embedded-flush")
            await asyncio.shield(self._queued)
        elif self._writing is not None:
            await asyncio.shield(self._writing)

    async def _flush(self) -> None:
        """Write until nothing is fresh: one commit for all that came in the meantime."""
        await asyncio.sleep(0)  # who else is in this turn of the loop joins the first commit
        try:
            while self.core.pending or self._queued is not None:
                await self._write(self.core.take())
        finally:
            self._flusher = None

    async def _write(self, fresh: Fresh) -> None:
        assert self._database is not None  # noqa: S101 - only _settled comes here
        done = self._writing = self._queued or _quiet_future()
        self._queued = None
        try:
            self._database.prepare(fresh)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.finish)
        except StoreError as error:
            await self._go_back(error)
            done.set_exception(error)
        else:
            self._publish(fresh)
            done.set_result(None)
        finally:
            self._writing = None

    async def _go_back(self, error: StoreError) -> None:
        """Make memory what the file says, after a commit that failed."""
        assert self._database is not None  # noqa: S101
        waiting, self._queued = self._queued, None
        core = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._database.load, self.clock.monotonic(), self.core.bounds
        )
        # whoever came meanwhile wrote onto a state that is given up: refused like the others
        late, self._queued = self._queued, None
        for future in (waiting, late):
            if future is not None:
                future.set_exception(error)
        self.core = core
        self.hub.replace(core)
        self.expiry_changed()

    def _publish(self, fresh: Fresh) -> None:
        self.hub.publish(fresh.revision, fresh.commits)


class EmbeddedWatch:
    """An open watch in this process; see `fairlead.etcd.store.Watching`."""

    def __init__(self, store: EmbeddedStore, request: WatchRequest) -> None:
        self._store = store
        self._woken = asyncio.Event()
        self._error: StoreError | None = None
        self._created = WatchAnswer(store.hub.header(), created=True)
        self._watcher: Watcher = store.hub.add(request, self._woken.set)

    async def __aiter__(self) -> AsyncIterator[WatchAnswer]:
        """Return the answers in order; the first has `created`."""
        yield self._created
        while True:
            self._woken.clear()
            while self._error is None and (answer := self._watcher.take()) is not None:
                await self._store._deliver()
                yield answer
            if self._error is not None:
                raise self._error
            await self._woken.wait()

    async def request_progress(self) -> None:
        """Ask for the revision; answered when in step."""
        await self._store._enter("progress")
        self._watcher.progress()

    def fail(self, error: StoreError) -> None:
        """End the iteration with `error`."""
        self._error = error
        self.close()
        self._woken.set()

    def close(self) -> None:
        """Take no further events."""
        self._store.hub.remove(self._watcher)


def _new_id() -> int:
    return secrets.randbits(63) or 1


def _quiet_future() -> asyncio.Future[None]:
    """Return a future whose error nobody has to fetch: callers may have been cancelled."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


async def _first(*works: Awaitable[object]) -> None:
    """Return when one of `works` is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
