# SPDX-License-Identifier: Apache-2.0
"""A backend followed by level: read whole whenever it may have changed, differences passed on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from confd.backends import Backend, BackendError
from confd.metrics import Metrics
from confd.views import Pair
from fairlead.backoff import Backoff
from fairlead.etcd.types import KeyValue, Revision
from fairlead.gotemplate.values import to_bytes
from fairlead.runtime import Runtime

Changed = Callable[[str, Sequence[Pair], bool], None]
"""Told of a source's changed keys, and whether it is the first or a new list."""

_NO_REVISION: Final = Revision(0)


def as_value(key: bytes, value: bytes) -> KeyValue:
    """Return a key and its value as views take them; revisions are etcd's own."""
    return KeyValue(key, value, _NO_REVISION, _NO_REVISION, 0)


class Feed:
    """One backend, read whole whenever it may have changed; differences are passed on."""

    def __init__(
        self, source: str, kind: str, backend: Backend, runtime: Runtime, metrics: Metrics,
        changed: Changed, pause: float,
    ) -> None:  # fmt: skip
        self.source = source
        self.synced = False
        self.first = asyncio.Event()
        self.fault = ""
        self.keys: tuple[str, ...] = ()
        self.held: dict[bytes, KeyValue] = {}
        self._kind = kind
        self._backend = backend
        self._log = runtime.log
        self._metrics = metrics
        self._changed = changed
        self._more = asyncio.Event()
        self._backoff = Backoff(first=pause, most=max(30.0, pause))

    def want(self, keys: Iterable[str]) -> None:
        """Read these keys too."""
        more = tuple(dict.fromkeys((*self.keys, *keys)))
        if more != self.keys:
            self.keys = more
            self.synced = False
            self._more.set()

    async def look(self) -> list[Pair]:
        """Read once; return what differs from before."""
        keys = self.keys
        self._metrics.reads.labels(self._kind, "read").inc()
        begun = time.perf_counter()
        try:
            found = await self._backend.read(keys)
        except BackendError:
            self._metrics.read_errors.labels(self._kind, "read").inc()
            raise
        finally:
            took = time.perf_counter() - begun
            self._metrics.read_seconds.labels(self._kind, "read").observe(took)
        now = {to_bytes(name): as_value(to_bytes(name), value) for name, value in found.items()}
        pairs: list[Pair] = [
            (key, kv)
            for key, kv in now.items()
            if key not in self.held or self.held[key].value != kv.value
        ]
        pairs += [(key, None) for key in self.held if key not in now]
        self.held = now
        self.synced = keys == self.keys
        return pairs

    async def run(self) -> None:
        """Follow the backend for ever."""
        try:
            while True:
                try:
                    first = not self.synced
                    pairs = await self.look()
                    if pairs or first:
                        self._changed(self.source, pairs, first)
                    self.first.set()
                    self._backoff.reset()
                    self.fault = ""
                    await self._wait()
                except BackendError as error:
                    self.fault = str(error)
                    self._log.error(str(error))
                    await asyncio.sleep(self._backoff.next())
        finally:
            await self._backend.aclose()

    async def _wait(self) -> None:
        """Return when the backend changed, or more keys are wanted."""
        more = asyncio.ensure_future(self._more.wait())
        changed = asyncio.ensure_future(self._backend.changed(self.keys))
        try:
            await asyncio.wait({more, changed}, return_when=asyncio.FIRST_COMPLETED)
            if changed.done():
                changed.result()
        finally:
            for task in (more, changed):
                task.cancel()
            await asyncio.gather(more, changed, return_exceptions=True)
            self._more.clear()

    async def aclose(self) -> None:
        """Give the backend back, when `run` never ran."""
        await self._backend.aclose()
