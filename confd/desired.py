# SPDX-License-Identifier: Apache-2.0
"""Resources and keys → files as they should be.

Rendering is a function of the templates and the keys; a template that reads the clock, the
environment or the name service is the one exception, as in the original.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from confd.records import TemplateResource
from confd.state import Broken, Item, State, Wanted
from confd.values import Tree
from confd.views import Views
from fairlead.gotemplate import TemplateError
from fairlead.reconcile import Scope


class Renders(Protocol):
    """Renders a resource from a tree; `Catalog` does."""

    @property
    def resources(self) -> Mapping[str, TemplateResource]:
        """Resource file → resource."""
        ...

    def render(self, resource: TemplateResource, tree: Tree) -> bytes:
        """Return the file's content, or raise TemplateError."""
        ...


def wanted_files(
    scope: Scope,
    catalog: Renders,
    views: Views,
    *,
    uid: int,
    gid: int,
    waiting: Callable[[TemplateResource], bool] = lambda resource: False,
    faults: Mapping[str, str] | None = None,
) -> State:
    """Return what should be, within a scope of resource files.

    Args:
        scope: resource files; None for all.
        catalog: resources and templates.
        views: their keys.
        uid: the daemon's, for files without an owner of their own.
        gid: likewise.
        waiting: says whether a resource's keys have not come in yet; it is left out then.
        faults: resource file → what is wrong with it; its last good version is rendered too.
    """
    files: Collection[str] = catalog.resources.keys()
    if scope is not None:
        files = [file for file in files if file in scope]
    state: dict[str, Item] = {}
    for file in files:
        resource = catalog.resources[file]
        if waiting(resource):
            continue
        try:
            content = catalog.render(resource, views.start_reads(resource))
        except TemplateError as error:
            state[file] = Broken(resource, reason_of(error))
            continue
        state[file] = Wanted(
            resource,
            content,
            resource.mode,
            uid if resource.uid is None else resource.uid,
            gid if resource.gid is None else resource.gid,
        )
    for file, reason in (faults or {}).items():
        if (scope is None or file in scope) and file not in catalog.resources:
            state[file] = Broken(TemplateResource(file, "", file), reason)
    return state


def reason_of(error: TemplateError) -> str:
    """Return what to say of an error; one without a place is said as it is."""
    return str(error) if error.line else error.reason
