# SPDX-License-Identifier: Apache-2.0
from fairlead.health import Condition, Health
from fairlead.testing.clock import ManualClock


async def test_ready_needs_every_required_condition() -> None:
    clock = ManualClock(wall=100.0)
    health = Health(clock)
    assert not health.ready  # nobody said anything yet
    health.set("first-sync", False, "waiting", required=True)
    health.set("etcd-connected", False)
    assert [condition.name for condition in health.missing()] == ["first-sync"]
    await clock.advance(5)
    health.set("first-sync", True)
    assert health.ready  # although etcd is away
    assert health.conditions["first-sync"] == Condition("first-sync", True, 105.0, "", True)


async def test_since_is_the_last_turn_and_turns_are_told() -> None:
    clock = ManualClock(wall=100.0)
    health = Health(clock)
    told: list[tuple[str, bool]] = []
    health.watch(lambda condition: told.append((condition.name, condition.holds)))
    health.set("in-sync", True)
    await clock.advance(5)
    health.set("in-sync", True, "still")
    assert health.conditions["in-sync"].since == 100.0
    assert health.conditions["in-sync"].why == "still"
    health.set("in-sync", False)
    assert told == [("in-sync", True), ("in-sync", False)]
