# SPDX-License-Identifier: Apache-2.0
"""The wiring: confdir and keys in, files out; once, every so often, or at each change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from confd.apply import Applier
from confd.catalog import Catalog
from confd.config import Config
from confd.desired import wanted_files
from confd.keys import ranges
from confd.observe import present_files
from confd.plan import Action, Switches, plan_files
from confd.records import TemplateResource
from confd.state import State
from confd.views import Views
from confd.world import Machine
from fairlead.errors import StoreError
from fairlead.etcd.mirror import Change, Changes, Mirror
from fairlead.etcd.store import Store
from fairlead.etcd.types import KeyRange, KeyValue, Revision
from fairlead.life import Runtime
from fairlead.reconcile import EVERYTHING, Loop, Scope

WATCH_RESYNC: Final = 30.0  # seconds; finds files and resources changed behind our back
ONETIME_SECONDS: Final = 10.0  # to read the keys, failover included


class Daemon:
    """One confd process: the parts and how they hang together."""

    def __init__(self, config: Config, runtime: Runtime) -> None:
        self.config = config
        self.runtime = runtime
        self.log = runtime.log
        self.views = Views()
        self.catalog = Catalog(config.confdir, config.prefix, config.prefix_mode, Machine())
        self.applier = Applier(
            runtime.log, keep_stage=config.keep_stage, tell_failures=config.mode == "onetime"
        )
        self.mirrors: list[Mirror] = []
        self._told: dict[str, str] = {}
        self.loop: Loop[State, Action] = Loop(
            name="files",
            desired=self._desired,
            observe=self._observe,
            plan=self._plan,
            apply=self.applier.carry_out,
            resync=WATCH_RESYNC if config.mode == "watch" else config.interval,
        )

    # the four functions of the loop

    async def _observe(self, scope: Scope) -> State:
        if scope is EVERYTHING:
            self.refresh()
        return present_files(self._within(scope), self.applier.owed)

    def _desired(self, scope: Scope) -> State:
        return wanted_files(
            scope,
            self.catalog,
            self.views,
            uid=os.geteuid(),
            gid=os.getegid(),
            waiting=self._waiting,
            # a faulty file is told at start and counts in the exit status; a daemon tries again
            faults=None if self.config.mode == "onetime" else self.catalog.faults,
        )

    def _plan(self, desired: State, actual: State) -> Sequence[Action]:
        switches = Switches(self.config.noop, self.config.sync_only)
        return plan_files(desired, actual, switches)

    def _within(self, scope: Scope) -> list[TemplateResource]:
        resources = self.catalog.resources
        return [r for file, r in resources.items() if scope is None or file in scope]

    # resources and their keys

    def refresh(self) -> None:
        """Read the confdir again; say what is wrong with it, once."""
        self.catalog.refresh()
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
        new = self.views.assign(self.catalog.resources.values())
        if self.config.mode != "onetime":
            self._follow()
        for mirror in self.mirrors:
            held = [(key, kv) for key, kv in mirror.data.items()]
            for tree in new:
                tree.apply(held)

    def _follow(self) -> None:
        """Open a mirror for the keys that none covers yet."""
        wanted = ranges(key for r in self.catalog.resources.values() for key in r.keys)
        followed = [keys for mirror in self.mirrors for keys in mirror.ranges]
        missing = tuple(keys for keys in wanted if not _covered(keys, followed))
        if missing:
            number = len(self.mirrors)
            mirror = self.runtime.mirror(f"keys-{number}" if number else "keys", missing)
            self.mirrors.append(mirror)
            mirror.subscribe(self._changed)

    def _waiting(self, resource: TemplateResource) -> bool:
        """Say whether some key of a resource is in no mirror that has its first snapshot."""
        if self.config.mode == "onetime":
            return False
        followed = [keys for mirror in self.mirrors if mirror.synced for keys in mirror.ranges]
        return not all(_covered(keys, followed) for keys in ranges(resource.keys))

    def _changed(self, batch: Changes) -> None:
        touched = self.views.apply([_pair(change) for change in batch.changes])
        if self.config.mode == "watch":
            self.loop.dirty.mark(touched)
        elif batch.resync:  # a mirror's first snapshot: who waited for it need not wait longer
            waiting = {r.file for r in self.catalog.resources.values() if not r.keys}
            self.loop.dirty.mark(touched - waiting)

    # the modes

    async def once(self) -> int:
        """Process all resources once; return the exit status."""
        self.refresh()
        if not self.catalog.resources and not self.catalog.faults:
            return 1 if self.catalog.missing else 0
        wanted = ranges(key for r in self.catalog.resources.values() for key in r.keys)
        try:
            async with asyncio.timeout(ONETIME_SECONDS):
                self.views.apply(await _read(self.runtime.store, wanted))
        except TimeoutError:
            self.log.error("context deadline exceeded", endpoints=",".join(self.runtime.endpoints))
            return 1
        except StoreError as error:
            self.log.error(str(error))
            return 1
        done = await self.loop.once()
        return 1 if done.failures or self.catalog.faults else 0

    async def follow(self) -> None:
        """Keep the files in step until cancelled."""
        self.refresh()
        self.runtime.on_reload(self._reload)
        self.runtime.on_drain(self._drain)
        self.runtime.state("resources", self._state)
        self.runtime.reconcile(self.loop, *self.mirrors)
        await self.runtime.synced()
        await self.runtime.ready()
        await asyncio.Event().wait()

    async def _drain(self) -> None:
        """Let the commands under way end."""
        await self.applier.idle.wait()

    def _reload(self, config: Config) -> None:
        if (config.prefix, config.prefix_mode) != (self.catalog.prefix, self.catalog.prefix_mode):
            world = self.catalog.world
            self.catalog = Catalog(config.confdir, config.prefix, config.prefix_mode, world)
        self.loop.dirty.mark_all()

    def _state(self) -> object:
        sizes = self.views.sizes()
        return {
            file: {
                "dest": resource.dest,
                "keys": sizes.get(file, 0),
                "reload_due": file in self.applier.owed,
                "fault": self.catalog.faults.get(file, ""),
            }
            for file, resource in self.catalog.resources.items()
        } | {
            file: {"fault": reason}
            for file, reason in self.catalog.faults.items()
            if file not in self.catalog.resources
        }


def _pair(change: Change) -> tuple[bytes, KeyValue | None]:
    return change.key, change.new


def _covered(wanted: KeyRange, by: Sequence[KeyRange]) -> bool:
    """Say whether a range lies within one of others."""
    for keys in by:
        if wanted == keys:
            return True
        if keys.end and keys.start <= wanted.start:
            last = wanted.end or wanted.start + b"\0"
            if keys.end == b"\0" or (last != b"\0" and last <= keys.end):
                return True
    return False


async def _read(store: Store, wanted: Sequence[KeyRange]) -> list[tuple[bytes, KeyValue | None]]:
    """Read ranges, all at the revision of the first."""
    revision = Revision(0)
    found: list[tuple[bytes, KeyValue | None]] = []
    for keys in wanted:
        async for page in store.pages(keys, revision=revision):
            revision = revision or page.header.revision
            found += [(kv.key, kv) for kv in page.kvs]
    return found


async def serve(config: Config, runtime: Runtime) -> int | None:
    """Run until cancelled; with `-onetime` return the exit status."""
    runtime.log.info("Backend set to etcd")
    runtime.log.info("Starting confd")
    runtime.log.info(f"Backend source(s) set to {', '.join(runtime.endpoints)}")
    daemon = Daemon(config, runtime)
    if config.mode == "onetime" and not runtime.planning:
        return await daemon.once()
    await daemon.follow()
    return None
