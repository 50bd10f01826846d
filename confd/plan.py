# SPDX-License-Identifier: Apache-2.0
"""Two states → stage, check, replace, reload, for each resource in order. Pure.

Actions of one resource depend on each other: `apply` skips the rest of a resource when one of
its actions fails. Nothing is ever removed: a resource that goes leaves its file behind, as the
original does.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field

from confd.records import TemplateResource
from confd.state import Broken, File, Present, State, Wanted


@dataclass(frozen=True, slots=True)
class Report:
    """Say that a resource cannot be rendered; always fails, so that it is tried again."""

    resource: TemplateResource
    reason: str

    def __str__(self) -> str:
        return f"render {self.resource.dest}"


@dataclass(frozen=True, slots=True)
class Notice:
    """Noop mode: say what is out of sync, change nothing."""

    resource: TemplateResource
    differences: tuple[str, ...]

    def __str__(self) -> str:
        return f"leave {self.resource.dest} out of sync"


@dataclass(frozen=True, slots=True)
class Stage:
    """Write the new content beside the destination."""

    resource: TemplateResource
    content: bytes = field(repr=False)
    mode: int
    uid: int
    gid: int
    differences: tuple[str, ...]

    def __str__(self) -> str:
        return f"stage {self.resource.dest}: {len(self.content)} bytes"


@dataclass(frozen=True, slots=True)
class Check:
    """Run the check command on the staged file."""

    resource: TemplateResource

    def __str__(self) -> str:
        return f"check {self.resource.dest}"


@dataclass(frozen=True, slots=True)
class Replace:
    """Rename the staged file to the destination."""

    resource: TemplateResource

    def __str__(self) -> str:
        return f"replace {self.resource.dest}"


@dataclass(frozen=True, slots=True)
class Reload:
    """Run the reload command."""

    resource: TemplateResource

    def __str__(self) -> str:
        return f"reload {self.resource.dest}"


Action = Report | Notice | Stage | Check | Replace | Reload
DEFAULT_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Switches:
    """`-noop` and `-sync-only`."""

    noop: bool = False
    sync_only: bool = False


def plan_files(
    desired: State, actual: State, switches: Switches = Switches()
) -> tuple[Action, ...]:
    """Return the actions that turn `actual` into `desired`; none when they agree."""
    actions: list[Action] = []
    for name in sorted(desired):
        item = desired[name]
        present = actual.get(name)
        if isinstance(item, Broken):
            actions.append(Report(item.resource, item.reason))
        elif isinstance(item, Wanted):
            now = present if isinstance(present, Present) else Present(None)
            actions.extend(_one(item, now, switches))
    return tuple(actions)


def _one(wanted: Wanted, present: Present, switches: Switches) -> list[Action]:
    resource, now = wanted.resource, present.file
    mode = wanted.mode
    if mode is None:
        mode = DEFAULT_MODE if now is None else now.mode
    file = File(wanted.content, mode, wanted.uid, wanted.gid)
    reload = [Reload(resource)] if resource.reload_cmd and not switches.sync_only else []
    if file == now:
        return [*reload] if present.reload_due and not switches.noop else []
    found = differences(file, now, resource.dest)
    if switches.noop:
        return [Notice(resource, found)]
    check = [Check(resource)] if resource.check_cmd and not switches.sync_only else []
    stage = Stage(resource, file.content, file.mode, file.uid, file.gid, found)
    return [stage, *check, Replace(resource), *reload]


def differences(wanted: File, now: File | None, dest: str) -> tuple[str, ...]:
    """Return what differs, in the original's words."""
    if now is None:
        return ()
    found: list[str] = []
    if wanted.uid != now.uid:
        found.append(f"{dest} has UID {now.uid} should be {wanted.uid}")
    if wanted.gid != now.gid:
        found.append(f"{dest} has GID {now.gid} should be {wanted.gid}")
    if wanted.mode != now.mode:
        found.append(f"{dest} has mode {_shown(now.mode)} should be {_shown(wanted.mode)}")
    if wanted.content != now.content:
        found.append(f"{dest} has md5sum {_md5(now.content)} should be {_md5(wanted.content)}")
    return tuple(found)


def _shown(mode: int) -> str:
    return stat.filemode(stat.S_IFREG | mode)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
