# SPDX-License-Identifier: Apache-2.0
"""One script of calls, watches and their answers reads the same from etcd and from ours (§9.2).

It speaks raw messages, so that nothing of our client can hide a difference. Cluster ids and times
are masked; the order of answers of different watches, and how events are packed into answers, are
not part of etcd's promise and are not compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.message import Message
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError

from fairlead.embedded.server import Listening, serve
from fairlead.embedded.store import EmbeddedStore
from fairlead.etcd import rpc
from fairlead.etcd import rpc_pb2 as pb
from fairlead.testing.etcd import real_etcd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

QUIET = 0.4  # seconds without an answer that end a collection; etcd's catching up runs every 0.1 s


def op(message: Message) -> pb.RequestOp:
    match message:
        case pb.RangeRequest():
            return pb.RequestOp(request_range=message)
        case pb.PutRequest():
            return pb.RequestOp(request_put=message)
        case pb.DeleteRangeRequest():
            return pb.RequestOp(request_delete_range=message)
        case pb.TxnRequest():
            return pb.RequestOp(request_txn=message)
    raise AssertionError(message)


def put(key: str, value: str = "", **fields: Any) -> pb.PutRequest:
    return pb.PutRequest(key=key.encode(), value=value.encode(), **fields)


def get(key: str, end: str = "", **fields: Any) -> pb.RangeRequest:
    return pb.RangeRequest(key=key.encode(), range_end=end.encode(), **fields)


def delete(key: str, end: str = "", **fields: Any) -> pb.DeleteRangeRequest:
    return pb.DeleteRangeRequest(key=key.encode(), range_end=end.encode(), **fields)


def txn(
    compare: list[pb.Compare], success: list[Message], failure: list[Message] | None = None
) -> pb.TxnRequest:
    return pb.TxnRequest(compare=compare, success=map(op, success), failure=map(op, failure or []))


def watch(key: str, end: str = "", **fields: Any) -> pb.WatchRequest:
    create = pb.WatchCreateRequest(key=key.encode(), range_end=end.encode(), **fields)
    return pb.WatchRequest(create_request=create)


ABSENT = pb.Compare(key=b"a", target=1, result=0, create_revision=0)
COLLECT = "collect what the watches say"

SCRIPT: list[Message | str] = [
    get("a"),
    put("a", "1"),
    put("a", "2", prev_kv=True),
    put("b", "x"),
    put("c", "y"),
    get("a"),
    get("a", "z", limit=2),
    get("a", "z", limit=3),
    get("a", "z", count_only=True),
    get("a", "z", keys_only=True, sort_order=2),
    get("a", "z", sort_target=4, sort_order=1),
    get("a", "z", sort_target=3),
    get("a", "\x00", sort_order=2, sort_target=3, limit=1),
    get("a", "z", min_mod_revision=4),
    get("a", "z", max_mod_revision=3, limit=1),
    get("a", "z", min_create_revision=3, max_create_revision=4),
    get("a", "z", revision=3),
    get("a", "z", revision=99),
    get("z", "a"),
    get(""),
    get("b", serializable=True),
    put(""),
    put("a", "v", ignore_value=True),
    put("nope", ignore_value=True),
    put("nope", "v", ignore_lease=True),
    put("a", ignore_value=True),
    put("a", "v", lease=5),
    delete("nope"),
    delete(""),
    watch("a", "z", start_revision=2, prev_kv=True),
    watch("a", filters=[0], progress_notify=True),
    watch("b", watch_id=7),
    watch("b", watch_id=7),
    watch("z", "a"),
    watch("", "\x00", start_revision=6),
    watch("fut", start_revision=12),
    COLLECT,
    txn([ABSENT], [put("a", "no")], [put("t", "1"), get("t"), delete("c", prev_kv=True)]),
    COLLECT,
    txn([], [put("d", "1"), put("d", "2")]),
    txn([], [put("d", "1"), delete("d")]),
    txn([], [txn([ABSENT], [put("e", "then")], [put("e", "else")]), get("e")]),
    txn([], [put("n", "1"), txn([], [get("n"), put("m", "2")])]),
    COLLECT,
    txn([ABSENT], []),
    txn([pb.Compare(key=b"nope", target=3, result=3, value=b"x")], []),
    txn([pb.Compare(key=b"a", range_end=b"z", target=2, result=1, mod_revision=2)], []),
    txn([pb.Compare(target=2)], []),
    txn([], [put("x", lease=5)]),
    txn([], [put("x"), get("x", revision=99)]),
    txn([], [put(f"k{i}") for i in range(129)]),
    pb.TxnRequest(success=[pb.RequestOp()]),
    delete("t", "u", prev_kv=True),
    COLLECT,
    pb.LeaseGrantRequest(TTL=1000, ID=100),
    pb.LeaseGrantRequest(TTL=1000, ID=100),
    pb.LeaseGrantRequest(TTL=1, ID=101),
    pb.LeaseGrantRequest(TTL=9_000_000_001, ID=102),
    put("a", "leased", lease=100),
    put("b", "leased", lease=100),
    put("a", "kept", ignore_lease=True),
    pb.LeaseTimeToLiveRequest(ID=999),
    pb.LeaseRevokeRequest(ID=100),
    pb.LeaseRevokeRequest(ID=100),
    COLLECT,
    put("fut", "late"),
    COLLECT,
    pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=0)),
    pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=55)),
    COLLECT,
    pb.WatchRequest(progress_request=pb.WatchProgressRequest()),
    COLLECT,
    pb.CompactionRequest(revision=8),
    pb.CompactionRequest(revision=8),
    pb.CompactionRequest(revision=99),
    get("a", "z", revision=7),
    get("a", "z", revision=8),
    watch("a", start_revision=3),
    COLLECT,
    watch("a", "z", start_revision=9),
    COLLECT,
    delete("\x00", "\x00"),
    COLLECT,
    get("\x00", "\x00"),
    pb.LeaseLeasesRequest(),
]

METHODS = {
    method.request: method
    for method in vars(rpc).values()
    if isinstance(method, rpc.Method) and not method.client_stream and not method.server_stream
}


def mask(message: Any) -> str:
    message.header.cluster_id = message.header.member_id = message.header.raft_term = 0
    if isinstance(message, pb.WatchResponse) and message.events:
        message.header.revision = 0
    return text_format.MessageToString(message, as_one_line=True)


async def play(endpoint: str) -> list[str]:
    """Return the script's answers, a line each."""
    host, _, port = endpoint.removeprefix("http://").rpartition(":")
    said: list[str] = []
    answers: asyncio.Queue[pb.WatchResponse] = asyncio.Queue()
    channel = Channel(host, int(port))
    stream = channel.request(
        rpc.WATCH.path, Cardinality.STREAM_STREAM, pb.WatchRequest, pb.WatchResponse
    )

    async def listen(messages: AsyncIterator[pb.WatchResponse]) -> None:
        async for message in messages:
            answers.put_nowait(message)

    async def collect() -> list[str]:
        found: list[pb.WatchResponse] = []
        try:
            while True:
                found.append(await asyncio.wait_for(answers.get(), QUIET))
        except TimeoutError:
            pass
        lines = []
        for answer in sorted(found, key=lambda one: one.watch_id):  # stable: a watch's own order
            bare = pb.WatchResponse()
            bare.CopyFrom(answer)
            del bare.events[:]
            if not answer.events:
                lines.append(f"  watch: {mask(bare)}")
            lines += [
                f"  watch {answer.watch_id}: {text_format.MessageToString(event, as_one_line=True)}"
                for event in answer.events
            ]
        return lines

    async with stream:
        await stream.send_request()
        listener: asyncio.Task[None] | None = None
        for step in SCRIPT:
            if isinstance(step, str):
                said += await collect()
                continue
            said.append(f"{type(step).__name__} {str(step)[:200]!r}")
            if isinstance(step, pb.WatchRequest):
                await stream.send_message(step)
                if listener is None:
                    listener = asyncio.create_task(listen(stream))
                await asyncio.sleep(0.05)  # the two streams of a connection are not in order
                continue
            method = METHODS[type(step)]
            call = UnaryUnaryMethod(channel, method.path, method.request, method.response)
            try:
                said.append("  " + mask(await call(step)))
            except GRPCError as error:
                said.append(f"  {error.status.value} {error.message}")
        await stream.cancel()
        if listener is not None:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
    channel.close()
    return said


async def test_the_transcript_of_ours_is_etcds() -> None:
    async with (
        await EmbeddedStore.open() as store,
        serve(store, Listening(("http://127.0.0.1:0",))) as endpoints,
        real_etcd() as cluster,
    ):
        ours, etcds = await asyncio.gather(play(endpoints[0]), play(cluster.endpoints[0]))
    assert len(SCRIPT) > 60
    assert ours == etcds
