# SPDX-License-Identifier: Apache-2.0
"""The wiring: confdir and keys in, files out; once, every so often, or at each change."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from confd import pages
from confd.apply import Applier
from confd.catalog import Catalog
from confd.confdir import Confdir
from confd.config import Config
from confd.diff import unified
from confd.journal import Journal
from confd.metrics import Metrics
from confd.onetime import once
from confd.plan import Notice, Switches
from confd.renderer import Renderer
from confd.secrets import Mask
from confd.sources import Sources
from confd.units import Parts, Units
from confd.views import Views
from fairlead.runtime import Runtime, state_dir

WATCH_RESYNC: Final = 30.0  # seconds; finds files and resources changed behind our back


async def serve(config: Config, runtime: Runtime) -> int | None:
    """Run until cancelled; with `-onetime`, or when `-exec`'s command ends, return the status."""
    log = runtime.log
    backend = config.sources[""].backend
    log.info(f"Backend set to {backend.name}")
    log.info("Starting confd")
    log.info(f"Backend source(s) set to {', '.join(runtime.endpoints or backend.nodes)}")

    # files and keys in
    metrics, mask = Metrics(runtime.metrics.registry), Mask(config.secret_sources)
    catalog = Catalog(config.confdir, config.defaults, metrics=metrics)
    confdir = Confdir(config, catalog, Views(config.loose_sources), mask, log)
    sources = confdir.sources = Sources(config, runtime, metrics, confdir.changed)
    metrics.healthy = sources.healthy

    # desired ─► plan ─► apply, a loop for each resource
    following = config.mode != "onetime" or runtime.planning
    waits = (
        (lambda resource: not sources.synced(resource)) if following else (lambda resource: False)
    )
    renderer = confdir.renderer = Renderer(catalog, confdir.views, waits)
    state = (
        None
        if config.noop or runtime.planning
        else state_dir(runtime.program, runtime.values, runtime.environ)
    )
    applier = Applier(log, Journal(state, log), metrics, config.keep_stage, mask=mask)
    if config.diff:
        applier.shown = lambda notice: _show(config, mask, notice)
    resync = WATCH_RESYNC if config.mode == "watch" else config.interval
    switches = Switches(config.noop, config.sync_only)
    parts = Parts(renderer, applier, switches, resync, config.retry, runtime.max_removals)
    if not following:
        return await once(config, runtime, confdir, sources, parts)

    units = confdir.units = Units(parts, runtime, config.batch)
    confdir.refresh()
    pages.add(runtime, confdir)
    runtime.on_drain(applier.ended)
    runtime.on_drain(units.drain)
    runtime.on_reload(confdir.reload)
    if not runtime.planning:
        runtime.tasks.start("confdir", confdir.poll(min(resync, WATCH_RESYNC)))
        if config.mode == "watch":
            runtime.tasks.start("confdir files", confdir.watch())
    await sources.ready()
    await runtime.ready()
    if config.child is not None:
        return await _supervise(config, runtime, units, applier)
    await asyncio.Event().wait()
    return None


async def _supervise(config: Config, runtime: Runtime, units: Units, applier: Applier) -> int:
    """Run `-exec`'s command once every file is in place."""
    from confd.child import Supervisor, adopt_orphans, reap  # for few, and ctypes takes 3 ms

    assert config.child is not None  # noqa: S101  (for the type checker; the caller looked)
    await units.good()
    supervisor = Supervisor(config.child, runtime.log)
    applier.replaced = supervisor.changed
    runtime.on_drain(supervisor.stop)
    adopt_orphans(runtime.log)
    runtime.tasks.start("reap orphans", reap())
    return await supervisor.run()


def _show(config: Config, mask: Mask, notice: Notice) -> None:
    sys.stdout.write(unified(notice, context=config.diff_context, color=config.color, mask=mask))
    sys.stdout.flush()
