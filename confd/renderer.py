# SPDX-License-Identifier: Apache-2.0
"""Renders are kept until something they read changes.

Rendering is a function of the templates and the keys, so a render is kept until a key it read,
or a template, changes. A template that asks for what no event tells of (time, name service,
files) is rendered at each pass.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confd.catalog import Catalog
from confd.desired import wanted_files
from confd.include import file_mark
from confd.names import ROUNDS
from confd.records import TemplateResource
from confd.state import Desired, Waiting, Wanted
from confd.values import Reads
from confd.views import Views


@dataclass(slots=True)
class _Kept:
    resource: TemplateResource
    wanted: Wanted
    marks: tuple[object, ...]
    reads: tuple[Reads, ...]


@dataclass(slots=True)
class Renderer:
    """Renders resources, and only when something they read changed.

    Attributes:
        waiting: says whether a resource's keys have not come in yet.
    """

    catalog: Catalog
    views: Views
    waiting: Callable[[TemplateResource], bool] = lambda resource: False
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    _kept: dict[str, _Kept] = field(default_factory=dict)

    def touched(self, files: Iterable[str]) -> None:
        """Note that these resources have to be rendered again."""
        for file in files:
            self._kept.pop(file, None)

    async def prepare(self, resource: TemplateResource) -> Desired:
        """Return what should be; look-ups are made meanwhile, off the loop."""
        names = self.catalog.names
        names.age()
        desired = self.wanted(resource)
        for _ in range(ROUNDS):
            if not await names.resolve():
                break
            self.touched((resource.file,))
            desired = self.wanted(resource)
        return desired

    def wanted(self, resource: TemplateResource) -> Desired:
        """Return what should be."""
        kept = self._kept.get(resource.file)
        if kept is not None and kept.resource is resource and self._holds(kept):
            return kept.wanted
        self._kept.pop(resource.file, None)
        if self.waiting(resource):
            return Waiting(resource)
        begun = time.perf_counter()
        marks = self._marks(resource)
        reads: list[Reads] = []

        def render(template: TemplateResource) -> Mapping[str, bytes]:
            tree = self.views.start_reads(template)
            reads.append(tree.reads)
            return self.catalog.render(template, tree)

        wanted = wanted_files(resource, render, uid=self.uid, gid=self.gid)
        if isinstance(wanted, Wanted):
            self._kept[resource.file] = _Kept(resource, wanted, marks, tuple(reads))
            self.catalog.metrics.rendered(resource, time.perf_counter() - begun)
        return wanted

    def _marks(self, resource: TemplateResource) -> tuple[object, ...]:
        return tuple(file_mark(self.catalog.source_of(t)) for t in resource.templates)

    def _holds(self, kept: _Kept) -> bool:
        """Say whether a render is still good."""
        if kept.marks != self._marks(kept.resource):
            return False
        return not any(
            reads.fleeting or any(file_mark(Path(p)) != mark for p, mark in reads.files.items())
            for reads in kept.reads
        )

    def forget(self, file: str) -> None:
        """Drop the render of a resource that is gone."""
        self._kept.pop(file, None)
