# SPDX-License-Identifier: Apache-2.0
"""Zone transfers: AXFR and IXFR to those who may, NOTIFY to those who want to know.

::

    index ─► private copy ─► every name × every type, by `answer` itself ─► RRs ─► messages

A zone of the store is what its names answer: a pool's name has the addresses of its members here
too. One of a master file is the file. The records are copied in one go, so a transfer is of one moment, however long it takes; making it
lets queries through every few names. The serial is the zone's (the store's revision of its last
change). A name that is an alias has nothing beside it (RFC 2181 §10.1). What was sent lately is
kept, so that IXFR can send the difference; for older serials it sends the zone (RFC 1995 §4).

Data go unsigned: signatures are made for who asks (`dnssec`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final, Never

from skydns import keys, message, names, rrs
from skydns.addresses import Peers, Server
from skydns.answer import answer
from skydns.compiled import Answers
from skydns.exchange import by_udp
from skydns.lookup import zone_of
from skydns.message import Query
from skydns.policy import Policy
from skydns.reply import Reply
from skydns.rrs import RR, Question
from skydns.state import Index, Served

_TYPES: Final = (rrs.AAAA, rrs.TXT, rrs.MX, rrs.SRV)
_AT_ONCE: Final = 50  # names between two looks at the sockets
_ROOM: Final = 12_000  # octets of a message: pointers reach 16 KiB
_VERSIONS: Final = 4
_MOST_KEPT: Final = 200_000  # RRs of all versions of a zone


def is_transfer(data: bytes) -> bool:
    """Say whether a query asks for AXFR or IXFR."""
    end = message.question_end(data) if len(data) > message.HEADER else 0
    return bool(end) and data[end - 4 : end - 2] in (b"\0\xfb", b"\0\xfc")


class Transfers:
    """Makes transfers.

    Attributes:
        sent: transfers begun, by kind: AXFR, IXFR, "SOA" for "you have it".
        refused: queries of those who may not.
    """

    def __init__(self, answers: Answers, peers: Peers, clock: Callable[[], float]) -> None:
        self.peers = peers
        self.sent: dict[str, int] = {}
        self.refused = 0
        self._answers = answers
        self._clock = clock
        self._versions: dict[bytes, OrderedDict[int, frozenset[RR]]] = {}

    async def messages(self, data: bytes, host: str) -> AsyncIterator[bytes]:
        """Yield the messages of a transfer, or the one that refuses it."""
        query = message.parse(data)
        if not isinstance(query, Query):
            if query is not None:
                yield query
            return
        answers = self._answers
        file = answers.ahead.zones.get(query.name) if answers.ahead else None
        ours = query.name in answers.policy.zones and answers.loaded
        if query.rclass != rrs.IN or not (ours or file) or not self.peers.may(host, query.name):
            self.refused += 1
            yield message.failure(query, rrs.REFUSED, recursion=False, trouble=18)
            return
        zone = query.name
        serial = file.serial if file else answers.served.serial(zone)
        soa = file.soa if file else _soa(zone, answers)
        has = _their_serial(query, data)
        if has is not None and (has == serial or _newer(has, serial)):
            self._count("SOA")
            yield _packed(query, [soa])
            return
        content = frozenset(file.records()) if file else await self._content(zone, serial)
        before = self._versions.get(zone, OrderedDict()).get(has) if has is not None else None
        if before is not None and has is not None:
            self._count("IXFR")
            whole = [
                soa,
                _with_serial(soa, has),
                *sorted(before - content),
                soa,
                *sorted(content - before),
                soa,
            ]
        else:
            self._count("AXFR")
            whole = [soa, *sorted(content), soa]
        self._keep(zone, serial, content)
        for part in _parts(whole):
            yield _packed(query, part)
            await asyncio.sleep(0)

    def _count(self, kind: str) -> None:
        self.sent[kind] = self.sent.get(kind, 0) + 1

    def _keep(self, zone: bytes, serial: int, content: frozenset[RR]) -> None:
        """Keep what was sent, as long as there is room."""
        versions = self._versions.setdefault(zone, OrderedDict())
        versions[serial] = content
        while len(versions) > _VERSIONS or sum(map(len, versions.values())) > _MOST_KEPT:
            versions.popitem(last=False)

    async def _content(self, zone: bytes, serial: int) -> frozenset[RR]:
        """Return the zone's records but its SOA, as they are now."""
        policy = replace(self._answers.policy, rotate=False)  # no other data at each transfer
        now, leases = self._clock(), dict(self._answers.served.leases)
        services = tuple(self._answers.served.index.services.values())
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
        if not policy.profile.catch_all or name[:2] != b"\x01*" or keys.wildcard_base(above):
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


