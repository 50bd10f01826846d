# SPDX-License-Identifier: Apache-2.0
"""vulcand's gauges (§14)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lb import statsd
from lb.state import Listener
from lb.stats import Stats


def client(phase: str, local: object = None) -> Any:
    transport = SimpleNamespace(get_extra_info=lambda _: local)
    return SimpleNamespace(phase=phase, transport=transport)


def plane(address: str, *clients: Any) -> Any:
    live = SimpleNamespace(spec=Listener("l", "tcp", address), clients=clients)
    return SimpleNamespace(listeners={"l": live}, retired=())


def test_14_names() -> None:
    assert statsd.name("a b", "frontend", "x/y") == "a_b.frontend.x_y"
    assert statsd.name("", "sys") == "sys"


def test_14_connections_by_our_own_address() -> None:
    seen: set[str] = set()
    clients = [client("new"), client("idle"), client("idle"), client("active"), client("")]
    found = dict(statsd.named(statsd.connections(plane("127.0.0.1:8181", *clients)), seen))
    assert found == {
        "conns.127.0.0.1_8181.new": 1,
        "conns.127.0.0.1_8181.active": 1,
        "conns.127.0.0.1_8181.idle": 2,
    }
    # a gauge goes back to 0 when the last one left
    assert set(dict(statsd.named(statsd.connections(plane("127.0.0.1:8181")), seen)).values()) == {
        0
    }


@pytest.mark.parametrize(
    ("local", "name"),
    [
        (("::ffff:192.0.2.7", 8181, 0, 0), "192.0.2.7_8181"),
        (("192.0.2.7", 8181), "192.0.2.7_8181"),
        (("2001:db8::1", 8181, 0, 0), "_2001_db8__1__8181"),
    ],
)
def test_14_a_listener_of_every_address_names_the_one_they_came_to(
    local: object, name: str
) -> None:
    found = dict(statsd.named(statsd.connections(plane(":8181", client("active", local))), set()))
    assert found[f"conns.{name}.active"] == 1


def test_14_packets_are_small_and_hold_whole_lines() -> None:
    values = [(f"frontend.f{i}.reqs", float(i)) for i in range(200)]
    packets = list(statsd.packets("p", iter(values)))
    assert len(packets) > 1
    assert all(len(packet) <= 1440 for packet in packets)
    lines = b"\n".join(packets).split(b"\n")
    assert lines == [f"p.{name}:{value:g}|g".encode() for name, value in values]


def test_14_a_try_that_another_followed_counts_for_its_server_alone() -> None:
    stats = Stats(lambda: 0.0)
    stats.add("", ("b", "s"), {502: 1}, [3])
    stats.add("f", ("b", "s"), {200: 1}, [3])
    assert [*stats.frontends] == ["f"]  # no gauges of a frontend without a name
    assert stats.servers["b", "s"].codes.total(0.0) == {502: 1, 200: 1}
