# SPDX-License-Identifier: Apache-2.0
"""The types of middlewares: the five of vulcand, its demo `auth`, and plug-ins by entry point.

A plug-in gives an object of `Type` under the entry point group `fairlead.lb.middlewares`; `vctl
TYPE upsert|rm`, the API and the data plane then know it (specs/vulcand.md §4.8)::

    [project.entry-points."fairlead.lb.middlewares"]
    geo = "geo_lb:TYPE"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from fairlead.flags import Setting, Values
from lb.fields import Fields
from lb.middleware import Link

GROUP: Final = "fairlead.lb.middlewares"
_BUILT_IN: Final = {
    "ratelimit": "lb.middleware.ratelimit",
    "connlimit": "lb.middleware.connlimit",
    "rewrite": "lb.middleware.rewrite",
    "cbreaker": "lb.middleware.breaker",
    "trace": "lb.middleware.trace",
    "auth": "lb.middleware.auth",
}
_OWN: Final = {"/access": "lb.middleware.access", "/tracing": "lb.middleware.tracing"}
"""What the daemon itself puts into chains; nobody can write it: the name is no field's value."""


@dataclass(frozen=True, slots=True)
class Type:
    """One type.

    Attributes:
        make: returns the link of a stored object; raises ValueError (`Invalid`) with the reason.
        flags: of `vctl NAME upsert`.
        body: those flags → the object that is stored.
        zeros: its fields in the original's order, with what stands for one that is absent.
        guards: it limits who gets in, so a frontend without it must not be open.
    """

    make: Callable[[Fields], Link]
    flags: tuple[Setting, ...] = ()
    body: Callable[[Values], Mapping[str, Any]] = lambda _: {}
    guards: bool = False
    zeros: Mapping[str, Any] = field(default_factory=dict)


@cache
def names() -> tuple[str, ...]:
    """Return every type's name, the originals' first."""
    return (*_BUILT_IN, *sorted({point.name for point in entry_points(group=GROUP)} - {*_BUILT_IN}))


@cache
def find(name: str) -> Type | None:
    """Return a type; None when there is none of this name."""
    module = _BUILT_IN.get(name) or _OWN.get(name)
    if module:
        built_in: Type = import_module(module).TYPE
        return built_in
    for point in entry_points(group=GROUP):
        if point.name == name:
            plugged: Type = point.load()
            return plugged
    return None


def make(name: str, body: Mapping[str, Any]) -> Link:
    """Return the link of a stored object.

    Raises:
        ValueError: no such type, or the object breaks its rules.
    """
    found = find(name)
    if found is None:
        raise ValueError(f"middleware of type {name} is not supported")
    return found.make(Fields(body))


def whole(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored object as the original's struct prints it: every field, names as it spells them.

    Two spellings of one object are equal then, so a link keeps what it has counted whoever wrote it.
    """
    found = find(name)
    zeros = found.zeros if found is not None else {}
    fields = Fields(body)
    shown = {spelt: zero if fields.any(spelt) is None else fields.any(spelt) for spelt, zero in zeros.items()}  # fmt: skip
    return {**shown, **fields.rest()}
