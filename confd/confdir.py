# SPDX-License-Identifier: Apache-2.0
"""Keeps catalog, views, sources and units in step with the files of the confdir."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from confd.catalog import Catalog
from confd.config import Config
from confd.renderer import Renderer
from confd.secrets import Mask
from confd.sources import Sources
from confd.units import Units
from confd.views import Pair, Views
from fairlead.errors import ConfigError
from fairlead.log import Log

_SETTLE_MILLISECONDS: Final = 200  # the library wakes as often
_ABSENT_SECONDS: Final = 30.0


def _concerns(change: object, path: str) -> bool:
    """Say whether a changed path may be of a resource or template; others may stand beside them.

    A ConfigMap mount changes by its link `..data`.
    """
    return any(part in ("conf.d", "templates") or part[:2] == ".." for part in path.split("/"))


class Confdir:
    """What the files say now, and who is told when they change."""

    def __init__(
        self, config: Config, catalog: Catalog, views: Views, mask: Mask, log: Log
    ) -> None:
        self.config = config
        self.catalog = catalog
        self.views = views
        self.mask = mask
        self.log = log
        self.sources: Sources
        self.units: Units
        self.renderer: Renderer
        self._told: dict[str, str] = {}

    def read(self) -> bool:
        """Read what changed and say what is wrong with it, once; say whether resources did."""
        changed = self.catalog.refresh()
        self._tell()
        return changed

    def refresh(self) -> None:
        """Read what changed, and follow it: keys, units."""
        self.read()
        resources = dict(self.catalog.resources)
        new = self.views.assign(resources.values())
        try:
            self.sources.follow(resources.values())
        except ConfigError as error:  # a table [backend] that cannot be opened
            self.log.error(str(error))
        for tree in new:
            for fetch in tree.fetches:
                tree.apply(self.sources.held(fetch.source), fetch.source)
            self.mask.learn(tree.pairs())
        self.units.keep(resources)
        self.catalog.metrics.watched = self.sources.count()

    def changed(self, source: str, pairs: Sequence[Pair], first: bool) -> None:
        """Keys changed: wake who read them."""
        touched = self.views.apply(pairs, source)
        self.learn(source, pairs)
        files = self.units.members(touched)
        self.renderer.touched(files)
        if first:
            self.units.mark()  # who waited for it need not wait longer
        elif self.config.mode == "watch":
            self.units.touched(files)
        self.catalog.metrics.watched = self.sources.count()

    def learn(self, source: str, pairs: Sequence[Pair]) -> None:
        """Note the secrets among some keys."""
        label = f"{source}:" if source and not source.startswith("{") else ""
        self.mask.learn(
            (label + key.decode("utf-8", "replace"), kv.value.decode("utf-8", "replace"))
            for key, kv in pairs
            if kv is not None
        )

    def reload(self, config: Config) -> None:
        """Take new settings in, and read every file again: SIGHUP."""
        if config.defaults != self.config.defaults:
            self.catalog.set_defaults(config.defaults)
        self.config = config
        self.refresh()
        self.units.mark()

    def _tell(self) -> None:
        told: dict[str, str] = {}
        for file, reason in self.catalog.faults.items():
            told[file] = reason
            if self._told.get(file) != reason:
                kept = file in self.catalog.resources
                more = "; its last good version stays in force" if kept else ""
                self.log.error(f"Cannot load template resource {file}: {reason}{more}")
        for file, resource in self.catalog.resources.items():
            text = told[f"{file} "] = "\n".join(resource.warnings)
            if text and self._told.get(f"{file} ") != text:
                for warning in resource.warnings:
                    self.log.warning(warning, resource=file)
        trouble = told[""] = self.catalog.trouble
        if trouble and self._told.get("") != trouble:
            self.log.warning(trouble)
        self._told = told

    async def watch(self) -> None:
        """Read again at each change of a file, for ever; now and then without one."""
        from watchfiles import awatch  # 5 MiB, and -onetime does without

        while True:
            try:
                async for _ in awatch(
                    self.catalog.confdir,
                    watch_filter=_concerns,
                    step=_SETTLE_MILLISECONDS,
                    debounce=1000,
                ):
                    self.refresh()
                    self.units.mark()  # an untouched render is kept, so this costs little
            except OSError:  # it is not there (yet)
                await asyncio.sleep(_ABSENT_SECONDS)
                self.refresh()

    async def poll(self, seconds: float) -> None:
        """Read again every so often, for ever."""
        while True:
            await asyncio.sleep(seconds)
            self.refresh()
