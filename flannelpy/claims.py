# SPDX-License-Identifier: Apache-2.0
"""Which lease's object counts under each key: of several the one written last. Pure.

Two leases may claim one key: a host that changed its address keeps its MAC, so for up to a day
its old lease claims the same FDB entry. When the later lease goes, the other's claim is there
again. Nearly every key has one claim only, which stands by itself; the few others are apart::

    sole[key] = claim          rivals[key] = [claim, claim, …]
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from flannelpy.state import Key, Object


class Claim(Struct, frozen=True, gc=False):
    """An object that a lease gives this host."""

    revision: int
    lease: bytes
    thing: Object


class Claims:
    """Objects by key, each with the leases that want it so."""

    def __init__(self) -> None:
        self._sole: dict[Key, Claim] = {}
        self._rivals: dict[Key, list[Claim]] = {}

    def __len__(self) -> int:
        return len(self._sole) + len(self._rivals)

    def __iter__(self) -> Iterator[Key]:
        yield from self._sole
        yield from self._rivals

    def get(self, key: Key) -> Object | None:
        """Return what should be under a key."""
        claim = self._sole.get(key)
        if claim is None:
            rivals = self._rivals.get(key)
            if rivals is None:
                return None
            claim = max(rivals, key=lambda it: (it.revision, it.lease))
        return claim.thing

    def add(self, key: Key, claim: Claim) -> None:
        """Take in a claim of a lease that has none under this key."""
        rivals = self._rivals.get(key)
        if rivals is not None:
            rivals.append(claim)
            return
        other = self._sole.setdefault(key, claim)
        if other is not claim:
            self._rivals[key] = [self._sole.pop(key), claim]

    def drop(self, key: Key, lease: bytes) -> None:
        """Forget a lease's claim."""
        rivals = self._rivals.get(key)
        if rivals is None:
            del self._sole[key]
            return
        left = [it for it in rivals if it.lease != lease]
        if len(left) > 1:
            self._rivals[key] = left
        else:
            del self._rivals[key]
            (self._sole[key],) = left
