# SPDX-License-Identifier: Apache-2.0
"""Answers of other servers, kept for their time. Pure: the clock is passed in.

What is kept is the message as it came; its TTLs are counted down on the way out. Positive answers
live as long as their least TTL, absence as RFC 2308 §5 says, a server failure a few seconds.
What has run out stays for a while for the case that nobody can be asked (RFC 8767): the caller
tries first, and serves it with a TTL of 30 seconds when that fails.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from skydns import message, names, rrs


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is kept and for how long, in seconds.

    Attributes:
        most: answers kept; 0: none.
        positive, negative: the longest time for data and for absence.
        least: the shortest time for either.
        failure: for SERVFAIL.
        stale: how long what has run out is still served when nobody answers.
        least_negative: the shortest time for absence; None: as `least`.
        stale_first: what has run out is served before anybody is asked, not after.
        patience: seconds to ask before what has run out is served (RFC 8767 §5).
        stale_ttl: TTL of what has run out (RFC 8767 §4).
        recheck: seconds after a failure in which what has run out is served without asking.
        prefetch: asked so often, an answer is asked for anew in the last part of its time; 0: not.
        gap: seconds without a question after which the count begins anew.
        share: which part that is.
        keep_ttl: TTLs are not counted down.
        prefer_positive: data that have run out are worth more than the news that there are none.
        only: zones whose names are kept, folded; none: all.
        no_data, no_denial: zones of whose names data, and absence, are not kept.
    """

    most: int = 10_000
    positive: int = 3600
    negative: int = 1800
    least: int = 0
    failure: int = 5
    stale: int = 86400
    prefetch: int = 3
    gap: float = math.inf
    share: float = 0.1
    least_negative: int | None = None
    stale_first: bool = False
    patience: float = 1.8
    stale_ttl: int = 30
    recheck: float = 0.0
    keep_ttl: bool = False
    prefer_positive: bool = False
    only: frozenset[bytes] = frozenset()
    no_data: frozenset[bytes] = frozenset()
    no_denial: frozenset[bytes] = frozenset()

    def excludes(self, name: bytes, octets: bytes) -> bool:
        """Say whether an answer about a folded name is none that is kept."""
        off = self.no_denial if _denies(octets) else self.no_data
        return bool(
            (off and names.longest(name, off)) or (self.only and not names.longest(name, self.only))
        )


class Key(NamedTuple):
    """What an answer is kept under: the name folded."""

    name: bytes
    rtype: int
    rclass: int
    do: bool
    cd: bool
    options: bytes = b""


class Hit(NamedTuple):
    """What was found: the message with its TTLs as they are now.

    Attributes:
        left: seconds it is still good; less than 0: it has run out.
        due: it should be asked for anew although it is still good.
    """

    octets: bytes
    left: float
    due: bool


class _Kept:
    __slots__ = ("asked", "born", "failed", "last", "now", "octets", "places", "ttl")

    def __init__(self, octets: bytes, places: tuple[tuple[int, int], ...], ttl: int, born: float):
        self.octets = octets
        self.places = places  # of each TTL: offset, value
        self.ttl = ttl
        self.born = born
        self.asked = 0
        self.last = born  # asked for
        self.failed = -math.inf  # when asking anew last came to nothing
        self.now = (0, octets)  # as they are so many seconds later

    def aged(self, seconds: int | None, stale: int = 0) -> bytes:
        """Return the message with its TTLs less by `seconds`; None: `stale` in their place.

        The same object while the second is the same.
        """
        if self.now[0] == seconds:
            return self.now[1]
        octets = bytearray(self.octets)
        for at, ttl in self.places:
            left = stale if seconds is None else max(ttl - seconds, 0)
            octets[at : at + 4] = left.to_bytes(4, "big")
        if seconds is not None:
            self.now = (seconds, bytes(octets))
        return bytes(octets) if seconds is None else self.now[1]


