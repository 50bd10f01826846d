# SPDX-License-Identifier: Apache-2.0
"""`kill -9` of `fairlead etcd` under load, 20 times: nothing acknowledged is lost (§9.5)."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from fairlead.errors import StoreError
from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.etcd.types import KeyRange, Range
from fairlead.testing.etcd import fairlead_etcd

ROUNDS = 20
WRITERS = 8


@pytest.mark.slow
@pytest.mark.timeout(110)
async def test_kill_9_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    acknowledged: dict[bytes, tuple[int, int]] = {}  # key → (number, revision)
    tried: dict[bytes, int] = {}
    highest = 1
    async with fairlead_etcd(tmp_path / "data") as node:
        for round_ in range(ROUNDS):
            async with connect(Options((node.endpoint,))) as store:

                async def write(key: bytes, store: object = store) -> None:
                    number = tried.get(key, 0)
                    while True:
                        number += 1
                        tried[key] = number
                        try:
                            done = await store.put(key, b"%d" % number)  # type: ignore[attr-defined]
                        except StoreError:
                            return
                        acknowledged[key] = (number, done.header.revision)

                writers = [asyncio.create_task(write(b"w%d" % i)) for i in range(WRITERS)]
                await asyncio.sleep(dice.uniform(0.05, 0.3))
                await node.kill()
                await asyncio.wait_for(asyncio.gather(*writers), 20)
            await node.start()
            await node.healthy()
            async with connect(Options((node.endpoint,))) as store:
                found = await store.range(Range(KeyRange.prefix(b"w")))
                held = {kv.key: kv for kv in found.kvs}
                where = f"seed {seed}, round {round_}"
                for key, (number, revision) in acknowledged.items():
                    assert key in held, f"{where}: {key!r} is gone"
                    # at least what was acknowledged; at most what was sent
                    assert number <= int(held[key].value) <= tried[key], where
                    assert held[key].mod_revision >= revision, where
                highest = max([highest, *(revision for _, revision in acknowledged.values())])
                assert found.header.revision >= highest, f"{where}: the revision went back"
                highest = found.header.revision
    assert sum(number for number, _ in acknowledged.values()) > 10 * ROUNDS
