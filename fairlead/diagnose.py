# SPDX-License-Identifier: Apache-2.0
"""What a daemon can tell about itself: admin pages, and the dump at SIGUSR1."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fairlead import __version__, admin
from fairlead.errors import ActionError

if TYPE_CHECKING:
    from fairlead.runtime import Runtime

_MOST_REJECTED = 100  # in /status; /debug/state has all


def status(runtime: Runtime, most_rejected: int | None = _MOST_REJECTED) -> dict[str, Any]:
    """Return what `fairlead status` shows."""
    return {
        "program": runtime.program.name,
        "version": __version__,
        "pid": os.getpid(),
        "started": runtime.started,
        "ready": runtime.health.ready,
        "conditions": [
            {
                "name": c.name,
                "holds": c.holds,
                "since": c.since,
                "why": c.why,
                "required": c.required,
            }
            for c in runtime.health.conditions.values()
        ],
        "etcd": {"endpoints": list(runtime.endpoints), "endpoint": runtime.telemetry.endpoint},
        "mirrors": [
            {
                "name": name,
                "revision": int(mirror.revision),
                "synced": mirror.synced,
                "keys": len(mirror.data),
                "stale_seconds": round(mirror.stale_seconds(), 3),
                "last_sync": mirror.last_sync_wall,
            }
            for name, mirror in runtime.mirrors.items()
        ],
        "records": [
            {
                "name": name,
                "good": len(records.good),
                "rejected_total": len(records.rejected),
                "rejected": [
                    {"key": error.key, "revision": error.revision, "reason": error.reason}
                    for error in list(records.rejected.values())[:most_rejected]
                ],
            }
            for name, records in runtime.rejecting.items()
        ],
        "loops": [
            {
                "name": name,
                "dirty": bool(loop.dirty),
                "last": None
                if loop.last is None
                else {
                    "actions": len(loop.last.plan),
                    "failures": [str(error) for error in loop.last.failures],
                    "held": loop.last.held,
                    "seconds": round(loop.last.seconds, 6),
                },
            }
            for name, loop in runtime.loops.items()
        ],
        "workers": []
        if runtime.team is None
        else [asdict(each) for each in runtime.team.running()],
    }


async def plans(runtime: Runtime) -> dict[str, Any]:
    """Return what each loop would do now."""
    found: dict[str, Any] = {}
    for name, loop in runtime.loops.items():
        try:
            found[name] = [str(action) for action in await loop.pending()]
        except ActionError as error:
            found[name] = {"error": str(error)}
    return found


async def state(runtime: Runtime) -> dict[str, Any]:
    """Return everything: /debug/state."""
    return {
        **status(runtime, None),
        "plan": await plans(runtime),
        "state": {name: look() for name, look in runtime.states.items()},
        "tasks": list(runtime.tasks.names()),
    }


def routes(runtime: Runtime) -> Iterator[tuple[tuple[str, str], admin.Route]]:
    """Give the pages of the admin sockets."""

    def ready() -> admin.Answer:
        if runtime.health.ready:
            return admin.text(200, "ready")
        why = "; ".join(f"{c.name}: {c.why or 'no'}" for c in runtime.health.missing())
        return admin.text(503, f"not ready: {why}")

    async def exposition() -> admin.Answer:
        from fairlead.metrics import CONTENT_TYPE

        return admin.Answer(200, await runtime.metrics.exposition(), CONTENT_TYPE)

    async def debug() -> admin.Answer:
        return admin.as_json(await state(runtime))

    async def plan() -> admin.Answer:
        return admin.as_json(await plans(runtime))

    def release() -> admin.Answer:
        held = {name: loop.last.held for name, loop in runtime.loops.items() if loop.last}
        runtime.release()
        runtime.log.info("removals released", held=sum(held.values()))
        return admin.as_json({"released": held})

    yield ("GET", "/healthz"), lambda: admin.text(200, "ok")
    yield ("GET", "/readyz"), ready
    yield ("GET", "/metrics"), exposition
    yield ("GET", "/status"), lambda: admin.as_json(status(runtime))
    yield ("GET", "/debug/state"), debug
    yield ("GET", "/plan"), plan
    yield ("POST", "/release"), release


async def dump(runtime: Runtime) -> None:
    """Write state, pending plan, revision and tasks to the log: SIGUSR1."""
    log = runtime.log
    told = status(runtime, None)
    for condition in told["conditions"]:
        log.info("dump: condition", **condition)
    for mirror in told["mirrors"]:
        log.info("dump: mirror", **mirror)
    for records in told["records"]:
        for rejected in records["rejected"]:
            log.info("dump: rejected record", **rejected)
    for name, actions in (await plans(runtime)).items():
        log.info("dump: plan", loop=name, actions=len(actions))
        for action in actions:
            log.info("dump: action", loop=name, action=action)
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
        frames = task.get_stack(limit=1)
        where = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
        log.info("dump: task", task=task.get_name(), where=where)
