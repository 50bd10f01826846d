# SPDX-License-Identifier: Apache-2.0
"""Tasks: a TaskGroup whose tasks may not end by themselves.

A long-lived task that returns is a fault and ends the daemon as loudly as a crash does: its
service manager starts it again, which beats half a daemon that looks alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Never, TypeVar

from fairlead.errors import FairleadError

T = TypeVar("T")


class TaskEnded(FairleadError):
    """A task that should run as long as the daemon returned."""

    def __init__(self, name: str) -> None:
        super().__init__(f'task "{name}" ended by itself')
        self.name = name


class Tasks:
    """The tasks of a daemon; leave the `async with` and they are all over."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Tasks:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._group.__aexit__(kind, error, trace)

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Never]:
        """Start a task that must not end before it is cancelled."""

        async def forever() -> Never:
            _ = await work
            raise TaskEnded(name)

        task = self._add(name, forever())
        task.add_done_callback(lambda _: work.close())  # cancelled before its first step
        return task

    def once(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that may end; when it raises, the daemon ends."""
        return self._add(name, work)

    def _add(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._group.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def names(self) -> tuple[str, ...]:
        """Return the names of the tasks that run."""
        return tuple(sorted(task.get_name() for task in self._running))

    def cancel(self) -> None:
        """Cancel all; leaving the `async with` waits for them."""
        for task in tuple(self._running):
            task.cancel()
