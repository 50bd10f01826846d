# SPDX-License-Identifier: Apache-2.0
"""What etcd refuses before it looks at its data: pure checks of requests (specs/etcd.md §6.8).

The order of the checks is etcd's own, so that a request with two faults gets the same answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from fairlead.embedded.refusals import Refusal
from fairlead.etcd.types import NO_LEASE, Delete, KeyRange, Op, Put, Range, Txn

MAX_OPS = 128  # --max-txn-ops' default
MAX_REQUEST = 1536 * 1024  # --max-request-bytes' default; what a write may weigh


def check_range(request: Range) -> None:
    """Refuse a range without a key."""
    if not request.keys.start:
        raise Refusal.EMPTY_KEY.error()


def check_put(request: Put) -> None:
    """Refuse a put without a key, or with what it asks to ignore."""
    if not request.key:
        raise Refusal.EMPTY_KEY.error()
    if request.ignore_value and request.value:
        raise Refusal.VALUE_PROVIDED.error()
    if request.ignore_lease and request.lease != NO_LEASE:
        raise Refusal.LEASE_PROVIDED.error()


def check_delete(request: Delete) -> None:
    """Refuse a delete without a key."""
    if not request.keys.start:
        raise Refusal.EMPTY_KEY.error()


def check_txn(request: Txn, most: int = MAX_OPS) -> None:
    """Refuse a transaction that is too long, or has a bad or a doubled key anywhere."""
    _check_shape(request, most)
    _check_writes(request.success)
    _check_writes(request.failure)


def check_size(ops: Sequence[Op]) -> None:
    """Refuse writes that weigh too much together."""
    if _size(ops) > MAX_REQUEST:
        raise Refusal.REQUEST_TOO_LARGE.error()


def _size(ops: Sequence[Op]) -> int:
    """Return about the bytes of the puts on the wire, nested ones too."""
    size = 0
    for op in ops:
        if isinstance(op, Put):
            size += len(op.key) + len(op.value) + 10
        elif isinstance(op, Txn):
            size += _size(op.success) + _size(op.failure)
    return size


def _check_shape(request: Txn, most: int) -> None:
    count = max(len(request.compare), len(request.success), len(request.failure))
    if count > most:
        raise Refusal.TOO_MANY_OPS.error()
    if any(not guard.key for guard in request.compare):
        raise Refusal.EMPTY_KEY.error()
    for op in (*request.success, *request.failure):
        match op:
            case Range():
                check_range(op)
            case Put():
                check_put(op)
            case Delete():
                check_delete(op)
            case Txn():
                _check_shape(op, most - count)


@dataclass(slots=True)
class _Writes:
    """Keys put and ranges deleted by a list of operations, nested ones included."""

    puts: set[bytes] = field(default_factory=set)
    deletes: list[KeyRange] = field(default_factory=list)

    def add_put(self, key: bytes) -> None:
        if key in self.puts or any(keys.holds(key) for keys in self.deletes):
            raise Refusal.DUPLICATE_KEY.error()
        self.puts.add(key)


def _check_writes(ops: Sequence[Op]) -> _Writes:
    """Refuse two puts of a key, or a put and a delete of it, that could both run.

    A nested transaction runs one of its branches only, so the same key in both is no fault.
    """
    writes = _Writes(deletes=[op.keys for op in ops if isinstance(op, Delete)])
    for op in ops:
        if not isinstance(op, Txn):
            continue
        then, otherwise = _check_writes(op.success), _check_writes(op.failure)
        for key in (*then.puts, *(otherwise.puts - then.puts)):
            writes.add_put(key)
        writes.deletes += then.deletes + otherwise.deletes
    for op in ops:
        if isinstance(op, Put):
            writes.add_put(op.key)
    return writes


def span(keys: Sequence[bytes], wanted: KeyRange) -> tuple[int, int]:
    """Return (from, to) of the part of the sorted `keys` that lies in `wanted`."""
    if not wanted.end:
        at = bisect_left(keys, wanted.start)
        return at, at + (at < len(keys) and keys[at] == wanted.start)
    first = bisect_left(keys, wanted.start)
    last = len(keys) if wanted.end == b"\x00" else bisect_left(keys, wanted.end)
    return first, max(first, last)
