# SPDX-License-Identifier: Apache-2.0
"""Attempts that have ended: by frontend and server, in order where that matters."""

from lb.live import LiveFrontend
from lb.policy import BackendPolicy, Outliers
from lb.pool import LivePool
from lb.state import Frontend, Pool, Server
from lb.tallies import Tallies, runs
from lb.window import buckets, microseconds


def pool(policy: BackendPolicy) -> LivePool:
    live = LivePool("b")
    servers = (Server("s", "a", 80, "a:80"), Server("t", "b", 80, "b:80"))
    live.put(Pool("b", servers, 1.0, 1.0, 1.0, 2, policy=policy), 0.0)
    return live


def test_what_ended_is_counted_once_and_then_forgotten() -> None:
    live = pool(BackendPolicy())
    server = live.servers["a", 80]
    frontend = LiveFrontend(Frontend("f", "Path(`/`)", "b"), live)
    tallies = Tallies()
    for status in (200, 200, 404):
        tallies.note(frontend, server, status, 0.001)
    tallies.note(frontend, None, 404, 0.0)
    at_server, own = tallies.take()
    assert (at_server.server, dict(at_server.counts), own.server) == (
        server,
        {200: 2, 404: 1},
        None,
    )
    assert not frontend.tallies
    assert not tallies.take()
    assert dict(own.counts) == {404: 1}


def test_runs_of_all_frontends_are_in_order_where_failures_in_a_row_matter() -> None:
    live = pool(BackendPolicy(outliers=Outliers(3, 1.0, 50)))
    bad, other = live.servers["a", 80], live.servers["b", 80]
    one, two = (LiveFrontend(Frontend(n, "Path(`/`)", "b"), live) for n in "fg")
    tallies = Tallies()
    for frontend, server, status in (
        (one, bad, 502), (two, bad, 200), (one, bad, 502), (one, bad, 502), (two, other, 200),
    ):  # fmt: skip
        tallies.note(frontend, server, status, 0.001)
    found = runs(tallies.take())
    assert found == {live: [(bad, 502, 1), (bad, 200, 1), (bad, 502, 2), (other, 200, 1)]}
    assert runs(tallies.take()) == {}


def test_runs_are_one_a_status_where_only_shares_matter() -> None:
    live = pool(BackendPolicy())
    server = live.servers["a", 80]
    frontend = LiveFrontend(Frontend("f", "Path(`/`)", "b"), live)
    tallies = Tallies()
    for status in (200, 500, 200):
        tallies.note(frontend, server, status, 0.001)
    assert runs(tallies.take()) == {live: [(server, 200, 2), (server, 500, 1)]}


def test_buckets_hold_two_digits_and_keep_order() -> None:
    times = [0.0, 1e-7, 1e-6, 0.00025, 0.00026, 0.5, 3599.0, 1e6]
    found = [microseconds(index) for index in buckets(times)]
    assert found == sorted(found)
    assert (found[0], found[1], found[-1]) == (1, 1, 3_600_000_000)
    for seconds, us in zip(times[2:-1], found[2:-1], strict=True):
        assert seconds * 1e6 - 1 <= us <= seconds * 1.01e6 + 1
