# SPDX-License-Identifier: Apache-2.0
"""etcd's services as functions from message to message; no transport.

`server` carries them over gRPC, `gateway` as JSON. A refusal is a StoreError with etcd's text;
whoever carries it adds the code (`refusals.code`).
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from google.protobuf.message import Message
from msgspec.structs import replace

from fairlead.embedded import wire
from fairlead.embedded.checks import MAX_REQUEST
from fairlead.embedded.logins import Logins
from fairlead.embedded.refusals import Refusal
from fairlead.embedded.store import EmbeddedStore
from fairlead.embedded.watchers import Watcher
from fairlead.etcd import rpc
from fairlead.etcd import rpc_pb2 as pb
from fairlead.etcd.errors import Compacted, LeaseLost, Unimplemented
from fairlead.etcd.types import LeaseID, Revision, WatchAnswer

MAX_MESSAGE = MAX_REQUEST + 512 * 1024  # beyond it the transport refuses, as etcd's

Unary = Callable[[Any], Awaitable[Message]]


class Services:
    """All calls of a store by their path.

    Attributes:
        unary: path → function of the request's message.
        client_urls: what MemberList tells clients.
    """

    def __init__(self, store: EmbeddedStore, logins: Logins, name: str = "fairlead") -> None:
        self.store = store
        self.name = name
        self.logins = logins
        self.client_urls: tuple[str, ...] = ()
        self.unary: dict[str, Unary] = {
            rpc.RANGE.path: self._range,
            rpc.PUT.path: self._put,
            rpc.DELETE_RANGE.path: self._delete,
            rpc.TXN.path: self._txn,
            rpc.COMPACT.path: self._compact,
            rpc.LEASE_GRANT.path: self._grant,
            rpc.LEASE_REVOKE.path: self._revoke,
            rpc.LEASE_TIME_TO_LIVE.path: self._time_to_live,
            rpc.LEASE_LEASES.path: self._leases,
            rpc.AUTHENTICATE.path: self._authenticate,
            rpc.STATUS.path: self._status,
            rpc.ALARM.path: self._alarm,
            rpc.HASH.path: self._hash,
            rpc.HASH_KV.path: self._hash_kv,
            rpc.DEFRAGMENT.path: self._defragment,
            rpc.MEMBER_LIST.path: self._members,
        }

    def header(self) -> pb.ResponseHeader:
        """Return the header of an answer given now."""
        return wire.header(self.store.hub.header())

    # -- keys ------------------------------------------------------------------------------

    async def _range(self, request: pb.RangeRequest) -> Message:
        return wire.range_response(await self.store.range(wire.range_request(request)))

    async def _put(self, request: pb.PutRequest) -> Message:
        _check_size(request)
        put = wire.put_request(request)
        return wire.put_response(
            await self.store.put(
                put.key,
                put.value,
                lease=put.lease,
                prev_kv=put.prev_kv,
                ignore_value=put.ignore_value,
                ignore_lease=put.ignore_lease,
            )
        )

    async def _delete(self, request: pb.DeleteRangeRequest) -> Message:
        _check_size(request)
        delete = wire.delete_request(request)
        return wire.delete_response(await self.store.delete(delete.keys, prev_kv=delete.prev_kv))

    async def _txn(self, request: pb.TxnRequest) -> Message:
        _check_size(request)
        txn = wire.txn_request(request)
        return wire.txn_response(await self.store.txn(txn.compare, txn.success, txn.failure))

    async def _compact(self, request: pb.CompactionRequest) -> Message:
        header = await self.store.compact_strictly(Revision(request.revision))
        return pb.CompactionResponse(header=wire.header(header))

    # -- leases ----------------------------------------------------------------------------

    async def _grant(self, request: pb.LeaseGrantRequest) -> Message:
        granted = await self.store.grant(request.TTL, LeaseID(request.ID))
        return pb.LeaseGrantResponse(
            header=wire.header(granted.header), ID=granted.id, TTL=granted.ttl_seconds
        )

    async def _revoke(self, request: pb.LeaseRevokeRequest) -> Message:
        header = await self.store.revoke_strictly(LeaseID(request.ID))
        return pb.LeaseRevokeResponse(header=wire.header(header))

    async def _time_to_live(self, request: pb.LeaseTimeToLiveRequest) -> Message:
        info = await self.store.time_to_live(LeaseID(request.ID), keys=request.keys)
        return pb.LeaseTimeToLiveResponse(
            header=wire.header(info.header),
            ID=info.id,
            TTL=info.ttl_seconds,
            grantedTTL=info.granted_ttl_seconds,
            keys=info.keys,
        )

    async def _leases(self, request: pb.LeaseLeasesRequest) -> Message:
        leases = [pb.LeaseStatus(ID=lease) for lease in await self.store.leases()]
        return pb.LeaseLeasesResponse(header=self.header(), leases=leases)

    async def keep_alive(
        self, requests: AsyncIterator[pb.LeaseKeepAliveRequest]
    ) -> AsyncIterator[pb.LeaseKeepAliveResponse]:
        """Renew lease after lease; TTL 0 tells that one is lost (§6.7)."""
        async for request in requests:
            try:
                ttl = await self.store.keep_alive(LeaseID(request.ID))
            except LeaseLost:
                ttl = 0
            yield pb.LeaseKeepAliveResponse(header=self.header(), ID=request.ID, TTL=ttl)

    # -- about itself ----------------------------------------------------------------------

    async def _authenticate(self, request: pb.AuthenticateRequest) -> Message:
        token = self.logins.login(request.name, request.password)
        return pb.AuthenticateResponse(header=self.header(), token=token)

    async def _status(self, request: pb.StatusRequest) -> Message:
        status = await self.store.status()
        revision = status.header.revision
        return pb.StatusResponse(
            header=wire.header(status.header),
            version=status.version,
            dbSize=status.db_size_bytes,
            dbSizeInUse=status.db_size_bytes,
            leader=status.leader,
            raftIndex=revision,
            raftAppliedIndex=revision,
            raftTerm=status.header.raft_term,
        )

    async def _members(self, request: pb.MemberListRequest) -> Message:
        me = pb.Member(ID=self.store.core.member_id, name=self.name, clientURLs=self.client_urls)
        return pb.MemberListResponse(header=self.header(), members=[me])

    async def _alarm(self, request: pb.AlarmRequest) -> Message:
        if request.action == 1:
            raise Unimplemented("etcdserver: fairlead etcd raises no alarm by request")
        return pb.AlarmResponse(header=self.header())  # none to list, none to take back

    async def _hash(self, request: pb.HashRequest) -> Message:
        return pb.HashResponse(header=self.header(), hash=self._checksum(0))

    async def _hash_kv(self, request: pb.HashKVRequest) -> Message:
        return pb.HashKVResponse(
            header=self.header(),
            hash=self._checksum(request.revision),
            compact_revision=self.store.core.compact_revision,
        )

    def _checksum(self, revision: int) -> int:
        checksum = 0
        for kv in self.store.core.at(Revision(revision)):
            row = wire.key_value(kv).SerializeToString(deterministic=True)
            checksum = zlib.crc32(row, checksum)
        return checksum

    async def _defragment(self, request: pb.DefragmentRequest) -> Message:
        return pb.DefragmentResponse(header=self.header())  # SQLite reuses its pages itself

    # -- watches ---------------------------------------------------------------------------

    async def watch(
        self, requests: AsyncIterator[pb.WatchRequest]
    ) -> AsyncIterator[pb.WatchResponse]:
        """Serve all watches of one stream; ends only with the caller."""
        stream = _WatchStream(self)
        reader = asyncio.create_task(stream.read(requests), name="embedded-watch-requests")
        try:
            while True:
                for answer in stream.answers():
                    yield answer
                if reader.done() and reader.exception() is not None:
                    return  # the client is gone
                await stream.wait()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            stream.close()


class _WatchStream:
    """The watches of one stream: answers to requests first, then events, fairly by watch."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._hub = services.store.hub
        self._said: deque[pb.WatchResponse] = deque()
        self._watchers: dict[int, Watcher] = {}
        self._woken: dict[int, None] = {}  # in the order of waking
        self._event = asyncio.Event()
        self._next_id = 0

    async def read(self, requests: AsyncIterator[pb.WatchRequest]) -> None:
        """Carry out what the client asks for; a client that only half closes goes on watching."""
        try:
            async for request in requests:
                match request.WhichOneof("request_union"):
                    case "create_request":
                        self._create(request.create_request)
                    case "cancel_request":
                        self._cancel(request.cancel_request.watch_id)
                    case "progress_request":
                        self._progress()
                    case _:
                        pass  # etcd too says nothing to nothing
        finally:
            self._event.set()

    async def wait(self) -> None:
        """Return when there may be something to say."""
        await self._event.wait()
        self._event.clear()

    def close(self) -> None:
        """Forget all watches."""
        for watcher in self._watchers.values():
            self._hub.remove(watcher)
        self._watchers.clear()

    def answers(self) -> Iterator[pb.WatchResponse]:
        """Return what there is to say now."""
        while self._said or self._woken:
            while self._said:
                yield self._said.popleft()
            if not self._woken:
                return
            id = next(iter(self._woken))
            del self._woken[id]
            watcher = self._watchers.get(id)
            if watcher is None:
                continue
            try:
                answer = watcher.take()
            except Compacted as error:
                del self._watchers[id]
                yield self._compacted(id, error)
                continue
            if answer is None:
                continue
            self._woken[id] = None  # there may be more; the others get their turn first
            yield from self._events(id, watcher, answer)

    def _events(self, id: int, watcher: Watcher, answer: WatchAnswer) -> Iterator[pb.WatchResponse]:
        message = pb.WatchResponse(
            header=wire.header(answer.header), watch_id=id, events=map(wire.event, answer.events)
        )
        if watcher.request.fragment:
            yield from wire.fragments(message, MAX_REQUEST)
        else:
            yield message

    def _compacted(self, id: int, error: Compacted) -> pb.WatchResponse:
        # the header of this one has revision 0, and there is no reason (§6.4)
        header = wire.header(replace(self._hub.header(), revision=Revision(0)))
        return pb.WatchResponse(
            header=header, watch_id=id, canceled=True, compact_revision=error.compact_revision
        )

    def _say(self, **fields: Any) -> None:
        self._said.append(pb.WatchResponse(header=self._services.header(), **fields))
        self._event.set()

    def _wake(self, id: int) -> None:
        self._woken[id] = None
        self._event.set()

    def _create(self, request: pb.WatchCreateRequest) -> None:
        wanted = wire.watch_request(request)
        keys = wanted.keys
        if keys.end not in {b"", b"\x00"} and keys.start >= keys.end:
            self._refuse("mvcc: watcher range is empty")
            return
        id = request.watch_id
        if id == 0:
            while self._next_id in self._watchers:
                self._next_id += 1
            id = self._next_id
            self._next_id += 1
        elif id in self._watchers:
            self._refuse("mvcc: duplicate watch ID provided on the WatchStream")
            return
        self._say(watch_id=id, created=True)
        try:
            self._watchers[id] = self._hub.add(wanted, partial(self._wake, id))
        except Compacted:
            self._said.pop()
            self._refuse("mvcc: required revision has been compacted")
            return
        self._wake(id)  # behind from the start, or in step: `take` finds out

    def _refuse(self, reason: str) -> None:
        self._say(watch_id=-1, created=True, canceled=True, cancel_reason=reason)

    def _cancel(self, id: int) -> None:
        watcher = self._watchers.pop(id, None)
        if watcher is not None:
            self._hub.remove(watcher)
            self._say(watch_id=id, canceled=True)

    def _progress(self) -> None:
        """Answer with the revision that all watches of the stream have seen; else not at all."""
        if self._watchers and not any(watcher.behind for watcher in self._watchers.values()):
            self._say(watch_id=-1)


def _check_size(request: Message) -> None:
    if request.ByteSize() > MAX_REQUEST:
        raise Refusal.REQUEST_TOO_LARGE.error()
