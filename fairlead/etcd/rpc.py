# SPDX-License-Identifier: Apache-2.0
"""etcd's methods by path, each with its messages and shape (specs/etcd.md §2).

The one table both sides use: the client calls by it, `fairlead.embedded.server` answers by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from fairlead.etcd import rpc_pb2 as pb

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Response]):
    """One remote procedure.

    Attributes:
        path: what stands in `:path`.
        client_stream: the client sends more than one message.
        server_stream: the server sends more than one message.
    """

    path: str
    request: type[Request]
    response: type[Response]
    client_stream: bool = False
    server_stream: bool = False

    @property
    def name(self) -> str:
        """The method without its service, e.g. "Range": the `rpc` label of the metrics."""
        return self.path.rpartition("/")[2]


RANGE = Method("/etcdserverpb.KV/Range", pb.RangeRequest, pb.RangeResponse)
RANGE_STREAM = Method(
    "/etcdserverpb.KV/RangeStream", pb.RangeRequest, pb.RangeStreamResponse, server_stream=True
)
PUT = Method("/etcdserverpb.KV/Put", pb.PutRequest, pb.PutResponse)
DELETE_RANGE = Method("/etcdserverpb.KV/DeleteRange", pb.DeleteRangeRequest, pb.DeleteRangeResponse)
TXN = Method("/etcdserverpb.KV/Txn", pb.TxnRequest, pb.TxnResponse)
COMPACT = Method("/etcdserverpb.KV/Compact", pb.CompactionRequest, pb.CompactionResponse)

WATCH = Method(
    "/etcdserverpb.Watch/Watch",
    pb.WatchRequest,
    pb.WatchResponse,
    client_stream=True,
    server_stream=True,
)

LEASE_GRANT = Method("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest, pb.LeaseGrantResponse)
LEASE_REVOKE = Method(
    "/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest, pb.LeaseRevokeResponse
)
LEASE_KEEP_ALIVE = Method(
    "/etcdserverpb.Lease/LeaseKeepAlive",
    pb.LeaseKeepAliveRequest,
    pb.LeaseKeepAliveResponse,
    client_stream=True,
    server_stream=True,
)
LEASE_TIME_TO_LIVE = Method(
    "/etcdserverpb.Lease/LeaseTimeToLive", pb.LeaseTimeToLiveRequest, pb.LeaseTimeToLiveResponse
)
LEASE_LEASES = Method(
    "/etcdserverpb.Lease/LeaseLeases", pb.LeaseLeasesRequest, pb.LeaseLeasesResponse
)

AUTHENTICATE = Method(
    "/etcdserverpb.Auth/Authenticate", pb.AuthenticateRequest, pb.AuthenticateResponse
)

STATUS = Method("/etcdserverpb.Maintenance/Status", pb.StatusRequest, pb.StatusResponse)
ALARM = Method("/etcdserverpb.Maintenance/Alarm", pb.AlarmRequest, pb.AlarmResponse)
HASH = Method("/etcdserverpb.Maintenance/Hash", pb.HashRequest, pb.HashResponse)
HASH_KV = Method("/etcdserverpb.Maintenance/HashKV", pb.HashKVRequest, pb.HashKVResponse)
DEFRAGMENT = Method(
    "/etcdserverpb.Maintenance/Defragment", pb.DefragmentRequest, pb.DefragmentResponse
)

MEMBER_LIST = Method(
    "/etcdserverpb.Cluster/MemberList", pb.MemberListRequest, pb.MemberListResponse
)

NOT_SERVED: tuple[str, ...] = (
    "/etcdserverpb.Auth/AuthDisable",
    "/etcdserverpb.Auth/AuthEnable",
    "/etcdserverpb.Auth/AuthStatus",
    "/etcdserverpb.Auth/RoleAdd",
    "/etcdserverpb.Auth/RoleDelete",
    "/etcdserverpb.Auth/RoleGet",
    "/etcdserverpb.Auth/RoleGrantPermission",
    "/etcdserverpb.Auth/RoleList",
    "/etcdserverpb.Auth/RoleRevokePermission",
    "/etcdserverpb.Auth/UserAdd",
    "/etcdserverpb.Auth/UserChangePassword",
    "/etcdserverpb.Auth/UserDelete",
    "/etcdserverpb.Auth/UserGet",
    "/etcdserverpb.Auth/UserGrantRole",
    "/etcdserverpb.Auth/UserList",
    "/etcdserverpb.Auth/UserRevokeRole",
    "/etcdserverpb.Cluster/MemberAdd",
    "/etcdserverpb.Cluster/MemberPromote",
    "/etcdserverpb.Cluster/MemberRemove",
    "/etcdserverpb.Cluster/MemberUpdate",
    "/etcdserverpb.Maintenance/Downgrade",
    "/etcdserverpb.Maintenance/MoveLeader",
    "/etcdserverpb.Maintenance/Snapshot",
)
"""Methods of etcd's that we neither call nor serve: the embedded server refuses them by name."""
