# SPDX-License-Identifier: Apache-2.0
"""`-workers N`, both ends: what parent and workers of the load balancer tell each other.

::

    parent                                            worker, N of them
    opens N sockets an address ─ listen, close ─────► accepts on its own
    probes, ejects, rebalances ─ verdict ───────────► whose turn it is
    asks OCSP responders       ─ staple ────────────► staples
    /v2/top, statsd, judges    ◄─ attempts ────────── what they came to
    ledger: limits             ◄═ shared memory ════► rate and connection limits

Objects come to a worker from the parent's mirrors (`Runtime.source`), and it works out itself
what follows from them, as a lone process does.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import replace
from typing import Any

from fairlead.reconcile import Scope
from fairlead.workers.parent import Workers
from fairlead.workers.worker import Worker
from lb.certificates import Certificates
from lb.keys import Kind, Ref
from lb.ledger import Ledger
from lb.live import LiveListener
from lb.ocsp import Staple
from lb.plane import Address, Plane
from lb.pool import LivePool, Run, Verdict
from lb.state import Traffic
from lb.stats import Stats
from lb.tallies import Runs, Tally
from lb.window import buckets


def heirs(states: Sequence[str]) -> dict[int, int]:
    """Return who accepts for the workers that do not serve now: the next one that does."""
    count = len(states)
    found = {}
    for number, state in enumerate(states):
        if state == "serving":
            continue
        for step in range(1, count):
            other = (number + step) % count
            if states[other] == "serving":
                found[number] = other
                break
    return found


class Team:
    """The parent's end; the plane's `Offer`."""

    def __init__(self, workers: Workers, plane: Plane, stats: Stats) -> None:
        self._workers = workers
        self._plane = plane
        self._stats = stats
        self._ledger = Ledger.make(plane.seats)
        self._offered: dict[Address, tuple[socket.socket, ...]] = {}
        self._verdicts: dict[str, list[Verdict]] = {}
        self._heirs: dict[int, int] = {}
        plane.offers = self
        plane.on_verdict = self._judged
        workers.turned = self._turned
        workers.on("join", self._join)
        workers.on("attempts", self._attempts)

    def _join(self, seat: int, _: object) -> list[Any]:
        """Tell a worker that starts where the ledger is; what its predecessor had under way is over."""
        self._ledger.counts.clear(seat)
        return [os.getpid(), *self._ledger.descriptors]

    # sockets

    def offer(self, live: LiveListener) -> None:
        """Let the workers accept on a listener's sockets."""
        place = live.spec.network, live.spec.address
        if (
            place in self._offered
        ):  # the same sockets, spoken to otherwise: they see that themselves
            return
        socks = self._offered[place] = tuple(live.socks)
        self._workers.tell(
            "listen",
            [live.spec.id, *place],
            keep=("listen", place),
            sockets=lambda _: socks,  # all to each: for one that dies another accepts
        )

    def _turned(self, number: int, state: str) -> None:
        """Say who accepts for those that do not serve, so that no client waits for a start."""
        found = heirs([each.state for each in self._workers.running()])
        if found != self._heirs:
            self._heirs = found
            self._workers.tell("heirs", found, keep="heirs")

    def withdraw(self, live: LiveListener) -> None:
        """Let the workers close them."""
        place = live.spec.network, live.spec.address
        if self._offered.pop(place, None) is not None:
            self._workers.forget(("listen", place))
            self._workers.tell("close", list(place))

    # servers

    def _judged(self, pool: LivePool) -> None:
        """Tell the workers what was found out about a pool's servers, when it has changed."""
        verdict = pool.verdict()
        if verdict == self._verdicts.get(pool.id, []):
            return
        if verdict:
            self._verdicts[pool.id] = verdict
        else:
            del self._verdicts[pool.id]
        self._workers.tell("verdict", [pool.id, verdict], keep=("verdict", pool.id))
        if not verdict:
            self._workers.forget(("verdict", pool.id))

    def stapled(self, host: str, leaf: bytes, staple: Staple | None) -> None:
        """Tell the workers what the responder said of a host's certificate."""
        body = [staple.der, staple.revoked, staple.until] if staple is not None else None
        self._workers.tell("staple", [host, leaf, body], keep=("staple", host))

    def _attempts(self, _: int, body: list[Any]) -> None:
        rows, pools = body
        for frontend, place, codes, latencies in rows:
            self._stats.add(frontend, tuple(place) if place else None, codes, latencies)
        for name, runs in pools:
            pool = self._plane.pools.get(name)
            if pool is None:
                continue
            heard = self._plane.heard.setdefault(pool, [])
            for host, port, status, count in runs:
                server = pool.servers.get((host, port))
                if server is not None:
                    heard.append((server, status, count))


