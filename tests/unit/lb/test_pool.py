# SPDX-License-Identifier: Apache-2.0
"""lb/pool.py: places under a limit, retries of one of several processes, verdicts that are followed."""

from __future__ import annotations

from collections import Counter

import pytest

from lb.policy import BACKEND, SERVER, BackendPolicy, Outliers, Retry, ServerPolicy
from lb.pool import LivePool
from lb.state import Pool, Server


def pool(policy: BackendPolicy, **servers: ServerPolicy) -> LivePool:
    live = LivePool("b")
    specs = tuple(Server(name, name, 80, f"{name}:80", policy=own) for name, own in servers.items())
    live.put(Pool("b", specs, 1.0, 1.0, 1.0, 1, policy=policy), 0.0)
    return live


def key(_: str) -> bytes:
    return b""


def picks(live: LivePool, count: int) -> list[str]:
    found = [live.pick((), key) for _ in range(count)]
    return ["-" if server is None else server.spec.id for server in found]


def test_a_place_is_taken_by_the_pick_not_only_when_the_connection_stands() -> None:
    live = pool(BackendPolicy(max_conns=3), a=ServerPolicy(max_conns=1), b=ServerPolicy())
    assert sorted(picks(live, 4)) == ["-", "a", "b", "b"]
    live.places.leave(live.servers["a", 80])
    assert picks(live, 2) == ["a", "-"]


def test_the_budget_of_one_of_four_processes_is_a_quarter() -> None:
    live = LivePool("b")
    live.share = 0.25
    spec = Server("a", "a", 80, "a:80")
    policy = BackendPolicy(retry=Retry(budget=10, minimum=8))
    live.put(Pool("b", (spec,), 1.0, 1.0, 1.0, 1, policy=policy), 0.0)
    assert [live.may_retry() for _ in range(3)] == [True, True, False]
    live.judge([(live.servers["a", 80], 200, 30)], 1.0, 1.0)
    assert [live.may_retry() for _ in range(6)] == [True] * 5 + [False]


def test_what_one_finds_out_another_follows() -> None:
    policy = BackendPolicy(outliers=Outliers(consecutive=5), rebalance=False)
    parent = pool(policy, a=ServerPolicy(), b=ServerPolicy())
    worker = pool(policy, a=ServerPolicy(), b=ServerPolicy())
    worker.follows = True
    bad = parent.servers["a", 80]
    assert not worker.judge([(worker.servers["a", 80], 503, 9)], 1.0, 0.5)
    assert parent.verdict() == []
    assert parent.judge([(bad, 503, 3), (bad, 503, 2)], 1.0, 0.5)
    assert parent.verdict() == [("a", 80, True, 11.0, 1, 0.0)]
    worker.follow([("a", 80, True, 11.0, 1, 0.0)], 1.0)
    assert set(picks(worker, 4)) == {"b"}
    worker.judge((), 12.0, 0.5)  # its time is over
    assert set(picks(worker, 4)) == {"a", "b"}
    worker.follow([("b", 80, False, 0.0, 1, 0.0)], 12.0)
    assert set(picks(worker, 4)) == {"a"}
    worker.follow([], 12.0)
    assert set(picks(worker, 4)) == {"a", "b"}


def test_a_good_answer_between_breaks_the_row() -> None:
    live = pool(BackendPolicy(outliers=Outliers(consecutive=5)), a=ServerPolicy(), b=ServerPolicy())
    bad = live.servers["a", 80]
    live.judge([(bad, 502, 4), (bad, 200, 1), (bad, 502, 4)], 1.0, 0.5)
    assert live.verdict() == []


def test_when_all_are_out_all_are_used() -> None:
    live = pool(BACKEND, a=ServerPolicy(), b=ServerPolicy(), c=ServerPolicy(draining=True))
    a, b = live.servers["a", 80], live.servers["b", 80]
    live.set_health(a, False, 1.0)
    assert set(picks(live, 4)) == {"b"}
    live.set_health(b, False, 1.0)
    assert set(picks(live, 4)) == {"a", "b"}
    live.set_health(b, True, 1.0)
    assert set(picks(live, 4)) == {"b"}


