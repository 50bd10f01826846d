# SPDX-License-Identifier: Apache-2.0
"""The wiring, in the order the data flows.

::

    etcd ─► mirror ─► records ─► desired ─┐
                         │                ├─► plan ─► apply ─► index ─► answers ─► sockets
                         │      observe ──┘                      ▲
                         └─► config key ─► policy ───────────────┘
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Never

from fairlead.admin import Listener
from fairlead.etcd.types import KeyRange
from fairlead.reconcile import Guard, Loop
from fairlead.records import Records
from skydns import (
    acl,
    apply,
    desired,
    keys,
    listening,
    names,
    observe,
    plan,
    records,
    rewrite,
    stored,
)
from skydns.ahead import Ahead
from skydns.compiled import Answers
from skydns.config import Config
from skydns.cookies import Cookies
from skydns.limit import Limiter
from skydns.live import Live
from skydns.metrics import Collected
from skydns.querylog import QueryLog
from skydns.server import Server as Sockets
from skydns.state import Served
from skydns.stored import Stored
from skydns.transfer import Notifier, Transfers

if TYPE_CHECKING:
    from fairlead.etcd.view import Changes
    from fairlead.runtime import Runtime

_FIRST_LIST = 3.0  # seconds; the mirror falls back to its file after 2


async def serve(config: Config, runtime: Runtime) -> None:
    """Run until cancelled."""
    mirror = runtime.mirror("skydns", KeyRange.prefix(keys.below(config.prefix)))
    services: Records[records.Service] = Records(partial(records.decode, config.prefix))
    settings: Records[Stored] = Records(partial(stored.decode, config.prefix))
    runtime.records("services", services)
    runtime.records("config", settings)

    answers = Answers(Served(), config.policy, runtime.clock.monotonic)
    publisher = apply.Publisher(answers, lambda: mirror.revision)
    loop = Loop(
        name="answers",
        desired=partial(desired.services, services.good),
        observe=partial(observe.services, answers.served),
        plan=plan.index,
        apply=publisher.carry_out,
        resync=600.0,
        guard=Guard(
            plan.removes, lambda: len(answers.served.index.services), share=runtime.max_removals
        ),
        observed=publisher.passed,
    )
    live = Live(config, answers, settings, services, runtime)

    def changed(batch: Changes) -> None:
        values = [(change.key, change.new) for change in batch.changes]
        loop.dirty.mark(services.apply(values))
        stored_changed = settings.apply(values)
        if stored_changed or any(live.concerns(key) for key, _ in values):
            live.changed()

    ahead = Ahead(answers, live.unreadable)
    ahead.use(config.blocks)
    mirror.subscribe(changed)
    runtime.on_reload(live.reload)
    runtime.on_reload(lambda given: ahead.use(given.blocks))
    if runtime.planning:
        runtime.reconcile(loop, mirror)
        await runtime.ready()
    cookies = Cookies(config.cookie_secret or secrets.token_bytes(16), runtime.clock.wall)
    limiter = Limiter(config.rate, config.slip, config.exempt, cookies, runtime.clock.monotonic)
    sockets = Sockets(answers, None, limiter=limiter)
    # the `config` key may name another address and other servers, so the first list is waited
    # for; not for long, for without etcd an answer of "not ready" beats none
    with suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_LIST):
            await mirror.ready()
    sockets.forwarder = live.start()
    sockets.transfers = transfers = Transfers(answers, config.peers, runtime.clock.monotonic)
    if config.log_every:
        sockets.log = QueryLog(runtime.log.info, config.log_every, config.logged, live.address[0])
    sockets.screen = acl.screen(config.acl, answers.count, sockets.decided)
    sockets.rewriter = rewrite.rewriter(config.rewrites)
    others: list[Sockets | Listener] = [*await listening.start(config, runtime, sockets, live)]
    runtime.on_reload(partial(_screen, answers, (sockets, *others)))
    others += await listening.metrics(config, runtime)
    try:
        runtime.metrics.registry.register(
            Collected(answers, sockets, transfers, config.metrics.prefix, config.plugins)
        )
        runtime.state("skydns", partial(_state, answers, sockets, live))
        runtime.log.info("listening", address=f"{sockets.host}:{sockets.port}")
        runtime.reconcile(loop, mirror)
        await mirror.ready()
        await publisher.whole.wait()
        zones = ",".join(sorted(map(names.to_text, answers.policy.zones)))
        runtime.log.info(
            "skydns: ready for queries", zones=zones, address=f"{sockets.host}:{sockets.port}"
        )
        runtime.tasks.once("loops", sockets.forwarder.look_for_loops())
        if config.lameduck:
            runtime.on_drain(partial(asyncio.sleep, config.lameduck))
        for path, seconds in config.watched:
            runtime.tasks.start(f"watch {path}", listening.watch_file(path, seconds))
        if config.blocks:
            runtime.tasks.start("files", ahead.run())
        if config.peers.notified:
            runtime.tasks.start("notify", Notifier(answers, transfers).run())
        runtime.tasks.start("leases", apply.follow_leases(publisher, runtime.store, runtime.clock))
        await runtime.ready()
        await _sweep(answers, runtime)
    finally:
        for each in (sockets, *others):
            await each.aclose()
        await sockets.forwarder.aclose()


def _screen(answers: Answers, opened: Iterable[Sockets | Listener], given: Config) -> None:
    """Put other access lists and rules in force."""
    for each in opened:
        if isinstance(each, Sockets):
            screen = acl.screen(given.acl, answers.count, each.decided)
            each.use(screen, rewrite.rewriter(given.rewrites))


def _state(answers: Answers, sockets: Sockets, live: Live) -> dict[str, object]:
    """Return what /debug/state shows of us."""
    served, forwarder = answers.served, live.forwarder
    return {
        "address": f"{sockets.host}:{sockets.port}",
        "zones": {
            names.to_text(zone): served.serial(zone) for zone in sorted(answers.policy.zones)
        },
        "profile": answers.policy.profile.name,
        "records": len(served.index.services),
        "leases": len(served.leases),
        "kept": answers.sizes(),
        "replies": dict(answers.totals()),
        "servers": list(map(str, forwarder.upstream.servers)) if forwarder else [],
        "stub_zones": {
            names.to_text(zone): list(map(str, upstream.servers))
            for zone, upstream in (forwarder.routes.by_zone.items() if forwarder else ())
        },
        "down": list(map(str, forwarder.health.down)) if forwarder else [],
    }


async def _sweep(answers: Answers, runtime: Runtime) -> Never:
    """Drop answers whose leases' remaining seconds went down."""
    while True:
        await runtime.clock.sleep(1.0)
        answers.sweep()
