# SPDX-License-Identifier: Apache-2.0
"""The extension fields that say how traffic is spread (specs/vulcand.md §15.1). Pure.

vulcand's readers ignore them. In a backend's Settings:

    "Balance": "roundrobin" | "least_conn" | "p2c" | "hash",   "HashOn": "client.ip" | "request.host" | "request.path" | "request.header.<Name>"
    "Sticky": {"Cookie": "name", "Path": "/", "MaxAge": "1h", "Secure": false},
    "HealthCheck": {"Type": "http"|"tcp", "Path": "/", "Interval": "2s", "Timeout": "1s", "Rise": 2, "Fall": 3, "Status": "200-399", "Host": "", "Port": 0},
    "OutlierDetection": {"Consecutive": 5, "Ejection": "10s", "MaxEjected": 50},
    "Retry": {"Budget": 20, "Minimum": 10},    percent of requests, and retries a second that are always allowed
    "Rebalance": true,  "SlowStart": "30s",  "MaxConns": 0,  "HTTP2": false,  "SendProxy": "" | "v1" | "v2"

of a server: "Weight", "MaxConns", "Draining", "Backup"; of a frontend "Priority", and in its
Settings "Split": [{"BackendId": "b2", "Weight": 10}]: percent of its requests; the rest is its own backend's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fairlead.duration import parse_seconds

BALANCES: Final = ("roundrobin", "least_conn", "p2c", "hash")
IN_BACKEND: Final = (
    "Balance",
    "HashOn",
    "Sticky",
    "HealthCheck",
    "OutlierDetection",
    "Retry",
    "Rebalance",
    "SlowStart",
    "MaxConns",
    "HTTP2",
    "SendProxy",
)
"""Names in a backend's Settings."""
IN_SERVER: Final = ("MaxConns", "Draining", "Backup")
"""Names in a server's object, besides Weight."""
IN_SETTINGS: Final = ("Split",)
"""Names in a frontend's Settings."""
_HASH_ON: Final = re.compile(r"client\.ip|request\.host|request\.path|request\.header\.[\w-]+")
_COOKIE: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")


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
class FrontendPolicy:
    """A frontend's: its priority, and other backends that take a share (id, weight) of its requests."""

    priority: int = 0
    split: tuple[tuple[str, int], ...] = ()


BACKEND: Final = BackendPolicy()
SERVER: Final = ServerPolicy()
FRONTEND: Final = FrontendPolicy()


class _Fields:
    """One extension object; reads name what is wrong. Names in any letter case."""

    def __init__(self, value: object, path: str) -> None:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise ValueError(f"{path}: an object is wanted")  # noqa: TRY004  (a value of the user's)
        self._path = path
        self._fields = {str(name).lower(): item for name, item in value.items()}

    def _get(self, name: str, kind: type, zero: Any) -> Any:
        value = self._fields.pop(name.lower(), None)
        if value is None:
            return zero
        if type(value) is not kind:
            raise ValueError(f"{self._path}{name}: {value!r} is not of the right type")
        return value

    def text(self, name: str, zero: str = "") -> str:
        return str(self._get(name, str, zero))

    def flag(self, name: str, zero: bool = False) -> bool:
        return bool(self._get(name, bool, zero))

    def number(self, name: str, zero: int, low: int, high: int) -> int:
        value = int(self._get(name, int, zero))
        if not low <= value <= high:
            raise ValueError(f"{self._path}{name}: {value} is not between {low} and {high}")
        return value

    def seconds(self, name: str, zero: float) -> float:
        text = self.text(name)
        if not text:
            return zero
        try:
            value = parse_seconds(text)
        except ValueError as error:
            raise ValueError(f"{self._path}{name}: {error}") from error
        if not 0 <= value < 1e7:
            raise ValueError(f'{self._path}{name}: "{text}" is out of range')
        return value

    def object(self, name: str) -> _Fields | None:
        value = self._fields.pop(name.lower(), None)
        return None if value is None else _Fields(value, f"{self._path}{name}.")

    def list(self, name: str) -> list[Any]:
        return list(self._get(name, list, []))

    def end(self) -> None:
        """Refuse names that are not known: these objects are ours alone."""
        if self._fields:
            raise ValueError(f"{self._path}{min(self._fields)}: unknown field")


