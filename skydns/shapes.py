# SPDX-License-Identifier: Apache-2.0
"""Flags that may say something else of each zone: `-depth 1,pool.test=-1`. No IO."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from skydns import keys, names
from skydns.policy import Own, Profile, Shape

T = TypeVar("T")

_OWN = {"children": Own.CHILDREN, "first": Own.FIRST, "union": Own.UNION}
_YES = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class ByZone(Generic[T]):
    """What one flag says: of the zones it names, and of all others."""

    rest: T
    zones: Mapping[bytes, T] = field(default_factory=dict)

    def of(self, zone: bytes) -> T:
        """Return what it says of a zone."""
        return self.zones.get(zone, self.rest)


def own(parts: Sequence[str], profile: Profile, zones: Container[bytes]) -> ByZone[Own]:
    """Read `-own`.

    Args:
        zones: those that may be named, folded.

    Raises:
        ValueError: a part is nothing that it may be; names it.
    """
    return _by_zone(parts, _word({**_OWN, "profile": profile.own}), profile.own, zones)


def depth(parts: Sequence[str], zones: Container[bytes]) -> ByZone[int | None]:
    """Read `-depth`, as `own`."""
    return _by_zone(parts, _depth, None, zones)


def catch_all(parts: Sequence[str], profile: Profile, zones: Container[bytes]) -> ByZone[bool]:
    """Read `-wildcards`, as `own`."""
    words = {**_YES, "profile": profile.catch_all}
    return _by_zone(parts, _word(words), profile.catch_all, zones)


def of_all(
    zones: Iterable[bytes], own: ByZone[Own], depth: ByZone[int | None], catch_all: ByZone[bool]
) -> dict[bytes, Shape]:
    """Return the shape of each zone, nothing when all are alike."""
    if not (own.zones or depth.zones or catch_all.zones):
        return {}
    return {zone: Shape(own.of(zone), depth.of(zone), catch_all.of(zone)) for zone in zones}


def _by_zone(
    parts: Sequence[str], parse: Callable[[str], T], rest: T, zones: Container[bytes]
) -> ByZone[T]:
    found: dict[bytes, T] = {}
    for part in parts:
        zone, equals, text = part.strip().rpartition("=")
        named = keys.zones(zone) if equals else (b"",)
        if not named:
            raise ValueError(f'"{part}": no zone is named')
        value = parse(text)
        for place in named:
            if place and place not in zones:
                raise ValueError(f'"{part}": {names.to_text(place)} is no zone of -domain')
            if place in found:
                raise ValueError(f'"{part}": that was said before')
            found[place] = value
    return ByZone(found.pop(b"", rest), found)


def _word(words: Mapping[str, T]) -> Callable[[str], T]:
    def parse(text: str) -> T:
        if text not in words:
            raise ValueError(f'"{text}" is none of {", ".join(words)} (or ZONE=…)')
        return words[text]

    return parse


def _depth(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f'"{text}" is no number (or ZONE=NUMBER)') from None
    return number if number >= 0 else None
