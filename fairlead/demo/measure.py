# SPDX-License-Identifier: Apache-2.0
"""How long after an etcd event something had followed.

A figure runs from the arrival of the event at a watch of our own to the first look (every 2 ms) at
which the thing had followed: both moments by the clock of one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.demo.report import Failed
from fairlead.demo.user import until
from fairlead.errors import FairleadError, StoreError
from fairlead.etcd.store import Store
from fairlead.etcd.types import Event, KeyRange, Revision, WatchRequest

Looks = dict[str, Callable[[], Awaitable[bool]]]

FOLLOW_TIMEOUT = 10.0  # seconds after the event


@dataclass(slots=True)
class Observed:
    """All changes in etcd with the moment at which a watch of ours had them."""

    store: Store
    events: list[tuple[float, Event]] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, start: Revision) -> None:
        """Watch until cancelled; a broken watch goes on where it stood."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                request = WatchRequest(KeyRange.prefix(b""), start=start)
                async with self.store.watch(request) as watching:
                    async for answer in watching:
                        now = loop.time()
                        self.events += [(now, event) for event in answer.events]
                        start = Revision(max(start, answer.header.revision + 1))
                        self._more.set()
            except StoreError:
                await asyncio.sleep(0.1)

    async def after(
        self, begin: int, wanted: Callable[[Event], bool], what: str, timeout: float
    ) -> float:
        """Return when the first wanted event from number `begin` on arrived.

        Raises:
            Failed: none came within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while True:
                    for moment, event in self.events[begin:]:
                        if wanted(event):
                            return moment
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise Failed(f"no etcd event within {timeout:g} s: {what}") from None


def gone(key: str) -> Callable[[Event], bool]:
    """Return whether an event is the end of `key`."""
    return lambda event: event.deleted and event.kv.key == key.encode()


def put(key: str) -> Callable[[Event], bool]:
    """Return whether an event is a put of `key`."""
    return lambda event: not event.deleted and event.kv.key == key.encode()


async def followed(
    observed: Observed,
    event: str,
    wanted: Callable[[Event], bool],
    act: Callable[[], Awaitable[object]],
    looks: Looks,
    event_timeout: float,
) -> dict[str, float]:
    """Act, and return the milliseconds from the wanted etcd event until each look held.

    Raises:
        Failed: the event did not come within `event_timeout` seconds, or a look did not hold.
    """
    begin = len(observed.events)
    limit = event_timeout + FOLLOW_TIMEOUT
    seen: dict[str, asyncio.Task[float]] = {}
    moment = 0.0
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            for name, look in looks.items():
                seen[name] = tasks.create_task(until(look, f"{name} after {event}", limit))
            await act()
            moment = await observed.after(begin, wanted, event, event_timeout)
    except* (FairleadError, OSError) as group:
        failure = group
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    if failure is not None:
        raise Failed(str(failure)) from failure
    return {name: max(0.0, (task.result() - moment) * 1000) for name, task in seen.items()}


async def admin_page(socket: Path, page: str) -> str:
    """Return a page of a daemon's admin socket."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError as error:
        raise Failed(f'"{socket}": {error.strerror}') from error
    try:
        writer.write(f"GET {page} HTTP/1.0\r\nHost: admin\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise Failed(f'"{socket}" answered {head[:60]!r}')
    return body.decode()
