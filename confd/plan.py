# SPDX-License-Identifier: Apache-2.0
"""Two states of a resource → stage, check, replace, remove, reload. Pure.

A resource is installed whole or not at all: `apply` stops at the first action that fails.
Nothing is removed but what `for_each` made for a key that is gone: a resource that goes leaves
its file behind, as the original does.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field

from confd.records import PLAIN, Placing, TemplateResource
from confd.state import Broken, File, Output, Present, State, Wanted


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
    dest: str
    wanted: File | None
    present: File | None
    differences: tuple[str, ...]

    def __str__(self) -> str:
        return f"leave {self.dest} out of sync"


@dataclass(frozen=True, slots=True)
class Stage:
    """Write the new content beside the destination."""

    resource: TemplateResource
    dest: str
    content: bytes = field(repr=False)
    mode: int
    uid: int
    gid: int
    differences: tuple[str, ...]
    placing: Placing = PLAIN

    def __str__(self) -> str:
        return f"stage {self.dest}: {len(self.content)} bytes"


@dataclass(frozen=True, slots=True)
class Check:
    """Run the check command on what is staged.

    Attributes:
        dests: the destinations it is told of: of a group all, for a check of one file may read
            the others; of `for_each` those that are staged.
    """

    resource: TemplateResource
    dests: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"check {self.resource.dest}"


@dataclass(frozen=True, slots=True)
class Replace:
    """Rename every staged file to its destination; when one is refused, take the others back."""

    resource: TemplateResource
    dests: tuple[str, ...]

    def __str__(self) -> str:
        return f"replace {', '.join(self.dests)}"


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file that `for_each` made for a key that is gone."""

    resource: TemplateResource
    dest: str

    def __str__(self) -> str:
        return f"remove {self.dest}"


@dataclass(frozen=True, slots=True)
class Reload:
    """Run the reload command."""

    resource: TemplateResource

    def __str__(self) -> str:
        return f"reload {self.resource.dest}"


Action = Report | Notice | Stage | Check | Replace | Remove | Reload
DEFAULT_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Switches:
    """`-noop` and `-sync-only`."""

    noop: bool = False
    sync_only: bool = False


def plan_resource(
    desired: State, actual: State, switches: Switches = Switches()
) -> tuple[Action, ...]:
    """Return the actions that turn `actual` into `desired`; none when they agree."""
    if isinstance(desired, Broken):
        return (Report(desired.resource, desired.reason),)
    if not isinstance(desired, Wanted):
        return ()
    resource = desired.resource
    now = actual if isinstance(actual, Present) else Present({})
    stages = [
        Stage(resource, dest, file.content, file.mode, file.uid, file.gid, found, output.placing)
        for dest, output in desired.outputs.items()
        if (file := _file(output, now.files.get(dest))) != now.files.get(dest)
        for found in (differences(file, now.files.get(dest), dest),)
    ]
    gone = [
        Remove(resource, dest)
        for dest, file in now.files.items()
        if dest not in desired.outputs and file is not None
    ]
    if switches.noop:
        return (*(_notice(stage, now) for stage in stages), *(_farewell(g, now) for g in gone))
    actions: list[Action] = [*stages]
    if stages:
        staged = tuple(stage.dest for stage in stages)
        if resource.check_cmd and not switches.sync_only:
            each = any(template.for_each for template in resource.templates)
            actions.append(Check(resource, staged if each else tuple(desired.outputs)))
        actions.append(Replace(resource, staged))
    actions += gone
    if resource.reload_cmd and not switches.sync_only and (actions or now.reload_due):
        actions.append(Reload(resource))
    return tuple(actions)


def _file(output: Output, present: File | None) -> File:
    mode = output.mode
    if mode is None:
        mode = DEFAULT_MODE if present is None else present.mode
    return File(output.content, mode, output.uid, output.gid)


def _notice(stage: Stage, now: Present) -> Notice:
    file = File(stage.content, stage.mode, stage.uid, stage.gid)
    return Notice(stage.resource, stage.dest, file, now.files.get(stage.dest), stage.differences)


def _farewell(gone: Remove, now: Present) -> Notice:
    return Notice(gone.resource, gone.dest, None, now.files[gone.dest], ())


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
