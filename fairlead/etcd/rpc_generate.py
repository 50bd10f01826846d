# SPDX-License-Identifier: Apache-2.0
"""Make rpc_pb2.py and rpc_pb2.pyi from rpc.proto: `python -m fairlead.etcd.rpc_generate`.

A build-time tool; it needs grpcio-tools (the extra `test`). What it makes is committed.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

PROTO = "fairlead/etcd/rpc.proto"


def generate(root: Path, out: Path) -> None:
    """Write fairlead/etcd/rpc_pb2.py and .pyi under `out`, from the sources under `root`."""
    from grpc_tools import protoc  # build-time only

    known = files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{root}", f"-I{known}", f"--python_out={out}", f"--pyi_out={out}"]
    status = protoc.main([*arguments, PROTO])
    if status:
        raise SystemExit(f"protoc failed with status {status}")


if __name__ == "__main__":
    top = Path(__file__).resolve().parents[2]
    generate(top, top)
    sys.stdout.write(f"made {PROTO.removesuffix('.proto')}_pb2.py and .pyi\n")
