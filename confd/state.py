# SPDX-License-Identifier: Apache-2.0
"""What the reconciler compares: files as they should be and as they are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from confd.records import TemplateResource


@dataclass(frozen=True, slots=True)
class File:
    """A destination as it should be, or as it is."""

    content: bytes
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A resource's destination as it should be; `mode` None keeps the present file's."""

    resource: TemplateResource
    content: bytes
    mode: int | None
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A resource that cannot be rendered now; its destination is left alone."""

    resource: TemplateResource
    reason: str


@dataclass(frozen=True, slots=True)
class Present:
    """A resource's destination as it is.

    Attributes:
        file: None where nothing stands.
        reload_due: the file was replaced and its reload has not succeeded since.
    """

    file: File | None
    reload_due: bool = False


Item = Wanted | Broken | Present
State = Mapping[str, Item]
"""Resource file → what should be (Wanted, Broken) or is (Present)."""
