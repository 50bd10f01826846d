# SPDX-License-Identifier: Apache-2.0
"""The loop that keeps what *is* converging on what *should be*.

Theory of operation
-------------------
A `Loop` is four functions: `desired` and `plan` are pure, `observe` and `apply` do the IO.
A pass works on a *scope*: the keys marked dirty since the last pass, or EVERYTHING::

    mark(keys) ─► Dirty ─► take scope ─► desired(scope) ─┐
                                     └─► observe(scope) ─┴─► plan ─► guard ─► apply ─► failures
                                                                                 │ mark(scope) after a delay
                                                                                 ▼

Both states are *whole within the scope*: a key that `desired` does not give is one that should
not be. So a pass over one key costs O(1) in the number of others, and a pass over EVERYTHING
finds what crashed predecessors and strangers left. A daemon with little state ignores the
scope and always works on EVERYTHING.

The promises (each learnt from an outage; tests/unit/fairlead/test_reconcile.py names them):

1. Levels, not edges: a mark is only a reason to wake. What comes during a pass makes one more.
2. Nothing before the first full snapshot: `run` waits for `ready`.
3. The view behind `desired` lists again when in doubt: `fairlead.etcd.mirror` keeps this one.
4. The data plane outlives the control plane: nothing here asks whether etcd is up.
5. Put before delete: `plan` orders its actions; `apply` gets them in that order.
6. Touch only what is ours: `observe` shows nothing else.
7. One failed action does not stop the others; its scope stays dirty and is tried again from a
   fresh `observe` after a delay with jitter. A pass with nothing to do is silent.
8. Bounded blast radius: a plan that removes more than a set share of what stands, together with
   what was removed in the last seconds, is held back (its removals; the rest is done) and
   reported, until desired changes, the share is kept again, or `release` is called.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Never, Protocol, TypeVar

from fairlead.backoff import Backoff
from fairlead.clock import SYSTEM, Clock
from fairlead.errors import ActionError

State = TypeVar("State")
Action = TypeVar("Action")
Action_co = TypeVar("Action_co", covariant=True)

Scope = frozenset[Hashable] | None
"""The keys a pass looks at; EVERYTHING is all there is, on both sides."""

EVERYTHING: Final[Scope] = None


class Dirty:
    """What the next pass has to look at. `mark` from anywhere on the loop's thread."""

    def __init__(self) -> None:
        self._keys: set[Hashable] = set()
        self._all = False
        self._wake = asyncio.Event()
        self.marks = 0  # how often something was marked

    def mark(self, keys: Iterable[Hashable]) -> None:
        """Add `keys` to the next pass; an empty iterable wakes nobody."""
        before = len(self._keys)
        self._keys.update(keys)
        if self._keys:
            self.marks += len(self._keys) != before
            self._wake.set()

    def mark_all(self) -> None:
        """Make the next pass one over EVERYTHING."""
        self._all = True
        self.marks += 1
        self._wake.set()

    def mark_scope(self, scope: Scope) -> None:
        """Mark a scope as taken, keys or EVERYTHING."""
        if scope is None:
            self.mark_all()
        else:
            self.mark(scope)

    def __bool__(self) -> bool:
        return self._all or bool(self._keys)

    def take(self) -> Scope:
        """Return what is marked and forget it."""
        scope = EVERYTHING if self._all else frozenset(self._keys)
        self._keys, self._all = set(), False
        self._wake.clear()
        return scope

    async def wait(self) -> None:
        """Return when something is marked."""
        await self._wake.wait()


@dataclass(frozen=True, slots=True)
class Guard(Generic[Action]):
    """Promise 8: how much may be taken away, by one plan or by several in a row.

    Attributes:
        removes: says whether an action withdraws something that serves traffic.
        standing: how many such things stand now.
        share: the largest part of what stood that may go within `window`, 0 to 1.
        floor: up to this many removals are always allowed.
        window: seconds; leases that run out together arrive as many small plans.
    """

    removes: Callable[[Action], bool]
    standing: Callable[[], int]
    share: float = 0.5
    floor: int = 10
    window: float = 10.0

    def held(self, plan: Sequence[Action], recent: int = 0) -> int:
        """Return how many removals of `plan` must be held back: all of them or none.

        Args:
            recent: removals carried out within the last `window` seconds.
        """
        removals = sum(map(self.removes, plan))
        most = max(self.floor, self.share * (self.standing() + recent))
        return removals if recent + removals > most else 0


