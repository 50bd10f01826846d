# SPDX-License-Identifier: Apache-2.0
"""lb/reading.py on whatever JSON: a record that is read back as it was written, or a reason."""

from __future__ import annotations

import random
from typing import Any, Final

import pytest

from lb import extension, reading, writing
from lb.fields import Invalid
from lb.keys import Kind, Ref
from lb.middleware import types

GOOD: Final[dict[Kind, dict[str, Any]]] = {
    Kind.FRONTEND: {"Type": "http", "BackendId": "b", "Route": "Path(`/`)"},
    Kind.BACKEND: {"Type": "http"},
    Kind.SERVER: {"URL": "http://a:1"},
    Kind.LISTENER: {"Protocol": "https", "Address": {"Network": "tcp", "Address": ":1"}},
    Kind.HOST: {},
}
IN_SETTINGS: Final = {
    Kind.FRONTEND: (*extension.IN_SETTINGS, "Limits", "FailoverPredicate"),
    Kind.BACKEND: (*extension.IN_BACKEND, "TLS", "ClientCert", "Timeouts", "KeepAlive"),
    Kind.LISTENER: (*extension.IN_LISTENER, "TLS", "ClientAuth", "TrustedProxies"),
    Kind.HOST: ("KeyPair", "OCSP", "AutoCert", "Default"),
}
NAMES: Final = [
    "Id",
    "Weight",
    "MaxConns",
    "Draining",
    "Priority",
    "Middlewares",
    "BackendId",
    "Read",
    "Dial",
    "Write",
    "Request",
    "Idle",
    "Percent",
    "Set",
    "Add",
    "Remove",
    "Response",
    "Cookie",
    "Interval",
    "Status",
    "Period",
    "Responders",
    "Email",
    "RenewBefore",
    "DirectoryURL",
    "Key",
    "Cert",
    "Encryption",
    "Value",
    "CA",
    "MinVersion",
    "CipherSuites",
    "SessionCache",
    "Type",
    "Settings",
    "Capacity",
    "Scope",
    "ProxyProtocol",
    "Regexp",
    "Replacement",
    "Condition",
    "Fallback",
    "Action",
    "StatusCode",
    "Body",
    "OnTripped",
    "Variable",
    "RateVar",
    "PeriodSeconds",
    "Requests",
    "Connections",
    "Addr",
    "Origins",
    "Users",
]
TEXTS: Final = (
    "", "x", "é", "\0", "5s", "-1s", ":80", "http", "tcp", "http://a:1", "http://[::1", "https://a..b", "Path(`/`)",
    "IsNetworkError()", "client.ip", "request.header.", "NetworkErrorRatio() > 0.5", "syslog://[", "10.0.0.0/8", "(",
    "{{", "VersionTLS12", "LRU", "secretbox.v1", "YQ==", "hash", "v1", "PROXY_V1", "f0/rl", "-----BEGIN x",
)  # fmt: skip
SCALARS: Final = (0, 1, -1, 5, 101, 1 << 63, 1 << 70, 3.5, 1e300, True, False, None)


def value(dice: random.Random, depth: int = 0) -> Any:
    kind = dice.random()
    if kind < 0.4 or depth > 3:
        return dice.choice(TEXTS)
    if kind < 0.6:
        return dice.choice(SCALARS)
    if kind < 0.7:
        return [value(dice, depth + 1) for _ in range(dice.randint(0, 3))]
    return {dice.choice(NAMES): value(dice, depth + 1) for _ in range(dice.randint(0, 5))}


def tree(dice: random.Random, kind: Kind) -> dict[str, Any]:
    if kind is Kind.MIDDLEWARE:
        body = {dice.choice(NAMES): value(dice) for _ in range(dice.randint(0, 6))}
        return {"Type": dice.choice(types.names()), "Priority": value(dice, 4), "Middleware": body}
    made = dict(GOOD[kind])
    for _ in range(dice.randint(0, 2)):
        made[dice.choice(NAMES)] = value(dice)
    if kind in IN_SETTINGS:
        made["Settings"] = {
            dice.choice(IN_SETTINGS[kind]): value(dice) for _ in range(dice.randint(0, 2))
        }
    return made


@pytest.mark.parametrize("kind", [*GOOD, Kind.MIDDLEWARE])
def test_a_record_or_a_reason(kind: Kind) -> None:
    dice = random.Random(7)
    read = 0
    for _ in range(300):
        given = tree(dice, kind)
        try:
            record = reading.build(Ref(kind, "a.example.org", "p"), given)
        except Invalid:
            continue
        raw = writing.encode(record)
        again = reading.read(record.ref, raw)
        assert (again, writing.encode(again)) == (record, raw), given
        read += 1
    assert read or kind is Kind.MIDDLEWARE  # their bodies are too choosy for dice
