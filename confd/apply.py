# SPDX-License-Identifier: Apache-2.0
"""Actions → files and commands (specs/confd.md §7, §8).

A resource's actions run in order and stop at the first failure. Whatever happens, no staged
file stays behind, unless asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from confd import staging
from confd.command import CommandFailed, run_command
from confd.journal import Journal
from confd.metrics import Metrics
from confd.plan import Action, Check, Notice, Reload, Remove, Replace, Report, Stage
from confd.records import TemplateResource
from fairlead.errors import ActionError
from fairlead.gotemplate import Template, TemplateError
from fairlead.gotemplate.lex import quote
from fairlead.gotemplate.values import Strings
from fairlead.log import Log


def _as_it_is(text: str) -> str:
    return text


@dataclass(slots=True)
class Applier:
    """Carries plans out.

    Attributes:
        later: asks for another pass of a resource after some seconds.
        mask: hides secrets in what commands print.
        shown: told of each difference in noop mode.
        replaced: told of each resource whose files were replaced or removed.
        idle: no plan is being carried out.
    """

    log: Log
    journal: Journal
    metrics: Metrics
    keep_stage: bool = False
    later: Callable[[str, float], None] = lambda file, seconds: None
    mask: Callable[[str], str] = _as_it_is
    shown: Callable[[Notice], None] = lambda notice: None
    replaced: Callable[[str], Awaitable[None] | None] = lambda file: None
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    _running: int = 0
    _litter: staging.Litter = field(default_factory=staging.Litter)
    _staged: dict[str, dict[str, str]] = field(default_factory=dict)  # file → dest → staged
    _places: dict[str, tuple[str, bool]] = field(default_factory=dict)  # dest → place, fsync
    _reloaded: dict[str, float] = field(default_factory=dict)  # file → when (loop time)
    _throttled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.idle.set()

    async def carry_out(self, plan: Sequence[Action]) -> Sequence[ActionError]:
        """Carry a resource's plan out; return what was refused."""
        if not plan:
            return ()
        resource = plan[0].resource
        self._running += 1
        self.idle.clear()
        try:
            for action in plan:
                await self._one(action)
        except ActionError as error:
            self.metrics.failed(resource, type(error.action).__name__, error.reason)
            self.log.error(error.reason, resource=resource.file)
            return (error,)
        finally:
            self._unstage(resource.file)
            self._running -= 1
            if not self._running:
                self.idle.set()
        self.metrics.succeeded(resource)
        return ()

    async def _one(self, action: Action) -> None:
        match action:
            case Report():
                raise ActionError(action, action.reason)
            case Notice():
                self._tell(action.differences)
                self.log.warning(f"Noop mode enabled. {action.dest} will not be modified")
                self.shown(action)
            case Stage():
                self._tell(action.differences)
                self._stage(action)
                self.log.info(f"Target config {action.dest} out of sync")
            case Check():
                await self._check(action)
            case Replace():
                await self._replace(action)
            case Remove():
                await self._remove(action)
            case Reload():
                await self._reload(action)

    def _tell(self, differences: Sequence[str]) -> None:
        for difference in differences:
            self.log.info(difference)

    def _stage(self, action: Stage) -> None:
        placing, file = action.placing, action.resource.file
        place = os.path.realpath(action.dest) if placing.follow_symlink else action.dest
        try:
            if placing.make_directory:
                staging.make_directory(os.path.dirname(place))
            path = staging.write(
                place, action.content, action.mode, action.uid, action.gid, fsync=placing.fsync
            )
        except staging.StageError as error:
            raise ActionError(action, str(error)) from error
        self._staged.setdefault(file, {})[action.dest] = path
        self._places[action.dest] = (place, placing.fsync)

    async def _check(self, action: Check) -> None:
        resource = action.resource
        staged = self._staged[resource.file]
        # what is in sync already is checked where it stands
        places = {dest: staged.get(dest, dest) for dest in action.dests}
        paths = list(places.values())
        data = {"src": paths[0], "srcs": Strings(paths), "staged": places}
        try:
            command = Template("checkcmd", resource.check_cmd).render(data)
        except TemplateError as error:
            raise ActionError(action, f"check_cmd: {error}") from error
        try:
            await self._run("check", resource, command, resource.check_seconds)
        except CommandFailed as error:
            raise ActionError(action, f"Config check failed: {error}") from error
        self.metrics.checked(resource)

    async def _replace(self, action: Replace) -> None:
        resource = action.resource
        if resource.reload_cmd:
            self.journal.owe(resource.file)
        if resource.for_each:
            made = self.journal.entry(resource.file).made
            self.journal.made(resource.file, made.union(action.dests))
        staged = self._staged[resource.file]
        if self.keep_stage:
            for path in staged.values():
                self.log.info(f"Keeping staged file: {path}")
        places = {dest: self._places.pop(dest) for dest in action.dests}
        try:
            staging.install(
                [(staged[dest], place) for dest, (place, _) in places.items()],
                self.log,
                keep=self.keep_stage,
            )
            staging.sync({os.path.dirname(place) for place, fsync in places.values() if fsync})
        except staging.StageError as error:
            raise ActionError(action, str(error)) from error
        if not self.keep_stage:
            del self._staged[resource.file]  # renamed, every one
        for dest in action.dests:
            self.metrics.replaced(dest)
            self.log.info(f"Target config {dest} has been updated")
        await self._tell_replaced(resource)

    async def _remove(self, action: Remove) -> None:
        resource = action.resource
        if resource.reload_cmd:
            self.journal.owe(resource.file)
        try:
            staging.drop(action.dest)
        except OSError as error:
            reason = f"remove {action.dest}: {(error.strerror or '').lower()}"
            raise ActionError(action, reason) from error
        self.journal.made(resource.file, self.journal.entry(resource.file).made - {action.dest})
        self.log.info(f"Target config {action.dest} has been removed")
        await self._tell_replaced(resource)

    async def _tell_replaced(self, resource: TemplateResource) -> None:
        answer = self.replaced(resource.file)
        if answer is not None:
            await answer

    async def _reload(self, action: Reload) -> None:
        resource = action.resource
        now = asyncio.get_running_loop().time()
        last = self._reloaded.get(resource.file)
        if last is not None and now < last + resource.reload_interval:
            left = last + resource.reload_interval - now
            if resource.file not in self._throttled:  # once for each time it is put off
                self._throttled.add(resource.file)
                self.log.info(f"Reload throttled for {resource.dest} (next allowed in {left:.0f}s)")
            self.later(resource.file, left)
            return
        self._throttled.discard(resource.file)
        places = self._staged.get(resource.file, {})
        command = reload_command(resource, next(iter(places.values()), resource.dest))
        try:
            await self._run("reload", resource, command, resource.reload_seconds)
        except CommandFailed as error:
            raise ActionError(action, f"Config reload failed: {error}") from error
        self._reloaded[resource.file] = asyncio.get_running_loop().time()
        self.journal.paid(resource.file)
        self.metrics.reloaded(resource)

    async def _run(
        self, kind: str, resource: TemplateResource, command: str, seconds: float
    ) -> None:
        self.log.debug(f"Running {self.mask(command)}")
        begun = asyncio.get_running_loop().time()
        status = "0"
        try:
            output = await run_command(command, seconds)
        except CommandFailed as error:
            status = str(error).removeprefix("exit status ")
            if error.output:
                self.log.error(quote(self.mask(error.output)))
            raise
        finally:
            took = asyncio.get_running_loop().time() - begun
            self.metrics.ran(kind, resource.dest, status, took)
        if output:
            self.log.debug(quote(self.mask(output)))

    def _unstage(self, file: str) -> None:
        for path in self._staged.pop(file, {}).values():
            if self.keep_stage:
                self.log.info(f"Keeping staged file: {path}")
                continue
            try:
                staging.drop(path)
            except OSError as error:
                self.metrics.stage_errors.inc()
                self.log.warning("staged file stays behind", file=path, reason=error.strerror)

    async def ended(self) -> None:
        """Return when no command and no replacement is under way."""
        await self.idle.wait()

    def sweep(self, dests: Sequence[str]) -> None:
        """Remove the staged files that a killed predecessor left."""
        if self.keep_stage:
            return
        dests = [*dests, *(os.path.realpath(dest) for dest in dests if os.path.islink(dest))]
        ours = [path for places in self._staged.values() for path in places.values()]
        for path in self._litter.beside(dests, ours):
            with contextlib.suppress(OSError):  # told when it is in the way
                os.unlink(path)
                self.log.info("removed a staged file of a process that was killed", file=path)


_PLACE: Final = re.compile(r"\{\{\s*\.(src|dest)\s*\}\}")


def reload_command(resource: TemplateResource, staged: str) -> str:
    """Return the reload command; only `{{.src}}` and `{{.dest}}` are replaced, other braces stay."""
    places = {"src": staged, "dest": resource.dest}
    return _PLACE.sub(lambda found: places[found.group(1)], resource.reload_cmd)
