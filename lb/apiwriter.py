# SPDX-License-Identifier: Apache-2.0
"""Writes of the admin API: into etcd, and answered when they are in force (specs/vulcand.md §10).

::

    record ─► sealed ─► put, or delete with what belongs to it ─► seen by our own mirror ─► followed by the data plane
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from fairlead.etcd.mirror import Mirror
from fairlead.etcd.types import NO_LEASE, Delete, KeyRange, Revision
from fairlead.runtime import Runtime
from lb import keys, problems, records, writing
from lb.apiserver import Refused
from lb.catalog import Catalog
from lb.keys import Kind, Ref
from lb.middleware import breaker
from lb.records import Record

_SEEN: Final = 5.0  # seconds until a write is back through the mirror
_FOLLOWED: Final = 1.0  # seconds until the data plane has taken it over


class Writer:
    """Puts and deletes objects.

    Args:
        mirrors: by root.
        followed: returns when the data plane serves what the catalog says.
    """

    def __init__(
        self,
        runtime: Runtime,
        mirrors: Mapping[str, Mirror],
        catalog: Catalog,
        followed: Callable[[], Awaitable[None]],
    ) -> None:
        self._runtime = runtime
        self._mirrors = mirrors
        self._catalog = catalog
        self._followed = followed

    async def put(self, record: Record, ttl: float) -> None:
        """Write an object whose parents exist.

        Args:
            ttl: seconds until it goes by itself; 0 for never.

        Raises:
            StoreError: etcd did not take it.
            Refused: it did, and we have not seen it.
        """
        self._warn(record)
        store, lease = self._runtime.store, NO_LEASE
        if ttl:
            lease = (await store.grant(max(1, int(ttl)))).id
        key = self._key(record.ref)
        done = await store.put(key, writing.encode(record), lease=lease, repeatable=True)
        await self._seen(done.header.revision, {self._root_of(key)})

    def _warn(self, record: Record) -> None:
        if isinstance(record, records.Middleware) and record.type == "cbreaker":
            for trap in breaker.ambiguous(record.body):
                self._runtime.log.warning("circuit breaker", middleware=str(record.ref), trap=trap)

    async def delete(self, ref: Ref) -> None:
        """Delete an object that exists, under every key that spells it, and what belongs to it.

        Raises:
            StoreError, Refused: as `put`; Refused also where another object names it.
        """
        users = self._users(ref)
        if users:
            names = ", ".join(sorted(users))
            raise Refused(409, f"can not delete {ref.kind} '{ref.id}', it is in use by {names}")
        ranges = []
        spelt = self._catalog.spellings(ref)
        for key in spelt:
            ranges += [KeyRange(key), *keys.below(self._root_of(key), ref)]
        gone = [Delete(one) for one in _disjoint(ranges)]
        done = await self._runtime.store.txn(success=gone, repeatable=True)
        await self._seen(done.header.revision, {self._root_of(key) for key in spelt})

    def _users(self, ref: Ref) -> set[str]:
        """Return the frontends that would lose what they name by a delete."""
        catalog = self._catalog
        match ref.kind:
            case Kind.BACKEND:
                return {
                    name
                    for name, frontend in catalog.frontends.items()
                    if ref.id in problems.used_by(frontend)
                }
            case Kind.MIDDLEWARE:
                return set(catalog.sharers(ref))
            case Kind.FRONTEND:
                own = (Ref(Kind.MIDDLEWARE, m, ref.id) for m in catalog.middlewares.get(ref.id, {}))
                return {name for one in own for name in catalog.sharers(one)}
        return set()

    async def _seen(self, revision: Revision, roots: Iterable[str]) -> None:
        try:
            async with asyncio.timeout(_SEEN):
                for root in roots:
                    await self._mirrors[root].at_least(revision)
        except TimeoutError:
            raise Refused(503, "written, but not seen back from etcd yet") from None
        with suppress(TimeoutError):  # in etcd it is, whatever keeps the data plane
            async with asyncio.timeout(_FOLLOWED):
                await self._followed()

    def _key(self, ref: Ref) -> bytes:
        """Return where to write: over the key in force, else under the root in use."""
        spelt = self._catalog.spellings(ref)
        if spelt:
            return spelt[0]
        used = (root for root, mirror in self._mirrors.items() if mirror.data)
        return keys.build(next(used, self._catalog.roots[0]), ref)

    def _root_of(self, key: bytes) -> str:
        return next(
            root for root in self._catalog.roots if key.startswith(root.rstrip("/").encode() + b"/")
        )


def _disjoint(ranges: list[KeyRange]) -> list[KeyRange]:
    """Return the ranges less the single keys that another holds: etcd refuses a key twice."""
    wide = {r for r in ranges if r.end}
    return [*wide, *{r for r in ranges if not r.end and not any(w.holds(r.start) for w in wide)}]
