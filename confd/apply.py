# SPDX-License-Identifier: Apache-2.0
"""Actions → files and commands (specs/confd.md §7, §8).

A resource's actions run in order and stop at its first failure; other resources go on. The
staged file stands in the destination's directory, so that the rename is atomic; whatever
happens it does not stay behind, unless asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from confd.command import CommandFailed, run_command
from confd.plan import Action, Check, Notice, Reload, Replace, Report, Stage
from confd.records import TemplateResource
from fairlead.errors import ActionError
from fairlead.gotemplate import Template, TemplateError
from fairlead.gotemplate.lex import quote
from fairlead.log import Log

_BUSY: Final = (errno.EBUSY, errno.EXDEV)  # a bind-mounted file can only be written in place


class Applier:
    """Carries plans out.

    Attributes:
        owed: resource files whose reload has not succeeded since their file was replaced; read
            by `observe`, so that a failed reload is tried again.
    """

    def __init__(self, log: Log, *, keep_stage: bool = False, tell_failures: bool = True) -> None:
        self.log = log
        self.keep_stage = keep_stage
        self.tell_failures = tell_failures  # False: the loop's watcher does
        self.owed: set[str] = set()
        self.idle = asyncio.Event()  # no plan is being carried out
        self.idle.set()
        self._staged: dict[str, Path] = {}

    async def carry_out(self, plan: Sequence[Action]) -> Sequence[ActionError]:
        """Carry a plan out; return what was refused."""
        failures: list[ActionError] = []
        failed: set[str] = set()
        self.idle.clear()
        try:
            for action in plan:
                file = action.resource.file
                if file in failed:
                    continue
                try:
                    await self._one(action)
                except ActionError as error:
                    failed.add(file)
                    failures.append(error)
                    if self.tell_failures:
                        self.log.error(error.reason, resource=file)
                    self._unstage(file)
        finally:
            self.idle.set()
            for file in tuple(self._staged):
                self._unstage(file)
        return failures

    async def _one(self, action: Action) -> None:
        match action:
            case Report():
                raise ActionError(action, action.reason)
            case Notice():
                self._tell(action.differences)
                dest = action.resource.dest
                self.log.warning(f"Noop mode enabled. {dest} will not be modified")
            case Stage():
                self._tell(action.differences)
                self._stage(action)
                self.log.info(f"Target config {action.resource.dest} out of sync")
            case Check():
                await self._check(action)
            case Replace():
                self._replace(action)
            case Reload():
                await self._reload(action)

    def _tell(self, differences: Sequence[str]) -> None:
        for difference in differences:
            self.log.info(difference)

    def _stage(self, action: Stage) -> None:
        dest = Path(action.resource.dest)
        try:
            number, name = tempfile.mkstemp(prefix=f".{dest.name}", dir=dest.parent)
        except OSError as error:
            place = dest.parent / f".{dest.name}…"
            raise ActionError(action, f"open {place}: {error.strerror}") from error
        path = Path(name)
        self._staged[action.resource.file] = path
        try:
            with open(number, "wb") as staged:  # the descriptor mkstemp gave
                staged.write(action.content)
                if (action.uid, action.gid) != (os.geteuid(), os.getegid()):
                    os.fchown(number, action.uid, action.gid)
                os.fchmod(number, action.mode)
        except OSError as error:
            reason = f"cannot write {path}: {error.strerror}"
            raise ActionError(action, reason) from error

    async def _check(self, action: Check) -> None:
        resource = action.resource
        staged = self._staged[resource.file]
        try:
            command = Template("checkcmd", resource.check_cmd).render({"src": str(staged)})
        except TemplateError as error:
            raise ActionError(action, f"check_cmd: {error}") from error
        try:
            await self._run(command, resource.check_seconds)
        except CommandFailed as error:
            raise ActionError(action, f"Config check failed: {error}") from error

    async def _reload(self, action: Reload) -> None:
        resource = action.resource
        command = reload_command(resource, str(self._staged.get(resource.file, resource.dest)))
        try:
            await self._run(command, resource.reload_seconds)
        except CommandFailed as error:
            raise ActionError(action, f"Config reload failed: {error}") from error
        self.owed.discard(resource.file)

    async def _run(self, command: str, seconds: float) -> None:
        self.log.debug(f"Running {command}")
        try:
            output = await run_command(command, seconds)
        except CommandFailed as error:
            if error.output:
                self.log.error(quote(error.output))
            raise
        if output:
            self.log.debug(quote(output))

    def _replace(self, action: Replace) -> None:
        resource = action.resource
        dest, staged = Path(resource.dest), self._staged[resource.file]
        if self.keep_stage:
            self.log.info(f"Keeping staged file: {staged}")
        try:
            if self.keep_stage and not dest.is_dir():
                copy = staged.with_name(f"{staged.name}.new")
                shutil.copy2(staged, copy)
                status = staged.stat()
                os.chown(copy, status.st_uid, status.st_gid)
                os.rename(copy, dest)
            else:
                os.rename(staged, dest)
                del self._staged[resource.file]
        except OSError as error:
            if error.errno not in _BUSY:
                reason = f"rename {staged} {dest}: {error.strerror}"
                raise ActionError(action, reason) from error
            self.log.debug("Rename failed - target is likely a mount. Trying to write instead")
            self._write_in_place(action, staged, dest)
        if resource.reload_cmd:
            self.owed.add(resource.file)
        self.log.info(f"Target config {dest} has been updated")

    def _write_in_place(self, action: Replace, staged: Path, dest: Path) -> None:
        """Write through a mount point; mode and owner too, or it would never be in sync."""
        try:
            status = staged.stat()
            with dest.open("r+b") as file:
                file.write(staged.read_bytes())
                file.truncate()
                os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
        except OSError as error:
            raise ActionError(action, f"cannot write {dest}: {error.strerror}") from error

    def _unstage(self, file: str) -> None:
        path = self._staged.pop(file, None)
        if path is None:
            return
        if self.keep_stage:
            self.log.info(f"Keeping staged file: {path}")
            return
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


_PLACE: Final = re.compile(r"\{\{\s*\.(src|dest)\s*\}\}")


def reload_command(resource: TemplateResource, staged: str) -> str:
    """Return the reload command; only `{{.src}}` and `{{.dest}}` are replaced, other braces stay."""
    places = {"src": staged, "dest": resource.dest}
    return _PLACE.sub(lambda found: places[found.group(1)], resource.reload_cmd)
