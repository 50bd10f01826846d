# SPDX-License-Identifier: Apache-2.0
"""A resource and its keys → files as they should be. Pure, but for what the templates ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from confd.records import TemplateResource
from confd.state import Broken, Desired, Output, Wanted
from fairlead.gotemplate import TemplateError


def wanted_files(
    resource: TemplateResource,
    render: Callable[[TemplateResource], Mapping[str, bytes]],
    *,
    uid: int,
    gid: int,
) -> Desired:
    """Return what should be.

    Args:
        resource: one resource, or a group.
        render: gives destination → content of a template; raises TemplateError.
        uid: the daemon's, for files without an owner of their own.
        gid: likewise.
    """
    outputs: dict[str, Output] = {}
    for template in resource.templates:
        try:
            made = render(template)
        except TemplateError as error:
            return Broken(resource, reason_of(error))
        if twice := made.keys() & outputs.keys():
            return Broken(resource, f'dest "{min(twice)}" stands twice')
        owner = uid if template.uid is None else template.uid
        group = gid if template.gid is None else template.gid
        for dest, content in made.items():
            outputs[dest] = Output(content, template.mode, owner, group, template.placing)
    return Wanted(resource, outputs)


def reason_of(error: TemplateError) -> str:
    """Return what to say of an error; one without a place is said as it is."""
    return str(error) if error.line else error.reason
