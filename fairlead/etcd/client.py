# SPDX-License-Identifier: Apache-2.0
"""`Client`: the Store over gRPC: many endpoints, failover, tokens, retries (specs/etcd.md §5).

::

    call ─► Pool.channel("calls") ─► unary ──┬─► answer
              ▲  ring, two connections       ├─ token refused ─► renew once, same call again
              │                              ├─ surely not done, or a read ─► next endpoint, again
              └──────────────────────────────┴─ a write that may be done ─► Unclear

Every call ends: each try has the call timeout, all tries together twice that, unless the caller
says otherwise; there are at most (endpoints + 2) tries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from google.protobuf.message import Message

from fairlead.backoff import Backoff
from fairlead.clock import SYSTEM, Clock
from fairlead.errors import StoreError
from fairlead.etcd import rpc, wire
from fairlead.etcd import rpc_pb2 as pb
from fairlead.etcd.errors import (
    Busy,
    Compacted,
    Invalid,
    LeaseLost,
    NotSent,
    Timeout,
    TokenExpired,
    Unavailable,
    Unclear,
)
from fairlead.etcd.observer import SILENT, Observer
from fairlead.etcd.options import Options
from fairlead.etcd.paging import pages
from fairlead.etcd.pool import Pool
from fairlead.etcd.store import Store, Watching
from fairlead.etcd.types import (
    NO_LEASE,
    Compare,
    Delete,
    DeleteResult,
    Granted,
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
    WatchRequest,
)
from fairlead.etcd.watch import Watches

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@asynccontextmanager
async def connect(
    options: Options, *, clock: Clock = SYSTEM, observer: Observer = SILENT
) -> AsyncIterator[Store]:
    """Give a store as `options` say; nothing is contacted before the first call.

    An endpoint `embedded:///dir` opens the embedded store in this process.
    """
    if options.embedded:
        from pathlib import Path  # late: daemons without it start without sqlite

        from fairlead.embedded.store import EmbeddedStore

        store: Store = await EmbeddedStore.open(Path(options.embedded))
    else:
        store = Client(options, clock=clock, observer=observer)
    try:
        yield store
    finally:
        await store.aclose()


class Client:
    """etcd over gRPC; the calls are those of `fairlead.etcd.store.Store`."""

    def __init__(
        self, options: Options, *, clock: Clock = SYSTEM, observer: Observer = SILENT
    ) -> None:
        self._options = options
        self._clock = clock
        self._observer = observer
        self._pool = Pool(options, observer)
        self._watches = Watches(self._pool, options.call_timeout, observer)
        self._ttls: dict[LeaseID, int] = {}  # of our leases: how soon a keepalive must answer

    @property
    def endpoint(self) -> str:
        """The endpoint in use, for status and log."""
        return str(self._pool.endpoint)

    def address_gone(self, address: str) -> None:
        """Leave connections that speak from an address which this host has no longer."""
        self._pool.address_gone(address)

    async def aclose(self) -> None:
        """Close every connection; calls under way end with Unavailable."""
        self._pool.close()
        await self._watches.aclose()

    # calls

    async def _call(
        self,
        method: rpc.Method[Request, Response],
        request: Request,
        *,
        repeat: bool,
        each: float | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Call, by the retry policy of §5.4; `repeat`: twice does no harm."""
        each = self._options.call_timeout if each is None else each
        end = self._clock.monotonic() + (2 * each if timeout is None else timeout)
        waits = Backoff(first=self._options.retry_first, most=self._options.retry_most)
        failure: StoreError = Timeout(f"{method.name}: no time was given")
        renewed = False
        for _ in range(self._pool.size + 2):
            left = end - self._clock.monotonic()
            if left <= 0:
                break
            try:
                return await self._try(method, request, min(each, left), left)
            except TokenExpired:
                if renewed or not self._pool.login:
                    raise
                renewed = True
            except (NotSent, Busy) as error:  # surely not done: §5.4
                failure = error
                left = end - self._clock.monotonic()
                await self._clock.sleep(max(0.0, min(waits.next(), left)))
            except Unavailable as error:
                if not repeat:
                    raise Unclear(f"{method.name}: may be done or not: {error}") from error
                failure = error
        raise failure

    async def _try(
        self, method: rpc.Method[Request, Response], request: Request, each: float, left: float
    ) -> Response:
        """Call once on the endpoint in use, and say what came of it."""
        pool = self._pool
        live = method.client_stream  # keepalives: not behind big lists, and with a leader (§6.6)
        try:
            async with asyncio.timeout(left):
                channel = await pool.channel("live" if live else "calls")
        except TimeoutError as error:
            raise NotSent(f"{method.name}: no endpoint answered within {left:.3g} s") from error
        token = pool.token
        begun = time.perf_counter()
        result = "ok"
        try:
            metadata = pool.metadata(leader=live)
            return await channel.unary(method, request, timeout=each, metadata=metadata)
        except StoreError as error:
            result = type(error).__name__
            if isinstance(error, TokenExpired) and pool.login:
                await pool.renew(channel, token)
            elif isinstance(error, Unavailable):
                pool.suspect(channel, error)
            raise
        except asyncio.CancelledError:
            result = "Cancelled"
            raise
        finally:
            self._observer.call(method.name, result, time.perf_counter() - begun)

    # key-value

    async def range(self, request: Range, *, timeout: float | None = None) -> RangeResult:
        """Read keys."""
        message = wire.range_request(request)
        answer = await self._call(rpc.RANGE, message, repeat=True, timeout=timeout)
        return wire.range_result(answer)

    async def get(self, key: bytes) -> KeyValue | None:
        """Return the key's present value, or None."""
        answer = await self.range(Range(KeyRange(key)))
        return answer.kvs[0] if answer.kvs else None

    def pages(
        self, keys: KeyRange, *, keys_only: bool = False, revision: Revision = Revision(0)
    ) -> AsyncIterator[RangeResult]:
        """Read a range in pages, all at the first page's revision (§6.3)."""
        options = self._options

        async def page(request: Range) -> tuple[RangeResult, int]:
            message = wire.range_request(request)
            each = options.page_timeout
            answer = await self._call(rpc.RANGE, message, repeat=True, each=each)
            return wire.range_result(answer), answer.ByteSize()

        first = Range(keys, options.page_keys, revision, keys_only=keys_only)
        return pages(page, first, options.page_bytes)

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
        """Write one key."""
        put = Put(key, value, lease, prev_kv, ignore_value, ignore_lease)
        return wire.put_result(await self._call(rpc.PUT, wire.put_request(put), repeat=repeatable))

    async def delete(
        self, keys: KeyRange, *, prev_kv: bool = False, repeatable: bool = False
    ) -> DeleteResult:
        """Delete every key of the range."""
        message = wire.delete_request(keys, prev_kv=prev_kv)
        return wire.delete_result(await self._call(rpc.DELETE_RANGE, message, repeat=repeatable))

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
        *,
        repeatable: bool = False,
    ) -> TxnResult:
        """Run a transaction; one of only Range ops is repeated like a read."""
        message = wire.txn_request(compare, success, failure)
        repeat = repeatable or not _writes((*success, *failure))
        return wire.txn_result(await self._call(rpc.TXN, message, repeat=repeat))

    async def compact(self, revision: Revision, *, physical: bool = False) -> None:
        """Forget the history before `revision`; "already compacted" counts as done."""
        message = pb.CompactionRequest(revision=revision, physical=physical)
        try:
            await self._call(rpc.COMPACT, message, repeat=True)
        except Compacted:
            return

    # watch

    def watch(self, request: WatchRequest) -> AbstractAsyncContextManager[Watching]:
        """Open one watch; it does not resume by itself."""
        return self._watches.open(request)

    # leases

    async def grant(self, ttl_seconds: int, lease: LeaseID = NO_LEASE) -> Granted:
        """Grant a lease; with an id of the caller's it may be repeated safely."""
        message = pb.LeaseGrantRequest(TTL=ttl_seconds, ID=lease)
        answer = await self._call(rpc.LEASE_GRANT, message, repeat=lease != NO_LEASE)
        if answer.error:
            raise Invalid(f"lease of {ttl_seconds} s refused: {answer.error}")
        granted = Granted(wire.header(answer.header), LeaseID(answer.ID), answer.TTL)
        self._ttls[granted.id] = granted.ttl_seconds
        return granted

    async def revoke(self, lease: LeaseID) -> None:
        """Revoke a lease and delete its keys; one already gone counts as done."""
        self._ttls.pop(lease, None)
        try:
            await self._call(rpc.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease), repeat=True)
        except LeaseLost:
            return

    async def keep_alive(self, lease: LeaseID) -> int:
        """Renew once; no answer within TTL/6, at least 1 s, and another endpoint is next (§8)."""
        each = self._options.call_timeout
        if lease in self._ttls:
            each = min(each, max(1.0, self._ttls[lease] / 6))
        message = pb.LeaseKeepAliveRequest(ID=lease)
        answer = await self._call(rpc.LEASE_KEEP_ALIVE, message, repeat=True, each=each)
        if answer.TTL <= 0:  # 0, from grpc-proxy -1: no error, but lost (§6.7)
            self._ttls.pop(lease, None)
            raise LeaseLost(f"lease {lease:x} is not known to etcd any more")
        self._ttls[lease] = answer.TTL
        return answer.TTL

    async def time_to_live(self, lease: LeaseID, *, keys: bool = False) -> LeaseInfo:
        """Return what remains of a lease."""
        message = pb.LeaseTimeToLiveRequest(ID=lease, keys=keys)
        answer = await self._call(rpc.LEASE_TIME_TO_LIVE, message, repeat=True)
        return LeaseInfo(
            wire.header(answer.header),
            LeaseID(answer.ID),
            answer.TTL,
            answer.grantedTTL,
            tuple(answer.keys),
        )

    async def leases(self) -> tuple[LeaseID, ...]:
        """Return the ids of all leases."""
        answer = await self._call(rpc.LEASE_LEASES, pb.LeaseLeasesRequest(), repeat=True)
        return tuple(LeaseID(lease.ID) for lease in answer.leases)

    async def status(self) -> Status:
        """Ask the endpoint in use about itself."""
        answer = await self._call(rpc.STATUS, pb.StatusRequest(), repeat=True)
        return Status(
            wire.header(answer.header),
            self.endpoint,
            answer.version,
            answer.dbSize,
            answer.leader,
            tuple(answer.errors),
            answer.isLearner,
        )


def _writes(ops: Sequence[Op]) -> bool:
    return any(
        isinstance(op, Put | Delete)
        or (isinstance(op, Txn) and _writes((*op.success, *op.failure)))
        for op in ops
    )
