# SPDX-License-Identifier: Apache-2.0
"""Two HostStates → ordered actions. Pure.

Put before delete, so that no peer is unreachable in between: links, addresses, neighbours, FDB
entries and routes in that order, then the deletions the other way round. Both runs are sorted
by key, so equal inputs give equal plans and a plan can be a golden file.
"""

from __future__ import annotations

from msgspec import Struct

from flannelpy.state import HostState, Key, Kind, Link, Object, Route


class Put(Struct, frozen=True, gc=False):
    """Make `wanted` be there, replacing what holds its key.

    Attributes:
        instead: what holds the key now; None: nothing.
    """

    wanted: Object
    instead: Object | None = None

    def __str__(self) -> str:
        return f"put {self.wanted}"


class Remake(Struct, frozen=True, gc=False):
    """Delete a device whose fixed parameters differ and make it anew; all on it goes with it."""

    wanted: Link
    instead: Link

    def __str__(self) -> str:
        return f"remake {self.wanted}"


class Delete(Struct, frozen=True, gc=False):
    """Take `gone` away."""

    gone: Object

    def __str__(self) -> str:
        return f"del {self.gone}"


Action = Put | Remake | Delete


def thing_of(action: Action) -> Object:
    """Return the object that an action puts or takes away."""
    return action.gone if isinstance(action, Delete) else action.wanted


def host_state(desired: HostState, actual: HostState) -> tuple[Action, ...]:
    """Return the actions that turn `actual` into `desired`; none when they agree."""
    puts: list[Action] = []
    fresh: set[str] = set()  # devices that will be empty once they are there
    for key in sorted(desired):
        wanted, there = desired[key], actual.get(key)
        if there is not None and key.kind != Kind.LINK and _dev(key, wanted) in fresh:
            there = None
        if isinstance(wanted, Link):
            action = _link(wanted, there)
            if action is None:
                continue
            if isinstance(action, Remake) or there is None:
                fresh.add(wanted.name)
            puts.append(action)
        elif there != wanted:
            puts.append(Put(wanted, there))
    gone = [
        Delete(actual[key])
        for key in sorted(actual.keys() - desired.keys(), key=_last_first)
        if key.kind == Kind.LINK or _dev(key, actual[key]) not in fresh
    ]
    return (*puts, *gone)


def _link(wanted: Link, there: Object | None) -> Action | None:
    if not isinstance(there, Link):
        return Put(wanted)
    if wanted.tunnel is None or there.tunnel is None or not wanted.tunnel.grows_from(there.tunnel):
        return Remake(wanted, there)
    same = (wanted.mtu, wanted.mac, wanted.learning, wanted.up) == (
        there.mtu,
        there.mac,
        there.learning,
        there.up,
    )
    return None if same and wanted.tunnel.stands_for(there.tunnel) else Put(wanted, there)


def _dev(key: Key, thing: Object) -> str:
    return thing.dev if isinstance(thing, Route) else key.dev  # a route's key has none


def _last_first(key: Key) -> tuple[int, Key]:
    return -key.kind, key


def withdraws(action: Action) -> bool:
    """Say whether an action takes away something that carries traffic (promise 8)."""
    return isinstance(action, Delete) and isinstance(action.gone, Route)


def makes_link(action: object) -> bool:
    """Say whether an action leaves a device behind that was not there, empty."""
    return isinstance(action, Remake) or (
        isinstance(action, Put) and isinstance(action.wanted, Link) and action.instead is None
    )