@dataclass(frozen=True, slots=True)
class Pass(Generic[Action_co]):
    """What one pass did, for status, metrics and tests.

    Attributes:
        scope: what it looked at.
        plan: the actions handed to `apply`, removals held back not among them.
        failures: what was refused; its scope is dirty again.
        held: removals held back by the guard.
        seconds: how long the pass took.
    """

    scope: Scope
    plan: tuple[Action_co, ...]
    failures: tuple[ActionError, ...]
    held: int
    seconds: float


class Watcher(Protocol):
    """Told of every pass: `fairlead.daemon` counts, logs and sets conditions with it."""

    def __call__(self, loop: str, done: Pass[object]) -> None:
        """Take note of a pass of the loop named `loop`."""
        ...


def _ignore(loop: str, done: Pass[object]) -> None:
    """Take no note."""


@dataclass(slots=True)
class Loop(Generic[State, Action]):
    """One reconciliation.

    Attributes:
        name: the log's and the metrics' name for it.
        desired: what should be, within a scope. Pure; from immutable views.
        observe: what is, within a scope: only our own objects.
        plan: actions that turn the second state into the first: `plan(desired, actual)`.
        apply: carries a plan out in order and returns what was refused; one refusal does not
            stop the rest. It raises only for faults of ours.
        resync: seconds between passes over EVERYTHING without a reason (± 10 %); None: never.
        settle: seconds to wait for quiet before a pass, default none.
        guard: promise 8; None where nothing is ever withdrawn.
        observed: called after every pass.
        last: the last pass.
        undone: passes that failed or held something back, until one that looked at the same
            did neither: a pass over something else mends nothing.
    """

    name: str
    desired: Callable[[Scope], State]
    observe: Callable[[Scope], Awaitable[State]]
    plan: Callable[[State, State], Sequence[Action]]
    apply: Callable[[Sequence[Action]], Awaitable[Sequence[ActionError]]]
    resync: float | None = 30.0
    settle: float = 0.0
    guard: Guard[Action] | None = None
    observed: Watcher = _ignore
    clock: Clock = SYSTEM
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.5, most=60.0))
    dirty: Dirty = field(default_factory=Dirty)
    last: Pass[Action] | None = None
    undone: tuple[Pass[Action], ...] = ()
    released: bool = False
    _removed: deque[tuple[float, int]] = field(default_factory=deque)
    _looked: int = 0
    _passed: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let the next pass carry out the removals that the guard held back, once."""
        self.released = True
        self.dirty.mark_all()

    async def pending(self, scope: Scope = EVERYTHING) -> tuple[Action, ...]:
        """Return what a pass would do now, and do nothing: `-plan`, `fairlead plan`."""
        actual = await self.observe(scope)  # first, as in `once`
        return tuple(self.plan(self.desired(scope), actual))

    async def once(self, scope: Scope = EVERYTHING) -> Pass[Action]:
        """Make one pass over `scope`."""
        begun = self.clock.monotonic()
        actual = await self.observe(scope)
        # desired after observe: the freshest view wins, and a mark made meanwhile costs one more pass
        plan = tuple(self.plan(self.desired(scope), actual))
        held = 0
        if self.guard is not None and not self.released:
            plan, held = self._guarded(plan, self.guard, begun)
        if scope is EVERYTHING:
            self.released = False
        failures = tuple(await self.apply(plan)) if plan else ()
        done = Pass(scope, plan, failures, held, self.clock.monotonic() - begun)
        self.note(done)
        return done

    def note(self, done: Pass[Action]) -> None:
        """Take note of a pass, and tell who observes."""
        self.last = done
        left = tuple(before for before in self.undone if not _covers(done.scope, before.scope))
        self.undone = (*left, done) if done.failures or done.held else left
        self.observed(self.name, done)

    def _guarded(
        self, plan: tuple[Action, ...], guard: Guard[Action], now: float
    ) -> tuple[tuple[Action, ...], int]:
        """Return what of `plan` may be carried out, and how many removals are held back."""
        removed = self._removed
        while removed and removed[0][0] <= now - guard.window:
            removed.popleft()
        held = guard.held(plan, sum(count for _, count in removed))
        if held:
            return tuple(action for action in plan if not guard.removes(action)), held
        if count := sum(map(guard.removes, plan)):
            removed.append((now, count))
        return plan, 0

    async def caught_up(self) -> None:
        """Return when a pass has looked at all that is marked now, whatever came of it.

        For who writes to the store and wants to answer when the write shows. Only while `run`
        runs; bound it with a timeout where a pass may take long.
        """
        target = self.dirty.marks
        while self._looked < target:
            await self._passed.wait()

    def passed(self, marks: int) -> None:
        """Take note that a pass has looked at the first `marks` marks; `run` calls it."""
        self._looked = marks
        self._passed.set()
        self._passed = asyncio.Event()


async def run(loop: Loop[State, Action], ready: Callable[[], Awaitable[None]]) -> Never:
    """Reconcile for ever: first EVERYTHING, then what is marked, EVERYTHING at each resync.

    Args:
        ready: returns when the views behind `desired` had their first full snapshot.
    """
    await ready()
    loop.dirty.mark_all()
    agenda = _Agenda(loop.clock.monotonic())
    while True:
        await _wait(loop, agenda)
        marks = loop.dirty.marks
        scope = loop.dirty.take()
        try:
            done = await loop.once(scope)
        except ActionError as error:  # observe was refused: nothing is known, so try again later
            done = Pass(scope, (), (error,), 0, 0.0)
            loop.note(done)
        agenda.note(loop, done)
        loop.passed(marks)


@dataclass(slots=True)
class _Agenda:
    """When to look again without a reason; times of the loop's clock.

    Both times are kept across passes: a busy store must put off neither the resync nor the
    second try of what failed.

    Attributes:
        full: when EVERYTHING is due; None: never.
        retry: when `undone` is due; None: nothing is undone.
        undone: the scopes of passes that failed or held something back, until a pass that did
            neither covers them.
    """

    full: float | None
    retry: float | None = None
    undone: Scope = frozenset()

    def note(self, loop: Loop[State, Action], done: Pass[Action]) -> None:
        """Plan ahead after a pass."""
        now = loop.clock.monotonic()
        if done.scope is EVERYTHING and loop.resync is not None:
            self.full = now + loop.resync * (0.9 + 0.2 * loop.backoff.random())
        elif done.scope is EVERYTHING:
            self.full = None
        if done.failures or done.held:
            both = None if self.undone is None or done.scope is None else self.undone | done.scope
            self.undone = both
            wait = loop.guard.window if loop.guard is not None and done.held else 0.0
            self.retry = now + (loop.backoff.next() if done.failures else wait)
        elif self.retry is not None and _covers(done.scope, self.undone):
            self.undone, self.retry = frozenset(), None
            loop.backoff.reset()

    def due(self) -> float | None:
        """Return the earlier of both times."""
        times = [time for time in (self.full, self.retry) if time is not None]
        return min(times, default=None)

    def mark(self, loop: Loop[State, Action]) -> None:
        """Mark what is due by now."""
        now = loop.clock.monotonic()
        if self.full is not None and now >= self.full:
            loop.dirty.mark_all()
        if self.retry is not None and now >= self.retry:
            loop.dirty.mark_scope(self.undone)


def _covers(scope: Scope, part: Scope) -> bool:
    """Say whether a pass over `scope` looked at all of `part`."""
    return scope is None or (part is not None and part <= scope)


async def _wait(loop: Loop[State, Action], agenda: _Agenda) -> None:
    """Return when a pass is due: something was marked, or the agenda says so.

    A mark wakes this very task, with nothing between: each turn of a busy daemon's event loop
    that a change waits for is a millisecond.
    """
    agenda.mark(loop)
    if not loop.dirty and agenda.due() is not None:
        reminder = asyncio.ensure_future(_remind(loop, agenda))
        try:
            await loop.dirty.wait()
        finally:
            reminder.cancel()
    else:
        await loop.dirty.wait()
    if loop.settle:
        await loop.clock.sleep(loop.settle)


async def _remind(loop: Loop[State, Action], agenda: _Agenda) -> None:
    """Mark what the agenda says when its time comes."""
    while not loop.dirty and (due := agenda.due()) is not None:
        await loop.clock.sleep(due - loop.clock.monotonic())
        agenda.mark(loop)


def one_by_one(
    carry_out: Callable[[Action], Awaitable[None]],
) -> Callable[[Sequence[Action]], Awaitable[Sequence[ActionError]]]:
    """Make an `apply` of a function that carries out one action and raises ActionError."""

    async def apply(plan: Sequence[Action]) -> Sequence[ActionError]:
        failures = []
        for action in plan:
            try:
                await carry_out(action)
            except ActionError as error:
                failures.append(error)
        return failures

    return apply
