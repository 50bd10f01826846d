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

What is known about a server (health, ejection, meter) belongs to its address and outlives changes
of the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

from lb.balance import Ring, RoundRobin, better_of_two, least_active
from lb.policy import BACKEND, BackendPolicy
from lb.rebalance import FAILURES, Meter, Outlier, Rebalancer
from lb.state import Pool, Server

_STEPS: Final = 10  # of a slow start: each is a new round of turns


class LiveServer:
    """A server and its idle connections, the last used at the end."""

    __slots__ = (
        "active",
        "factor",
        "gone",
        "healthy",
        "host",
        "idle",
        "key",
        "meter",
        "mux",
        "mux_coming",
        "outlier",
        "pool",
        "requests",
        "spec",
        "token",
        "up_since",
        "weight",
    )

    def __init__(self, spec: Server, pool: LivePool) -> None:
        self.spec = spec
        self.pool = pool
        self.host = spec.authority.encode()
        self.key = f"{spec.host}:{spec.port}".encode()
        self.token = blake2b(self.key, digest_size=8).hexdigest().encode()
        self.idle: list[Any] = []
        self.mux: Any = None  # its HTTP/2 connection
        self.mux_coming: Any = None  # a future while that is being made
        self.active = 0
        self.requests = 0
        self.gone = False  # the pool has it no more: its connections are not kept
        self.healthy = True
        self.outlier = Outlier()
        self.meter = Meter()
        self.factor = 1
        self.up_since = 0.0  # when its slow start began; 0 for none
        self.weight = spec.weight  # in force

    def inherit(self, before: LiveServer) -> None:
        """Go on from what was known about the same address."""
        self.healthy = before.healthy
        self.outlier = before.outlier
        self.meter = before.meter
        self.factor = before.factor
        self.up_since = before.up_since
        self.requests = before.requests

    def retire(self) -> None:
        """Close what is idle; what is in flight finishes and is not kept."""
        self.gone = True
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()
        if self.mux is not None:
            self.mux.retire()

    def free(self) -> bool:
        """Say whether it may get another request now."""
        most = self.spec.policy.max_conns
        return self.weight > 0 and (not most or self.active < most)


class LivePool:
    """A backend in use; `spec` is None while there is none and frontends wait for it."""

    __slots__ = (
        "_rebalancer",
        "_ring",
        "_tokens",
        "_turn",
        "_unsettled",
        "id",
        "plain",
        "policy",
        "retries",
        "robin",
        "servers",
        "spec",
        "usable",
    )

    def __init__(self, name: str) -> None:
        self.id = name
        self.spec: Pool | None = None
        self.policy: BackendPolicy = BACKEND
        self.plain = True  # whose turn it is does not depend on the request
        self.servers: dict[tuple[str, int], LiveServer] = {}
        self.usable: tuple[LiveServer, ...] = ()
        self.robin: RoundRobin[LiveServer] = RoundRobin()
        self.retries = 0.0  # tries again that the budget still allows
        self._ring: Ring[LiveServer] | None = None
        self._tokens: dict[bytes, LiveServer] = {}
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
            self.retries = float(spec.policy.retry.minimum) if spec.policy.retry else 0.0
        if new or old:  # as vulcand: another set of servers, weights start anew
            self._rebalancer = Rebalancer()
            for live in self.servers.values():
                live.factor = 1
        for gone in old.values():
            gone.retire()
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
        self._tokens = {s.token: s for s in self.servers.values()} if policy.sticky else {}
        self.plain = (
            policy.balance == "roundrobin"
            and policy.sticky is None
            and not policy.max_conns
            and not policy.http2
            and not policy.send_proxy
            and not any(server.spec.policy.max_conns for server in chosen)
        )

    def _serves(self, server: LiveServer, now: float) -> bool:
        if server.outlier.until > now:
            self._unsettled = True
            return False
        return server.healthy and server.spec.weight > 0 and not server.spec.policy.draining

    def set_health(self, server: LiveServer, healthy: bool, now: float) -> None:
        """Take over what the probe found."""
        if server.healthy != healthy:
            server.healthy = healthy
            if healthy and self.policy.slow_start:
                server.up_since = now
            self.refresh(now)

    # whose turn

    def pick(self, tried: Sequence[LiveServer], key: Callable[[str], bytes]) -> LiveServer | None:
        """Return the server of the next try, if there can be one not in `tried`.

        Args:
            key: a variable's value of this request: client.ip, request.host, request.path,
                request.header.<Name>.
        """
        if self.plain:
            return self.robin.pick_other(tried) if tried else self.robin.pick()
        policy = self.policy
        if policy.max_conns and sum(s.active for s in self.servers.values()) >= policy.max_conns:
            return None
        if policy.sticky is not None and not tried:
            named = self._sticky_server(policy.sticky.cookie, key)
            if named is not None:
                return named
        self._turn += 1
        left = [s for s in self.usable if s not in tried and s.free()]
        if not left:
            left = [s for s in self.usable if s.free()]
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

    def _sticky_server(self, cookie: str, key: Callable[[str], bytes]) -> LiveServer | None:
        """Return the server that the client's cookie names: a draining one too, its clients stay."""
        for field in key("request.header.Cookie").split(b";"):
            name, equals, value = field.strip(b" \t").partition(b"=")
            if equals and name == cookie.encode():
                server = self._tokens.get(value)
                if server is not None and server.healthy:
                    most = server.spec.policy.max_conns
                    if not most or server.active < most:
                        return server
        return None

    def cookie(self, server: LiveServer, key: Callable[[str], bytes]) -> bytes:
        """Return the Set-Cookie line that binds a client to a server; b"" when it is bound."""
        sticky = self.policy.sticky
        if sticky is None or self._sticky_server(sticky.cookie, key) is server:
            return b""
        text = f"\r\nSet-Cookie: {sticky.cookie}={server.token.decode()}; Path={sticky.path}"
        if sticky.max_age:
            text += f"; Max-Age={sticky.max_age}"
        return (text + "; HttpOnly; SameSite=Lax" + "; Secure" * sticky.secure).encode()

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

    def judge(self, samples: Sequence[tuple[LiveServer, int]], now: float, passed: float) -> bool:
        """Take in the attempts that ended in the last `passed` seconds.

        Returns:
            Whether whose turn it is has changed.
        """
        policy = self.policy
        second = int(now)
        changed = self._unsettled
        if policy.retry is not None:
            most = policy.retry.minimum * 10.0 + len(samples)
            self.retries = min(
                most,
                self.retries
                + passed * policy.retry.minimum
                + len(samples) * policy.retry.budget / 100.0,
            )
        for server, status in samples:
            if policy.rebalance:
                server.meter.note(second, 1, 500 <= status <= 504)
            if policy.outliers is not None and (status in FAILURES or server.outlier.until):
                out = sum(s.outlier.until > now for s in self.servers.values())
                may = (out + 1) * 100 <= policy.outliers.most * len(self.servers)
                changed |= server.outlier.note(status, policy.outliers, now, may=may)
        if policy.rebalance and len(self.usable) > 1 and samples:
            factors = [server.factor for server in self.usable]
            new = self._rebalancer.look(second, [s.meter for s in self.usable], factors)
            if new != factors:
                changed = True
                for server, factor in zip(self.usable, new, strict=True):
                    server.factor = factor
        if changed:
            self.refresh(now)
        return changed


MOST_STEPS: Final = 64
"""Turns that are passed over for a server that is full before any free one is taken."""
_VARIABLE: Final = re.compile(r"request\.header\.(.+)")


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
