# SPDX-License-Identifier: Apache-2.0
"""Keys under a lease, through everything that can happen to it (specs/etcd.md §8)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fairlead.etcd.errors import Denied, Unavailable
from fairlead.etcd.lease import Session
from fairlead.etcd.types import NO_LEASE
from fairlead.testing.clock import ManualClock
from fairlead.testing.etcd import FakeEtcd, fake_etcd

KEY = b"/skydns/local/web"


@asynccontextmanager
async def running(session: Session) -> AsyncIterator[Session]:
    task = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def make(store: FakeEtcd, clock: ManualClock, told: list[str]) -> Session:
    return Session(
        store,
        9,
        {KEY: b"1"},
        on_lost=lambda: told.append("lost"),
        on_regained=lambda: told.append("regained"),
        clock=clock,
    )


async def test_keys_live_as_long_as_the_session() -> None:
    clock = ManualClock()
    async with fake_etcd(clock) as store:
        async with running(make(store, clock, told := [])) as session:
            await clock.settle()
            await session.held()
            held = await store.get(KEY)
            assert held is not None
            assert held.lease == session.lease != NO_LEASE
            for _ in range(10):
                await clock.advance(3)
            assert await store.get(KEY) == held, "kept alive for 30 s with a TTL of 9 s"
            assert store.faults.calls["keep_alive"] >= 9, "at a third of the TTL"
        assert await store.get(KEY) is None, "revoked on stop"
        assert await store.leases() == ()
        assert told == []


async def test_a_lost_lease_is_regained_with_its_keys() -> None:
    clock = ManualClock()
    async with fake_etcd(clock) as store, running(make(store, clock, told := [])) as session:
        await clock.settle()
        first = session.lease
        await store.revoke(first)
        assert await store.get(KEY) is None
        await clock.advance(4)
        held = await store.get(KEY)
        assert held is not None
        assert held.lease == session.lease != first
        assert told == ["lost", "regained"]


async def test_no_answer_for_the_whole_ttl_is_a_loss_before_the_server_sees_one() -> None:
    clock = ManualClock()
    async with fake_etcd(clock) as store, running(make(store, clock, told := [])) as session:
        await clock.settle()
        store.faults.refuse = Unavailable("etcd: connection refused")
        await clock.advance(8.5)
        assert told == []
        await clock.advance(0.6)
        assert told == ["lost"]
        assert session.lease == NO_LEASE
        store.faults.refuse = None
        await clock.advance(6)
        assert told == ["lost", "regained"]
        assert await store.get(KEY) is not None


async def test_a_start_without_etcd_waits_for_it() -> None:
    clock = ManualClock()
    async with fake_etcd(clock) as store:
        store.faults.refuse = Unavailable("etcd: connection refused")
        async with running(make(store, clock, told := [])) as session:
            await clock.advance(60)
            assert "refused" in session.problem
            store.faults.refuse = None
            await clock.advance(6)
            assert session.problem == ""
            assert await store.get(KEY) is not None
            assert told == [], "nothing was lost, nothing regained"


async def test_what_an_operator_must_mend_is_tried_slowly() -> None:
    clock = ManualClock()
    async with fake_etcd(clock) as store:
        store.faults.refuse = Denied("etcdserver: permission denied")
        async with running(make(store, clock, [])):
            await clock.advance(100)
            assert store.faults.calls["grant"] <= 5


@pytest.mark.parametrize("keys", [0, 250])
async def test_many_keys_go_in_several_transactions(keys: int) -> None:
    clock = ManualClock()
    async with fake_etcd(clock) as store:
        session = Session(store, 9, {b"/k/%d" % n: b"" for n in range(keys)}, clock=clock)
        async with running(session):
            await clock.settle()
            await session.held()
            info = await store.time_to_live(session.lease, keys=True)
            assert len(info.keys) == keys
