# SPDX-License-Identifier: Apache-2.0
"""Two Traffics → the actions that turn the second into the first. Pure.

Put before delete: pools, then routes, certificates, sockets; what nobody uses any more goes
last. Sorted by id within a kind, so that equal inputs give equal plans.
"""

from __future__ import annotations

from dataclasses import dataclass

from lb.state import Frontend, Host, Listener, Pool, Traffic


@dataclass(frozen=True, slots=True)
class PutPool:
    """Use these servers and settings from the next request on; what is in flight finishes."""

    pool: Pool

    def __str__(self) -> str:
        servers = ", ".join(f"{server.host}:{server.port}" for server in self.pool.servers)
        return f"put pool {self.pool.id}: {servers or 'no servers'}"


@dataclass(frozen=True, slots=True)
class PutFrontend:
    """Route by this from the next request on."""

    frontend: Frontend

    def __str__(self) -> str:
        return f"put frontend {self.frontend.id}: {self.frontend.route} to {self.frontend.pool}"


@dataclass(frozen=True, slots=True)
class DropFrontend:
    """Forget a frontend's route."""

    id: str

    def __str__(self) -> str:
        return f"drop frontend {self.id}"


@dataclass(frozen=True, slots=True)
class PutHost:
    """Offer a host's certificate from the next handshake on."""

    host: Host

    def __str__(self) -> str:
        return f"put host {self.host.id}"


@dataclass(frozen=True, slots=True)
class DropHost:
    """Forget a host's certificate."""

    id: str

    def __str__(self) -> str:
        return f"drop host {self.id}"


@dataclass(frozen=True, slots=True)
class PutChallenge:
    """Answer an ACME server that looks whether a name is ours (RFC 8555 §8.3, RFC 8737)."""

    name: str
    answer: str

    def __str__(self) -> str:
        return f"answer ACME challenge {self.name}"


@dataclass(frozen=True, slots=True)
class DropChallenge:
    """Nobody looks for it any more."""

    name: str

    def __str__(self) -> str:
        return f"forget ACME challenge {self.name}"


@dataclass(frozen=True, slots=True)
class Listen:
    """Accept on this socket; one of the same id and another address is drained after."""

    listener: Listener

    def __str__(self) -> str:
        return f"listen {self.listener.id} on {self.listener.network} {self.listener.address}"


@dataclass(frozen=True, slots=True)
class Close:
    """Stop accepting; its connections close after the request they are at."""

    id: str

    def __str__(self) -> str:
        return f"close {self.id}"


@dataclass(frozen=True, slots=True)
class DropPool:
    """Forget a pool: idle connections close, requests in flight finish."""

    id: str

    def __str__(self) -> str:
        return f"drop pool {self.id}"


Action = (
    PutPool
    | PutFrontend
    | DropFrontend
    | PutHost
    | DropHost
    | PutChallenge
    | DropChallenge
    | Listen
    | Close
    | DropPool
)


def traffic(desired: Traffic, actual: Traffic) -> tuple[Action, ...]:
    """Return the plan; empty when the two agree."""
    pools = [PutPool(p) for name, p in sorted(desired.pools.items()) if actual.pools.get(name) != p]
    routes = [
        PutFrontend(frontend)
        for name, frontend in sorted(desired.frontends.items())
        if actual.frontends.get(name) != frontend
    ]
    hosts = [PutHost(h) for name, h in sorted(desired.hosts.items()) if actual.hosts.get(name) != h]
    listen = [
        Listen(listener)
        for name, listener in sorted(desired.listeners.items())
        if actual.listeners.get(name) != listener
    ]
    challenges = [
        PutChallenge(name, answer)
        for name, answer in sorted(desired.challenges.items())
        if actual.challenges.get(name) != answer
    ]
    return (
        *pools,
        *routes,
        *hosts,
        *challenges,
        *listen,
        *(
            DropFrontend(name)
            for name in sorted(actual.frontends.keys() - desired.frontends.keys())
        ),
        *(Close(name) for name in sorted(actual.listeners.keys() - desired.listeners.keys())),
        *(DropHost(name) for name in sorted(actual.hosts.keys() - desired.hosts.keys())),
        *(DropChallenge(n) for n in sorted(actual.challenges.keys() - desired.challenges.keys())),
        *(DropPool(name) for name in sorted(actual.pools.keys() - desired.pools.keys())),
    )


def removes(action: Action) -> bool:
    """Say whether an action withdraws something that serves (the guard's question)."""
    return isinstance(action, Close | DropPool | DropFrontend | DropHost)
