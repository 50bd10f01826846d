# SPDX-License-Identifier: Apache-2.0
"""The wiring, in the order the data flows.

::

    etcd ─► mirrors ─► records ─► catalog ─► desired ─┐
                                     │                ├─► plan ─► apply ─► plane ◄─ clients
                                     │      observe ──┘                      │
                                     └─► judge, api ◄────────────────────────┘

With `-workers N` the right half runs in N processes as well, which get the keys from this one
(`lb.team`); the plane of this one then accepts nobody, but opens sockets and judges servers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Set
from functools import partial

from fairlead import pidfile
from fairlead.etcd.mirror import Changes, Source
from fairlead.reconcile import Guard, Loop, one_by_one
from fairlead.records import Records
from fairlead.runtime import Runtime
from fairlead.workers.figures import Figures
from fairlead.workers.parent import Workers
from fairlead.workers.worker import Worker
from lb import (
    apiserver,
    apply,
    desired,
    explain,
    handover,
    keys,
    observe,
    plan,
    reading,
    server,
    statsd,
)
from lb.acme import issuer as issuing
from lb.acme.issuer import Issuer
from lb.acme.ways import ways
from lb.api import Api
from lb.apiwriter import Writer
from lb.catalog import Catalog
from lb.certificates import Certificates
from lb.config import Config
from lb.judge import Judge, state
from lb.keys import Kind, Ref
from lb.ledger import Ledger
from lb.live import Limits
from lb.masking import Masking
from lb.metrics import Counts, figures, phases_of
from lb.middleware import Chain, access
from lb.middleware.build import Links
from lb.plan import Action
from lb.plane import Plane
from lb.probe import Prober
from lb.records import Stored, split_address
from lb.route.match import Query
from lb.route.order import ORDERS
from lb.sealing import Sealing
from lb.secret import Box
from lb.state import Traffic
from lb.stats import Stats
from lb.team import Member, Team, reachable


async def serve(config: Config, runtime: Runtime) -> None:
    """Run until cancelled."""
    if runtime.worker is not None:
        await _serve_as_worker(config, runtime, runtime.worker)
        return
    for warning in config.warnings:
        runtime.log.warning("configuration", warning=warning)
    plane = _plane(config, runtime, Links(), config.workers)
    plane.inherited = handover.inherited(os.environ)
    follower = _Follower(config, runtime, plane)
    catalog, loop, box = follower.catalog, follower.loop, follower.box
    stats = Stats(runtime.clock.monotonic)
    judge = Judge(runtime, catalog, box, stats)
    follower.certificates.on_problem = judge.certificate
    plane.on_attempts = stats.take
    mirrors = {root: runtime.mirror(_name(root), keys.range_of(root)) for root in config.roots}
    look: Callable[[], Figures] = partial(figures, plane, phases=bool(config.statsd))
    followed = loop.caught_up
    if config.workers > 1 and not runtime.planning:
        workers = runtime.workers(config.workers)
        for mirror in mirrors.values():
            workers.feed(mirror)
        team = Team(workers, plane, stats)
        follower.certificates.on_staple = team.stapled
        look = workers.figures
        followed = partial(_all_caught_up, loop, workers)
    issuer = Issuer(
        issuing.Links(
            runtime.store, mirrors, catalog, box, followed, runtime.clock, runtime.log,
            partial(_ways, catalog, config.listen), config.acme_ca,
        )
    )  # fmt: skip

    def looked_at(scope: Set[Ref]) -> None:
        if any(ref.kind in (Kind.HOST, Kind.ACME) for ref in scope):
            issuer.wake()
        judge.soon()

    follower.follow(mirrors.values(), looked_at)
    runtime.records("vulcand", follower.decoded)
    runtime.state("lb", partial(state, plane, catalog, box, follower.certificates))
    runtime.reconcile(loop, *mirrors.values())
    counts = Counts(plane, stats, look, follower.certificates, issuer.orders)
    runtime.metrics.registry.register(counts)
    if not runtime.planning:
        runtime.tasks.start("sweep", plane.run())
        runtime.tasks.start("judge", judge.run())
        runtime.tasks.start("probe", Prober(plane).run())
        runtime.tasks.start("ocsp", follower.certificates.run())
        if config.statsd:
            where = split_address(config.statsd)
            conns = partial(phases_of, look)
            runtime.tasks.start("statsd", statsd.run(where, config.statsd_prefix, conns, stats))
        # before the first snapshot: whoever asks for status while etcd is down gets an answer
        writer = Writer(runtime, mirrors, catalog, followed)
        runtime.on_drain(partial(_drain, plane, config.drain))  # after the API's
        verdict = partial(_verdict, plane, config.route_order)
        calls = Api(
            runtime, writer, catalog, stats, Sealing(box), Masking(box), config.access, verdict
        )
        sock = await apiserver.listen(
            runtime, config.api, config.access, calls.app(), plane.inherited
        )
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR2, _usr2, runtime, plane, {("tcp", config.api): sock}
        )
        _log_access(config, runtime, plane)
        if config.pid_path:
            pidfile.write(config.pid_path, "-pidPath")
        await runtime.synced()
        loop.dirty.mark_all()
        await followed()
        if runtime.team is not None:
            await runtime.team.ready()
        if sum(bool(mirror.data) for mirror in mirrors.values()) > 1:
            runtime.log.warning("both roots hold data", first=config.roots[0], then=config.roots[1])
        runtime.tasks.start("AutoCert", issuer.run())
    await runtime.ready()
    await asyncio.Event().wait()


async def _serve_as_worker(config: Config, runtime: Runtime, worker: Worker) -> None:
    """Serve what the parent feeds; the API, probes and statistics are the parent's."""
    pid, *descriptors = await worker.call("join")
    ledger = Ledger.of(pid, (descriptors[0], descriptors[1]), worker.count, worker.number)
    plane = _plane(config, runtime, Links(ledger), worker.count)
    plane.counts, plane.follows, plane.seat = ledger.counts, True, worker.number
    follower = _Follower(config, runtime, plane)
    loop = follower.loop
    loop.desired = partial(reachable, plane, loop.desired)
    feeds = [runtime.source(_name(root), keys.range_of(root)) for root in config.roots]
    follower.follow(feeds)
    runtime.reconcile(loop, *feeds, quiet=True)
    Member(
        worker, plane, follower.certificates, loop.dirty.mark, partial(server.adopt, plane),
        partial(server.close, plane),
    )  # fmt: skip
    worker.count_with(partial(figures, plane, phases=bool(config.statsd)))
    runtime.tasks.start("sweep", plane.run())
    runtime.on_drain(partial(_drain, plane, config.drain))
    _log_access(config, runtime, plane)
    await runtime.synced()
    loop.dirty.mark_all()
    await loop.caught_up()
    await runtime.ready()
    await asyncio.Event().wait()


