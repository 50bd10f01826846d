# SPDX-License-Identifier: Apache-2.0
import pytest

from lb import policy
from lb.policy import BackendPolicy, FrontendPolicy, HealthCheck, Outliers, Retry, Sticky


def test_nothing_said_is_the_default() -> None:
    assert policy.backend({}) is policy.BACKEND
    assert policy.server({}) is policy.SERVER
    assert policy.frontend(0, {}) is policy.FRONTEND


def test_all_of_a_backend_in_any_case() -> None:
    read = policy.backend(
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
        policy.backend(settings)


def test_a_split_is_at_most_the_whole() -> None:
    read = policy.frontend(3, {"Split": [{"BackendId": "c", "Weight": 10}]})
    assert read == FrontendPolicy(3, (("c", 10),))
    with pytest.raises(ValueError, match="together at most 100"):
        policy.frontend(
            0, {"Split": [{"BackendId": "c", "Weight": 60}, {"BackendId": "d", "Weight": 60}]}
        )