class Notifier:
    """Tells secondaries that a zone has changed (RFC 1996).

    Each by itself: one that does not answer holds up neither the others nor what changes next.

    Args:
        every: seconds between two looks at the serials. What a look finds is told after one more,
            so that every worker has the change when the secondary comes and asks for the serial.
    """

    def __init__(self, answers: Answers, transfers: Transfers, every: float = 0.5) -> None:
        self._answers = answers
        self._transfers = transfers
        self._every = every
        self._telling: dict[tuple[Server, bytes], asyncio.Task[None]] = {}
        self.failed = 0

    async def run(self) -> Never:
        """Compare serials; the first look tells nobody."""
        known, due = dict(self._serials()), set[bytes]()
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self._every)
                for zone in due:
                    self._begin(zone, group)
                now = dict(self._serials())
                due = {zone for zone, serial in now.items() if known.get(zone) != serial}
                known = now

    def _begin(self, zone: bytes, group: asyncio.TaskGroup) -> None:
        """Begin to tell of a zone's present serial, and of no older one any more."""
        for server in self._transfers.peers.told(zone):
            if before := self._telling.get((server, zone)):
                before.cancel()
            self._telling[server, zone] = group.create_task(
                self._tell(server, zone), name=f"notify {server} of {names.to_text(zone)}"
            )

    def _serials(self) -> Iterable[tuple[bytes, int]]:
        served, ahead = self._answers.served, self._answers.ahead
        ours = [(zone, served.serial(zone)) for zone in self._answers.policy.zones]
        return [
            *ours,
            *((zone, one.serial) for zone, one in (ahead.zones if ahead else {}).items()),
        ]

    async def _tell(self, server: Server, zone: bytes) -> None:
        """Send NOTIFY until it is answered, three times at most (7 s)."""
        number = secrets.token_bytes(2)
        ahead = self._answers.ahead
        file = ahead.zones.get(zone) if ahead else None
        record = file.soa if file else _soa(zone, self._answers)
        soa = message.encode(zone, Reply(rrs.NOERROR, answer=(record,)))
        data = b"".join((
            number, b"\x24\0\0\x01\0\x01\0\0\0\0", zone, b"\0\x06\0\x01", soa.octets,
        ))  # fmt: skip
        for seconds in (1.0, 2.0, 4.0):
            try:
                async with asyncio.timeout(seconds):
                    await by_udp(
                        server, data, lambda reply: reply[:2] == number and reply[2] & 0x80 > 0
                    )
                    return
            except (OSError, TimeoutError):
                continue
        self.failed += 1


def _soa(zone: bytes, answers: Answers) -> RR:
    made = answer(Question(zone, rrs.SOA), answers.served, answers.policy, 0.0)
    assert isinstance(made, Reply)  # noqa: S101  (a zone of ours)
    return made.answer[0]


def _with_serial(soa: RR, serial: int) -> RR:
    return soa._replace(tail=serial.to_bytes(4, "big") + soa.tail[4:])


def _their_serial(query: Query, data: bytes) -> int | None:
    """Return the serial in an IXFR query's authority section, None for AXFR or none there."""
    if query.rtype != rrs.IXFR or data[8:10] != b"\0\x01":
        return None
    found = message.record(data, message.HEADER + len(query.question))
    if found is None or found[1] != rrs.SOA or found[5] - found[4] < 22:
        return None
    return int.from_bytes(data[found[5] - 20 : found[5] - 16], "big")


def _newer(one: int, other: int) -> bool:
    """Say whether a serial is later than another (RFC 1982)."""
    return 0 < (one - other) & 0xFFFFFFFF < 0x80000000


def _parts(whole: Iterable[RR]) -> Iterator[list[RR]]:
    """Yield the records of one message after the other."""
    part: list[RR] = []
    size = 0
    for rr in whole:
        octets = len(rr.owner) + 10 + len(rr.head) + sum(map(len, rr.names)) + len(rr.tail)
        if part and size + octets > _ROOM:
            yield part
            part, size = [], 0
        part.append(rr)
        size += octets
    yield part


def _packed(query: Query, part: list[RR]) -> bytes:
    body = message.encode(query.name, Reply(rrs.NOERROR, answer=tuple(part)))
    return message.finish(body, query, message.TCP_SIZE, recursion=False)
