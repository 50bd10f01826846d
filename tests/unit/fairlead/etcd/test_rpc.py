# SPDX-License-Identifier: Apache-2.0
"""The messages: what is committed is what rpc.proto makes; numbers are etcd's (specs/etcd.md §3)."""

from pathlib import Path

import pytest

from fairlead.etcd import rpc
from fairlead.etcd import rpc_pb2 as pb

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.slow
def test_committed_messages_are_those_of_rpc_proto(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools (extra `test`) is not installed")
    from fairlead.etcd.rpc_generate import generate

    generate(ROOT, tmp_path)
    for name in ("rpc_pb2.py", "rpc_pb2.pyi"):
        made = (tmp_path / "fairlead/etcd" / name).read_text()
        assert (ROOT / "fairlead/etcd" / name).read_text() == made, f"run make of {name} again"


def test_messages_stand_in_a_package_of_our_own() -> None:
    assert pb.DESCRIPTOR.package == "fairlead.etcd"


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        pytest.param(pb.WatchResponse(events=[pb.Event(type=1)]), "5a020801", id="events = 11"),
        pytest.param(pb.Compare(range_end=b"b"), "820401" + "62", id="Compare.range_end = 64"),
        pytest.param(
            pb.LeaseTimeToLiveResponse(TTL=-1), "18ffffffffffffffffff01", id="negative: 10 bytes"
        ),
        pytest.param(pb.RangeRequest(key=b"a", limit=0), "0a0161", id="zero is not written"),
        pytest.param(pb.Compare(version=0), "2000", id="a zero member of a oneof is written"),
        pytest.param(pb.HashKVResponse(compact_revision=7), "1807", id="HashKV.compact = 3"),
        pytest.param(pb.MemberListRequest(linearizable=True), "0801", id="MemberList"),
    ],
)
def test_wire(message: pb.KeyValue, wire: str) -> None:
    assert message.SerializeToString().hex() == wire


def test_unknown_fields_are_skipped() -> None:
    newer = bytes.fromhex("0a0161" + "fa06" + "03" + "787878")
    assert pb.RangeRequest.FromString(newer).key == b"a"


def test_paths_carry_etcds_names() -> None:
    assert rpc.RANGE.path == "/etcdserverpb.KV/Range"
    assert rpc.LEASE_KEEP_ALIVE.name == "LeaseKeepAlive"
    paths = [m.path for m in vars(rpc).values() if isinstance(m, rpc.Method)]
    assert len(paths) == len(set(paths))
    assert not set(paths) & set(rpc.NOT_SERVED)
