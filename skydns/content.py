# SPDX-License-Identifier: Apache-2.0
"""All records of a zone of the store, as its names answer.

::

    index ─► private copy ─► every name × every type, by `answer` itself ─► RRs

A pool's name has the addresses of its members here too. The records are copied in one go, so what
comes of it is of one moment, however long it takes; making it lets queries through every few names.
A name that is an alias has nothing beside it (RFC 2181 §10.1).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from skydns import keys, names, rrs
from skydns.answer import answer
from skydns.compiled import Answers
from skydns.lookup import zone_of
from skydns.policy import Policy
from skydns.reply import Reply
from skydns.rrs import RR, Question
from skydns.state import Index, Served

_TYPES: Final = (rrs.AAAA, rrs.TXT, rrs.MX, rrs.SRV)
_AT_ONCE: Final = 50  # names between two looks at the sockets


def soa(zone: bytes, answers: Answers) -> RR:
    """Return the present SOA of a zone of ours."""
    made = answer(Question(zone, rrs.SOA), answers.served, answers.policy, 0.0)
    assert isinstance(made, Reply)  # noqa: S101  (a zone of ours)
    return made.answer[0]


async def content(zone: bytes, serial: int, answers: Answers, now: float) -> frozenset[RR]:
    """Return a zone's records but its SOA, as they are now.

    Args:
        serial: of the zone.
        now: monotonic seconds, for the leases.
    """
    policy = replace(answers.policy, rotate=False)  # no other data at each transfer
    leases = dict(answers.served.leases)
    services = tuple(answers.served.index.services.values())
    served = Served(Index(), {zone: serial}, serial, leases)
    for at, service in enumerate(services):
        served.index.put(service)
        if not at % 500:
            await asyncio.sleep(0)
    every = {above for service in services for above in names.ancestors(service.name.lower())}
    every |= policy.zones | {b"\x02ns\x03dns" + zone}
    if zone.endswith(b"\x04arpa\0"):
        every |= {names.reverse(service.address) for service in services if service.address}
    ours = [name for name in every if zone_of(name, policy) == zone]
    found: set[RR] = set()
    for at, name in enumerate(ours):
        found.update(_records(name, zone, served, policy, now))
        if not at % _AT_ONCE:
            await asyncio.sleep(0)
    return frozenset(found)


def _records(name: bytes, zone: bytes, served: Served, policy: Policy, now: float) -> Iterator[RR]:
    """Yield what stands at a name."""
    asked = name
    if keys.wildcard_base(name) is not None:
        above = names.parent(name)
        if not policy.shape(above).catch_all or name[:2] != b"\x01*" or keys.wildcard_base(above):
            return  # here it is a literal (trap 17), elsewhere it would catch all
        asked = names.from_labels((secrets.token_hex(16).encode(), *names.labels(above)))
    alias = False
    types = (rrs.A, *_TYPES, *((rrs.NS,) if name == zone else ()))
    for rtype in (*types, *((rrs.PTR,) if zone.endswith(b"\x04arpa\0") else ())):
        made = answer(Question(asked, rtype), served, policy, now)
        if not isinstance(made, Reply) or alias:
            continue
        for rr in made.answer:
            if rr.owner == asked:
                alias |= rr.rtype == rrs.CNAME
                yield rr._replace(owner=name)
