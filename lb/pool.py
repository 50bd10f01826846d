# SPDX-License-Identifier: Apache-2.0
"""A backend's servers as they run, and whose turn it is.

::

    spec: weight, draining, backup ─┐
    probe: healthy ─────────────────┤
    outlier: left out until ────────┼─► refresh ─► robin | least | two | ring ─► pick
    rebalancer: factor ─────────────┤
    slow start: share ──────────────┘

`refresh` runs when one of these changed, never for a request. A pool whose turns depend on nothing
in the request is `plain`: its pick is one index step (`robin`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from lb.balance import Ring, RoundRobin, better_of_two, least_active
from lb.liveserver import LiveServer
from lb.places import Places
from lb.policy import BACKEND, BackendPolicy
from lb.rebalance import FAILURES, Rebalancer
from lb.state import Pool
from lb.sticky import Binding, Key

_STEPS: Final = 10  # of a slow start: each is a new round of turns

Verdict = tuple[str, int, bool, float, int, float]
"""Host and port; healthy; monotonic seconds until which it is left out; factor; slow start's begin."""


Run = tuple[LiveServer, int, int]
"""Server, status, and how many attempts in a row ended so."""


class LivePool:
    """A backend in use; `spec` is None while there is none and frontends wait for it."""

    __slots__ = (
        "_binding",
        "_rebalancer",
        "_ring",
        "_turn",
        "_unsettled",
        "follows",
        "id",
        "limited",
        "on_verdict",
        "places",
        "plain",
        "policy",
        "retries",
        "robin",
        "servers",
        "share",
        "spec",
        "usable",
    )

    def __init__(self, name: str) -> None:
        self.id = name
        self.limited = False  # requests under way are
        self.share = 1.0  # of what several processes may do together
        self.follows = False  # another process judges the servers (`follow`)
        self.places = Places(name)
        self.on_verdict: Callable[[LivePool], None] | None = None
        self.spec: Pool | None = None
        self.policy: BackendPolicy = BACKEND
        self.plain = True  # whose turn it is does not depend on the request
        self.servers: dict[tuple[str, int], LiveServer] = {}
        self.usable: tuple[LiveServer, ...] = ()
        self.robin: RoundRobin[LiveServer] = RoundRobin()
        self.retries = 0.0  # tries again that the budget still allows
        self._ring: Ring[LiveServer] | None = None
        self._binding: Binding | None = None
        self._turn = 0
        self._unsettled = False  # time alone will change weights
        self._rebalancer = Rebalancer()

    def put(self, spec: Pool, now: float) -> None:
        """Take over a spec; servers that stay keep their connections if the settings do."""
        before, self.spec = self.spec, spec
        self.policy = spec.policy
        same = before is not None and _settings(before) == _settings(spec)
        old, self.servers = self.servers, {}
        new = False
        for server in spec.servers:
            place = server.host, server.port
            kept = old.get(place)
            if (
                kept is not None
                and same
                and (kept.spec.authority, kept.spec.tls) == (server.authority, server.tls)
            ):
                kept.spec = server
                self.servers[place] = old.pop(place)
                continue
            live = self.servers[place] = LiveServer(server, self)
            if kept is not None:
                live.inherit(kept)
            else:
                new = True
                if before is not None and before.servers and self.policy.slow_start:
                    live.up_since = now
        if before is None or before.policy.retry != spec.policy.retry:
            self.retries = spec.policy.retry.minimum * self.share if spec.policy.retry else 0.0
        if new or old:  # as vulcand: another set of servers, weights start anew
            self._rebalancer = Rebalancer()
            for live in self.servers.values():
                live.factor = 1
        for gone in old.values():
            gone.retire()
        for live in self.servers.values():
            live.order = None if self.policy.outliers is None else live.order or []
        self.refresh(now)

    def drop(self) -> None:
        """Have no servers."""
        self.spec = None
        self.policy = BACKEND
        old, self.servers = self.servers, {}
        for gone in old.values():
            gone.retire()
        self.refresh(0.0)

    def refresh(self, now: float) -> None:
        """Settle who gets requests, and how many."""
        policy = self.policy
        self._unsettled = False
        ready = [s for s in self.servers.values() if self._serves(s, now)]
        if (
            not ready
        ):  # that all are out at once is likelier our mistake than theirs; and else all is lost
            ready = [s for s in self.servers.values() if _wanted(s)]
        chosen = [s for s in ready if not s.spec.policy.backup] or ready
        slow = False
        for server in self.servers.values():
            server.weight = 0
        for server in chosen:
            server.weight = server.spec.weight * server.factor
            if server.up_since and policy.slow_start:
                share = (now - server.up_since) / policy.slow_start
                if share < 1.0:
                    slow = self._unsettled = True
                    server.weight *= max(1, int(share * _STEPS))
                    continue
                server.up_since = 0.0
        if slow:
            for server in chosen:
                if not server.up_since:
                    server.weight *= _STEPS
        self.usable = tuple(chosen)
        self.robin = RoundRobin(self.usable, [s.weight for s in chosen], self.robin.at)
        self._ring = Ring(self.usable) if policy.balance == "hash" else None
        servers = self.servers.values()
        self._binding = Binding(policy.sticky, servers) if policy.sticky else None
        self.limited = bool(policy.max_conns) or any(
            server.spec.policy.max_conns for server in self.servers.values()
        )
        self.plain = (
            not self.limited
            and policy.balance == "roundrobin"
            and policy.sticky is None
            and not policy.http2
            and not policy.send_proxy
        )
        if self.on_verdict is not None:
            self.on_verdict(self)

    def _serves(self, server: LiveServer, now: float) -> bool:
        if server.outlier.until > now:
            self._unsettled = True
            return False
        return server.healthy and _wanted(server)

    def set_health(self, server: LiveServer, healthy: bool, now: float) -> None:
        """Take over what the probe found."""
        if server.healthy != healthy:
            server.healthy = healthy
            if healthy and self.policy.slow_start:
                server.up_since = now
            self.refresh(now)

    # whose turn

    def pick(self, tried: Sequence[LiveServer], key: Key) -> LiveServer | None:
        """Return the server of the next try, if there can be one not in `tried`.

        Args:
            key: a variable's value of this request: client.ip, request.host, request.path,
                request.header.<Name>.
        """
        if self.plain:
            return self.robin.pick_other(tried) if tried else self.robin.pick()
        if not self.limited:
            return self._choose(tried, key)
        passed = [*tried]
        for _ in range(len(self.servers) + 1):
            server = self._choose(passed, key)
            if server is None or self.places.enter(server, self.policy.max_conns):
                return server
            passed.append(server)  # another process took the last place meanwhile
        return None

    def _choose(self, tried: Sequence[LiveServer], key: Key) -> LiveServer | None:
        policy = self.policy
        if not tried and (bound := self._bound(key)) is not None:
            return bound
        self._turn += 1
        free = [s for s in self.usable if s.weight and self.places.left(s)]
        left = [s for s in free if s not in tried] or free
        if not left:
            return None
        match policy.balance:
            case "least_conn":
                return least_active(left, self._turn)
            case "p2c":
                return better_of_two(left, self._turn)
            case "hash" if self._ring is not None:
                return self._ring.pick(key(policy.hash_on), left.__contains__)
        for _ in range(MOST_STEPS):
            server = self.robin.pick()
            if server is None or server in left:
                return server
        return left[0]

    def _bound(self, key: Key) -> LiveServer | None:
        """Return the server that the client's cookie names: a draining one too, its clients stay."""
        server = self._binding.named(key) if self._binding is not None else None
        if server is not None and server.healthy and self.places.left(server):
            return server
        return None

    def cookie(self, server: LiveServer, key: Key) -> bytes:
        """Return the Set-Cookie line that binds a client to a server; b"" when it is bound."""
        if self._binding is None or self._bound(key) is server:
            return b""
        return self._binding.line(server)

    # retries

    def may_retry(self) -> bool:
        """Take a retry from the budget; false when it is used up."""
        if self.policy.retry is None:
            return True
        if self.retries < 1.0:
            return False
        self.retries -= 1.0
        return True

    # time

    @property
    def judged(self) -> bool:
        """Whether answers change anything here."""
        policy = self.policy
        return bool(policy.outliers or policy.retry or (policy.rebalance and len(self.usable) > 1))

    @property
    def restless(self) -> bool:
        """Whether time alone changes something here."""
        return self._unsettled or self.policy.retry is not None

    def judge(self, runs: Sequence[Run], now: float, passed: float) -> bool:
        """Take in the attempts that ended in the last `passed` seconds.

        Returns:
            Whether whose turn it is has changed.
        """
        policy = self.policy
        changed = self._unsettled
        if policy.retry is not None:
            total = sum(count for _, _, count in runs)
            least = policy.retry.minimum * self.share
            earned = passed * least + total * policy.retry.budget / 100.0
            self.retries = min(least * 10.0 + total, self.retries + earned)
        if not self.follows:
            changed |= self._eject(runs, now)
            changed |= self._rebalance(runs, int(now))
        if changed:
            self.refresh(now)
        return changed

    def _eject(self, runs: Sequence[Run], now: float) -> bool:
        """Leave out servers that fail; whether there was one."""
        rule = self.policy.outliers
        changed = False
        if rule is None:
            return False
        for server, status, count in runs:
            out = sum(s.outlier.until > now for s in self.servers.values())
            may = (out + 1) * 100 <= rule.most * len(self.servers)
            for _ in range(min(count, rule.consecutive) if status in FAILURES else 1):
                changed |= server.outlier.note(status, rule, now, may=may)
        return changed

    def _rebalance(self, runs: Sequence[Run], second: int) -> bool:
        """Shift weights by what servers answered; whether they changed."""
        if not self.policy.rebalance:
            return False
        for server, status, count in runs:
            server.meter.note(second, count, count if 500 <= status <= 504 else 0)
        if len(self.usable) < 2 or not runs:
            return False
        factors = [server.factor for server in self.usable]
        new = self._rebalancer.look(second, [s.meter for s in self.usable], factors)
        if new == factors:
            return False
        for server, factor in zip(self.usable, new, strict=True):
            server.factor = factor
        return True

    # what one process found and others follow

    def verdict(self) -> list[Verdict]:
        """Return what is known of each server that differs from a new one's."""
        return [
            (host, port, server.healthy, server.outlier.until, server.factor, server.up_since)
            for (host, port), server in self.servers.items()
            if not server.healthy or server.outlier.until or server.factor != 1 or server.up_since
        ]

    def follow(self, verdict: Sequence[Verdict], now: float) -> None:
        """Take over what another process found."""
        found = {(host, port): rest for host, port, *rest in verdict}
        for place, server in self.servers.items():
            healthy, until, factor, up_since = found.get(place, (True, 0.0, 1, 0.0))
            server.healthy, server.factor = bool(healthy), int(factor)
            server.outlier.until, server.up_since = until, up_since
        self.refresh(now)


MOST_STEPS: Final = 64
"""Turns that are passed over for a server that is full before any free one is taken."""
_VARIABLE: Final = re.compile(r"request\.header\.(.+)")


def _wanted(server: LiveServer) -> bool:
    return server.spec.weight > 0 and not server.spec.policy.draining


def header_of(variable: str) -> str:
    """Return the header that a variable names, "" for none."""
    found = _VARIABLE.fullmatch(variable)
    return found[1] if found else ""


def _settings(pool: Pool) -> tuple[object, ...]:
    return (
        pool.read_timeout,
        pool.dial_timeout,
        pool.keepalive,
        pool.max_idle,
        pool.handshake_timeout,
        pool.tls,
        pool.policy.http2,
        pool.policy.send_proxy,
    )
