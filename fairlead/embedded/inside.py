# SPDX-License-Identifier: Apache-2.0
"""The embedded store inside a daemon: `-etcd-embedded DIR` (specs/etcd.md §9.1).

Several daemons of one machine are given the same directory. The first that gets its lock serves the
store for all; each connects by the socket in the directory; when the one that serves goes
away, another takes the lock and serves on from the file::

    flanneld ─ lock ─► store ─► DIR/fairlead.sock ◄─ skydns (waits for the lock)
                                      ▲────────────── confd  (waits for the lock)

A takeover looks to the clients as a restart of etcd does: they resume by revision or list again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fairlead.clock import SYSTEM, Clock
from fairlead.embedded.server import Listening, serve
from fairlead.embedded.sqlite import SOCKET, DirectoryInUse, NotOurs
from fairlead.embedded.store import EmbeddedStore
from fairlead.errors import ConfigError, FairleadError

RETRY_SECONDS = 0.25  # a lock tells nobody when it is free; this costs one system call
_MOST_PATH = 100  # bytes of a socket's path: sun_path has 108

Report = Callable[[str, FairleadError | None], None]


def _silent(state: str, error: FairleadError | None) -> None:
    """Tell nobody."""


@asynccontextmanager
async def inside(
    directory: Path,
    *,
    urls: tuple[str, ...] = (),
    clock: Clock = SYSTEM,
    report: Report = _silent,
) -> AsyncIterator[tuple[str, ...]]:
    """Serve or share the store of `directory`; yields the endpoints to connect to.

    Args:
        urls: where else the one that serves listens, e.g. `http://127.0.0.1:2379`.
        report: called with "serving", "sharing", and with "failed" and the error when a takeover
            did not work (it is tried again).

    Raises:
        NotOurs: the directory holds something else.
        ConfigError: a URL is wrong or taken.
    """
    path = Path(os.path.abspath(directory))  # noqa: ASYNC240  (follows no link, reads nothing)
    if len(str(path / SOCKET).encode()) > _MOST_PATH:
        raise NotOurs(f'data directory "{path}": the path is too long for a socket in it')
    keeper = _Keeper(path, urls, clock, report)
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(keeper.run(first), name="embedded-inside")
    try:
        await first
        yield (f"unix://{path / SOCKET}",)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Keeper:
    """Waits for the lock, then serves for as long as it is let."""

    def __init__(self, path: Path, urls: tuple[str, ...], clock: Clock, report: Report) -> None:
        self._path = path
        self._listening = Listening(
            (f"unix://{path / SOCKET}", *urls), setting="-etcd-embedded-listen"
        )
        self._clock = clock
        self._report = report

    async def run(self, first: asyncio.Future[None]) -> None:
        """Go on for ever; `first` is done when somebody serves, or fails as the first try did."""
        told = ""
        while True:
            try:
                await self._serve(first)
            except DirectoryInUse as error:
                if told != "sharing":
                    self._report("sharing", error)
                told = "sharing"
                if not first.done():
                    first.set_result(None)
            except (NotOurs, ConfigError) as error:
                if not first.done():
                    first.set_exception(error)
                    return
                if told != str(error):
                    self._report("failed", error)
                told = str(error)
            await self._clock.sleep(RETRY_SECONDS)

    async def _serve(self, first: asyncio.Future[None]) -> None:
        async with (
            await EmbeddedStore.open(self._path, clock=self._clock) as store,
            serve(store, self._listening, clock=self._clock),
        ):
            self._report("serving", None)
            if not first.done():
                first.set_result(None)
            await asyncio.get_running_loop().create_future()  # until cancelled
