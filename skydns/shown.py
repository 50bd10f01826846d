# SPDX-License-Identifier: Apache-2.0
"""What records show in an answer: targets, weights, text; and RRs as RRsets. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from skydns import names, rrs
from skydns.records import Service
from skydns.rrs import RR


def target_of(service: Service) -> bytes:
    """Return the name a record shows as SRV, MX or NS target (§5.3, trap 15)."""
    return names.strip(service.target or service.name, service.targetstrip)


def share_of(service: Service) -> int:
    """Return a record's share: 100 when not given, within what an SRV can show."""
    return min(max(service.weight, 0), 65535) or 100


def srv_weight(weight: int, total: int) -> int:
    """Return the weight an SRV record shows (§5.3, trap 4).

    In floating point and in this order, as the originals: a lone 97 gives 99.
    """
    return int(100.0 / total * weight)


def rrsets(found: Iterable[RR]) -> tuple[RR, ...]:
    """Return RRs without repeats, each RRset with the least of its TTLs (trap 27)."""
    found = tuple(found)
    if len(found) < 2:  # most answers: a tenth of the work of making one
        return found
    least: dict[tuple[bytes, int], int] = {}
    unique: dict[tuple[object, ...], RR] = {}
    for rr in found:
        owner = rr.owner.lower()
        place = (owner, rr.rtype)
        least[place] = min(rr.ttl, least.get(place, rr.ttl))
        unique.setdefault(
            (owner, rr.rtype, rr.head, tuple(map(bytes.lower, rr.names)), rr.tail), rr
        )
    return tuple(
        rr if rr.ttl == (ttl := least[rr.owner.lower(), rr.rtype]) else rr._replace(ttl=ttl)
        for rr in unique.values()
    )


def character_strings(text: bytes) -> bytes:
    """Return TXT data: strings of up to 255 octets; no empty one at the end (trap 23)."""
    parts = (text[at : at + 255] for at in range(0, len(text), 255))
    return b"".join(bytes((len(part),)) + part for part in parts)


ANY_ANSWER = RR(names.ROOT, rrs.HINFO, 8482, character_strings(b"ANY obsoleted") + character_strings(b"See RFC 8482"))  # fmt: skip
