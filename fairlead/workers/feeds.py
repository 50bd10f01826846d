# SPDX-License-Identifier: Apache-2.0
"""A mirror told to workers, and the same view in a worker.

::

    Mirror ─ Changes ─► Feed ─ parts ─► link ═══ link ─► Relayed ─ Changes ─► subscribers
                         └─ all that is held, to a worker that starts

A worker keeps no copy of the values: it decodes them as they come, into records of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from fairlead.etcd.mirror import Mirror
from fairlead.etcd.types import KeyValue, Revision
from fairlead.etcd.view import Change, Changes
from fairlead.workers.link import Link
from fairlead.workers.messages import Part, parts, whole

_NOTHING: Final[Mapping[bytes, KeyValue]] = MappingProxyType({})


class Feed:
    """Sends what one mirror holds, and each change of it, to the links that were added."""

    def __init__(self, name: str, mirror: Mirror) -> None:
        self.name = name
        self.sent = Revision(0)
        self._mirror = mirror
        self._links: set[Link] = set()
        self._started = False
        mirror.subscribe(self._batch)

    def add(self, link: Link) -> None:
        """Feed one more worker, from all that is held now."""
        self._links.add(link)
        if self._started:
            changes = tuple(Change(key, kv, None) for key, kv in self._mirror.data.items())
            self._send(link, Changes(self.sent, changes, resync=True))

    def drop(self, link: Link) -> None:
        """Feed a worker no more."""
        self._links.discard(link)

    def _batch(self, batch: Changes) -> None:
        self._started = True
        self.sent = batch.revision
        for link in self._links:
            self._send(link, batch)

    def _send(self, link: Link, batch: Changes) -> None:
        for part in parts(self.name, batch):
            link.send(part)


class Relayed:
    """A `fairlead.etcd.mirror.Source` in a worker: what the parent's mirror of that name emits.

    Attributes:
        data: empty: a worker keeps no values beside its records.
        stale_since: always None: how old the data are is the parent's to know and to tell.
    """

    def __init__(self, name: str, delivered: Callable[[], None]) -> None:
        self.name = name
        self.data = _NOTHING
        self.revision = Revision(0)
        self.stale_since: float | None = None
        self.stale_reason = ""
        self.last_sync_wall: float | None = None
        self._delivered = delivered
        self._started = asyncio.Event()
        self._parts: list[Part] = []
        self._subscribers: list[Callable[[Changes], None]] = []

    @property
    def synced(self) -> bool:
        """Say whether the first full snapshot is in."""
        return self._started.is_set()

    def subscribe(self, callback: Callable[[Changes], None]) -> None:
        """Have `callback` called with every batch, synchronously, from the first on.

        Raises:
            RuntimeError: the first batch was delivered already, and is not kept here.
        """
        if self.synced:
            raise RuntimeError(f'too late to subscribe to "{self.name}": nothing is kept here')
        self._subscribers.append(callback)

    async def ready(self) -> None:
        """Return when the first full snapshot is in and was delivered."""
        await self._started.wait()

    def take(self, part: Part) -> None:
        """Take in a part; deliver the batch with its last one."""
        self._parts.append(part)
        if not part.last:
            return
        some, self._parts = self._parts, []
        batch = whole(some)
        self.revision = batch.revision
        for callback in self._subscribers:
            callback(batch)
        self._started.set()
        self._delivered()
