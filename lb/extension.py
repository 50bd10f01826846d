# SPDX-License-Identifier: Apache-2.0
"""Our extension fields, JSON → `lb.policy` (specs/vulcand.md §15.1). Pure.

They lie inside the original's objects, which ignores them; the names inside each of ours are ours
alone, so an unknown one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fairlead.duration import parse_seconds
from lb.policy import (
    BACKEND,
    BALANCES,
    FRONTEND,
    LISTENER,
    SERVER,
    BackendPolicy,
    FrontendPolicy,
    HealthCheck,
    ListenerPolicy,
    Mirror,
    Outliers,
    Patience,
    Retry,
    ServerPolicy,
    Sticky,
)

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
IN_FRONTEND: Final = ("Priority", "Middlewares")
"""Names in a frontend's object."""
IN_SETTINGS: Final = ("Split", "Headers", "Timeouts", "Mirror", "MaxResponseBodyBytes")
"""Names in a frontend's Settings."""
IN_LISTENER: Final = ("MaxConns", "Timeouts")
"""Names in a listener's Settings, besides TLS, ClientAuth and TrustedProxies."""
_HASH_ON: Final = re.compile(r"client\.ip|request\.host|request\.path|request\.header\.[\w-]+")
_COOKIE: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_MOST_BYTES: Final = 1 << 50
_MOST_MIRRORED: Final = 16 << 20  # it is kept in memory


class _Fields:
    """One extension object; reads name what is wrong. Names in any letter case."""

    def __init__(self, value: object, path: str) -> None:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise ValueError(f"{path}: an object is wanted")  # noqa: TRY004  (a value of the user's)
        self.path = path
        self._fields = {str(name).lower(): item for name, item in value.items()}

    def _get(self, name: str, kind: type, zero: Any) -> Any:
        value = self._fields.pop(name.lower(), None)
        if value is None:
            return zero
        if type(value) is not kind:
            raise ValueError(f"{self.path}{name}: {value!r} is not of the right type")
        return value

    def text(self, name: str, zero: str = "") -> str:
        return str(self._get(name, str, zero))

    def flag(self, name: str, zero: bool = False) -> bool:
        return bool(self._get(name, bool, zero))

    def number(self, name: str, zero: int, low: int, high: int) -> int:
        value = int(self._get(name, int, zero))
        if not low <= value <= high:
            raise ValueError(f"{self.path}{name}: {value} is not between {low} and {high}")
        return value

    def seconds(self, name: str, zero: float) -> float:
        text = self.text(name)
        if not text:
            return zero
        try:
            value = parse_seconds(text)
        except ValueError as error:
            raise ValueError(f"{self.path}{name}: {error}") from error
        if not 0 <= value < 1e7:
            raise ValueError(f'{self.path}{name}: "{text}" is out of range')
        return value

    def object(self, name: str) -> _Fields | None:
        value = self._fields.pop(name.lower(), None)
        return None if value is None else _Fields(value, f"{self.path}{name}.")

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object as it is."""
        return dict(self._get(name, dict, {}))

    def list(self, name: str) -> list[Any]:
        return list(self._get(name, list, []))

    def end(self) -> None:
        """Refuse names that are not known: these objects are ours alone."""
        if self._fields:
            raise ValueError(f"{self.path}{min(self._fields)}: unknown field")


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


def frontend(given: Mapping[str, Any], settings: Mapping[str, Any]) -> FrontendPolicy:
    """Return what the IN_FRONTEND and IN_SETTINGS fields of a frontend say; raises ValueError.

    `Headers` is only looked at from outside: the middleware `header` knows its rules.
    """
    if not given and not settings:
        return FRONTEND
    own, fields = _Fields(given, ""), _Fields(settings, "Settings.")
    policy = FrontendPolicy(
        own.number("Priority", 0, -(1 << 63), (1 << 63) - 1),
        _split(fields.list("Split")),
        fields.mapping("Headers"),
        _patience(fields.object("Timeouts")),
        _mirror(fields.object("Mirror")),
        fields.number("MaxResponseBodyBytes", 0, 0, _MOST_BYTES),
        _shared(own.list("Middlewares")),
    )
    own.end()
    fields.end()
    return policy


def _split(items: list[Any]) -> tuple[tuple[str, int], ...]:
    split = []
    for item in items:
        one = _Fields(item, "Settings.Split.")
        split.append((_backend_id(one), one.number("Weight", 0, 0, 100)))
        one.end()
    if sum(weight for _, weight in split) > 100:
        raise ValueError("Settings.Split: the weights are percents, together at most 100")
    return tuple(split)


def _backend_id(fields: _Fields) -> str:
    name = fields.text("BackendId")
    if not name or "/" in name:
        raise ValueError(f"{fields.path}BackendId: a backend's id is wanted")
    return name


def _patience(fields: _Fields | None) -> Patience:
    if fields is None:
        return FRONTEND.patience
    found = Patience(*(fields.seconds(name, 0.0) for name in ("Read", "Write", "Request", "Idle")))
    fields.end()
    return found


def _mirror(fields: _Fields | None) -> Mirror | None:
    if fields is None:
        return None
    found = Mirror(
        _backend_id(fields),
        fields.number("Percent", 100, 0, 100),
        fields.number("MaxBodyBytes", 1 << 16, 0, _MOST_MIRRORED),
    )
    fields.end()
    return found


def _shared(items: list[Any]) -> tuple[str, ...]:
    for item in items:
        if not isinstance(item, str) or not re.fullmatch(r"[^/]+/[^/]+", item):
            raise ValueError(f'Middlewares: {item!r} is no "FRONTEND/ID" of a middleware')
    if len(set(items)) < len(items):
        raise ValueError("Middlewares: one stands there twice")
    return tuple(items)


def listener(settings: Mapping[str, Any]) -> ListenerPolicy:
    """Return what the IN_LISTENER fields of a listener's Settings say; raises ValueError."""
    if not settings:
        return LISTENER
    fields = _Fields(settings, "Settings.")
    times = fields.object("Timeouts") or _Fields({}, "")
    policy = ListenerPolicy(
        fields.number("MaxConns", 0, 0, 1 << 24),
        *(times.seconds(name, 0.0) for name in ("Read", "Write", "Idle")),
    )
    times.end()
    fields.end()
    return policy
