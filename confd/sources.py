# SPDX-License-Identifier: Apache-2.0
"""The sources of keys, by name: etcd by mirrors, every other backend by a feed.

::

    etcd ──► Mirror ─┐
    redis … ► Feed ──┴─► changed(source, pairs, first) ─► Views
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

from confd.backends import open_backend
from confd.config import Config, SourceConfig, source_config
from confd.feed import Changed, Feed, as_value
from confd.keys import ranges
from confd.metrics import Metrics
from confd.records import TemplateResource
from confd.views import Pair
from fairlead.etcd.client import connect
from fairlead.etcd.mirror import Changes, Mirror
from fairlead.etcd.store import Store
from fairlead.etcd.types import KeyRange, Range, RangeResult, Revision
from fairlead.gotemplate.values import to_bytes
from fairlead.runtime import Runtime


class Sources:
    """All sources that the resources name."""

    def __init__(
        self, config: Config, runtime: Runtime, metrics: Metrics, changed: Changed
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._metrics = metrics
        self._changed = changed
        self._mirrors: dict[str, list[Mirror]] = {}
        self._feeds: dict[str, Feed] = {}
        self._in: dict[str, TemplateResource] = {}

    def config(self, source: str) -> SourceConfig:
        """Return how to reach a source; a table `[backend]` is its own name."""
        if source in self._config.sources:
            return self._config.sources[source]
        return source_config(json.loads(source))

    def follow(self, resources: Iterable[TemplateResource]) -> None:
        """Open what the resources need and nobody follows yet."""
        for source, keys in wanted(resources).items():
            config = self.config(source)
            if config.etcd is not None:
                self._follow_etcd(source, config, keys)
            elif source in self._feeds:
                self._feeds[source].want(keys)
            else:
                feed = self._feed(source, config)
                feed.want(keys)
                self._runtime.tasks.start(f"source {source or config.backend.name}", feed.run())

    def _feed(self, source: str, config: SourceConfig) -> Feed:
        kind = config.backend.name
        backend = open_backend(config.backend)
        pause = self._config.watch_pause
        feed = Feed(source, kind, backend, self._runtime, self._metrics, self._changed, pause)
        self._feeds[source] = feed
        return feed

    def _follow_etcd(self, source: str, config: SourceConfig, keys: Sequence[str]) -> None:
        mirrors = self._mirrors.setdefault(source, [])
        followed = [keys for mirror in mirrors for keys in mirror.ranges]
        missing = tuple(keys for keys in ranges(keys) if not covered(keys, followed))
        if not missing:
            return
        number = sum(map(len, self._mirrors.values()))
        name = f"keys-{number}" if number else "keys"
        if not source:
            mirror = self._runtime.mirror(name, missing)
            self._attach(source, mirror)
        else:
            self._runtime.tasks.start(f"mirror {name}", self._other_etcd(source, config, missing))

    async def _other_etcd(
        self, source: str, config: SourceConfig, missing: tuple[KeyRange, ...]
    ) -> None:
        """Follow keys of an etcd that is not the daemon's own."""
        assert config.etcd is not None  # noqa: S101  (for the type checker; `follow` looked)
        async with connect(config.etcd, clock=self._runtime.clock) as store:
            mirror = Mirror(store, missing, name=f"source {source[:40]}")
            self._attach(source, mirror)
            await mirror.run()

    def _attach(self, source: str, mirror: Mirror) -> None:
        self._mirrors.setdefault(source, []).append(mirror)

        def changed(batch: Changes) -> None:
            self._changed(source, [(c.key, c.new) for c in batch.changes], batch.resync)

        mirror.subscribe(changed)

    async def ready(self) -> None:
        """Return when every source has given its first snapshot."""
        await self._runtime.synced()
        for feed in tuple(self._feeds.values()):
            await feed.first.wait()

    def held(self, source: str) -> list[Pair]:
        """Return all that is known of a source, for a tree that is new."""
        if source in self._feeds:
            return list(self._feeds[source].held.items())
        return [pair for mirror in self._mirrors.get(source, ()) for pair in mirror.data.items()]

    def synced(self, resource: TemplateResource) -> bool:
        """Say whether all keys of a resource have come in; once in, they stay."""
        if self._in.get(resource.file) is resource:
            return True
        if not self._all_in(resource):
            return False
        self._in[resource.file] = resource
        return True

    def _all_in(self, resource: TemplateResource) -> bool:
        for source, keys in resource.fetches.items():
            if source in self._feeds:
                feed = self._feeds[source]
                if not feed.synced or not set(keys) <= set(feed.keys):
                    return False
                continue
            mirrors = self._mirrors.get(source, ())
            followed = [part for mirror in mirrors if mirror.synced for part in mirror.ranges]
            if not all(covered(part, followed) for part in ranges(keys)):
                return False
        return True

    async def read(self, resources: Iterable[TemplateResource]) -> list[tuple[str, list[Pair]]]:
        """Read everything once, without following it.

        Raises:
            StoreError, BackendError: a source does not answer.
        """
        found: list[tuple[str, list[Pair]]] = []
        for source, keys in wanted(resources).items():
            config = self.config(source)
            if config.etcd is None:
                feed = self._feed(source, config)
                feed.keys = tuple(keys)
                try:
                    found.append((source, await feed.look()))
                finally:
                    await feed.aclose()
            elif source:
                async with connect(config.etcd) as store:
                    found.append((source, await _read(store, ranges(keys))))
            else:
                found.append((source, await _read(self._runtime.store, ranges(keys))))
        return found

    def state(self) -> dict[str, object]:
        """Return the feeds for /debug/state; mirrors show themselves."""
        return {
            source[:80] or feed.source or "default": {
                "synced": feed.synced, "keys": len(feed.held), "fault": feed.fault,
            }
            for source, feed in self._feeds.items()
        }  # fmt: skip

    def healthy(self) -> dict[str, bool]:
        """Return whether each source answers, by its name; the daemon's own by its kind's."""
        found: dict[str, bool] = {}
        for source in (*self._feeds, *self._mirrors):
            plain = bool(source) and not source.startswith("{")  # else it is a table [backend]
            name = source if plain else self.config(source).backend.name
            if source in self._feeds:
                feed = self._feeds[source]
                well = feed.synced and not feed.fault
            else:
                mirrors = self._mirrors[source]
                well = bool(mirrors) and all(m.synced and not m.stale_reason for m in mirrors)
            found[name] = found.get(name, True) and well
        return found

    def count(self) -> int:
        """Return how many keys are in view."""
        return sum(len(feed.held) for feed in self._feeds.values()) + sum(
            len(mirror.data) for mirrors in self._mirrors.values() for mirror in mirrors
        )


