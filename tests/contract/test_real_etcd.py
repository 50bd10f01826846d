# SPDX-License-Identifier: Apache-2.0
"""The fixture `real_etcd`: three nodes, faults, restore."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.testing.etcd import real_etcd


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_cluster_survives_its_leader_and_goes_back_to_a_snapshot(tmp_path: Path) -> None:
    async with real_etcd(nodes=3) as cluster:
        await cluster.etcdctl("put", "k", "1")
        await cluster.snapshot(tmp_path / "snapshot.db")
        leader = await cluster.leader()
        await leader.kill()
        others = [node for node in cluster.nodes if node is not leader]
        await cluster.healthy()
        frozen = others[0]
        frozen.freeze()
        frozen.cont()
        await leader.start()
        await cluster.healthy()
        await cluster.etcdctl("put", "k", "2")
        await cluster.restore(tmp_path / "snapshot.db")
        assert await cluster.etcdctl("get", "k") == "k\n1\n"
