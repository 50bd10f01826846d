# SPDX-License-Identifier: Apache-2.0
"""DNS messages: query octets → Query, Reply → octets. Pure; never raises on what came in.

`parse` is the careful path: whatever arrives becomes a Query, a ready error reply, or None for
what must be dropped (specs/skydns.md §10.1 says which). It is ours and not `dnslib`'s for two
reasons: dnslib accepts what must be refused (two OPT records, a pointer in the question), and
takes 20 µs where 5 do. dnslib reads what upstream servers send (`skydns.relayed`).

`encode` writes a Reply's records once, compressed, into a `Body`; `finish` cuts the body to a
limit and puts header, question and OPT around it. A body is valid for every letter case of its
question, because owners and in-zone names are pointers into the question: which case comes back
is decided by which question stands at octet 12 (§10.4).

Truncation (§10.2): records are dropped from the end. Pointers only lead backwards, so what is
left of a cut stays readable. TC is set when answer or authority lost something; lost additional
data are not missed. The OPT always stays.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from skydns import names, rrs
from skydns.reply import Reply
from skydns.rrs import RR

HEADER: Final = 12
UDP_SIZE: Final = 1232  # DNS flag day 2020, RFC 9715: fits every path unfragmented
PLAIN_UDP: Final = 512  # RFC 1035 §4.2.1
TCP_SIZE: Final = 65535

QR: Final = 0x8000
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
CD: Final = 0x0010
_FIELDS: Final = struct.Struct("!6H")  # of the header: id, flags, how many of what
_FRAME: Final = struct.Struct("!HHI")  # of a record: type, class, TTL
_OPCODE: Final = 0x7800
_NOTIFY: Final = 4
_MARK: Final = b"\xfd\xf3\0\1\1"
COOKIE: Final = 10
COOKIE_ROOM: Final = 28  # octets that our cookie takes in a reply
_EDE: Final = 15  # RFC 8914
_NSID: Final = 3  # RFC 5001
_DO: Final = 0x8000
_CO: Final = 0x4000  # RFC 9824 §5.1


@dataclass(slots=True)
class Query:
    """One well-formed query.

    Attributes:
        name: folded.
        question: the question as it came: name, type, class.
        size: the largest reply over UDP the client takes; 512 without EDNS.
        told: the size that its EDNS tells, as it stands there.
        edns: the query had an OPT record.
        do: it wants DNSSEC records.
        looped: it carries the mark of a stub zone's query (specs/skydns.md §9.2).
        co: it takes NXDOMAIN together with a compact denial.
        nsid: it asks which server answers (RFC 5001).
        plain: nothing in it but the question and an OPT without options, so that a reply may be
            kept under its octets.
    """

    id: int
    flags: int
    name: bytes
    rtype: int
    rclass: int
    question: bytes
    size: int = PLAIN_UDP
    told: int = PLAIN_UDP
    edns: bool = False
    do: bool = False
    co: bool = False
    nsid: bool = False
    looped: bool = False
    plain: bool = True


def parse(data: bytes) -> Query | bytes | None:
    """Read a query; bytes are an error reply to send, None means drop."""
    if len(data) < HEADER or data[2] & 0x80:
        return None
    number, flags, qdcount, ancount, nscount, arcount = _FIELDS.unpack_from(data)
    end = question_end(data) if qdcount == 1 else 0
    question = data[HEADER:end] if end else b""
    opcode = (flags & _OPCODE) >> 11
    if opcode:
        return _error(data, flags, rrs.REFUSED if opcode == _NOTIFY else rrs.NOTIMP, question)
    if not end:
        if qdcount == 0 and (ancount, nscount, arcount) == (0, 0, 1) and cookie(data):
            return _error(data, flags, rrs.NOERROR, b"", opt(do=False))  # RFC 7873 §5.4
        return _error(data, flags, rrs.FORMERR, b"")
    rtype = int.from_bytes(question[-4:-2], "big")
    if ancount or nscount > (rtype == rrs.IXFR) or arcount > 2:
        return _error(data, flags, rrs.FORMERR, question)
    query = Query(
        id=number,
        flags=flags,
        name=question[:-4].lower(),
        rtype=rtype,
        rclass=int.from_bytes(question[-2:], "big"),
        question=question,
        plain=not (nscount or arcount > 1),
    )
    at, seen = end, False
    for place in range(nscount + arcount):
        found = record(data, at)
        if found is None:
            return _error(data, flags, rrs.FORMERR, question)
        root, kind, size, ttl, start, at = found
        if kind != rrs.OPT:
            query.plain = False
            continue
        if seen or not root or place < nscount or not _options_sound(data, start, at):
            return _error(data, flags, rrs.FORMERR, question)
        seen = True
        query.edns = True
        query.told = size
        query.size = max(size, PLAIN_UDP)
        query.do = bool(ttl & _DO)
        query.co = query.do and bool(ttl & _CO)
        query.plain &= start == at
        if (held := _option(data, start, at, COOKIE)) is not None:
            if len(held) != 8 and not 16 <= len(held) <= 40:  # RFC 7873 §5.2.2
                return _error(data, flags, rrs.FORMERR, question)
            query.size = min(query.size, UDP_SIZE) - COOKIE_ROOM
        query.nsid = start != at and _option(data, start, at, _NSID) is not None
        query.looped = start != at and _MARK in data[start:at]
        if ttl >> 16 & 0xFF:  # EDNS version: only 0 is known
            return _error(data, flags, rrs.BADVERS, question)
    if at != len(data):
        query.plain = False
    return query


@dataclass(frozen=True, slots=True)
class Body:
    """A reply's records as octets, to stand behind header and question.

    Attributes:
        octets: all records, one after the other.
        ends: where each ends in `octets`.
        answers, authorities: how many of them are in these sections; the rest is additional.
        turn: offset and length of the first of `turns` equally long records that may take turns
            (one RRset of addresses); None: nothing to rotate.
        serial: offset of the SOA serial in a negative answer's octets, 0 for none.
    """

    rcode: int
    authoritative: bool
    octets: bytes
    ends: tuple[int, ...]
    answers: int
    authorities: int
    turn: tuple[int, int] | None = None
    turns: int = 0
    serial: int = 0
    trouble: int | None = None


def encode(name: bytes, reply: Reply) -> Body:
    """Write a reply's records for a question of this (folded) name."""
    writer = _Writer(name)
    ends = []
    serial = 0
    starts = []
    for rr in (*reply.answer, *reply.authority, *reply.additional):
        starts.append(len(writer.out))
        writer.record(rr)
        ends.append(len(writer.out))
        if rr.rtype == rrs.SOA and not (reply.answer or reply.fixed):
            serial = ends[-1] - 20
    turn, turns = _turning(reply.answer, starts, ends)
    return Body(
        reply.rcode, reply.authoritative, bytes(writer.out), tuple(ends), len(reply.answer),
        len(reply.authority), turn, turns, serial, reply.trouble,
    )  # fmt: skip


