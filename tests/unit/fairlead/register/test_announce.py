# SPDX-License-Identifier: Apache-2.0
"""Announcing: keys stand while the check passes and the command runs, and not else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Never, cast

import pytest

from fairlead.errors import StoreError
from fairlead.etcd.errors import Denied, Unavailable
from fairlead.etcd.store import Store
from fairlead.etcd.types import Compare, Op, Put
from fairlead.log import Log, Sink
from fairlead.register import announce
from fairlead.register.announce import Announcer, exit_status, supervise
from fairlead.register.check import Check, CheckError, Kind
from fairlead.register.keys import Service
from fairlead.testing.clock import ManualClock

WEB = Service(id="w", address=ip_address("127.0.0.1"), port=1, names=("w.test",), backends=("w",))
NAME = b"/skydns/test/w/w"


class Etcd:
    """The two things announcing asks of etcd, and what stands because of them."""

    def __init__(self) -> None:
        self.keys: dict[bytes, bytes] = {}
        self.errors: list[StoreError] = []
        self.history: list[str] = []
        self.changed = asyncio.Event()

    def note(self, what: str) -> None:
        self.history.append(what)
        self.changed.set()

    async def txn(
        self, compare: Sequence[Compare] = (), success: Sequence[Op] = (), **_: object
    ) -> None:
        if self.errors:
            self.note("refused")
            raise self.errors.pop(0)
        (put,) = success
        assert isinstance(put, Put)
        self.keys.setdefault(put.key, put.value)

    def open_lease(self, keys: Mapping[bytes, bytes]) -> Lease:
        return Lease(self, keys)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


class Lease:
    def __init__(self, etcd: Etcd, keys: Mapping[bytes, bytes]) -> None:
        self.etcd, self.keys = etcd, keys

    async def run(self) -> Never:
        assert b"/vulcand/backends/w/backend" in self.etcd.keys, "the backend comes first"
        self.etcd.keys.update(self.keys)
        self.etcd.note("stands")
        try:
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            for key in self.keys:
                self.etcd.keys.pop(key)
            self.etcd.note("withdrawn")


@pytest.fixture
async def etcd() -> Etcd:
    return Etcd()


def announcer(etcd: Etcd, **settings: Any) -> Announcer:
    given = {"check": Check(Kind.NONE, "127.0.0.1", 0), **settings}
    log = Log(Sink(write=lambda _line: None))
    return Announcer(WEB, store=cast(Store, etcd), open_lease=etcd.open_lease, log=log, **given)


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Results that the next probes give, the last one for ever."""
    results: list[bool] = []

    async def probe(_check: Check, _timeout: float) -> None:
        result = results.pop(0) if len(results) > 1 else results[0]
        if not result:
            raise CheckError("planted")

    monkeypatch.setattr(announce, "probe", probe)
    return results


async def running(work: Awaitable[None], then: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(work)
    try:
        await then()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_nothing_stands_before_the_first_success(etcd: Etcd, verdicts: list[bool]) -> None:
    """specs/registration.md §9: every 100 ms until it begins."""
    clock = ManualClock()
    verdicts[:] = [False, False, True]

    async def story() -> None:
        await clock.advance(0.15)
        assert etcd.keys == {}
        await clock.advance(0.1)
        await etcd.until(lambda: NAME in etcd.keys)

    await running(announcer(etcd, check=Check(Kind.TCP, "h", 1), clock=clock).run(), story)
    assert NAME not in etcd.keys


async def test_two_failures_withdraw_and_two_successes_announce_again(
    etcd: Etcd, verdicts: list[bool]
) -> None:
    clock = ManualClock()
    verdicts[:] = [True, False, False, True, True]

    async def story() -> None:
        await etcd.until(lambda: NAME in etcd.keys)
        await clock.advance(10)
        assert NAME in etcd.keys
        await clock.advance(10)
        await etcd.until(lambda: NAME not in etcd.keys)
        await clock.advance(20)
        await etcd.until(lambda: NAME in etcd.keys)

    await running(announcer(etcd, check=Check(Kind.TCP, "h", 1), clock=clock).run(), story)
    assert etcd.history == ["stands", "withdrawn", "stands", "withdrawn"]


@pytest.mark.parametrize("error", [Unavailable("down"), Denied("no right to /vulcand")])
async def test_refusals_are_tried_again(etcd: Etcd, error: StoreError) -> None:
    clock = ManualClock()
    etcd.errors = [error, error]

    async def story() -> None:
        await etcd.until(lambda: len(etcd.history) == 1)
        await clock.advance(30)
        await etcd.until(lambda: NAME in etcd.keys)

    await running(announcer(etcd, clock=clock).run(), story)


async def test_a_backend_that_stands_is_left_as_it_is(etcd: Etcd) -> None:
    etcd.keys[b"/vulcand/backends/w/backend"] = b"the operator's"
    await running(announcer(etcd).run(), lambda: etcd.until(lambda: NAME in etcd.keys))
    assert etcd.keys == {b"/vulcand/backends/w/backend": b"the operator's"}


async def test_command_ends_and_keys_go(etcd: Etcd) -> None:
    assert await supervise(("sh", "-c", "sleep 0.2; exit 7"), announcer(etcd)) == 7
    assert etcd.history == ["stands", "withdrawn"]


@pytest.mark.slow
async def there(path: Path) -> None:
    """Wait for the file by which a command says that it hears signals."""
    async with asyncio.timeout(10):
        while not path.exists():  # noqa: ASYNC110, ASYNC240  (a file of another process wakes nobody)
            await asyncio.sleep(0.005)


async def test_signal_that_ends_withdraws_first_then_is_forwarded(
    etcd: Etcd, tmp_path: Path
) -> None:
    up = tmp_path / "up"
    script = f"trap 'exit 5' TERM; : >{up}; while :; do sleep 0.05; done"
    task = asyncio.create_task(supervise(("sh", "-c", script), announcer(etcd)))
    await etcd.until(lambda: NAME in etcd.keys)
    await there(up)
    os.kill(os.getpid(), signal.SIGTERM)
    await etcd.until(lambda: NAME not in etcd.keys)
    assert not task.done()
    assert await task == 5


async def test_other_signals_are_forwarded_and_end_nothing(etcd: Etcd, tmp_path: Path) -> None:
    up = tmp_path / "up"
    argv = ("sh", "-c", f"trap 'exit 9' USR1; : >{up}; while :; do sleep 0.05; done")
    task = asyncio.create_task(supervise(argv, announcer(etcd)))
    await etcd.until(lambda: NAME in etcd.keys)
    await there(up)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert await task == 9


async def test_command_runs_though_etcd_is_away(etcd: Etcd) -> None:
    etcd.errors = [Unavailable("down")] * 100
    assert await supervise(("sh", "-c", "sleep 0.1; exit 3"), announcer(etcd)) == 3
    assert etcd.keys == {}


async def test_command_that_is_absent_starts_nothing(etcd: Etcd) -> None:
    with pytest.raises(FileNotFoundError):
        await supervise(("/no/such/program",), announcer(etcd))
    assert etcd.history == []


def test_exit_status_of_a_signal_is_a_shells() -> None:
    assert exit_status(-9) == 137
    assert exit_status(3) == 3
