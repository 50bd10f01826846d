# SPDX-License-Identifier: Apache-2.0
"""The server's side of the wire: requests → values, values → answers. Pure.

The client's side is `fairlead.etcd.wire`. Numbers a client sent that etcd would not know (a sort
order of 9) are refused as etcd refuses them.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.embedded.refusals import Refusal
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
    Result,
    Revision,
    SortOrder,
    SortTarget,
    Target,
    Txn,
    TxnResult,
    WatchRequest,
)


def header(value: Header) -> pb.ResponseHeader:
    """Return the header's message."""
    return pb.ResponseHeader(
        cluster_id=value.cluster_id,
        member_id=value.member_id,
        revision=value.revision,
        raft_term=value.raft_term,
    )


def key_value(kv: KeyValue) -> pb.KeyValue:
    """Return a key's message."""
    return pb.KeyValue(
        key=kv.key,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        value=kv.value,
        lease=kv.lease,
    )


def event(value: Event) -> pb.Event:
    """Return an event's message."""
    prev = key_value(value.prev) if value.prev is not None else None
    return pb.Event(type=int(value.deleted), kv=key_value(value.kv), prev_kv=prev)


def range_request(message: pb.RangeRequest) -> Range:
    """Return what a range asks for."""
    try:
        order, target = SortOrder(message.sort_order), SortTarget(message.sort_target)
    except ValueError:
        raise Refusal.INVALID_SORT.error() from None
    return Range(
        KeyRange(message.key, message.range_end),
        limit=message.limit,
        revision=Revision(message.revision),
        sort_order=order,
        sort_target=target,
        serializable=message.serializable,
        keys_only=message.keys_only,
        count_only=message.count_only,
        min_mod_revision=message.min_mod_revision,
        max_mod_revision=message.max_mod_revision,
        min_create_revision=message.min_create_revision,
        max_create_revision=message.max_create_revision,
    )


def put_request(message: pb.PutRequest) -> Put:
    """Return what a put asks for."""
    return Put(
        message.key,
        message.value,
        LeaseID(message.lease),
        message.prev_kv,
        message.ignore_value,
        message.ignore_lease,
    )


def delete_request(message: pb.DeleteRangeRequest) -> Delete:
    """Return what a delete asks for."""
    return Delete(KeyRange(message.key, message.range_end), message.prev_kv)


def txn_request(message: pb.TxnRequest) -> Txn:
    """Return what a transaction asks for."""
    return Txn(
        tuple(map(_compare, message.compare)),
        tuple(map(_op, message.success)),
        tuple(map(_op, message.failure)),
    )


_OPERAND = {
    Target.VERSION: "version",
    Target.CREATE: "create_revision",
    Target.MOD: "mod_revision",
    Target.VALUE: "value",
    Target.LEASE: "lease",
}


def _compare(message: pb.Compare) -> Compare:
    try:
        target, result = Target(message.target), Result(message.result)
    except ValueError:
        # etcd compares nothing then and takes the guard as held; refusing is safer for the caller
        raise Refusal.KEY_NOT_FOUND.error() from None
    # a field of another target than `target` says is not looked at, as etcd does
    operand: int | bytes = getattr(message, _OPERAND[target])
    return Compare(message.key, target, result, operand, message.range_end)


def _op(message: pb.RequestOp) -> Op:
    match message.WhichOneof("request"):
        case "request_range":
            return range_request(message.request_range)
        case "request_put":
            return put_request(message.request_put)
        case "request_delete_range":
            return delete_request(message.request_delete_range)
        case "request_txn":
            return txn_request(message.request_txn)
        case _:
            raise Refusal.KEY_NOT_FOUND.error()  # etcd's words for an operation that is none


def range_response(result: RangeResult) -> pb.RangeResponse:
    """Return a range's answer."""
    return pb.RangeResponse(
        header=header(result.header),
        kvs=map(key_value, result.kvs),
        more=result.more,
        count=result.count,
    )


def put_response(result: PutResult) -> pb.PutResponse:
    """Return a put's answer."""
    prev = key_value(result.prev) if result.prev is not None else None
    return pb.PutResponse(header=header(result.header), prev_kv=prev)


def delete_response(result: DeleteResult) -> pb.DeleteRangeResponse:
    """Return a delete's answer."""
    return pb.DeleteRangeResponse(
        header=header(result.header), deleted=result.deleted, prev_kvs=map(key_value, result.prev)
    )


def txn_response(result: TxnResult) -> pb.TxnResponse:
    """Return a transaction's answer."""
    return pb.TxnResponse(
        header=header(result.header),
        succeeded=result.succeeded,
        responses=map(_op_response, result.responses),
    )


def _op_response(result: OpResult) -> pb.ResponseOp:
    match result:
        case RangeResult():
            return pb.ResponseOp(response_range=range_response(result))
        case PutResult():
            return pb.ResponseOp(response_put=put_response(result))
        case DeleteResult():
            return pb.ResponseOp(response_delete_range=delete_response(result))
        case TxnResult():
            return pb.ResponseOp(response_txn=txn_response(result))


def watch_request(message: pb.WatchCreateRequest) -> WatchRequest:
    r"""Return what a watch asks for; etcd takes an empty key as b"\x00", the first of all."""
    return WatchRequest(
        KeyRange(message.key or b"\x00", message.range_end),
        Revision(message.start_revision),
        prev_kv=message.prev_kv,
        progress_notify=message.progress_notify,
        fragment=message.fragment,
        no_put=0 in message.filters,
        no_delete=1 in message.filters,
    )


def fragments(answer: pb.WatchResponse, limit: int) -> Iterable[pb.WatchResponse]:
    """Return `answer` in parts of at most `limit` bytes where events allow it (§6.4)."""
    if answer.ByteSize() < limit or len(answer.events) < 2:
        yield answer
        return
    part = pb.WatchResponse(header=answer.header, watch_id=answer.watch_id, fragment=True)
    size = empty = part.ByteSize()
    for one in answer.events:
        weight = one.ByteSize() + 8
        if part.events and size + weight >= limit:
            yield part
            part = pb.WatchResponse(header=answer.header, watch_id=answer.watch_id, fragment=True)
            size = empty
        part.events.append(one)
        size += weight
    part.fragment = False
    yield part