def _plane(config: Config, runtime: Runtime, links: Links, seats: int) -> Plane:
    limits = Limits(config.max_header_bytes + 4096, config.read_timeout, config.write_timeout)
    plane = Plane(limits, runtime.clock, links, ORDERS[config.route_order])
    plane.seats = seats
    return plane


def _log_access(config: Config, runtime: Runtime, plane: Plane) -> None:
    if config.access_log:
        plane.stray = Chain([access.Access(access.log(config.access_log))])
        runtime.on_reload(lambda _: access.log(config.access_log).reopen())


def _name(root: str) -> str:
    """Return the name of a root's mirror.

    A mirror for each: a write's revision is seen in its own root at once, in the other only with
    the next progress report.
    """
    return root.strip("/").replace("/", "-") + "-slash" * root.startswith("/")


class _Follower:
    """Records, catalog and loop: the plane follows what the keys say."""

    def __init__(self, config: Config, runtime: Runtime, plane: Plane) -> None:
        self.decoded: Records[Stored] = Records(lambda kv: reading.decode(kv, config.roots))
        self.catalog = Catalog(config.roots, self.decoded.good, self.decoded.rejected)
        self.box = Box(config.seal_key) if config.seal_key else None
        self.certificates = Certificates(runtime.clock)
        plane.contexts = self.certificates
        defaults = desired.Defaults(
            config.endpoint_read_timeout,
            config.dial_timeout,
            config.trust_forward,
            config.listen,
            self.box,
            config.aliases,
            config.access_log,
            config.otlp,
            config.trace_sample,
        )
        self.loop: Loop[Traffic, Action] = Loop(
            name="traffic",
            desired=partial(desired.traffic, self.catalog, defaults),
            observe=partial(observe.traffic, plane, self.certificates),
            plan=plan.traffic,
            apply=one_by_one(partial(apply.carry_out, plane, self.certificates)),
            guard=Guard(plan.removes, lambda: _standing(plane), runtime.max_removals),
        )

    def follow(
        self, sources: Iterable[Source], then: Callable[[Set[Ref]], None] = lambda _: None
    ) -> None:
        """Take in what sources tell, from now on; before the next await."""

        def take_in(batch: Changes) -> None:
            changed = self.decoded.apply((change.key, change.new) for change in batch.changes)
            seen = (change.key for change in batch.changes)
            scope = self.catalog.update(changed, seen)
            self.loop.dirty.mark(scope)
            then(scope)

        for source in sources:
            source.subscribe(take_in)