def finish(body: Body, query: Query, limit: int, *, recursion: bool, nsid: bytes = b"") -> bytes:
    """Return a whole reply of at most `limit` octets.

    Args:
        limit: what the transport and the client take.
        recursion: set RA.
        nsid: what this server is called, for queries that ask.
    """
    flags = QR | (query.flags & (RD | CD)) | (body.rcode & 0xF)
    if body.authoritative:
        flags |= AA
    if recursion:
        flags |= RA
    name = nsid if query.nsid else b""
    tail = opt(query.do, body.rcode, body.trouble, name) if query.edns else b""
    room = limit - HEADER - len(query.question) - len(tail)
    octets, counts = body.octets, (body.answers, body.authorities, _additional(body))
    if len(octets) > room:
        octets, counts, lost = _cut(body, room)
        if lost:
            flags |= TC
    header = _FIELDS.pack(query.id, flags, 1, counts[0], counts[1], counts[2] + bool(tail))
    return b"".join((header, query.question, octets, tail))


def failure(query: Query, rcode: int, *, recursion: bool, trouble: int | None = None) -> bytes:
    """Return a reply without records: SERVFAIL, REFUSED …; `trouble` says why (RFC 8914)."""
    body = Body(
        rcode, authoritative=False, octets=b"", ends=(), answers=0, authorities=0, trouble=trouble
    )
    return finish(body, query, PLAIN_UDP, recursion=recursion)


def cookie(data: bytes) -> bytes:
    """Return the cookie in a query's OPT, b"" when there is none that is well-formed."""
    held = option(data, COOKIE) or b""
    return held if len(held) == 8 or 16 <= len(held) <= 40 else b""


def option(data: bytes, wanted: int) -> bytes | None:
    """Return an option's data in a query's OPT, None when it is not there."""
    counts = [int.from_bytes(data[at : at + 2], "big") for at in (4, 6, 8, 10)]
    at = HEADER if not counts[0] else question_end(data)
    if not at or counts[0] > 1 or not 0 < sum(counts[1:]) <= 4:
        return None
    for _ in range(sum(counts[1:])):
        found = record(data, at)
        if found is None:
            return None
        _, kind, _, _, start, at = found
        if kind == rrs.OPT:
            return _option(data, start, at, wanted)
    return None