class Member:
    """A worker's end.

    Args:
        listeners: called with the ids of listeners whose sockets came or went.
        adopt: called with the workers for whom this one accepts from now on.
        close: closes a listener.
    """

    def __init__(
        self,
        worker: Worker,
        plane: Plane,
        certificates: Certificates,
        listeners: Callable[[Sequence[Ref]], None],
        adopt: Callable[[Set[int]], Awaitable[None]],
        close: Callable[[LiveListener], None],
    ) -> None:
        self._worker = worker
        self._plane = plane
        self._certificates = certificates
        self._listeners = listeners
        self._close = close
        self._adopt = adopt
        self._tasks: set[asyncio.Task[None]] = set()
        plane.on_attempts = self._attempts
        worker.on("listen", self._listen)
        worker.on("close", self._closed)
        worker.on("heirs", self._heirs)
        worker.on("verdict", self._verdict)
        worker.on("staple", self._staple)

    def _listen(self, body: list[str], socks: list[socket.socket]) -> None:
        name, network, address = body
        for sock in socks:
            sock.setblocking(False)
        self._plane.inherited[network, address] = socks  # our own among them
        self._listeners([Ref(Kind.LISTENER, name)])

    def _heirs(self, body: dict[int, int], _: list[socket.socket]) -> None:
        seats = {seat for seat, heir in body.items() if heir == self._worker.number}
        task = asyncio.ensure_future(self._adopt(seats))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _closed(self, body: list[str], _: list[socket.socket]) -> None:
        network, address = body
        for sock in self._plane.inherited.pop((network, address), ()):
            sock.close()
        for name, live in tuple(self._plane.listeners.items()):
            if (live.spec.network, live.spec.address) == (network, address):
                self._close(self._plane.listeners.pop(name))
                self._listeners([Ref(Kind.LISTENER, name)])

    def _verdict(self, body: list[Any], _: list[socket.socket]) -> None:
        name, verdict = body
        self._plane.follow(name, verdict)

    def _staple(self, body: list[Any], _: list[socket.socket]) -> None:
        host, leaf, told = body
        self._certificates.take_staple(host, leaf, Staple(*told) if told is not None else None)

    def _attempts(self, tallies: Sequence[Tally], runs: Runs) -> None:
        rows = [
            [
                tally.frontend.spec.id,
                [tally.server.pool.id, tally.server.spec.id] if tally.server is not None else None,
                dict(tally.counts),
                buckets(tally.seconds),
            ]
            for tally in tallies
        ]
        self._worker.tell("attempts", [rows, [*map(_told, runs.items())]])


def _told(item: tuple[LivePool, list[Run]]) -> list[Any]:
    pool, runs = item
    return [pool.id, [[s.spec.host, s.spec.port, status, count] for s, status, count in runs]]


def reachable(plane: Plane, desired: Callable[[Scope], Traffic], scope: Scope) -> Traffic:
    """Return what should be in a worker: listeners only where the parent has given the sockets.

    Until then a listener stays as it is: at its old address, or not there.
    """
    want = desired(scope)
    listeners = {}
    for name, spec in want.listeners.items():
        live = plane.listeners.get(name)
        place = spec.network, spec.address
        if place in plane.inherited or (
            live is not None and (live.spec.network, live.spec.address) == place
        ):
            listeners[name] = spec
        elif live is not None:
            listeners[name] = live.spec
    return replace(want, listeners=listeners)
