# SPDX-License-Identifier: Apache-2.0
"""Announce a service while its check passes and its command runs.

The command runs whether etcd answers or not: the registration follows it, never the other way
round. What etcd refuses is told and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Never, Protocol

from fairlead.backoff import Backoff
from fairlead.clock import SYSTEM, Clock
from fairlead.errors import StoreError
from fairlead.etcd.observer import Observer
from fairlead.etcd.store import Store
from fairlead.etcd.types import Compare, Put, Result, Target
from fairlead.log import Log
from fairlead.register.check import START_INTERVAL, Check, CheckError, Health, Kind, probe
from fairlead.register.keys import Service, keys, standing

FORWARDED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH")
ENDING = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
WITHDRAW_TIMEOUT = 1.5  # seconds: the revoke is given one (specs/etcd.md §8), and then some


class Told(Observer):
    """Writes to the log what the client layer tells: a lease lost or regained, etcd away or back."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def connected(self, endpoint: str) -> None:
        """Tell that etcd answers."""
        self._log.debug("etcd connected", endpoint=endpoint)

    def lost(self, endpoint: str, reason: str) -> None:
        """Tell why it does not."""
        self._log.warning("etcd away", endpoint=endpoint, reason=reason)

    def lease(self, lease: int, state: str) -> None:
        """Tell what becomes of the lease."""
        if state == "lost":
            self._log.warning("lease lost: granting another", lease=f"{lease:x}")
        elif state in ("granted", "regained"):
            self._log.info(f"registered: lease {state}", lease=f"{lease:x}")


class Lease(Protocol):
    """What keeps keys under a lease until it is cancelled: `fairlead.etcd.lease.Session`."""

    async def run(self) -> Never:
        """Grant, put, keep alive; regain what is lost; revoke when cancelled."""
        ...


@dataclass(slots=True)
class Announcer:
    """Announces while the service is well.

    Attributes:
        open_lease: returns what keeps the given keys.
        interval: seconds between checks once it began.
        timeout: seconds a check may take.
    """

    service: Service
    check: Check
    store: Store
    open_lease: Callable[[Mapping[bytes, bytes]], Lease]
    log: Log
    interval: float = 10.0
    timeout: float = 2.0
    clock: Clock = SYSTEM
    _health: Health = field(default_factory=Health)
    _task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Check and announce until cancelled; withdraws then."""
        try:
            while True:
                reason = ""
                try:
                    await probe(self.check, self.timeout)
                except CheckError as error:
                    reason = str(error)
                if self._health.feed(not reason):
                    if self._health.passing:
                        self.log.info("check passes: announced", id=self.service.id)
                        self._task = asyncio.create_task(self._announce(), name="lease")
                    else:
                        self.log.warning(
                            "check fails: withdrawn", id=self.service.id, reason=reason
                        )
                        await self.withdraw()
                if self.check.kind is Kind.NONE:
                    await asyncio.Event().wait()
                await self._pause(self.interval if self._health.began else START_INTERVAL)
        finally:
            await self.withdraw()

    async def _pause(self, seconds: float) -> None:
        """Sleep; a lease's task that ends by itself is a fault and raises."""
        sleep = asyncio.ensure_future(self.clock.sleep(seconds))
        waiting = {sleep} if self._task is None else {sleep, self._task}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
        if self._task is not None and self._task.done():
            self._task.result()

    async def _announce(self) -> Never:
        wait = Backoff(first=0.1, most=10.0)
        while True:
            try:
                for key, value in standing(self.service).items():
                    absent = Compare(key, Target.VERSION, Result.EQUAL, 0)
                    await self.store.txn((absent,), (Put(key, value),), repeatable=True)
                wait.reset()
                await self.open_lease(keys(self.service)).run()
            except StoreError as error:
                seconds = wait.next()
                self.log.warning(
                    "not registered", reason=str(error), again_in_seconds=round(seconds, 1)
                )
                await self.clock.sleep(seconds)

    async def withdraw(self) -> None:
        """Revoke the lease, if there is one."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def start_command(argv: Sequence[str]) -> Awaitable[asyncio.subprocess.Process]:
    """Start the command with our standard streams, in a process group of its own.

    The kernel ends it (SIGTERM) when we are killed: it must not run on unannounced.
    """
    parent_death = 1  # PR_SET_PDEATHSIG of prctl(2)
    libc = ctypes.CDLL(None, use_errno=True)

    def in_child() -> None:
        libc.prctl(parent_death, signal.SIGTERM)

    return asyncio.create_subprocess_exec(*argv, process_group=0, preexec_fn=in_child)


def exit_status(returncode: int) -> int:
    """Return a shell's status for how a process ended: 128 + n for signal n."""
    return 128 - returncode if returncode < 0 else returncode


async def supervise(argv: Sequence[str], announcer: Announcer, *, drain: float = 0.0) -> int:
    """Run the command and announce it; return its exit status.

    A signal that ends (SIGTERM, SIGINT, SIGQUIT) first withdraws the keys, waits `drain` seconds,
    so that callers stop coming, and is then forwarded; a second one is forwarded at once.
    """
    loop, log = asyncio.get_running_loop(), announcer.log
    process = await start_command(argv)
    announce = asyncio.create_task(announcer.run(), name="announcer")
    ending: asyncio.Task[None] | None = None

    def forward(number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    async def end(number: signal.Signals) -> None:
        announce.cancel()
        await asyncio.wait({announce}, timeout=WITHDRAW_TIMEOUT)
        await asyncio.sleep(drain)
        forward(number)

    def received(number: signal.Signals) -> None:
        nonlocal ending
        if number in ENDING and ending is None:
            log.info("ending: withdrawn first", signal=number.name)
            ending = asyncio.create_task(end(number), name="end")
        else:
            forward(number)

    for name in FORWARDED:
        loop.add_signal_handler(signal.Signals[name], received, signal.Signals[name])
    try:
        finished = asyncio.create_task(process.wait(), name="command")
        await asyncio.wait({finished, announce}, return_when=asyncio.FIRST_COMPLETED)
        if announce.done() and not announce.cancelled() and ending is None:
            log.error("announcing ended", reason=repr(announce.exception()))
            forward(signal.SIGTERM)
        status = exit_status(await finished)
        log.info("command ended", status=status)
        return status
    finally:
        for name in FORWARDED:
            loop.remove_signal_handler(signal.Signals[name])
        tasks = {task for task in (announce, ending) if task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=WITHDRAW_TIMEOUT)
