# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from lb import extension, policy
from lb.policy import (
    BackendPolicy,
    FrontendPolicy,
    HealthCheck,
    ListenerPolicy,
    Mirror,
    Outliers,
    Patience,
    Retry,
    Sticky,
)


def test_nothing_said_is_the_default() -> None:
    assert extension.backend({}) is policy.BACKEND
    assert extension.server({}) is policy.SERVER
    assert extension.frontend({}, {}) is policy.FRONTEND


def test_all_of_a_backend_in_any_case() -> None:
    read = extension.backend(
        {
            "balance": "hash",
            "HASHON": "request.header.X-User",
            "Sticky": {"Cookie": "c", "MaxAge": "1h"},
            "HealthCheck": {"Path": "/up", "Interval": "1s", "Status": "204"},
            "OutlierDetection": {"consecutive": 3},
            "Retry": {"Budget": 5},
            "Rebalance": False,
            "SlowStart": "30s",
            "MaxConns": 9,
            "HTTP2": True,
            "SendProxy": "V2",
        }
    )
    assert read == BackendPolicy(
        "hash", "request.header.X-User", Sticky("c", max_age=3600),
        HealthCheck(path="/up", interval=1.0, low=204, high=204), Outliers(3), Retry(5, 10),
        False, 30.0, 9, True, "v2",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"Balance": "luck"}, 'Settings.Balance: "luck"'),
        ({"Balance": 1}, "not of the right type"),
        ({"HashOn": "x"}, "is no variable"),
        ({"Sticky": {"Cookie": "a b"}}, "no cookie name"),
        ({"Sticky": {"Path": "/;"}}, "is no path"),
        ({"Sticky": 1}, "an object is wanted"),
        ({"HealthCheck": {"Type": "udp"}}, "known: http, tcp"),
        ({"HealthCheck": {"Status": "2xx"}}, "no range"),
        ({"HealthCheck": {"Fall": 0}}, "not between 1"),
        ({"HealthCheck": {"Path": "/\r\nX: y"}}, "is no path"),
        ({"HealthCheck": {"Speed": 1}}, "Settings.HealthCheck.speed: unknown field"),
        ({"OutlierDetection": {"MaxEjected": 101}}, "not between 0 and 100"),
        ({"SlowStart": "soon"}, "Settings.SlowStart"),
        ({"SlowStart": "-1s"}, "out of range"),
        ({"SendProxy": "v3"}, "known: v1, v2"),
    ],
)
def test_refused_by_name(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace(".", r"\.").replace("(", r"\(")):
        extension.backend(settings)


def test_all_of_a_frontend() -> None:
    read = extension.frontend(
        {"priority": 2, "Middlewares": ["f0/rl", "f1/x"]},
        {
            "Split": [{"BackendId": "c", "Weight": 10}],
            "Headers": {"Request": {"Set": {"X": "1"}}},
            "Timeouts": {"Read": "5s", "Write": "6s", "Request": "1m", "Idle": "1h"},
            "Mirror": {"BackendId": "m", "Percent": 5, "MaxBodyBytes": 9},
            "MaxResponseBodyBytes": 7,
        },
    )
    assert read == FrontendPolicy(
        2,
        (("c", 10),),
        {"Request": {"Set": {"X": "1"}}},
        Patience(5.0, 6.0, 60.0, 3600.0),
        Mirror("m", 5, 9),
        7,
        ("f0/rl", "f1/x"),
    )
    assert extension.listener({}) is policy.LISTENER
    said = {"MaxConns": 5, "Timeouts": {"Read": "1s", "Write": "2s", "Idle": "3s"}}
    assert extension.listener(said) == ListenerPolicy(5, 1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("own", "settings", "reason"),
    [
        ({"Middlewares": ["rl"]}, {}, 'no "FRONTEND/ID"'),
        ({"Middlewares": [{"Id": "rl"}]}, {}, 'no "FRONTEND/ID"'),
        ({"Middlewares": ["f/a", "f/a"]}, {}, "stands there twice"),
        ({"Priority": "1"}, {}, "not of the right type"),
        ({}, {"Mirror": {}}, "Settings.Mirror.BackendId: a backend's id"),
        ({}, {"Mirror": {"BackendId": "b", "Percent": 101}}, "not between 0 and 100"),
        ({}, {"Timeouts": {"Total": "1s"}}, "Settings.Timeouts.total: unknown field"),
        ({}, {"Timeouts": {"Read": 5}}, "not of the right type"),
        ({}, {"MaxResponseBodyBytes": -1}, "MaxResponseBodyBytes"),
        ({}, {"Headers": []}, "Settings.Headers"),
    ],
)
def test_frontends_refused_by_name(
    own: dict[str, object], settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        extension.frontend(own, settings)


def test_a_split_is_at_most_the_whole() -> None:
    read = extension.frontend({"Priority": 3}, {"Split": [{"BackendId": "c", "Weight": 10}]})
    assert read == FrontendPolicy(3, (("c", 10),))
    with pytest.raises(ValueError, match="together at most 100"):
        extension.frontend(
            {}, {"Split": [{"BackendId": "c", "Weight": 60}, {"BackendId": "d", "Weight": 60}]}
        )
