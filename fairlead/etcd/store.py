# SPDX-License-Identifier: Apache-2.0
"""`Store`: the seam between our code and etcd.

Two implementations pass one contract suite (tests/contract): `fairlead.etcd.client.Client`
(gRPC to a real etcd or `fairlead etcd`) and `fairlead.embedded.store.EmbeddedStore` (in process,
in memory or on a file). Every call ends: by an answer, by a `StoreError`, or by cancellation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fairlead.etcd.types import (
    NO_LEASE,
    Compare,
    DeleteResult,
    Granted,
    KeyRange,
    KeyValue,
    LeaseID,
    LeaseInfo,
    Op,
    PutResult,
    Range,
    RangeResult,
    Revision,
    Status,
    TxnResult,
    WatchAnswer,
    WatchRequest,
)


class Watching(Protocol):
    """An open watch: iterate over its answers; ends only by a StoreError or by closing it."""

    def __aiter__(self) -> AsyncIterator[WatchAnswer]:
        """Return the answers in order; the first has `created`."""
        ...

    async def request_progress(self) -> None:
        """Ask the server for its revision on this stream (§6.5); an answer may never come."""
        ...


class Store(Protocol):
    """etcd's calls as values. Errors: the classes of `fairlead.etcd.errors` (§5.3)."""

    async def range(self, request: Range, *, timeout: float | None = None) -> RangeResult:
        """Read keys; retried on the next endpoint within `timeout` seconds (default 3)."""
        ...

    async def get(self, key: bytes) -> KeyValue | None:
        """Return the key's present value, or None."""
        ...

    def pages(
        self, keys: KeyRange, *, keys_only: bool = False, revision: Revision = Revision(0)
    ) -> AsyncIterator[RangeResult]:
        """Read a range in pages, all at the first page's revision (§6.3).

        Raises:
            Compacted: that revision was compacted between two pages; start again.
        """
        ...

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
        """Write one key.

        Args:
            repeatable: the caller says that writing it twice does no harm, so an unclear
                failure is repeated; otherwise it is raised as Unclear.
        """
        ...

    async def delete(
        self, keys: KeyRange, *, prev_kv: bool = False, repeatable: bool = False
    ) -> DeleteResult:
        """Delete every key of the range."""
        ...

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
        *,
        repeatable: bool = False,
    ) -> TxnResult:
        """Run a transaction; one of only Range ops is repeated like a read."""
        ...

    async def compact(self, revision: Revision, *, physical: bool = False) -> None:
        """Forget the history before `revision`; "already compacted" counts as done."""
        ...

    def watch(self, request: WatchRequest) -> AbstractAsyncContextManager[Watching]:
        """Open one watch. It does not resume by itself: the mirror does."""
        ...

    async def grant(self, ttl_seconds: int, lease: LeaseID = NO_LEASE) -> Granted:
        """Grant a lease; with an id of the caller's it may be repeated safely."""
        ...

    async def revoke(self, lease: LeaseID) -> None:
        """Revoke a lease and delete its keys; one already gone counts as done."""
        ...

    async def keep_alive(self, lease: LeaseID) -> int:
        """Renew once and return the new TTL in seconds.

        Raises:
            LeaseLost: the server does not know it (any more).
        """
        ...

    async def time_to_live(self, lease: LeaseID, *, keys: bool = False) -> LeaseInfo:
        """Return what remains of a lease."""
        ...

    async def leases(self) -> tuple[LeaseID, ...]:
        """Return the ids of all leases."""
        ...

    async def status(self) -> Status:
        """Ask the endpoint in use about itself."""
        ...

    def address_gone(self, address: str) -> None:
        """Leave connections that speak from an address which this host has no longer.

        The kernel tells such a connection nothing; without a word from who watches the
        addresses, calls on it wait for their deadlines.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection; calls under way end with Unavailable."""
        ...
