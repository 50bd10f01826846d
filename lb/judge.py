# SPDX-License-Identifier: Apache-2.0
"""What people are told of objects and data plane: the condition `objects`, /debug/state."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Never

from fairlead.log import stamp
from fairlead.runtime import Runtime
from lb import problems
from lb.catalog import Catalog
from lb.certificates import Certificates
from lb.keys import Ref
from lb.plane import Plane
from lb.secret import Box
from lb.stats import Stats

_WHILE: Final = 0.25  # seconds of changes that are looked at together


class Judge:
    """Keeps the condition `objects`: what is served otherwise than its keys say.

    All objects are looked at once for the changes of a while, not for each, and with pauses, in
    which requests are served.
    """

    def __init__(self, runtime: Runtime, catalog: Catalog, box: Box | None, stats: Stats) -> None:
        self._stats = stats
        self._runtime = runtime
        self._catalog = catalog
        self._box = box
        self._changed = asyncio.Event()

    def soon(self) -> None:
        """Look within a quarter of a second."""
        self._changed.set()

    async def run(self) -> Never:
        """Look for ever, when something has changed."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(_WHILE)
            self._changed.clear()
            self._stats.forget(self._catalog.frontends, self._catalog.servers)
            steps = []
            for step in problems.steps(self._catalog, self._box):
                steps.append(step)
                await asyncio.sleep(0)
            self._tell(problems.joined(steps))

    def _tell(self, found: Mapping[Ref, str]) -> None:
        some = "; ".join(f"{ref}: {why}" for ref, why in sorted(found.items())[:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        self._runtime.health.set("objects", not found, some + more)
        if found:
            self._runtime.log.warning("objects are not served as written", why=some + more)

    def certificate(self, host: str, why: str) -> None:
        """Say what is wrong with a host's certificate."""
        if why:
            self._runtime.log.warning("certificate", host=host, why=why)


def state(plane: Plane, catalog: Catalog, box: Box | None, certificates: Certificates) -> object:
    """Return what /debug/state shows of us."""
    return {
        "problems": {str(ref): why for ref, why in sorted(problems.problems(catalog, box).items())},
        "listeners": {n: f"{v.spec.network} {v.spec.address}" for n, v in plane.listeners.items()},
        "frontends": {
            n: {"route": v.spec.route, "backend": v.spec.pool} for n, v in plane.frontends.items()
        },
        "backends": {
            n: {
                s.spec.id: {"address": s.spec.authority, "active": s.active, "idle": len(s.idle)}
                for s in v.servers.values()
            }
            for n, v in plane.pools.items()
        },
        "hosts": {
            host: {"names": list(names), "until": stamp(until)}
            for host, (names, until) in sorted(certificates.facts().items())
        },
        "clients": plane.clients(),
    }