def wanted(resources: Iterable[TemplateResource]) -> dict[str, list[str]]:
    """Return source → keys of several resources."""
    found: dict[str, list[str]] = {}
    for resource in resources:
        for source, keys in resource.fetches.items():
            found.setdefault(source, []).extend(keys)
    return found


def covered(part: KeyRange, by: Sequence[KeyRange]) -> bool:
    """Say whether a range lies within one of others."""
    for keys in by:
        if part == keys:
            return True
        if keys.end and keys.start <= part.start:
            last = part.end or part.start + b"\0"
            if keys.end == b"\0" or (last != b"\0" and last <= keys.end):
                return True
    return False


_TOGETHER: Final = 32  # ranges in one transaction: 100 resources are not 200 round trips
_FEW: Final = 100  # keys of a range that come with it; more are read in pages


async def _read(store: Store, parts: Sequence[KeyRange]) -> list[Pair]:
    """Read ranges, all at the revision of the first."""
    revision = Revision(0)
    found: list[Pair] = []
    for at in range(0, len(parts), _TOGETHER):
        some = parts[at : at + _TOGETHER]
        asked = [Range(keys, limit=_FEW, revision=revision) for keys in some]
        answer = await store.txn(success=asked, repeatable=True)
        revision = revision or answer.header.revision
        for keys, part in zip(some, answer.responses, strict=True):
            if isinstance(part, RangeResult) and not part.more:
                found += [(kv.key, kv) for kv in part.kvs]
                continue
            async for page in store.pages(keys, revision=revision):
                found += [(kv.key, kv) for kv in page.kvs]
    return found


async def read_source(
    source: str, config: SourceConfig, keys: Sequence[str]
) -> list[tuple[bytes, bytes]]:
    """Read a source's keys once, on a connection of its own.

    Raises:
        StoreError, BackendError: it does not answer. ConfigError: it cannot be opened.
    """
    if config.etcd is not None:
        async with connect(config.etcd) as store:
            pairs = await _read(store, ranges(keys))
        return [(key, kv.value) for key, kv in pairs if kv is not None]
    backend = open_backend(config.backend)
    try:
        found = await backend.read(keys)
    finally:
        await backend.aclose()
    return [(to_bytes(name), value) for name, value in found.items()]


def as_pairs(found: Iterable[tuple[bytes, bytes]]) -> list[Pair]:
    """Return keys and values as views take them."""
    return [(key, as_value(key, value)) for key, value in found]


async def count_keys(config: Config, resource: TemplateResource) -> int:
    """Return how many keys a resource would see; errors as `read_source`."""
    number = 0
    for source, keys in resource.fetches.items():
        own = config.sources.get(source) or source_config(json.loads(source))
        number += len(await read_source(source, own, keys))
    return number
