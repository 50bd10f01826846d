# SPDX-License-Identifier: Apache-2.0
"""lb/places.py: requests under way, counted in one process (in several: integration/lb/test_workers)."""

from __future__ import annotations

from lb.liveserver import LiveServer
from lb.places import Places
from lb.policy import ServerPolicy
from lb.pool import LivePool
from lb.state import Server


def server(name: str, most: int = 0) -> LiveServer:
    spec = Server(name, name, 80, f"{name}:80", policy=ServerPolicy(max_conns=most))
    return LiveServer(spec, LivePool("b"))


def test_a_servers_places() -> None:
    places, one, free = Places("b"), server("one", 2), server("free")
    assert [places.enter(one, 0) for _ in range(3)] == [True, True, False]
    assert (places.left(one), places.left(free)) == (False, True)
    places.leave(one)
    assert places.left(one)
    assert places.enter(one, 0)


def test_a_backends_places() -> None:
    places, one, two = Places("b"), server("one"), server("two")
    assert places.enter(one, 2)
    assert places.enter(two, 2)
    assert not places.enter(two, 2)
    places.leave(one)  # a server may be gone by then: its place is free all the same
    assert places.enter(two, 2)
