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
import os
import secrets
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Never

from fairlead import pidfile
from fairlead.etcd.types import KeyRange
from fairlead.reconcile import Guard, Loop
from fairlead.records import Records
from fairlead.workers.figures import Figures
from skydns import (
    acl,
    apply,
    desired,
    figures,
    keys,
    listening,
    names,
    observe,
    plan,
    records,
    rewrite,
    stored,
    team,
)
from skydns.ahead import Ahead
from skydns.compiled import Answers
from skydns.config import Config
from skydns.cookies import Cookies
from skydns.limit import Limiter
from skydns.live import Live
from skydns.metrics import Collected, Reloads, Together
from skydns.notify import Notifier
from skydns.overload import Overload
from skydns.querylog import QueryLog
from skydns.responder import Responder
from skydns.server import Limits
from skydns.server import Server as Sockets
from skydns.state import Served
from skydns.stored import Stored
from skydns.transfer import Transfers
from skydns.tsig import Keyring

if TYPE_CHECKING:
    from fairlead.errors import RecordError
    from fairlead.etcd.mirror import Source
    from fairlead.etcd.view import Changes
    from fairlead.runtime import Runtime

_FIRST_LIST = 3.0  # seconds; the mirror falls back to its file after 2


@dataclass(slots=True)
class _Core:
    """What follows the keys, in every process that answers."""

    source: Source
    answers: Answers
    publisher: apply.Publisher
    loop: Loop[desired.Placed, plan.Action]
    live: Live
    ahead: Ahead
    good: Callable[[], desired.Placed]


def _core(config: Config, runtime: Runtime) -> _Core:
    """Make it, and have it follow; what comes first is delivered after the next await."""
    source = runtime.source("skydns", KeyRange.prefix(keys.below(config.prefix)))
    noted = partial(_noted, runtime) if runtime.worker is None else records.tell_nobody
    services: Records[records.Service] = Records(
        partial(records.decode, config.prefix, noted=noted)
    )
    settings: Records[Stored] = Records(partial(stored.decode, config.prefix))
    if runtime.worker is None:
        runtime.records("services", services)
        runtime.records("config", settings)

    answers = Answers(Served(), config.policy, runtime.clock.monotonic)
    answers.on_fault = lambda query, fault: runtime.log.fault(
        "query not answered", fault, query=query.hex()
    )
    publisher = apply.Publisher(answers, lambda: source.revision)
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
            live.changed(int(batch.revision))

    def sign_with(given: Config) -> None:
        answers.keyring = Keyring(given.shared_keys, runtime.clock.wall)

    sign_with(config)
    ahead = Ahead(answers, live.unreadable)
    ahead.use(config.blocks)
    source.subscribe(changed)
    runtime.on_reload(sign_with)
    runtime.on_reload(live.reload)
    runtime.on_reload(lambda given: ahead.use(given.blocks))
    return _Core(source, answers, publisher, loop, live, ahead, lambda: services.good)


def _noted(runtime: Runtime, odd: RecordError) -> None:
    """Log what is odd about a key that is served all the same."""
    shown = odd.key.decode("utf-8", "backslashreplace")
    runtime.log.warning("odd record", key=shown, revision=odd.revision, reason=odd.reason)


