# SPDX-License-Identifier: Apache-2.0
"""The extension fields that say how traffic is spread (specs/vulcand.md §15.1). Pure.

vulcand's readers ignore them. In a backend's Settings:

    "Balance": "roundrobin" | "least_conn" | "p2c" | "hash",   "HashOn": "client.ip" | "request.host" | "request.path" | "request.header.<Name>"
    "Sticky": {"Cookie": "name", "Path": "/", "MaxAge": "1h", "Secure": false},
    "HealthCheck": {"Type": "http"|"tcp", "Path": "/", "Interval": "2s", "Timeout": "1s", "Rise": 2, "Fall": 3, "Status": "200-399", "Host": "", "Port": 0},
    "OutlierDetection": {"Consecutive": 5, "Ejection": "10s", "MaxEjected": 50},
    "Retry": {"Budget": 20, "Minimum": 10},    percent of requests, and retries a second that are always allowed
    "Rebalance": true,  "SlowStart": "30s",  "MaxConns": 0,  "HTTP2": false,  "SendProxy": "" | "v1" | "v2"

of a server: "Weight", "MaxConns", "Draining", "Backup"; of a frontend "Priority", "Middlewares": ["f0/rl"]
(those of other frontends, shared with them), and in its Settings

    "Split": [{"BackendId": "b2", "Weight": 10}],   percent of its requests; the rest is its own backend's
    "Headers": {"Request": {"Set": {…}, "Add": {…}, "Remove": […]}, "Response": {…}},
    "Timeouts": {"Read": "5s", "Write": "60s", "Request": "30s", "Idle": "1h"},
    "Mirror": {"BackendId": "b2", "Percent": 100, "MaxBodyBytes": 65536},
    "MaxResponseBodyBytes": 0

in a listener's: "MaxConns": 0, "Timeouts": {"Read": "60s", "Write": "60s", "Idle": "60s"}.

Read from JSON by `lb.extension`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

BALANCES: Final = ("roundrobin", "least_conn", "p2c", "hash")


@dataclass(frozen=True, slots=True)
class Sticky:
    """A cookie that names the server; `max_age` in seconds, 0 for the browser's session."""

    cookie: str
    path: str = "/"
    max_age: int = 0
    secure: bool = False


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a server is asked whether it lives; times in seconds.

    Attributes:
        rise: good answers in a row until a server that was out is used again.
        fall: bad ones until it is taken out.
        port: another port to ask; 0 for the server's own.
    """

    type: str = "http"
    path: str = "/"
    interval: float = 2.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    low: int = 200
    high: int = 399
    host: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class Outliers:
    """When a server that fails real requests is left out for a while.

    Attributes:
        consecutive: failures in a row (5xx of the network kind: 502, 503, 504, or none at all).
        ejection: seconds of the first time out; doubled each time up to ten-fold.
        most: percent of a pool's servers that may be out at once.
    """

    consecutive: int = 5
    ejection: float = 10.0
    most: int = 50


@dataclass(frozen=True, slots=True)
class Retry:
    """How many retries a pool may get: `budget` percent of its requests, `minimum` a second more."""

    budget: int = 20
    minimum: int = 10


@dataclass(frozen=True, slots=True)
class BackendPolicy:
    """A backend's extension fields; see the module's words."""

    balance: str = "roundrobin"
    hash_on: str = "client.ip"
    sticky: Sticky | None = None
    check: HealthCheck | None = None
    outliers: Outliers | None = None
    retry: Retry | None = None
    rebalance: bool = True
    slow_start: float = 0.0
    max_conns: int = 0
    http2: bool = False
    send_proxy: str = ""


@dataclass(frozen=True, slots=True)
class ServerPolicy:
    """A server's extension fields besides its weight."""

    max_conns: int = 0
    draining: bool = False
    backup: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a frontend's requests may take; seconds, 0 where it has no say of its own.

    Attributes:
        read: until the first byte of a server's response; else the backend's.
        write: without progress while a response is sent; else `-serverWriteTimeout`.
        request: a request as a whole, all its tries and its response.
        idle: an upgraded connection on which nothing moves.
    """

    read: float = 0.0
    write: float = 0.0
    request: float = 0.0
    idle: float = 0.0


@dataclass(frozen=True, slots=True)
class Mirror:
    """A backend that gets copies of requests, `percent` of them; its answers are thrown away.

    Attributes:
        max_body: bytes of a body up to which a request is copied.
    """

    backend: str
    percent: int = 100
    max_body: int = 1 << 16


@dataclass(frozen=True, slots=True)
class FrontendPolicy:
    """A frontend's extension fields; see the module's words.

    Attributes:
        split: other backends (id, percent) that take a share of its requests.
        headers: the object of a `header` middleware that stands around all others; empty for none.
        max_response: bytes of a response's body; 0 for no limit.
        shared: middlewares of other frontends, "frontend/id", that its requests pass too.
    """

    priority: int = 0
    split: tuple[tuple[str, int], ...] = ()
    headers: Mapping[str, Any] = field(default_factory=dict)
    patience: Patience = Patience()
    mirror: Mirror | None = None
    max_response: int = 0
    shared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListenerPolicy:
    """A listener's: connections at once (0: any number); seconds, 0 for the program's settings.

    Attributes:
        read: a client's next bytes within a request.
        write: without progress while a response is sent.
        idle: a connection that waits for its next request; else `read`.
    """

    max_conns: int = 0
    read: float = 0.0
    write: float = 0.0
    idle: float = 0.0


BACKEND: Final = BackendPolicy()
SERVER: Final = ServerPolicy()
FRONTEND: Final = FrontendPolicy()
LISTENER: Final = ListenerPolicy()
