# SPDX-License-Identifier: Apache-2.0
"""The eight promises of style.md §1, one test (or more) named after each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from fairlead.backoff import Backoff
from fairlead.errors import ActionError
from fairlead.etcd.types import KeyValue, Revision
from fairlead.reconcile import EVERYTHING, Dirty, Guard, Loop, Pass, Scope, one_by_one, run
from fairlead.records import Records
from fairlead.testing.clock import ManualClock

State = dict[str, str]


@dataclass(frozen=True, slots=True)
class Put:
    name: str
    value: str

    def __str__(self) -> str:
        return f"put {self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class Del:
    name: str

    def __str__(self) -> str:
        return f"del {self.name}"


Action = Put | Del


def plan(desired: State, actual: State) -> tuple[Action, ...]:
    puts = [
        Put(name, desired[name]) for name in sorted(desired) if actual.get(name) != desired[name]
    ]
    return (*puts, *(Del(name) for name in sorted(actual) if name not in desired))


@dataclass
class World:
    """A desired and an actual state, and a loop between them."""

    desired: State = field(default_factory=dict)
    actual: State = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    journal: list[str] = field(default_factory=list)
    passes: list[Pass[object]] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)
    on_apply: Callable[[Action], None] = lambda action: None
    blind: bool = False

    def loop(
        self, resync: float | None = None, guard: Guard[Action] | None = None
    ) -> Loop[State, Action]:
        def part(state: State, scope: Scope) -> State:
            return {k: v for k, v in state.items() if scope is None or k in scope}

        async def observe(scope: Scope) -> State:
            await asyncio.sleep(0)
            if self.blind:
                raise ActionError("observe", "netlink: no buffer space")
            return part(self.actual, scope)

        async def carry_out(action: Action) -> None:
            await asyncio.sleep(0)
            self.on_apply(action)
            self.journal.append(str(action))
            if action.name in self.refuses:
                raise ActionError(action, "refused")
            if isinstance(action, Put):
                self.actual[action.name] = action.value
            else:
                del self.actual[action.name]

        return Loop(
            name="test",
            desired=lambda scope: part(self.desired, scope),
            observe=observe,
            plan=plan,
            apply=one_by_one(carry_out),
            resync=resync,
            guard=guard,
            observed=lambda name, done: self.passes.append(done),
            clock=self.clock,
            backoff=Backoff(first=1.0, most=8.0, random=lambda: 1.0),
        )

    @asynccontextmanager
    async def running(
        self, loop: Loop[State, Action], ready: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[None]:
        async def at_once() -> None: ...

        task = asyncio.create_task(run(loop, ready or at_once))
        try:
            await self.clock.settle()
            yield
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


# 1 -----------------------------------------------------------------------------------------


async def test_promise_1_levels_not_edges() -> None:
    """A pass works from whole states: a mark that says nothing true does no harm."""
    world = World({"a": "1", "b": "2"})
    loop = world.loop()
    async with world.running(loop):
        world.desired = {"a": "3", "b": "2"}
        loop.dirty.mark(["a", "a", "b", "nonsense"])
        await world.clock.settle()
        assert world.actual == world.desired
    assert world.journal == ["put a=1", "put b=2", "put a=3"]


async def test_promise_1_what_comes_during_a_pass_makes_one_more() -> None:
    world = World({"a": "1"})
    loop = world.loop()

    def change(action: Action) -> None:
        if world.desired == {"a": "1"}:
            world.desired = {"a": "1", "b": "2"}
            for _ in range(5):
                loop.dirty.mark(["b"])

    world.on_apply = change
    async with world.running(loop):
        assert world.actual == {"a": "1", "b": "2"}
    assert [done.scope for done in world.passes] == [EVERYTHING, frozenset({"b"})]


async def test_promise_1_a_pass_starts_at_once() -> None:
    world = World()
    loop = world.loop(resync=30.0)
    async with world.running(loop):
        world.desired = {"a": "1"}
        loop.dirty.mark(["a"])
        await world.clock.settle()  # no time passed
        assert world.actual == {"a": "1"}


# 2 -----------------------------------------------------------------------------------------


async def test_promise_2_nothing_before_the_first_full_snapshot() -> None:
    world = World({}, {"a": "1"})
    loop = world.loop(resync=1.0)
    synced = asyncio.Event()

    async def ready() -> None:
        await synced.wait()

    async with world.running(loop, ready):
        loop.dirty.mark(["a"])
        loop.dirty.mark_all()
        await world.clock.advance(60)
        assert world.passes == []
        assert world.actual == {"a": "1"}
        world.desired = {"a": "1"}
        synced.set()
        await world.clock.settle()
        assert [done.plan for done in world.passes] == [()]


# 3 -----------------------------------------------------------------------------------------


async def test_promise_3_a_list_again_emits_only_the_difference() -> None:
    """The mirror lists again when in doubt; equal values after it cause no pass and no action."""

    def item(value: bytes, revision: int) -> KeyValue:
        return KeyValue(b"a", value, Revision(1), Revision(revision), 1)

    records: Records[str] = Records(lambda kv: kv.value.decode())
    world = World()
    loop = world.loop()
    loop.dirty.mark(records.apply([(b"a", item(b"1", 5))]))
    assert loop.dirty.take() == {b"a"}
    loop.dirty.mark(records.apply([(b"a", item(b"1", 9))]))
    assert not loop.dirty


# 4 -----------------------------------------------------------------------------------------


async def test_promise_4_the_data_plane_outlives_the_control_plane() -> None:
    """Without any news the loop keeps what it last knew standing, for ever."""
    world = World({"a": "1"})
    loop = world.loop(resync=30.0)
    async with world.running(loop):
        await world.clock.advance(24 * 3600)
        del world.actual["a"]  # somebody took it away while etcd is down
        await world.clock.advance(33)
        assert world.actual == {"a": "1"}


# 5 -----------------------------------------------------------------------------------------


async def test_promise_5_put_before_delete() -> None:
    world = World({"new": "1"}, {"old": "1"})
    done = await world.loop().once()
    assert world.journal == ["put new=1", "del old"]
    assert [str(action) for action in done.plan] == world.journal


# 6 -----------------------------------------------------------------------------------------


async def test_promise_6_touch_only_what_is_ours() -> None:
    """A pass over a scope neither sees nor touches what lies outside it."""
    world = World({"a": "1"}, {"foreign": "x"})
    await world.loop().once(frozenset({"a"}))
    assert world.actual == {"a": "1", "foreign": "x"}


# 7 -----------------------------------------------------------------------------------------


async def test_promise_7_one_failed_action_does_not_stop_the_others() -> None:
    world = World({"a": "1", "b": "2", "c": "3"}, refuses={"b"})
    done = await world.loop().once()
    assert world.actual == {"a": "1", "c": "3"}
    assert [str(error) for error in done.failures] == ["put b=2: refused"]


async def test_promise_7_what_failed_is_tried_again_from_a_fresh_observe_after_a_delay() -> None:
    world = World({"b": "2"}, refuses={"b"})
    loop = world.loop()
    async with world.running(loop):
        assert len(world.passes) == 1
        await world.clock.advance(0.9)
        assert len(world.passes) == 1
        await world.clock.advance(0.2)
        assert len(world.passes) == 2
        world.refuses.clear()
        await world.clock.advance(1.0)
        assert len(world.passes) == 2  # the second delay is longer
        await world.clock.advance(1.1)
        assert world.actual == {"b": "2"}
        await world.clock.advance(3600)
        assert len(world.passes) == 3


async def test_promise_7_success_elsewhere_does_not_shorten_the_delay() -> None:
    world = World({"b": "2"}, refuses={"b"})
    loop = world.loop()
    async with world.running(loop):
        for turn in range(40):  # a busy store, 0.5 s apart
            world.desired = {"b": "2", "a": str(turn)}
            loop.dirty.mark(["a"])
            await world.clock.advance(0.5)
        assert world.actual == {"a": "39"}
    tries = world.journal.count("put b=2")
    assert tries == 5  # at 0, 1, 3, 7, 15 s: growth, in spite of 40 good passes


async def test_promise_7_delays_have_jitter() -> None:
    waits = {round(Backoff(first=1.0).next(), 6) for _ in range(20)}
    assert len(waits) > 10
    assert all(0.5 <= wait <= 1.0 for wait in waits)


async def test_promise_7_a_refused_observe_is_tried_again() -> None:
    world = World({"a": "1"}, blind=True)
    async with world.running(world.loop()):
        assert len(world.passes[0].failures) == 1
        world.blind = False
        await world.clock.advance(1.1)
        assert world.actual == {"a": "1"}


async def test_promise_7_a_pass_with_nothing_to_do_is_silent() -> None:
    world = World({"a": "1"}, {"a": "1"})
    loop = world.loop(resync=30.0)
    async with world.running(loop):
        await world.clock.advance(330)
    assert len(world.passes) >= 10
    assert world.journal == []


async def test_a_busy_store_does_not_put_off_the_resync() -> None:
    world = World({"a": "1"})
    loop = world.loop(resync=30.0)
    async with world.running(loop):
        world.actual["foreign"] = "x"
        for _ in range(40):
            loop.dirty.mark(["a"])
            await world.clock.advance(1.0)
        assert world.actual == {"a": "1"}


# 8 -----------------------------------------------------------------------------------------


def guarded(world: World, **limits: float) -> Loop[State, Action]:
    return world.loop(
        guard=Guard(
            removes=lambda action: isinstance(action, Del),
            standing=lambda: len(world.actual),
            floor=2,
            **limits,
        )
    )


MANY = {f"n{i}": "1" for i in range(10)}


async def test_promise_8_a_plan_that_removes_too_much_is_held_back() -> None:
    world = World({"new": "1"}, dict(MANY))
    done = await guarded(world).once()
    assert done.held == 10
    assert world.actual == {**MANY, "new": "1"}  # the rest is done
    assert [str(action) for action in done.plan] == ["put new=1"]


async def test_promise_8_release_lets_it_through_once() -> None:
    world = World({}, dict(MANY))
    loop = guarded(world)
    async with world.running(loop):
        assert world.actual == MANY
        loop.release()
        await world.clock.settle()
        assert world.actual == {}
        world.actual = dict(MANY)
        loop.dirty.mark_all()
        await world.clock.settle()
        assert world.actual == MANY


async def test_promise_8_a_changed_desire_ends_the_hold() -> None:
    world = World({}, dict(MANY))
    loop = guarded(world)
    async with world.running(loop):
        world.desired = dict.fromkeys(list(MANY)[1:], "1")
        loop.dirty.mark_all()
        await world.clock.settle()
        assert world.actual == world.desired


async def test_promise_8_many_small_plans_are_one_large_one() -> None:
    """Leases that run out together arrive one by one."""
    world = World(dict(MANY), dict(MANY))
    loop = guarded(world)
    async with world.running(loop):
        for name in MANY:
            del world.desired[name]
            loop.dirty.mark([name])
            await world.clock.settle()
        assert len(world.actual) == 5  # half of what stood
        assert world.passes[-1].held == 1
        await world.clock.advance(11.0)  # looked at again by itself; it is still too much
        assert len(world.actual) == 5
        assert world.passes[-1].held == 5
        for name in list(MANY)[6:]:  # the others come back: one is gone, and that may be
            world.desired[name] = "1"
        await world.clock.advance(11.0)
        assert world.actual == world.desired


@pytest.mark.parametrize(
    ("standing", "removals", "held"),
    [(10, 5, 0), (10, 6, 6), (3, 2, 0), (3, 3, 3), (1000, 500, 0), (1000, 501, 501), (2, 2, 0)],
)
def test_promise_8_share_and_floor(standing: int, removals: int, held: int) -> None:
    guard: Guard[Action] = Guard(lambda action: isinstance(action, Del), lambda: standing, floor=2)
    puts: Sequence[Action] = [Put("x", "1")] * 3
    assert guard.held([*puts, *[Del("x")] * removals]) == held


# the rest ----------------------------------------------------------------------------------


async def test_caught_up_waits_for_a_pass_over_what_is_marked_now() -> None:
    world = World({"a": "1"})
    loop = world.loop()
    async with world.running(loop):
        await asyncio.wait_for(loop.caught_up(), 1)  # nothing marked: at once
        world.desired["b"] = "2"
        world.on_apply = lambda action: loop.dirty.mark(["c"])  # more work meanwhile
        loop.dirty.mark(["b"])
        await asyncio.wait_for(loop.caught_up(), 1)
        assert world.actual["b"] == "2"


async def test_caught_up_returns_after_a_failed_pass_too() -> None:
    world = World({"a": "1"}, refuses={"a"})
    loop = world.loop()
    async with world.running(loop):
        loop.dirty.mark(["a"])
        await asyncio.wait_for(loop.caught_up(), 1)
        assert world.passes[-1].failures


async def test_pending_does_nothing() -> None:
    world = World({"a": "1"}, {"b": "1"})
    assert [str(action) for action in await world.loop().pending()] == ["put a=1", "del b"]
    assert world.journal == []


async def test_dirty_takes_everything_once() -> None:
    dirty = Dirty()
    assert not dirty
    empty: list[Hashable] = []
    dirty.mark(empty)
    assert not dirty
    dirty.mark(["a"])
    dirty.mark_all()
    assert dirty.take() is EVERYTHING
    assert not dirty


async def test_what_failed_is_undone_until_a_pass_looked_at_it_again() -> None:
    """A pass over something else mends nothing, so status must not say that all is well."""
    refused = {"a"}

    async def apply(actions: Sequence[str]) -> Sequence[ActionError]:
        return [ActionError(name, "no") for name in actions if name in refused]

    async def observe(scope: Scope) -> frozenset[object]:
        return frozenset()

    loop: Loop[frozenset[object], str] = Loop(
        name="x",
        desired=lambda scope: frozenset("abc") if scope is None else frozenset(scope),
        observe=observe,
        plan=lambda desired, actual: tuple(sorted(map(str, desired))),
        apply=apply,
    )
    await loop.once(frozenset("ab"))
    await loop.once(frozenset("c"))
    assert [str(e) for done in loop.undone for e in done.failures] == ["a: no"]
    await loop.once(frozenset("a"))  # not all that the failed pass looked at
    assert len(loop.undone) == 2
    refused.clear()
    await loop.once(frozenset("abc"))
    assert loop.undone == ()
