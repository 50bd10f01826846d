# SPDX-License-Identifier: Apache-2.0
"""One reconciling loop for each resource, so that none waits for another's command or fault.

::

    Views: who reads the changed keys ─► Unit.touched ─► (quiet, splay, batch) ─► its loop
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Never

from confd.apply import Applier
from confd.observe import present_files
from confd.plan import Action, Remove, Switches, plan_resource
from confd.records import TemplateResource
from confd.renderer import Renderer
from confd.state import Desired, Present, State, Waiting, Wanted
from fairlead.backoff import Backoff
from fairlead.reconcile import Guard, Loop, Pass, Scope
from fairlead.runtime import Runtime

_spread: Final = random.Random()  # noqa: S311  (spreads load; guards nothing)


_GOOD_SECONDS: Final = 0.05
_COUNT_SECONDS: Final = 60.0


class Turns:
    """Lets one render happen in each turn of the event loop, whoever else is due."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def next(self) -> None:
        """Return when it is the caller's turn."""
        async with self._lock:
            await asyncio.sleep(0)


@dataclass(slots=True)
class Parts:
    """What the units share."""

    renderer: Renderer
    applier: Applier
    switches: Switches
    resync: float
    retry: tuple[float, float]
    max_removals: float
    turns: Turns = field(default_factory=Turns)


class Unit:
    """A resource and the loop that keeps its files in step."""

    def __init__(self, resource: TemplateResource, parts: Parts) -> None:
        self.resource = resource
        self.parts = parts
        self.task: asyncio.Task[Never] | None = None
        self._desired: Desired = Waiting(resource)
        self._swept = parts.switches.noop
        self._timer: asyncio.TimerHandle | None = None
        self._first = 0.0  # when the change that waits came
        first, most = parts.retry
        guard: Guard[Action] = Guard(
            removes=lambda action: isinstance(action, Remove),
            standing=lambda: len(parts.applier.journal.entry(resource.file).made),
            share=parts.max_removals,
        )
        self.loop: Loop[State, Action] = Loop(
            name=resource.file,
            desired=lambda scope: self._desired,
            observe=self._observe,
            plan=lambda wanted, actual: plan_resource(wanted, actual, parts.switches),
            apply=parts.applier.carry_out,
            resync=parts.resync,
            guard=guard if resource.for_each else None,
            observed=self._observed,
            backoff=Backoff(first=first, most=max(first, most)),
        )

    async def _observe(self, scope: Scope) -> State:
        await self.parts.turns.next()
        self._desired = await self.parts.renderer.prepare(self.resource)
        if not isinstance(self._desired, Wanted):
            return Present({})
        entry = self.parts.applier.journal.entry(self.resource.file)
        dests = list(dict.fromkeys((*self._desired.outputs, *sorted(entry.made))))
        if not self._swept:
            self._swept = True
            self.parts.applier.sweep(dests)
        return present_files(dests, reload_due=entry.reload_due)

    def _observed(self, loop: str, done: Pass[object]) -> None:
        if isinstance(self._desired, Wanted) and not done.plan and not done.held:
            self.parts.renderer.catalog.metrics.in_sync(self.resource)

    def touched(self) -> None:
        """A key it reads changed: look again, now or when it is quiet."""
        wait = self.resource.wait
        if not wait:
            self.mark()
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is None:
            self._first = now
            splay = wait.splay * _spread.random()
            due = now + wait.quiet + splay
        else:
            due = min(
                max(self._timer.when(), now + wait.quiet), self._first + wait.most + wait.splay
            )
            self._timer.cancel()
        self._timer = loop.call_at(due, self.mark)

    def mark(self) -> None:
        """Look again now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.loop.dirty.mark((self.resource.file,))

    def later(self, seconds: float) -> None:
        """Look again after a while."""
        asyncio.get_running_loop().call_later(seconds, self.mark)

    @property
    def good(self) -> bool:
        """Say whether the files were as they should be at the last pass."""
        last = self.loop.last
        return isinstance(self._desired, Wanted) and last is not None and not last.failures

    def close(self) -> None:
        """Wake up no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Units:
    """The units of all resources."""

    def __init__(
        self,
        parts: Parts,
        runtime: Runtime,
        batch: float = 0.0,
    ) -> None:
        self.parts = parts
        self.all: dict[str, Unit] = {}
        self._runtime = runtime
        self._owner: dict[str, str] = {}  # a group's member → its file
        self._batch = batch
        self._collected: set[str] = set()
        self._flush: asyncio.TimerHandle | None = None
        parts.applier.later = self._later

    def keep(self, resources: Mapping[str, TemplateResource]) -> None:
        """Have a unit for each of these resources and for no other."""
        self._owner = {t.file: file for file, r in resources.items() for t in r.templates}
        for file in self.all.keys() - resources.keys():
            unit = self.all.pop(file)
            unit.close()
            self._runtime.forget(unit.loop.name, unit.task)
            self.parts.renderer.forget(file)
            self.parts.renderer.catalog.metrics.forget(file)
        for file, resource in resources.items():
            known = self.all.get(file)
            if known is None:
                self.all[file] = unit = Unit(resource, self.parts)
                self.parts.renderer.catalog.metrics.life(resource)
                unit.task = self._runtime.reconcile(unit.loop, quiet=True)
            elif known.resource != resource:
                known.resource = resource
                known.mark()

    def members(self, files: Iterable[str]) -> set[str]:
        """Return the resource files that these templates' files belong to."""
        return {self._owner.get(file, file) for file in files}

    def touched(self, files: Iterable[str]) -> None:
        """Keys that these resources read changed."""
        if not self._batch:
            for file in files:
                if file in self.all:
                    self.all[file].touched()
            return
        self._collected.update(files)
        if self._collected and self._flush is None:
            loop = asyncio.get_running_loop()
            self._flush = loop.call_later(self._batch, self.flush)

    def flush(self) -> None:
        """Process what the batch interval has collected."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        collected, self._collected = self._collected, set()
        units = [self.all[file] for file in collected if file in self.all]
        for unit in units:
            unit.touched()
        if units:
            self._runtime.tasks.once("count a batch", self._count(units))

    async def _count(self, units: Sequence[Unit]) -> None:
        """Note how a batch went, when every pass is made; one that hangs has not succeeded yet."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_COUNT_SECONDS):
                for unit in units:
                    await unit.loop.caught_up()
        good = sum(unit.good for unit in units)
        self.parts.renderer.catalog.metrics.batch(good, len(units) - good)

    def mark(self, files: Iterable[str] | None = None) -> None:
        """Look at resources again now; at all of them without a name."""
        for file in tuple(self.all) if files is None else files:
            if file in self.all:
                self.all[file].mark()

    async def good(self) -> None:
        """Return when the last pass of every unit left nothing undone."""
        while True:
            for unit in tuple(self.all.values()):
                await unit.loop.caught_up()
            if all(unit.good for unit in self.all.values()):
                return
            await asyncio.sleep(_GOOD_SECONDS)

    async def drain(self) -> None:
        """Process what waits in a batch, before the end."""
        if self._collected:
            self.flush()
            self.mark()
            for unit in tuple(self.all.values()):
                await unit.loop.caught_up()

    def _later(self, file: str, seconds: float) -> None:
        if file in self.all:
            self.all[file].later(seconds)


def in_order(resources: Mapping[str, TemplateResource], parts: Parts) -> Sequence[Unit]:
    """Return units that are run by hand, in the original's order: `-onetime`."""
    return [Unit(resource, parts) for resource in resources.values()]