async def _all_caught_up(loop: Loop[Traffic, Action], workers: Workers) -> None:
    await loop.caught_up()
    await workers.caught_up()


def _verdict(plane: Plane, order: str, asked: Query) -> explain.Verdict:
    return explain.explain((live.spec for live in plane.frontends.values()), asked, order)


def _ways(catalog: Catalog, built_in: str | None) -> tuple[str, ...]:
    """Return the ACME challenges to try, by the listeners that every node has."""
    listeners = [
        (one.protocol == "https", split_address(one.address)[1] if one.network == "tcp" else 0)
        for one in catalog.listeners.values()
        if not one.tls.get("ClientAuth", {}).get("Required")  # no validator has a certificate
    ]
    if built_in is not None:
        listeners.append((False, split_address(built_in)[1]))
    return ways(listeners)


def _standing(plane: Plane) -> int:
    return len(plane.frontends) + len(plane.pools) + len(plane.listeners)


def _usr2(runtime: Runtime, plane: Plane, api_socket: dict[tuple[str, str], socket.socket]) -> None:
    try:
        child = handover.start(plane, api_socket, os.environ)
    except OSError as error:
        runtime.log.error("SIGUSR2: no copy could be started", error=str(error))  # noqa: TRY400
        return
    _children.append(child)
    pidfd = os.pidfd_open(child.pid)
    asyncio.get_running_loop().add_reader(pidfd, _reap, runtime, child, pidfd)
    runtime.log.info("SIGUSR2: a copy takes over the sockets", pid=child.pid)


_children: list[subprocess.Popen[bytes]] = []  # they outlive us


def _reap(runtime: Runtime, child: subprocess.Popen[bytes], pidfd: int) -> None:
    """A copy ended (rolled back, or failed): leave no zombie (specs/vulcand.md §12.1, CHLD)."""
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)
    _children.remove(child)
    runtime.log.info("the copy ended", pid=child.pid, status=child.wait())


async def _drain(plane: Plane, limit: float) -> None:
    """Stop accepting; return when the last request is answered.

    Args:
        limit: seconds after which somebody breaks this off; 0: nobody does, and upgraded
            connections, which may never end, are not waited for.
    """
    plane.draining = True
    for name in tuple(plane.listeners):
        server.close(plane, plane.listeners.pop(name))
    while plane.clients(upgraded=bool(limit)):
        await asyncio.sleep(0.02)
        plane.sweep()
