# SPDX-License-Identifier: Apache-2.0
"""lb/pool.py: places under a limit, retries of one of several processes, verdicts that are followed."""

from __future__ import annotations

from lb.policy import BACKEND, BackendPolicy, Outliers, Retry, ServerPolicy
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
    live.leave(live.servers["a", 80])
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
