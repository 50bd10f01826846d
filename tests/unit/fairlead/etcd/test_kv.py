# SPDX-License-Identifier: Apache-2.0
"""Guarded writes whose answer was lost (specs/etcd.md §5.4)."""

from typing import Any

import pytest

from fairlead.etcd import kv
from fairlead.etcd.errors import Unclear
from fairlead.etcd.types import Revision
from fairlead.testing.etcd import FakeEtcd, fake_etcd


class LostAnswers:
    """A store whose transactions end unclear, done or not."""

    def __init__(self, store: FakeEtcd, *, done: bool) -> None:
        self._store = store
        self._done = done

    async def txn(self, *arguments: Any, **named: Any) -> Any:
        if self._done:
            await self._store.txn(*arguments, **named)
        raise Unclear("Txn: may be done or not")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_create_and_replace() -> None:
    async with fake_etcd() as store:
        ours, first = await kv.create(store, b"a", b"1")
        assert (ours, first) == (True, 2)
        assert await kv.create(store, b"a", b"2") == (False, first)
        assert await kv.replace(store, b"a", b"3", first) == (True, 3)
        assert await kv.replace(store, b"a", b"4", first) == (False, 3)
        assert await kv.replace(store, b"b", b"4", Revision(0)) == (True, 4)


async def test_an_unclear_write_that_was_done_is_ours() -> None:
    async with fake_etcd() as store:
        lossy: Any = LostAnswers(store, done=True)
        assert await kv.create(lossy, b"a", b"1") == (True, 2)
        assert await kv.replace(lossy, b"a", b"2", Revision(2)) == (True, 3)
        assert await kv.settle(store, b"a", b"2") is not None
        assert await kv.settle(store, b"a", b"1") is None


async def test_an_unclear_write_that_another_won_is_not_ours() -> None:
    async with fake_etcd() as store:
        await store.put(b"a", b"theirs")
        lossy: Any = LostAnswers(store, done=True)
        assert await kv.create(lossy, b"a", b"1") == (False, 2)


async def test_an_unclear_write_that_is_not_seen_stays_unclear() -> None:
    async with fake_etcd() as store:
        lossy: Any = LostAnswers(store, done=False)
        with pytest.raises(Unclear):
            await kv.create(lossy, b"a", b"1")
