# SPDX-License-Identifier: Apache-2.0
"""The demo's figures: from the etcd event to the look that held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fairlead.demo.measure import Observed, followed, gone, put
from fairlead.demo.report import Failed
from fairlead.etcd.types import KeyRange, Revision
from fairlead.testing.etcd import FakeEtcd, fake_etcd


@pytest.fixture
async def etcd() -> AsyncIterator[FakeEtcd]:
    async with fake_etcd() as store:
        yield store


@pytest.fixture
async def observed(etcd: FakeEtcd) -> AsyncIterator[Observed]:
    watching = Observed(etcd)
    task = asyncio.create_task(watching.run(Revision(1)))
    yield watching
    task.cancel()
    await asyncio.wait({task})


async def test_time_from_event_to_look(etcd: FakeEtcd, observed: Observed) -> None:
    began = asyncio.Event()

    async def later() -> bool:
        return began.is_set()

    async def act() -> None:
        await etcd.put(b"/web", b"1")
        asyncio.get_running_loop().call_later(0.05, began.set)

    seen = await followed(observed, "put", put("/web"), act, {"DNS": later}, 5)
    assert 30 < seen["DNS"] < 2000


async def test_only_what_comes_after_the_act_counts(etcd: FakeEtcd, observed: Observed) -> None:
    await etcd.put(b"/web", b"1")
    await observed.after(0, put("/web"), "put", 5)

    async def nothing() -> None:
        pass

    with pytest.raises(Failed, match=r"no etcd event within 0\.05 s: put"):
        await followed(observed, "put", put("/web"), nothing, {}, 0.05)
    seen = await followed(
        observed, "gone", gone("/web"), lambda: etcd.delete(KeyRange(b"/web")), {}, 5
    )
    assert seen == {}


async def test_failing_act_is_the_reason_told(etcd: FakeEtcd, observed: Observed) -> None:
    async def never() -> bool:
        return False

    async def act() -> None:
        raise Failed("vctl: no such backend")

    with pytest.raises(Failed, match="vctl: no such backend"):
        await followed(observed, "put", put("/web"), act, {"DNS": never}, 5)


async def test_broken_watch_goes_on(etcd: FakeEtcd, observed: Observed) -> None:
    await etcd.put(b"/one", b"1")
    await observed.after(0, put("/one"), "one", 5)
    etcd.faults.drop_watches()
    await etcd.put(b"/two", b"1")
    await observed.after(0, put("/two"), "two", 5)
    assert len(observed.events) == 2
