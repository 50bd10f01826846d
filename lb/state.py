# SPDX-License-Identifier: Apache-2.0
"""Traffic: what listens, what is routed where, which servers are pooled. Values only.

`desired` makes one from the records, `observe` one from what runs; `plan` compares the two.
Durations are seconds, every default already applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lb.policy import (
    BACKEND,
    FRONTEND,
    LISTENER,
    SERVER,
    BackendPolicy,
    FrontendPolicy,
    ListenerPolicy,
    ServerPolicy,
)
from lb.secret import KeyPair

ALIAS: Final = "/alias"
"""Ends the id of a frontend's twin under another route; no id of a user's holds a `/`."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket to accept on.

    Attributes:
        network: tcp or unix.
        address: host:port (host "" = every address), or a path.
        scope: route expression that requests must match too; "" for none.
        tls: the TLS settings (specs/vulcand.md §3.6) of an https listener; None for plain http.
        proxy: the PROXY header read from clients: "", PROXY_V1, PROXY_V2 or PROXY (either).
        trusted: networks whose PROXY header is believed; empty for all.
        policy: how many connections, and how long they may take.
    """

    id: str
    network: str
    address: str
    scope: str = ""
    tls: Mapping[str, Any] | None = None
    proxy: str = ""
    trusted: tuple[str, ...] = ()
    policy: ListenerPolicy = LISTENER


@dataclass(frozen=True, slots=True)
class Ocsp:
    """Whether and how a host's certificate is vouched for; `period` in seconds."""

    enabled: bool = False
    period: float = 3600.0
    responders: tuple[str, ...] = ()
    skip_check: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """A host with a key pair."""

    id: str
    pair: KeyPair
    default: bool = False
    ocsp: Ocsp = field(default_factory=Ocsp)


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a pool; `authority` is its Host field, `tls` whether it speaks https."""

    id: str
    host: str
    port: int
    authority: str
    weight: int = 1
    tls: bool = False
    policy: ServerPolicy = SERVER


@dataclass(frozen=True, slots=True)
class Pool:
    """A backend: its servers in order, and how they are spoken to.

    Attributes:
        read_timeout: seconds until the first byte of a response; then 504.
        dial_timeout: seconds to connect; then 504.
        keepalive: seconds between TCP keep-alive probes.
        max_idle: idle connections kept for each server when at rest.
        handshake_timeout: seconds for TLS with a server; 0 for no limit of its own.
        tls: TLS settings towards https servers (specs/vulcand.md §3.6).
    """

    id: str
    servers: tuple[Server, ...]
    read_timeout: float
    dial_timeout: float
    keepalive: float
    max_idle: int
    handshake_timeout: float = 0.0
    tls: Mapping[str, Any] = field(default_factory=dict)
    policy: BackendPolicy = BACKEND


@dataclass(frozen=True, slots=True)
class Middleware:
    """A middleware of a frontend; `body` is its type's own object as stored."""

    id: str
    type: str
    priority: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frontend:
    """A route and its pool.

    Attributes:
        failover: a predicate, "" for the default one, None where nothing is tried again.
        replay: bytes of a request body kept in memory for another try; 0 for none.
        spill: bytes of it that may be kept in a file instead; 0 for none.
        gather: bytes of a chunked body kept in memory to find out its length; 0: it streams.
        max_body: largest request body in bytes; 0 for no limit.
        refuse: why every request is answered 503; "" when they are served.
        middlewares: outermost first: by ascending priority, then id.
    """

    id: str
    route: str
    pool: str
    failover: str | None = ""
    replay: int = 0
    max_body: int = 0
    hostname: str = ""
    trust_forward: bool = False
    pass_host: bool = False
    stream: bool = False
    refuse: str = ""
    middlewares: tuple[Middleware, ...] = ()
    policy: FrontendPolicy = FRONTEND
    spill: int = 0
    gather: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """The whole, or what of it lies within a scope.

    Attributes:
        challenges: key authorizations by the names of their entries (`lb.acme.entries`).
    """

    listeners: Mapping[str, Listener] = field(default_factory=dict)
    frontends: Mapping[str, Frontend] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    hosts: Mapping[str, Host] = field(default_factory=dict)
    challenges: Mapping[str, str] = field(default_factory=dict)
