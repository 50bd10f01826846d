# SPDX-License-Identifier: Apache-2.0
"""`-onetime`: read all keys, process every resource in order, say how it went."""

from __future__ import annotations

import asyncio

from confd.backends import BackendError
from confd.confdir import Confdir
from confd.config import Config
from confd.sources import Sources
from confd.units import Parts, in_order
from fairlead.backoff import Backoff
from fairlead.errors import ConfigError, StoreError
from fairlead.reconcile import EVERYTHING
from fairlead.runtime import Runtime


async def once(
    config: Config, runtime: Runtime, confdir: Confdir, sources: Sources, parts: Parts
) -> int:
    """Process all resources once; return the exit status."""
    catalog = confdir.catalog
    confdir.read()
    if not catalog.resources and not catalog.faults:
        return 1 if catalog.missing else 0
    if reason := await read_keys(config, runtime, confdir, sources):
        runtime.log.error(reason)
        runtime.log.fatal(reason, endpoints=",".join(runtime.endpoints))
        return 1
    failed = next(reversed(catalog.faults.values()), "")
    for unit in in_order(catalog.resources, parts):
        done = await unit.loop.once(EVERYTHING)
        wall, left = runtime.clock.wall(), bool(done.failures)
        runtime.metrics.note_pass(unit.loop.name, done, wall, left=left)
        if done.failures:
            failed = parts.applier.mask(done.failures[-1].reason)
            if config.fail_fast:
                break
    if failed:
        runtime.log.fatal(failed)  # the last one, as the original
    return 1 if failed else 0


async def read_keys(config: Config, runtime: Runtime, confdir: Confdir, sources: Sources) -> str:
    """Fill the views, in time and after a few tries; return why not, "" when it worked."""
    resources = list(confdir.catalog.resources.values())
    confdir.views.assign(resources)
    backoff = Backoff(first=config.retry[0], most=max(config.retry))
    try:
        async with asyncio.timeout(config.read_seconds):
            for attempt in range(1, config.attempts + 1):
                try:
                    for source, pairs in await sources.read(resources):
                        confdir.views.apply(pairs, source)
                        confdir.learn(source, pairs)
                except (StoreError, BackendError) as error:
                    transient = getattr(error, "transient", True)
                    if attempt == config.attempts or not transient:
                        return str(error)
                    await asyncio.sleep(backoff.next())
                except ConfigError as error:
                    return str(error)
                else:
                    return ""
    except TimeoutError:
        return "context deadline exceeded"
    return ""