# slow start, backups: who gets how much; the clock comes from here


def spec(*names: str, policy: BackendPolicy, **servers: ServerPolicy) -> Pool:
    return Pool(
        "b",
        tuple(Server(n, n, 80, f"{n}:80", policy=servers.get(n, SERVER)) for n in names),
        5.0, 2.0, 15.0, 8, policy=policy,
    )  # fmt: skip


def shares(pool: LivePool, turns: int = 2100) -> dict[str, float]:
    """Return the part of the turns that each server has."""
    picked = Counter(server.spec.id for _ in range(turns) if (server := pool.pick((), lambda _: b"")))  # fmt: skip
    return {name: round(count / turns, 2) for name, count in picked.items()}


@pytest.mark.parametrize(
    ("after", "share"), [(0.0, 0.05), (2.5, 0.1), (5.0, 0.2), (8.0, 0.29), (10.0, 0.33)]
)
def test_slow_start_of_a_new_server(after: float, share: float) -> None:
    policy = BackendPolicy(slow_start=10.0)
    pool = LivePool("b")
    pool.put(spec("a", "b", policy=policy), 100.0)
    assert shares(pool) == {"a": 0.5, "b": 0.5}  # who is there at the start needs none
    pool.put(spec("a", "b", "new", policy=policy), 200.0)
    pool.refresh(200.0 + after)
    found = shares(pool)
    assert found["new"] == pytest.approx(share, abs=0.02)
    assert found["a"] == pytest.approx(found["b"], abs=0.01)
    assert pool.restless is (after < 10.0)


def test_slow_start_of_a_server_that_is_back() -> None:
    pool = LivePool("b")
    pool.put(spec("a", "b", policy=BackendPolicy(slow_start=10.0)), 100.0)
    (_, second) = pool.servers.values()
    pool.set_health(second, False, 150.0)
    assert shares(pool) == {"a": 1.0}
    pool.set_health(second, True, 200.0)
    assert shares(pool)["b"] < 0.15
    pool.refresh(211.0)
    assert shares(pool) == {"a": 0.5, "b": 0.5}


def test_without_slow_start_a_new_server_has_its_share_at_once() -> None:
    pool = LivePool("b")
    pool.put(spec("a", policy=BackendPolicy()), 100.0)
    pool.put(spec("a", "b", policy=BackendPolicy()), 200.0)
    assert shares(pool) == {"a": 0.5, "b": 0.5}


def test_backups_and_draining() -> None:
    policy = BackendPolicy()
    pool = LivePool("b")
    spare, leaving = ServerPolicy(backup=True), ServerPolicy(draining=True)
    pool.put(spec("a", "b", "c", policy=policy, b=spare, c=leaving), 1.0)
    assert shares(pool) == {"a": 1.0}
    pool.put(spec("a", "b", "c", policy=policy, a=leaving, b=spare, c=leaving), 1.0)
    assert shares(pool) == {"b": 1.0}


def test_a_change_of_settings_keeps_health_and_a_change_of_servers_resets_weights() -> None:
    pool = LivePool("b")
    pool.put(spec("a", "b", policy=BackendPolicy()), 1.0)
    first, second = pool.servers.values()
    pool.set_health(first, False, 1.0)
    second.factor = 4
    pool.put(spec("a", "b", policy=BackendPolicy(max_conns=5)), 2.0)
    assert [s.healthy for s in pool.servers.values()] == [False, True]
    assert [s.factor for s in pool.servers.values()] == [1, 4]
    pool.put(spec("a", "b", "c", policy=BackendPolicy()), 3.0)
    assert [s.factor for s in pool.servers.values()] == [1, 1, 1]  # §5: they start anew
