# SPDX-License-Identifier: Apache-2.0
"""Writes whose outcome is always known: create-if-absent, compare-and-set (specs/etcd.md §5.4).

A transaction that fails unclearly may be done. `settle` reads the key back: if its value and
lease are ours, it was.
"""

from __future__ import annotations

from fairlead.etcd.errors import Unclear
from fairlead.etcd.store import Store
from fairlead.etcd.types import (
    NO_LEASE,
    Compare,
    KeyRange,
    KeyValue,
    LeaseID,
    Put,
    Range,
    RangeResult,
    Result,
    Revision,
    Target,
)


async def settle(
    store: Store, key: bytes, value: bytes, lease: LeaseID = NO_LEASE
) -> KeyValue | None:
    """Return the key as it stands when its value and lease are ours, else None."""
    held = await store.get(key)
    return held if held is not None and held.value == value and held.lease == lease else None


async def create(
    store: Store, key: bytes, value: bytes, *, lease: LeaseID = NO_LEASE
) -> tuple[bool, Revision]:
    """Write `key` unless it exists.

    Returns:
        Whether it is ours, and its mod_revision.

    Raises:
        Unclear: the write may still be under way: nobody holds the key, and we may get it.
    """
    return await _guarded(store, Compare(key, Target.CREATE, Result.EQUAL, 0), value, lease)


async def replace(
    store: Store, key: bytes, value: bytes, revision: Revision, *, lease: LeaseID = NO_LEASE
) -> tuple[bool, Revision]:
    """Write `key` if its mod_revision is still `revision`; as `create` in all else.

    The revision of a key that does not exist is 0.
    """
    guard = Compare(key, Target.MOD, Result.EQUAL, int(revision))
    return await _guarded(store, guard, value, lease)


async def _guarded(
    store: Store, guard: Compare, value: bytes, lease: LeaseID
) -> tuple[bool, Revision]:
    key = guard.key
    try:
        done = await store.txn((guard,), (Put(key, value, lease),), (Range(KeyRange(key)),))
    except Unclear:
        held = await store.get(key)
        standing = Revision(0) if held is None else held.mod_revision
        if held is not None and held.value == value and held.lease == lease:
            return True, standing
        before = guard.operand if guard.target is Target.MOD else 0
        if standing == before:
            raise  # nothing has happened, or not yet
        return False, standing
    if done.succeeded:
        return True, done.header.revision
    answer = done.responses[0]
    assert isinstance(answer, RangeResult)  # noqa: S101  (the failure branch above)
    return False, answer.kvs[0].mod_revision if answer.kvs else Revision(0)