def backend(settings: Mapping[str, Any]) -> BackendPolicy:
    """Return what the IN_BACKEND fields of a backend's Settings say.

    Raises:
        ValueError: names the field.
    """
    if not settings:
        return BACKEND
    fields = _Fields(settings, "Settings.")
    balance = fields.text("Balance", "roundrobin")
    if balance not in BALANCES:
        raise ValueError(f'Settings.Balance: "{balance}"; known: {", ".join(BALANCES)}')
    hash_on = fields.text("HashOn", "client.ip")
    if not _HASH_ON.fullmatch(hash_on):
        raise ValueError(f'Settings.HashOn: "{hash_on}" is no variable')
    send_proxy = fields.text("SendProxy").lower()
    if send_proxy not in ("", "v1", "v2"):
        raise ValueError(f'Settings.SendProxy: "{send_proxy}"; known: v1, v2')
    policy = BackendPolicy(
        balance,
        hash_on,
        _sticky(fields.object("Sticky")),
        _check(fields.object("HealthCheck")),
        _outliers(fields.object("OutlierDetection")),
        _retry(fields.object("Retry")),
        fields.flag("Rebalance", True),
        fields.seconds("SlowStart", 0.0),
        fields.number("MaxConns", 0, 0, 1 << 20),
        fields.flag("HTTP2"),
        send_proxy,
    )
    fields.end()
    return policy


def _sticky(fields: _Fields | None) -> Sticky | None:
    if fields is None:
        return None
    name, path = fields.text("Cookie", "lb"), fields.text("Path", "/")
    if not _COOKIE.fullmatch(name):
        raise ValueError(f'Settings.Sticky.Cookie: "{name}" is no cookie name')
    if not re.fullmatch(r"/[!-:<-~]*", path):
        raise ValueError(f'Settings.Sticky.Path: "{path}" is no path')
    found = Sticky(name, path, int(fields.seconds("MaxAge", 0.0)), fields.flag("Secure"))
    fields.end()
    return found


def _check(fields: _Fields | None) -> HealthCheck | None:
    if fields is None:
        return None
    kind, path = fields.text("Type", "http"), fields.text("Path", "/")
    if kind not in ("http", "tcp"):
        raise ValueError(f'Settings.HealthCheck.Type: "{kind}"; known: http, tcp')
    if not re.fullmatch(r"/[!-~]*", path):
        raise ValueError(f'Settings.HealthCheck.Path: "{path}" is no path')
    status = fields.text("Status", "200-399")
    found = re.fullmatch(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?", status)
    if not found:
        raise ValueError(f'Settings.HealthCheck.Status: "{status}" is no range, e.g. 200-399')
    host = fields.text("Host")
    if not re.fullmatch(r"[\w.:\[\]-]*", host, re.ASCII):
        raise ValueError(f'Settings.HealthCheck.Host: "{host}" is no host')
    check = HealthCheck(
        kind,
        path,
        max(0.05, fields.seconds("Interval", 2.0)),
        max(0.01, fields.seconds("Timeout", 1.0)),
        fields.number("Rise", 2, 1, 1000),
        fields.number("Fall", 3, 1, 1000),
        int(found[1]),
        int(found[2] or found[1]),
        host,
        fields.number("Port", 0, 0, 65535),
    )
    fields.end()
    return check


def _outliers(fields: _Fields | None) -> Outliers | None:
    if fields is None:
        return None
    found = Outliers(
        fields.number("Consecutive", 5, 1, 10000),
        fields.seconds("Ejection", 10.0),
        fields.number("MaxEjected", 50, 0, 100),
    )
    fields.end()
    return found


def _retry(fields: _Fields | None) -> Retry | None:
    if fields is None:
        return None
    found = Retry(fields.number("Budget", 20, 0, 1000), fields.number("Minimum", 10, 0, 100000))
    fields.end()
    return found


def server(values: Mapping[str, Any]) -> ServerPolicy:
    """Return what the IN_SERVER fields of a server say; raises ValueError."""
    if not values:
        return SERVER
    fields = _Fields(values, "")
    policy = ServerPolicy(
        fields.number("MaxConns", 0, 0, 1 << 20), fields.flag("Draining"), fields.flag("Backup")
    )
    fields.end()
    return policy


def frontend(priority: int, settings: Mapping[str, Any]) -> FrontendPolicy:
    """Return what Priority and the IN_SETTINGS fields of a frontend say; raises ValueError."""
    if not priority and not settings:
        return FRONTEND
    fields = _Fields(settings, "Settings.")
    split = []
    for item in fields.list("Split"):
        one = _Fields(item, "Settings.Split.")
        name = one.text("BackendId")
        if not name or "/" in name:
            raise ValueError("Settings.Split.BackendId: a backend's id is wanted")
        split.append((name, one.number("Weight", 0, 0, 100)))
        one.end()
    fields.end()
    if sum(weight for _, weight in split) > 100:
        raise ValueError("Settings.Split: the weights are percents, together at most 100")
    return FrontendPolicy(priority, tuple(split))