def with_option(reply: bytes, added: bytes) -> bytes:
    """Return a reply of ours with one more option in its OPT, which stands last."""
    counts = [int.from_bytes(reply[at : at + 2], "big") for at in (4, 6, 8, 10)]
    at = question_end(reply) if counts[0] else HEADER
    if not at or not counts[3] or len(reply) + len(added) > TCP_SIZE:
        return reply
    kind, start = 0, at
    for _ in range(sum(counts[1:])):
        found = record(reply, at)
        if found is None:
            return reply
        _, kind, _, _, start, at = found
    if kind != rrs.OPT or at != len(reply):
        return reply
    size = len(reply) - start + len(added)
    return reply[: start - 2] + size.to_bytes(2, "big") + reply[start:] + added


def refusal(data: bytes, rcode: int, option: bytes = b"") -> bytes:
    """Return a reply to a query with EDNS that has nothing but an rcode, of 12 bits, and an option."""
    question = data[HEADER : question_end(data)]
    flags = int.from_bytes(data[2:4], "big")
    return with_option(_error(data, flags, rcode, question, opt(do=False, rcode=rcode)), option)


def rejected(data: bytes, rcode: int) -> bytes:
    """Return a reply to a query that has nothing but its question and an rcode."""
    flags = int.from_bytes(data[2:4], "big")
    return _error(data, flags, rcode, data[HEADER : question_end(data)])


def truncated(data: bytes) -> bytes:
    """Return a reply that sends the client to TCP: no records, TC."""
    flags = int.from_bytes(data[2:4], "big")
    tail = opt(do=False) if data[11] else b""
    reply = _error(data, flags, rrs.NOERROR, data[HEADER : question_end(data)], tail)
    return reply[:2] + bytes((reply[2] | TC >> 8,)) + reply[3:]


def _option(data: bytes, at: int, end: int, wanted: int) -> bytes | None:
    """Return an option's data, None when it is not there."""
    while at + 4 <= end:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at : at + 2] == wanted.to_bytes(2, "big") and at + 4 + size <= end:
            return data[at + 4 : at + 4 + size]
        at += 4 + size
    return None


def _error(data: bytes, flags: int, rcode: int, question: bytes, tail: bytes = b"") -> bytes:
    """Return the reply to what is no good query; opcode and RD are echoed."""
    if rcode == rrs.BADVERS:
        tail = opt(do=False, rcode=rcode)
    bits = QR | (flags & (_OPCODE | RD)) | (rcode & 0xF)
    return b"".join((
        data[:2], bits.to_bytes(2, "big"), b"\0\x01" if question else b"\0\0", b"\0\0\0\0",
        b"\0\x01" if tail else b"\0\0", question, tail,
    ))  # fmt: skip


def question_end(data: bytes) -> int:
    """Return where the question ends, 0 when it is cut, over-long, or holds a pointer."""
    at = HEADER
    most = len(data) - 5  # a root label, type and class must still fit
    while at <= most:
        length = data[at]
        if not length:
            return at + 5 if at + 1 - HEADER <= names.MOST_NAME else 0
        if length > names.MOST_LABEL:
            return 0
        at += length + 1
    return 0


def record(data: bytes, at: int) -> tuple[bool, int, int, int, int, int] | None:
    """Read a record's frame: owner is the root, type, class, TTL, where its data begin and end."""
    root = True
    while True:
        if at >= len(data):
            return None
        length = data[at]
        if not length:
            at += 1
            break
        root = False
        if length >= 0xC0:
            at += 2
            break
        if length > names.MOST_LABEL:
            return None
        at += length + 1
    if at + 10 > len(data):
        return None
    start = at + 10
    end = start + int.from_bytes(data[at + 8 : at + 10], "big")
    if end > len(data):
        return None
    kind, size, ttl = _FRAME.unpack_from(data, at)
    return root, kind, size, ttl, start, end


def _options_sound(data: bytes, at: int, end: int) -> bool:
    """Say whether an OPT's options fill it exactly."""
    while at + 4 <= end:
        at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at == end


def opt(do: bool, rcode: int = 0, trouble: int | None = None, nsid: bytes = b"") -> bytes:
    """Return our OPT record."""
    option = b""
    if trouble is not None:
        option = _EDE.to_bytes(2, "big") + b"\0\x02" + trouble.to_bytes(2, "big")
    if nsid:
        option += _NSID.to_bytes(2, "big") + len(nsid).to_bytes(2, "big") + nsid
    return b"".join((
        b"\0\0\x29", UDP_SIZE.to_bytes(2, "big"), (rcode >> 4).to_bytes(1, "big"), b"\0",
        b"\x80\0" if do else b"\0\0", len(option).to_bytes(2, "big"), option,
    ))  # fmt: skip


