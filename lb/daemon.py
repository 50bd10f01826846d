# SPDX-License-Identifier: Apache-2.0
"""The wiring, in the order the data flows.

::

    etcd ─► mirrors ─► records ─► catalog ─► desired ─┐
                                     │                ├─► plan ─► apply ─► plane ◄─ clients
                                     │      observe ──┘                      │
                                     └─► judge, api ◄────────────────────────┘
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from functools import partial
from pathlib import Path

from fairlead.errors import ConfigError, ConfigErrors
from fairlead.etcd.mirror import Changes
from fairlead.reconcile import Guard, Loop, one_by_one
from fairlead.records import Records
from fairlead.runtime import Runtime
from lb import (
    apiserver,
    apply,
    desired,
    handover,
    keys,
    observe,
    plan,
    records,
    server,
    statsd,
)
from lb.acme import issuer as issuing
from lb.acme.issuer import Issuer
from lb.api import Api
from lb.catalog import Catalog
from lb.certificates import Certificates
from lb.config import Config
from lb.judge import Judge, state
from lb.keys import Kind
from lb.metrics import Counts
from lb.middleware import Chain, access
from lb.plan import Action
from lb.plane import Limits, Plane
from lb.probe import Prober
from lb.records import Stored, split_address
from lb.secret import Box
from lb.state import Traffic
from lb.stats import Stats


async def serve(config: Config, runtime: Runtime) -> None:
    """Run until cancelled."""
    limits = Limits(config.max_header_bytes + 4096, config.read_timeout, config.write_timeout)
    plane = Plane(limits, runtime.clock)
    plane.inherited = handover.inherited(os.environ)
    decoded: Records[Stored] = Records(lambda kv: records.decode(kv, config.roots))
    catalog = Catalog(config.roots, decoded.good, decoded.rejected)
    box = Box(config.seal_key) if config.seal_key else None
    defaults = desired.Defaults(
        config.endpoint_read_timeout,
        config.dial_timeout,
        config.trust_forward,
        config.listen,
        box,
        config.aliases,
        config.access_log,
    )
    for warning in config.warnings:
        runtime.log.warning("configuration", warning=warning)
    judge = Judge(runtime, catalog, box)
    certificates = Certificates(runtime.clock, judge.certificate)
    plane.contexts = certificates
    stats = Stats(runtime.clock.monotonic)
    plane.on_samples = stats.take
    loop: Loop[Traffic, Action] = Loop(
        name="traffic",
        desired=partial(desired.traffic, catalog, defaults),
        observe=partial(observe.traffic, plane, certificates),
        plan=plan.traffic,
        apply=one_by_one(partial(apply.carry_out, plane, certificates)),
        guard=Guard(plan.removes, lambda: _standing(plane), runtime.max_removals),
    )
    # a mirror for each root: a write's revision is seen in its own root at once, in the other
    # only with the next progress report
    mirrors = {
        root: runtime.mirror(
            root.strip("/").replace("/", "-") + "-slash" * root.startswith("/"), keys.range_of(root)
        )
        for root in config.roots
    }

    issuer = Issuer(
        issuing.Links(
            runtime.store, mirrors, catalog, box, loop.caught_up, runtime.clock, runtime.log,
            config.acme_ca,
        )
    )  # fmt: skip

    def take_in(batch: Changes) -> None:
        changed = decoded.apply((change.key, change.new) for change in batch.changes)
        seen = (change.key for change in batch.changes)
        scope = catalog.update(changed, seen)
        loop.dirty.mark(scope)
        if any(ref.kind in (Kind.HOST, Kind.ACME) for ref in scope):
            issuer.wake()
        judge.soon()

    for mirror in mirrors.values():
        mirror.subscribe(take_in)
    runtime.records("vulcand", decoded)
    runtime.metrics.registry.register(Counts(plane, stats, certificates, issuer.orders))
    runtime.state("lb", partial(state, plane, catalog, box, certificates))
    runtime.reconcile(loop, *mirrors.values())
    if not runtime.planning:
        runtime.tasks.start("sweep", plane.run())
        runtime.tasks.start("probe", Prober(plane).run())
        runtime.tasks.start("ocsp", certificates.run())
        if config.statsd:
            where = split_address(config.statsd)
            runtime.tasks.start("statsd", statsd.run(where, config.statsd_prefix, plane, stats))
        # before the first snapshot: whoever asks for status while etcd is down gets an answer
        calls = Api(
            runtime, mirrors, catalog, loop.caught_up, stats, box, config.access,
            lambda: [live.spec for live in plane.frontends.values()],
        )  # fmt: skip
        sock = await apiserver.listen(
            runtime, config.api, config.access, calls.app(), plane.inherited
        )
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR2, _usr2, runtime, plane, {("tcp", config.api): sock}
        )
        runtime.on_drain(partial(_drain, plane))
        if config.access_log:
            plane.stray = Chain([access.Access(access.log(config.access_log))])
            runtime.on_reload(lambda _: access.log(config.access_log).reopen())
        if config.pid_path:
            _write_pid(config.pid_path)
        await runtime.synced()
        loop.dirty.mark_all()
        await loop.caught_up()
        if sum(bool(mirror.data) for mirror in mirrors.values()) > 1:
            runtime.log.warning("both roots hold data", first=config.roots[0], then=config.roots[1])
        runtime.tasks.start("AutoCert", issuer.run())
    await runtime.ready()
    await asyncio.Event().wait()


def _write_pid(path: str) -> None:
    try:
        Path(path).write_text(f"{os.getpid()}\n")
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise ConfigErrors((ConfigError("-pidPath", path, "start", reason),)) from error


def _standing(plane: Plane) -> int:
    return len(plane.frontends) + len(plane.pools) + len(plane.listeners)


def _usr2(runtime: Runtime, plane: Plane, api_socket: dict[tuple[str, str], socket.socket]) -> None:
    try:
        child = handover.start(plane, api_socket, os.environ)
    except OSError as error:
        runtime.log.error("SIGUSR2: no copy could be started", error=str(error))  # noqa: TRY400
        return
    _children.append(child)
    runtime.log.info("SIGUSR2: a copy takes over the sockets", pid=child.pid)


_children: list[subprocess.Popen[bytes]] = []  # they outlive us; nobody waits for them


async def _drain(plane: Plane) -> None:
    """Stop accepting; return when the last request is answered."""
    plane.draining = True
    for name in tuple(plane.listeners):
        server.close(plane, plane.listeners.pop(name))
    while plane.clients():
        await asyncio.sleep(0.02)
        plane.sweep()