class Cache:
    """Messages by question, the least recently used thrown out first."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.hits = self.denial_hits = self.misses = self.stale = self.prefetched = self.evicted = 0
        self.denials = 0  # of what is kept: absence and failures
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key, now: float) -> Hit | None:
        """Return what is kept for a question, run out or not; None: nothing."""
        if self.fresh(key, now):
            return self.use(key, now)
        self.misses += 1
        kept = self._kept.get(key)
        if kept is None:
            return None
        left = kept.ttl - (now - kept.born)
        if -left > self.bounds.stale:
            self._forget(self._kept.pop(key))
            return None
        return Hit(kept.aged(None, self.bounds.stale_ttl), left, due=True)

    def use(self, key: Key, now: float) -> Hit:
        """Return what is kept for a question, and `fresh`."""
        kept = self._kept[key]
        age = now - kept.born
        left = kept.ttl - age
        self._kept.move_to_end(key)
        self.hits += 1
        self.denial_hits += _denies(kept.octets)
        kept.asked = kept.asked + 1 if now - kept.last < self.bounds.gap else 1
        kept.last = now
        enough = bool(self.bounds.prefetch) and kept.asked >= self.bounds.prefetch
        octets = kept.octets if self.bounds.keep_ttl else kept.aged(int(age))
        return Hit(octets, left, due=enough and left < kept.ttl * self.bounds.share)

    def fresh(self, key: Key, now: float) -> bool:
        """Say whether what is kept for a question is there and good; counts nothing."""
        kept = self._kept.get(key)
        return kept is not None and now - kept.born <= kept.ttl

    def failed_lately(self, key: Key, now: float) -> bool:
        """Say whether asking anew failed so lately that it is not tried again."""
        kept = self._kept.get(key)
        return kept is not None and now - kept.failed < self.bounds.recheck

    def failed(self, key: Key, now: float) -> None:
        """Note that nobody answered."""
        if (kept := self._kept.get(key)) is not None:
            kept.failed = now

    def put(self, key: Key, octets: bytes, now: float) -> None:
        """Keep an answer, if it may be kept."""
        if not self.bounds.most or self.bounds.excludes(key.name, octets):
            return
        found = lifetime(octets, self.bounds)
        if found is None:
            return
        ttl, places = found
        before = self._kept.get(key)
        if before is not None and self.worth_less(octets, before.octets):
            before.failed = now
            return
        if before is None and len(self._kept) >= self.bounds.most:
            self._forget(self._kept.popitem(last=False)[1])
            self.evicted += 1
        if before is not None:
            self._forget(before)
        self._kept[key] = _Kept(octets, places, ttl, now)
        self.denials += _denies(octets)
        self._kept.move_to_end(key)

    def worth_less(self, octets: bytes, before: bytes) -> bool:
        """Say whether an answer is worth less than one that has run out: a failure, and more if so set."""
        if octets[3] & 0xF == rrs.SERVFAIL and before[3] & 0xF != rrs.SERVFAIL:
            return True
        return self.bounds.prefer_positive and _denies(octets) and not _denies(before)

    def _forget(self, kept: _Kept) -> None:
        self.denials -= _denies(kept.octets)


def _denies(octets: bytes) -> bool:
    """Say whether a message has no data: CoreDNS's type "denial"."""
    return bool(octets[3] & 0xF) or octets[6:8] == b"\0\0"


def lifetime(octets: bytes, bounds: Bounds) -> tuple[int, tuple[tuple[int, int], ...]] | None:
    """Return the seconds a message may be kept, and where its TTLs stand; None: not at all."""
    rcode = octets[3] & 0xF
    if octets[2] & 0x02 or rcode not in {rrs.NOERROR, rrs.NXDOMAIN, rrs.SERVFAIL}:
        return None
    at = message.question_end(octets)
    counts = [int.from_bytes(octets[place : place + 2], "big") for place in (6, 8, 10)]
    if not at:
        return None
    places: list[tuple[int, int]] = []
    answers: list[int] = []
    soa: int | None = None
    wanted = octets[at - 4 : at - 2]
    found = False
    for place in range(sum(counts)):
        record = message.record(octets, at)
        if record is None:
            return None
        _, kind, _, ttl, start, at = record
        if kind == rrs.OPT:
            continue
        ttl = 0 if ttl > 0x7FFFFFFF else ttl  # RFC 2181 §8
        places.append((start - 6, ttl))
        if place < counts[0]:
            answers.append(ttl)
            found |= kind.to_bytes(2, "big") == wanted or wanted == b"\0\xff"
        elif kind == rrs.SOA and place < counts[0] + counts[1] and at - start >= 22:
            soa = min(ttl, int.from_bytes(octets[at - 4 : at], "big"))
    if rcode == rrs.SERVFAIL:
        return (bounds.failure, tuple(places)) if bounds.failure else None
    if found and rcode == rrs.NOERROR:
        least = max(min(answers), bounds.least)
        return (ttl, tuple(places)) if (ttl := min(least, bounds.positive)) else None
    if soa is None:
        return None  # RFC 2308 §5: without an SOA absence is not kept
    floor = bounds.least if bounds.least_negative is None else bounds.least_negative
    least = max(min((*answers, soa)), floor)
    return (ttl, tuple(places)) if (ttl := min(least, bounds.negative)) else None
