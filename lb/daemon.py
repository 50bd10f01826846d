# SPDX-License-Identifier: Apache-2.0
"""The wiring: etcd ─► mirror ─► records ─► catalog ─► desired ─► plan ─► plane ◄─ clients."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from fairlead.errors import ConfigError, ConfigErrors
from fairlead.etcd.mirror import Changes
from fairlead.life import Runtime
from fairlead.reconcile import Guard, Loop, Pass, one_by_one
from fairlead.records import Records
from lb import api, apply, desired, keys, observe, plan, records, server
from lb.catalog import Catalog
from lb.config import Config
from lb.plan import Action
from lb.plane import Limits, Plane
from lb.records import Record
from lb.state import Traffic


async def serve(config: Config, runtime: Runtime) -> None:
    """Run until cancelled."""
    limits = Limits(config.max_header_bytes + 4096, config.read_timeout, config.write_timeout)
    plane = Plane(limits, runtime.clock)
    decoded: Records[Record] = Records(lambda kv: records.decode(kv, config.roots))
    catalog = Catalog(config.roots, decoded.good)
    defaults = desired.Defaults(
        config.endpoint_read_timeout, config.dial_timeout, config.trust_forward, config.listen
    )
    settled = Settled()
    judge = Judge(runtime, catalog)
    loop: Loop[Traffic, Action] = Loop(
        name="traffic",
        desired=partial(desired.traffic, catalog, defaults),
        observe=partial(observe.traffic, plane),
        plan=plan.traffic,
        apply=one_by_one(partial(apply.carry_out, plane)),
        guard=Guard(plan.removes, lambda: _standing(plane), runtime.max_removals),
        observed=settled.note,
    )
    # a mirror for each root: a write's revision is seen in its own root at once, in the other
    # only with the next progress report
    mirrors = {
        root: runtime.mirror(
            root.strip("/").replace("/", "-") + "-slash" * root.startswith("/"), keys.range_of(root)
        )
        for root in config.roots
    }

    def take_in(batch: Changes) -> None:
        changed = decoded.apply((change.key, change.new) for change in batch.changes)
        loop.dirty.mark(catalog.update(changed))
        judge.soon()

    for mirror in mirrors.values():
        mirror.subscribe(take_in)
    runtime.records("vulcand", decoded)
    runtime.metrics.registry.register(_Counts(plane))
    runtime.state("lb", partial(_state, plane, catalog))
    runtime.reconcile(loop, *mirrors.values())
    if not runtime.planning:
        runtime.tasks.start("sweep", plane.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _usr2, runtime)
        # before the first snapshot: whoever asks for status while etcd is down gets an answer
        await api.listen(
            runtime, config, api.Api(runtime, mirrors, catalog, partial(settled.after, loop), plane)
        )
        runtime.on_drain(partial(_drain, plane))
        if config.pid_path:
            _write_pid(config.pid_path)
        await settled.first()
    await runtime.ready()
    await asyncio.Event().wait()


def _write_pid(path: str) -> None:
    try:
        Path(path).write_text(f"{os.getpid()}\n")
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise ConfigErrors((ConfigError("-pidPath", path, "start", reason),)) from error


class Settled:
    """Lets the API answer when the data plane has followed."""

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self._first = asyncio.Event()

    def note(self, loop: str, done: Pass[object]) -> None:
        """Take note of a pass."""
        self._first.set()
        self._next.set()
        self._next = asyncio.Event()

    async def first(self) -> None:
        """Return after the first pass."""
        await self._first.wait()

    async def after(self, loop: Loop[Traffic, Action]) -> None:
        """Return when what is marked now was looked at, after a second at the latest."""
        if loop.dirty:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._next.wait()


def _standing(plane: Plane) -> int:
    return len(plane.frontends) + len(plane.pools) + len(plane.listeners)


class Judge:
    """Keeps the condition `objects`: what is served otherwise than its keys say.

    To look at all objects costs 10 ms at 10,000 frontends, so it is done once for the changes of
    a while, not for each.
    """

    def __init__(self, runtime: Runtime, catalog: Catalog) -> None:
        self._runtime = runtime
        self._catalog = catalog
        self._due: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """Look within a quarter of a second."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(0.25, self._look)

    def _look(self) -> None:
        self._due = None
        found = desired.problems(self._catalog)
        some = "; ".join(f"{ref}: {why}" for ref, why in sorted(found.items())[:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        self._runtime.health.set("objects", not found, some + more)
        if found:
            self._runtime.log.warning("objects are not served as written", why=some + more)


def _usr2(runtime: Runtime) -> None:
    runtime.log.error("SIGUSR2: the hand-over of sockets is not built yet; nothing was done")


async def _drain(plane: Plane) -> None:
    """Stop accepting; return when the last request is answered."""
    plane.draining = True
    for name in tuple(plane.listeners):
        server.close(plane, plane.listeners.pop(name))
    while plane.clients():
        await asyncio.sleep(0.02)
        plane.sweep()


def _state(plane: Plane, catalog: Catalog) -> object:
    return {
        "problems": {str(ref): why for ref, why in sorted(desired.problems(catalog).items())},
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
        "clients": plane.clients(),
    }


class _Counts(Collector):
    """The data plane's counters, read when somebody asks."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        plane = self._plane
        requests = CounterMetricFamily(
            "lb_requests", "Requests answered, by frontend and status.", labels=["frontend", "code"]
        )
        for name, frontend in plane.frontends.items():
            for code, count in frontend.codes.items():
                requests.add_metric([name, str(code)], count)
        sent = CounterMetricFamily(
            "lb_server_requests",
            "Requests sent to a server, tries counted.",
            labels=["backend", "server"],
        )
        active = GaugeMetricFamily(
            "lb_server_active_requests", "Requests under way.", labels=["backend", "server"]
        )
        idle = GaugeMetricFamily(
            "lb_server_idle_connections", "Connections kept.", labels=["backend", "server"]
        )
        for name, pool in plane.pools.items():
            for one in pool.servers.values():
                labels = [name, one.spec.id]
                sent.add_metric(labels, one.requests)
                active.add_metric(labels, one.active)
                idle.add_metric(labels, len(one.idle))
        unrouted = CounterMetricFamily(
            "lb_unrouted_requests", "Requests that no route matched.", plane.unrouted
        )
        refused = CounterMetricFamily(
            "lb_malformed_requests", "Requests refused as malformed.", plane.refused
        )
        clients = GaugeMetricFamily(
            "lb_client_connections", "Client connections open.", plane.clients()
        )
        return [requests, sent, active, idle, unrouted, refused, clients]