async def serve(config: Config, runtime: Runtime) -> None:
    """Run until cancelled."""
    core = _core(config, runtime)
    if runtime.planning:
        runtime.reconcile(core.loop, core.source)
        await runtime.ready()
    member = team.Member(runtime.worker) if runtime.worker is not None else None
    parent = None
    ask = apply.of_store(runtime.store) if member is None else member.lease_times
    if config.workers > 1 and member is None:
        parent = team.Parent(config, runtime, core.publisher, ask, core.good)
    given = await member.given() if member is not None else None
    sockets = await _sockets(config, runtime, core, member, parent)
    if given is None:
        # the `config` key may name another address and other servers, so the first list is waited
        # for; not for long, for without etcd an answer of "not ready" beats none
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LIST):
                await core.source.ready()
    way = sockets.way
    way.forwarder = core.live.start(given.address if given else None)
    if config.log_every:
        local = core.live.address[0]
        way.log = QueryLog(runtime.log.info, config.log_every, config.logged, local)
    if member is not None:  # the parent answers on our sockets until we can
        core.publisher.restore(await member.held())
        await _loaded(core, runtime)
        core.answers.begin(*await member.serials())
    opened = await _opened(config, runtime, core, sockets, given, parent)
    listeners = await listening.metrics(config, runtime) if member is None else []
    try:
        # not sooner: who finds the sockets taken must not touch the file of who has them
        with pidfile.held(config.pidfile if member is None else "", "-pidfile"):
            _show(config, runtime, core, sockets, parent)
            if member is None:
                await _loaded(core, runtime)
                _say_ready(config, runtime, core, sockets)
            _start(config, runtime, core, sockets)
            runtime.tasks.start("leases", apply.follow_leases(core.publisher, ask, runtime.clock))
            if parent is not None:
                await parent.workers.ready()
            await runtime.ready()
            await _sweep(core.answers, runtime)
    finally:
        for each in opened():
            await each.aclose()
        for listener in listeners:
            await listener.aclose()
        await way.forwarder.aclose()


async def _loaded(core: _Core, runtime: Runtime) -> None:
    """Return when the index is whole; from now on it follows the keys."""
    runtime.reconcile(core.loop, core.source, quiet=runtime.worker is not None)
    await core.source.ready()
    await core.publisher.whole.wait()


async def _sockets(
    config: Config,
    runtime: Runtime,
    core: _Core,
    member: team.Member | None,
    parent: team.Parent | None,
) -> Sockets:
    """Return the server of the first address, with its part of what all processes may do."""
    joint = None
    if member is not None:
        secret, joint = await member.shared()
    elif parent is not None:
        secret, joint = parent.secret, parent.joint
    else:
        secret = config.cookie_secret or secrets.token_bytes(16)
    clock, answers = runtime.clock, core.answers
    cookies = Cookies(secret, clock.wall, minimal=config.policy.minimal_tc)
    limiter = Limiter(config.rate, config.slip, config.exempt, cookies, clock.monotonic, joint)
    sockets = Sockets(Responder(answers, limiter=limiter), Limits().shared(config.workers))
    made = Transfers(answers, config.peers, clock.monotonic)
    if parent is not None:
        parent.make_transfers(made)
    sockets.transfers = member if member is not None else made
    _decide(sockets, config)
    return sockets


async def _opened(
    config: Config,
    runtime: Runtime,
    core: _Core,
    sockets: Sockets,
    given: team.Given | None,
    parent: team.Parent | None,
) -> Callable[[], list[Sockets]]:
    """Begin to answer, here or in workers; return what gives all servers of this process."""
    opened = [sockets]
    if given is not None:
        opened += await listening.adopt(config, runtime, sockets, given.sockets)
    elif parent is not None:
        places = listening.opened(config, runtime, core.live, config.workers)
        sockets.host, sockets.port = places[0].sockets[0][0].getsockname()[:2]
        parent.hand_out(places, core.live, sockets)
    else:
        opened += await listening.start(config, runtime, sockets, core.live)

    def everywhere() -> list[Sockets]:
        standing = parent.stand_ins if parent else []
        return [*opened, *(each for some in standing for each in some)]

    def renew() -> None:
        for each in everywhere():
            each.renew()

    def reload(given: Config) -> None:
        if (log := sockets.way.log) is not None:
            log.use(given.logged)
        _decide(sockets, given)
        renew()

    core.live.renewed = renew
    runtime.on_reload(reload)
    return everywhere


def _say_ready(config: Config, runtime: Runtime, core: _Core, sockets: Sockets) -> None:
    """Write the lines that SkyDNS's users look for (specs/skydns.md §13.3)."""
    if config.quiet:
        return
    zones = ",".join(sorted(map(names.to_text, core.answers.policy.zones)))
    host = f"[{sockets.host}]" if ":" in sockets.host else sockets.host
    for protocol in sockets.protocols if config.workers == 1 else ("udp", "tcp"):
        place = f"{protocol}://{host}:{sockets.port}"
        line = f"skydns: ready for queries on {zones} for {place} [rcache {core.live.bounds.most}]"
        runtime.log.info(line)


