# SPDX-License-Identifier: Apache-2.0
"""Messages ↔ values: `rpc_pb2` on one side, `fairlead.etcd.types` on the other. Pure.

Answers are turned into our own slots at once and no message is kept: a KeyValue of ours takes
80 bytes and its numbers, a protobuf message five times that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from fairlead.etcd import rpc_pb2 as pb
from fairlead.etcd.types import (
    Compare,
    Delete,
    DeleteResult,
    Event,
    Header,
    KeyRange,
    KeyValue,
    LeaseID,
    Op,
    OpResult,
    Put,
    PutResult,
    Range,
    RangeResult,
    Revision,
    Target,
    Txn,
    TxnResult,
    WatchRequest,
)


def header(message: pb.ResponseHeader) -> Header:
    """Return who answered."""
    return Header(
        message.cluster_id, message.member_id, Revision(message.revision), message.raft_term
    )


def key_value(message: pb.KeyValue) -> KeyValue:
    """Return one key; equal revisions share one int (28 bytes a key in a large mirror)."""
    created = message.create_revision
    modified = message.mod_revision
    return KeyValue(
        message.key,
        message.value,
        Revision(created),
        Revision(created if created == modified else modified),
        message.version,
        LeaseID(message.lease),
    )


def key_values(messages: Iterable[pb.KeyValue]) -> tuple[KeyValue, ...]:
    """Return the keys of one answer; the ids of leases that many keys share are kept once."""
    leases: dict[int, int] = {}
    found = []
    for message in messages:
        created = message.create_revision
        modified = message.mod_revision
        lease = message.lease
        found.append(
            KeyValue(
                message.key,
                message.value,
                Revision(created),
                Revision(created if created == modified else modified),
                message.version,
                LeaseID(leases.setdefault(lease, lease)),
            )
        )
    return tuple(found)


def event(message: pb.Event) -> Event:
    """Return one event of a watch."""
    prev = key_value(message.prev_kv) if message.HasField("prev_kv") else None
    return Event(key_value(message.kv), message.type == 1, prev)


def range_request(request: Range) -> pb.RangeRequest:
    """Return the message of a read."""
    return pb.RangeRequest(
        key=request.keys.start,
        range_end=request.keys.end,
        limit=request.limit,
        revision=request.revision,
        sort_order=request.sort_order,
        sort_target=request.sort_target,
        serializable=request.serializable,
        keys_only=request.keys_only,
        count_only=request.count_only,
        min_mod_revision=request.min_mod_revision,
        max_mod_revision=request.max_mod_revision,
        min_create_revision=request.min_create_revision,
        max_create_revision=request.max_create_revision,
    )


def put_request(put: Put) -> pb.PutRequest:
    """Return the message of a put."""
    return pb.PutRequest(
        key=put.key,
        value=put.value,
        lease=put.lease,
        prev_kv=put.prev_kv,
        ignore_value=put.ignore_value,
        ignore_lease=put.ignore_lease,
    )


def delete_request(keys: KeyRange, *, prev_kv: bool = False) -> pb.DeleteRangeRequest:
    """Return the message of a delete."""
    return pb.DeleteRangeRequest(key=keys.start, range_end=keys.end, prev_kv=prev_kv)


def compare(guard: Compare) -> pb.Compare:
    """Return the message of one guard.

    Raises:
        TypeError: the operand is not bytes for VALUE, or not an int for the others.
    """
    message = pb.Compare(
        result=guard.result, target=guard.target, key=guard.key, range_end=guard.range_end
    )
    operand = guard.operand
    if isinstance(operand, bytes) != (guard.target is Target.VALUE):
        raise TypeError(f"{guard.target.name} compares with {operand!r}")
    if isinstance(operand, bytes):
        message.value = operand
    elif guard.target is Target.VERSION:
        message.version = operand
    elif guard.target is Target.CREATE:
        message.create_revision = operand
    elif guard.target is Target.MOD:
        message.mod_revision = operand
    else:
        message.lease = operand
    return message


def request_op(op: Op) -> pb.RequestOp:
    """Return the message of one operation of a transaction."""
    match op:
        case Range():
            return pb.RequestOp(request_range=range_request(op))
        case Put():
            return pb.RequestOp(request_put=put_request(op))
        case Delete():
            return pb.RequestOp(request_delete_range=delete_request(op.keys, prev_kv=op.prev_kv))
        case Txn():
            return pb.RequestOp(request_txn=txn_request(op.compare, op.success, op.failure))
        case _:
            assert_never(op)


def txn_request(
    guards: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]
) -> pb.TxnRequest:
    """Return the message of a transaction."""
    return pb.TxnRequest(
        compare=map(compare, guards),
        success=map(request_op, success),
        failure=map(request_op, failure),
    )


def range_result(message: pb.RangeResponse) -> RangeResult:
    """Return the answer to a read."""
    return RangeResult(header(message.header), key_values(message.kvs), message.more, message.count)


def put_result(message: pb.PutResponse) -> PutResult:
    """Return the answer to a put."""
    prev = key_value(message.prev_kv) if message.HasField("prev_kv") else None
    return PutResult(header(message.header), prev)


def delete_result(message: pb.DeleteRangeResponse) -> DeleteResult:
    """Return the answer to a delete."""
    return DeleteResult(header(message.header), message.deleted, key_values(message.prev_kvs))


def txn_result(message: pb.TxnResponse) -> TxnResult:
    """Return the answer to a transaction.

    The answers inside carry no header of their own on the wire; they get the transaction's.
    """
    outer = header(message.header)
    return TxnResult(outer, message.succeeded, tuple(_op(r, outer) for r in message.responses))


def _op(message: pb.ResponseOp, outer: Header) -> OpResult:
    if message.HasField("response_range"):
        part = message.response_range
        return RangeResult(outer, key_values(part.kvs), part.more, part.count)
    if message.HasField("response_put"):
        put = message.response_put
        prev = key_value(put.prev_kv) if put.HasField("prev_kv") else None
        return PutResult(outer, prev)
    if message.HasField("response_delete_range"):
        gone = message.response_delete_range
        return DeleteResult(outer, gone.deleted, key_values(gone.prev_kvs))
    nested = message.response_txn
    return TxnResult(outer, nested.succeeded, tuple(_op(r, outer) for r in nested.responses))


def watch_request(request: WatchRequest) -> pb.WatchRequest:
    """Return the message that opens a watch; its id is left to the server (§6.4)."""
    filters = [n for n, drop in enumerate((request.no_put, request.no_delete)) if drop]
    return pb.WatchRequest(
        create_request=pb.WatchCreateRequest(
            key=request.keys.start,
            range_end=request.keys.end,
            start_revision=request.start,
            progress_notify=request.progress_notify,
            filters=filters,
            prev_kv=request.prev_kv,
            fragment=request.fragment,
        )
    )
