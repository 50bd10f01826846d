# SPDX-License-Identifier: Apache-2.0
"""Health as named conditions, each with since-when and why. No IO.

Live = the loop turns (whoever can ask gets an answer). Ready = every condition that a traffic
source must wait for holds: `first-sync` and `serving` by default. `etcd-connected` and `in-sync`
are told, but do not make a daemon unready: the data plane outlives the control plane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fairlead.clock import SYSTEM, Clock


@dataclass(frozen=True, slots=True)
class Condition:
    """One claim about the daemon.

    Attributes:
        holds: whether the claim is true.
        since: wall-clock seconds of the last change of `holds`.
        why: in words; "" when there is nothing to say.
        required: the daemon is not ready without it.
    """

    name: str
    holds: bool
    since: float
    why: str = ""
    required: bool = False


class Health:
    """The conditions of a daemon."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._conditions: dict[str, Condition] = {}
        self.conditions: Mapping[str, Condition] = MappingProxyType(self._conditions)
        self._watchers: list[Callable[[Condition], None]] = []

    def watch(self, callback: Callable[[Condition], None]) -> None:
        """Call `callback` whenever a condition begins or ceases to hold."""
        self._watchers.append(callback)

    def set(self, name: str, holds: bool, why: str = "", *, required: bool | None = None) -> None:
        """State a condition; `required` None keeps what was said before."""
        before = self._conditions.get(name)
        if required is None:
            required = before.required if before else False
        turned = before is None or before.holds is not holds
        since = self._clock.wall() if before is None or turned else before.since
        after = Condition(name, holds, since, why, required)
        self._conditions[name] = after
        if turned:
            for callback in self._watchers:
                callback(after)

    @property
    def ready(self) -> bool:
        """Say whether every required condition holds, and there is one."""
        required = [condition for condition in self._conditions.values() if condition.required]
        return bool(required) and all(condition.holds for condition in required)

    def missing(self) -> tuple[Condition, ...]:
        """Return the required conditions that do not hold."""
        return tuple(c for c in self._conditions.values() if c.required and not c.holds)