def _show(
    config: Config,
    runtime: Runtime,
    core: _Core,
    sockets: Sockets,
    parent: team.Parent | None,
) -> None:
    """Count, and show what is counted: in a worker to the parent, else to whoever asks."""
    transfers = sockets.transfers if isinstance(sockets.transfers, Transfers) else None
    collected = Collected(
        core.answers, sockets, transfers, config.metrics.prefix, config.plugins, core.ahead
    )
    if runtime.worker is not None:
        runtime.worker.count_with(lambda: figures.flat(collected.collect()))
        return
    others = parent.workers.figures if parent else Figures
    runtime.metrics.registry.register(Together(collected, others))
    runtime.metrics.registry.register(Reloads(runtime, config.watched))
    runtime.state("skydns", partial(_state, core.answers, sockets, core.live, others))
    if config.encrypted is not None:
        runtime.certificates(config.encrypted.cert)
    if not config.quiet:
        runtime.log.info("listening", address=f"{sockets.host}:{sockets.port}")


def _start(config: Config, runtime: Runtime, core: _Core, sockets: Sockets) -> None:
    """Start what goes on beside answering."""
    tasks = runtime.tasks
    if (forwarder := sockets.way.forwarder) is not None:
        tasks.once("loops", forwarder.circles.look())
    if config.lameduck and runtime.team is None:  # else it is the workers that answer
        runtime.on_drain(partial(asyncio.sleep, config.lameduck))
    if config.blocks:
        tasks.start("files", core.ahead.run())
    if runtime.worker is not None:
        return  # the rest is the parent's
    if config.blocks:  # a CoreDNS's user reloads by this signal (specs/skydns.md §15.2)
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, os.kill, os.getpid(), signal.SIGHUP
        )
    for path, seconds in config.watched:
        tasks.start(f"watch {path}", listening.watch_file(path, seconds))
    for _, host, port in [page for page in config.pages if page[0] == "health"][:1]:
        overload = Overload(host, port, runtime.clock.monotonic)
        runtime.metrics.registry.register(overload)
        tasks.start("overload", overload.run())
    if config.peers.any_notified:
        tasks.start("notify", Notifier(core.answers, config.peers).run())


def _decide(sockets: Sockets, given: Config) -> None:
    """Have these access lists and rules in force."""
    way = sockets.way
    way.screen = acl.screen(given.acl, way.answers.counts.add, sockets.tally.decided)
    way.rewriter = rewrite.rewriter(given.rewrites)


def _state(
    answers: Answers, sockets: Sockets, live: Live, others: Callable[[], Figures]
) -> dict[str, object]:
    """Return what /debug/state shows of us; `replies` are those of all workers."""
    served, forwarder = answers.served, live.forwarder
    replies = answers.counts.totals()
    for key, number in others().counts.items():
        if key[3] == "coredns_dns_responses_total":
            rcode = next(label[6:] for label in key if label.startswith("rcode="))
            replies[rcode] += int(number)
    return {
        "address": f"{sockets.host}:{sockets.port}",
        "zones": {
            names.to_text(zone): served.serial(zone) for zone in sorted(answers.policy.zones)
        },
        "profile": answers.policy.profile.name,
        "records": len(served.index.services),
        "leases": len(served.leases),
        "kept": answers.sizes(),
        "replies": dict(replies),
        "servers": list(map(str, forwarder.upstream.servers)) if forwarder else [],
        "stub_zones": {
            names.to_text(zone): list(map(str, upstream.servers))
            for zone, upstream in (forwarder.routes.by_zone.items() if forwarder else ())
        },
        "down": list(map(str, forwarder.asking.health.down)) if forwarder else [],
    }


async def _sweep(answers: Answers, runtime: Runtime) -> Never:
    """Drop answers whose leases' remaining seconds went down."""
    while True:
        await runtime.clock.sleep(1.0)
        answers.sweep()
