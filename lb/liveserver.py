# SPDX-License-Identifier: Apache-2.0
"""One server of a backend as it runs: its connections, and what is known of it.

What is known (health, ejection, meter) belongs to its address and outlives changes of the
configuration (`LiveServer.inherit`).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from lb.rebalance import Meter, Outlier
from lb.state import Server

if TYPE_CHECKING:
    from lb.pool import LivePool


class LiveServer:
    """A server and its idle connections, the last used at the end."""

    __slots__ = (
        "active",
        "entered",
        "factor",
        "gone",
        "healthy",
        "host",
        "idle",
        "key",
        "meter",
        "mux",
        "mux_coming",
        "order",
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
        self.entered = 0  # requests that hold a place, from the pick on; where places are limited
        self.requests = 0
        self.gone = False  # the pool has it no more: its connections are not kept
        self.healthy = True
        self.outlier = Outlier()
        self.order: list[int] | None = None  # statuses not judged yet, where their order matters
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
