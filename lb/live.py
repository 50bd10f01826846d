# SPDX-License-Identifier: Apache-2.0
"""Frontends and listeners as they run: what of their specs a request needs at hand, and counts.

A request keeps those it began with (specs/vulcand.md §12.2); pools and servers: `lb.pool`.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any, Protocol

from lb import predicate
from lb.balance import RoundRobin
from lb.ledger import Counts
from lb.liveserver import LiveServer
from lb.middleware import Chain
from lb.places import MOST
from lb.policy import ListenerPolicy
from lb.pool import LivePool
from lb.predicate import Predicate
from lb.route.match import Check, check
from lb.route.parse import parse
from lb.state import Frontend, Listener
from lb.tallies import Tally


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take; seconds and bytes.

    Attributes:
        idle_timeout: between two requests; 0: as long as `read_timeout`.
    """

    head_bytes: int = (1 << 20) + 4096
    read_timeout: float = 60.0
    write_timeout: float = 60.0
    idle_timeout: float = 0.0

    @property
    def idle(self) -> float:
        """Seconds that a connection waits for its next request."""
        return self.idle_timeout or self.read_timeout

    def of(self, policy: ListenerPolicy) -> Limits:
        """Return the limits of a listener that has a say of its own."""
        return Limits(
            self.head_bytes,
            policy.read or self.read_timeout,
            policy.write or self.write_timeout,
            policy.idle or self.idle_timeout,
        )


class LiveFrontend:
    """A frontend in use and what it counts."""

    __slots__ = (
        "chain",
        "codes",
        "hostname",
        "mirror",
        "on_any",
        "pool",
        "predicate",
        "shares",
        "spec",
        "tallies",
        "usual",
    )

    def __init__(
        self,
        spec: Frontend,
        pool: LivePool,
        chain: Chain | None = None,
        before: LiveFrontend | None = None,
    ) -> None:
        self.spec = spec
        self.pool = pool
        self.codes: dict[int, int] = before.codes if before else {}
        self.tallies: dict[LiveServer | None, Tally] = {}  # of attempts not counted yet
        self.shares: RoundRobin[LivePool] | None = None  # of a frontend with a Split
        self.chain = chain
        self.hostname = spec.hostname.encode("ascii", "replace")
        self.predicate: Predicate | None = None
        if spec.failover is not None:
            self.predicate = predicate.parse(spec.failover or predicate.DEFAULT)
        # a predicate of the user's may ask for any code; the default one for 502 and 504 only
        self.on_any = bool(spec.failover)
        self.mirror: LivePool | None = None  # where copies of its requests go
        policy = spec.policy
        # nothing looks at its requests and responses but the heads' own lines
        self.usual = not (
            self.on_any or chain or policy.mirror or policy.max_response or policy.patience.request
        )


def pools_of(frontend: LiveFrontend) -> tuple[LivePool, ...]:
    """Return every pool that a frontend's requests may go to."""
    own = frontend.shares.servers if frontend.shares is not None else (frontend.pool,)
    return own if frontend.mirror is None else (*own, frontend.mirror)


class Accepting(Protocol):
    """What accepts on a listener's socket."""

    def close(self) -> None:
        """Stop accepting."""


class LiveListener:
    """Open sockets of one address, their scope and limits, and the connections it accepted.

    Attributes:
        clients: what a sweep looks at: connections, and HTTP/2's streams.
        connections: how many connections of clients there are in this process.
        counts: where several processes count them together.
    """

    __slots__ = (
        "_name",
        "_usual",
        "checks",
        "clients",
        "closing",
        "connections",
        "counts",
        "limits",
        "servers",
        "shares",
        "socks",
        "spec",
        "tls",
    )

    def __init__(
        self, spec: Listener, usual: Limits | None = None, counts: Counts | None = None
    ) -> None:
        self.spec = spec
        self.counts = counts
        self._name = b"listener " + spec.id.encode()
        self._usual = usual or Limits()
        self.connections = 0
        self.servers: list[Accepting] = []
        self.socks: list[socket.socket] = []  # more than one where several processes accept
        self.tls: ssl.SSLContext | None = None
        self.shares: dict[
            int, list[Accepting]
        ] = {}  # of other processes, for whom this one accepts
        self.clients: set[Any] = set()
        self.closing = False
        self.rescope(spec)

    @property
    def full(self) -> bool:
        """Whether no more connections may be accepted now."""
        most = self.spec.policy.max_conns
        if not most:
            return False
        return most <= (self.counts.count(self._name) if self.counts else self.connections)

    def enter(self) -> bool:
        """Count a connection; false when no more may be accepted. `leave` when it is over."""
        most = self.spec.policy.max_conns
        if self.counts is not None:  # counted without a limit too, since one may come
            if not self.counts.enter(self._name, most or MOST, time.monotonic()):
                return False
        elif 0 < most <= self.connections:
            return False
        self.connections += 1
        return True

    def leave(self) -> None:
        """Count a connection no more."""
        self.connections -= 1
        if self.counts is not None:
            self.counts.leave(self._name)

    def rescope(self, spec: Listener) -> None:
        """Take over a spec of the same address."""
        self.spec = spec
        self.limits = self._usual.of(spec.policy)
        matchers = parse(spec.scope).matchers if spec.scope else ()
        self.checks: tuple[Check, ...] = tuple(map(check, matchers))
