# SPDX-License-Identifier: Apache-2.0
"""The stores that the contract holds: in memory, on a file, `fairlead etcd`, a real etcd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.embedded.server import Listening, serve
from fairlead.embedded.store import EmbeddedStore
from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.etcd.store import Store
from fairlead.testing.etcd import fake_etcd, real_etcd

STORES = ("memory", "file", "fairlead-etcd", pytest.param("etcd", marks=pytest.mark.slow))


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    match request.param:
        case "memory":
            async with fake_etcd() as fake:
                yield fake
        case "file":
            async with await EmbeddedStore.open(tmp_path / "store") as embedded:
                yield embedded
        case "fairlead-etcd":
            async with (
                await EmbeddedStore.open() as embedded,
                serve(embedded, Listening(("http://127.0.0.1:0",))) as endpoints,
                connect(Options(endpoints)) as client,
            ):
                yield client
        case _:
            async with real_etcd() as cluster, connect(Options(cluster.endpoints)) as client:
                yield client
