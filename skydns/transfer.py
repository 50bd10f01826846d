# SPDX-License-Identifier: Apache-2.0
"""Zone transfers: AXFR and IXFR to those who may.

::

    may they? by address, or by key (`tsig`) ─► content ─► difference? ─► messages ─► signed

A zone of the store is what its names answer (`content`), one of a master file is the file. The serial
is the zone's (the store's revision of its last change). What was sent lately is kept, so that IXFR can
send the difference; for older serials it sends the zone (RFC 1995 §4).

Data go unsigned: signatures are made for who asks (`dnssec`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Final, Protocol

from skydns import content, ede, message, rrs
from skydns.addresses import Peers
from skydns.compiled import Answers
from skydns.message import Query
from skydns.reply import Reply
from skydns.rrs import RR

_ROOM: Final = 12_000  # octets of a message: pointers reach 16 KiB
_VERSIONS: Final = 4
_MOST_KEPT: Final = 200_000  # RRs of all versions of a zone


def is_transfer(data: bytes) -> bool:
    """Say whether a query asks for AXFR or IXFR."""
    end = message.question_end(data) if len(data) > message.HEADER else 0
    return bool(end) and data[end - 4 : end - 2] in (b"\0\xfb", b"\0\xfc")


class Source(Protocol):
    """Where a server has transfers from: made here, or by the parent of workers."""

    def messages(self, data: bytes, host: str) -> AsyncIterator[bytes]:
        """Yield the messages of a transfer, or the one that refuses it."""
        ...


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
        opened = self._answers.opened(data)
        if isinstance(opened, bytes):
            self.refused += 1
            yield opened
        elif opened is None:
            async for each in self._plain(data, host, b""):
                yield each
        else:
            async for each in self._plain(opened.data, host, opened.seal.key.name):
                yield opened.seal(each)

    async def _plain(self, data: bytes, host: str, key: bytes) -> AsyncIterator[bytes]:
        """Yield the messages as they are without a signature.

        Args:
            key: that the query was signed with; b"": with none.
        """
        query = message.parse(data)
        if not isinstance(query, Query):
            if query is not None:
                yield query
            return
        answers = self._answers
        file = answers.beside.get(query.name)
        ours = query.name in answers.policy.zones and answers.loaded
        allowed = query.rclass == rrs.IN and self.peers.may(host, query.name, key)
        if not allowed or not (ours or file):
            self.refused += 1
            yield message.failure(query, rrs.REFUSED, recursion=False, trouble=ede.PROHIBITED)
            return
        zone = query.name
        serial = file.serial if file else answers.served.serial(zone)
        soa = file.soa if file else content.soa(zone, answers)
        has = _their_serial(query, data)
        if has is not None and (has == serial or _newer(has, serial)):
            self._count("SOA")
            yield _packed(query, [soa])
            return
        if file:
            records = frozenset(file.records())
        else:
            records = await content.content(zone, serial, answers, self._clock())
        before = self._versions.get(zone, OrderedDict()).get(has) if has is not None else None
        if before is not None and has is not None:
            self._count("IXFR")
            whole = [
                soa,
                _with_serial(soa, has),
                *sorted(before - records),
                soa,
                *sorted(records - before),
                soa,
            ]
        else:
            self._count("AXFR")
            whole = [soa, *sorted(records), soa]
        self._keep(zone, serial, records)
        for part in _parts(whole):
            yield _packed(query, part)
            await asyncio.sleep(0)

    def _count(self, kind: str) -> None:
        self.sent[kind] = self.sent.get(kind, 0) + 1

    def _keep(self, zone: bytes, serial: int, records: frozenset[RR]) -> None:
        """Keep what was sent, as long as there is room."""
        versions = self._versions.setdefault(zone, OrderedDict())
        versions[serial] = records
        while len(versions) > _VERSIONS or sum(map(len, versions.values())) > _MOST_KEPT:
            versions.popitem(last=False)


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
