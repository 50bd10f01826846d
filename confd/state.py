# SPDX-License-Identifier: Apache-2.0
"""What the reconciler compares for one resource: its files as they should be and as they are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from confd.records import PLAIN, Placing, TemplateResource


@dataclass(frozen=True, slots=True)
class File:
    """A destination as it should be, or as it is."""

    content: bytes = field(repr=False)
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Output:
    """A destination as its template makes it; `mode` None keeps the present file's."""

    content: bytes = field(repr=False)
    mode: int | None
    uid: int
    gid: int
    placing: Placing = PLAIN


@dataclass(frozen=True, slots=True)
class Wanted:
    """A resource's destinations as they should be: all of them, no other."""

    resource: TemplateResource
    outputs: Mapping[str, Output]


@dataclass(frozen=True, slots=True)
class Broken:
    """A resource that cannot be rendered now; its destinations are left alone."""

    resource: TemplateResource
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A resource whose keys have not come in yet."""

    resource: TemplateResource


@dataclass(frozen=True, slots=True)
class Present:
    """A resource's destinations as they are.

    Attributes:
        files: destination → what stands there, None for nothing; also those of `for_each`
            that an earlier pass made.
        reload_due: a file was replaced and the reload has not succeeded since.
    """

    files: Mapping[str, File | None]
    reload_due: bool = False


Desired = Wanted | Broken | Waiting
State = Desired | Present