def _additional(body: Body) -> int:
    """Return how many additional records a body has."""
    return len(body.ends) - body.answers - body.authorities


def _cut(body: Body, room: int) -> tuple[bytes, tuple[int, int, int], bool]:
    """Return what of a body fits, the counts by section, and whether it lost what matters."""
    fit = 0
    for end in body.ends:
        if end > room:
            break
        fit += 1
    answers = min(fit, body.answers)
    authorities = min(fit - answers, body.authorities)
    lost = fit < body.answers + body.authorities
    octets = body.octets[: body.ends[fit - 1]] if fit else b""
    return octets, (answers, authorities, fit - answers - authorities), lost


def _turning(
    answers: tuple[RR, ...], starts: list[int], ends: list[int]
) -> tuple[tuple[int, int] | None, int]:
    """Return the place and number of the addresses at the end of the answer, if they can turn."""
    count = 0
    for rr in reversed(answers):
        if rr.rtype not in {rrs.A, rrs.AAAA} or rr.owner != answers[-1].owner:
            break
        count += 1
    if count < 2:
        return None, 0
    first = len(answers) - count
    length = ends[first] - starts[first]
    # the first owner of a chain's last RRset is written out only if nothing before it named it
    if any(ends[at] - starts[at] != length for at in range(first, len(answers))):
        return None, 0
    return (starts[first], length), count


def emptied(reply: bytes) -> bytes:
    """Return a reply with its header, question and OPT alone: what a cut one is good for."""
    at = question_end(reply)
    counts = _FIELDS.unpack_from(reply)[3:]
    if not at or not any(counts):
        return reply
    head, kind, start = reply[:at], 0, at
    for _ in range(sum(counts)):
        found = record(reply, at)
        if found is None:
            return reply
        kind, start, at = found[1], at, found[5]
    if kind == rrs.TSIG:  # a signature is over all of it
        return reply
    tail = reply[start:] if kind == rrs.OPT else b""
    return b"".join((head[:6], b"\0\0\0\0", b"\0\1" if tail else b"\0\0", head[HEADER:], tail))


def turning(reply: bytes) -> tuple[int, int, int] | None:
    """Return where the addresses at the end of a reply's answer stand: start, length of each, count.

    None when there are not several, or not of one owner.
    """
    at, answers = question_end(reply), int.from_bytes(reply[6:8], "big")
    places: list[tuple[int, int, int, bytes]] = []
    for _ in range(answers if at else 0):
        found = record(reply, at)
        if found is None:
            return None
        kind, start = found[1], at
        at = found[5]
        places.append((kind, start, at - start, reply[start : found[4] - 10]))
    count = 0
    for each in reversed(places):
        if each[0] not in {rrs.A, rrs.AAAA} or each[2:] != places[-1][2:]:
            break
        count += 1
    return (places[-count][1], places[-1][2], count) if count > 1 else None


class _Writer:
    """Octets of records, names compressed against all that stands before them."""

    __slots__ = ("base", "known", "out")

    def __init__(self, question: bytes) -> None:
        self.out = bytearray()
        self.base = HEADER + len(question) + 4
        self.known: dict[bytes, int] = {}
        at = 0
        while question[at]:
            self.known[question[at:]] = HEADER + at
            at += question[at] + 1

    def record(self, rr: RR) -> None:
        """Write one record."""
        out = self.out
        self.name(rr.owner)
        out += _FRAME.pack(rr.rtype, rr.rclass, rr.ttl)
        place = len(out)
        out += b"\0\0"
        out += rr.head
        for name in rr.names:
            self.name(name)
        out += rr.tail
        out[place : place + 2] = (len(out) - place - 2).to_bytes(2, "big")

    def name(self, name: bytes) -> None:
        """Write a name, as a pointer as far as it is known."""
        known, out = self.known, self.out
        at = 0
        while name[at]:
            rest = name[at:].lower()
            pointer = known.get(rest)
            if pointer is not None:
                out += (0xC000 | pointer).to_bytes(2, "big")
                return
            here = self.base + len(out)
            if here < 0x4000:  # a pointer has 14 bits
                known[rest] = here
            length = name[at] + 1
            out += name[at : at + length]
            at += length
        out.append(0)
