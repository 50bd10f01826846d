# SPDX-License-Identifier: Apache-2.0
"""What confd adds to the admin sockets: the maintained fork's pages, and its resources' state."""

from __future__ import annotations

from typing import Any

from confd.confdir import Confdir
from fairlead import admin
from fairlead.runtime import Runtime


def add(runtime: Runtime, confdir: Confdir) -> None:
    """Hang in `/health`, `/ready`, `/ready/detailed`, and the state of resources and sources."""

    def why() -> str:
        return "; ".join(f"{c.name}: {c.why or 'no'}" for c in runtime.health.missing())

    def ready() -> admin.Answer:
        if runtime.health.ready:
            return admin.text(200, "ok")
        return admin.text(503, f"backend unhealthy: {why()}")

    def detailed() -> admin.Answer:
        good = runtime.health.ready
        told = {
            "healthy": good,
            "message": "ok" if good else why(),
            "duration_ms": 0,
            "details": confdir.sources.state(),
            "checked_at": runtime.clock.wall(),
        }
        return admin.as_json(told, 200 if good else 503)

    runtime.routes["GET", "/health"] = lambda: admin.text(200, "ok")
    runtime.routes["GET", "/ready"] = ready
    runtime.routes["GET", "/ready/detailed"] = detailed
    runtime.state("resources", lambda: resources(confdir))
    runtime.state("sources", confdir.sources.state)


def resources(confdir: Confdir) -> dict[str, Any]:
    """Return each resource: where, how many keys, what succeeded how long ago, what fails."""
    catalog, sizes = confdir.catalog, confdir.views.sizes()
    owed = confdir.units.parts.applier.journal.owed()
    found: dict[str, Any] = {}
    for file, resource in catalog.resources.items():
        life = catalog.metrics.state(resource)
        fault = catalog.faults.get(file) or life.pop("fault")
        found[file] = {
            "dest": [template.dest for template in resource.templates],
            "keys": sum(sizes.get(template.file, 0) for template in resource.templates),
            "reload_due": file in owed,
            **life,
            "fault": confdir.mask(fault),
        }
    for file, reason in catalog.faults.items():
        found.setdefault(file, {"fault": reason})
    return found
