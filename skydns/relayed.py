# SPDX-License-Identifier: Apache-2.0
"""What name servers said → what clients get: whole answers, and what completes ours. Pure.

::

    server's message ─► body: its records without the OPT, where they end, whose turn it can be ─► finish
                     └► records ─► our reply joined with them

EDNS is hop by hop (RFC 6891), so the server's OPT is not the client's; AD is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import dnslib

from skydns import ede, message, names, rrs
from skydns.message import Body, Query
from skydns.reply import Reply, Wanted
from skydns.rrs import RR, Question


def relayed(
    query: Query,
    found: bytes,
    limit: int,
    *,
    kept: bool = False,
    trouble: int | None = None,
    nsid: bytes = b"",
) -> bytes:
    """Return a server's answer as ours: the client's id, letter case and EDNS; RA set, AD not.

    Args:
        kept: see `body`.
        trouble: an extended error that goes with it (RFC 8914).
    """
    made = body(found, kept=kept)
    if made is None:
        return message.failure(query, rrs.SERVFAIL, recursion=True, trouble=ede.OTHER)
    if trouble is not None:
        made = replace(made, trouble=trouble)
    reply = message.finish(made, query, limit, recursion=True, nsid=nsid)
    if reply[2] & message.TC >> 8:
        return message.emptied(reply)
    return reply[:2] + bytes((reply[2] | found[2] & message.TC >> 8,)) + reply[3:]


def body(found: bytes, *, kept: bool) -> Body | None:
    """Return a server's records as they stand behind our header and question; None: unreadable.

    Args:
        kept: it is from the cache, so AA is not set: that is for who has the zone (RFC 1035 §4.1.1).
    """
    start = message.question_end(found)
    ends: list[int] = []
    at, counts = start, _counts(found)
    for place in range(sum(counts)):
        record = message.record(found, at) if start else None
        if record is None:
            return None
        if record[1] == rrs.OPT:
            if place < counts[0] + counts[1]:
                return None
            if place != sum(counts) - 1:  # what follows may be pointed at: written anew
                plain = _without_opt(found)
                return body(plain, kept=kept) if plain else None
            break
        at = record[5]
        ends.append(at - start)
    turn = message.turning(found)
    return Body(
        found[3] & 0xF, not kept and bool(found[2] & message.AA >> 8), found[start:at], tuple(ends),
        counts[0], counts[1], turn and (turn[0] - start, turn[1]), turn[2] if turn else 0,
    )  # fmt: skip


def _counts(found: bytes) -> tuple[int, int, int]:
    """Return how many records a message has by section."""
    an, ns, ar = (int.from_bytes(found[at : at + 2], "big") for at in (6, 8, 10))
    return an, ns, ar


def _without_opt(found: bytes) -> bytes:
    """Return a message without its OPT, which others follow, by way of dnslib; b"": unreadable."""
    try:
        parsed = dnslib.DNSRecord.parse(found)
        parsed.ar = [record for record in parsed.ar if record.rtype != rrs.OPT]
        return bytes(parsed.pack())
    except (dnslib.DNSError, ValueError):
        return b""


def completed(reply: Reply, query: Query, told: Mapping[Wanted, bytes]) -> Reply:
    """Return a reply with what the servers say about its names outside; of any rcode (§5.2)."""
    question = Question(query.name, query.rtype, query.rclass)
    return reply.joined(question, {each: _records(octets) for each, octets in told.items()})


def _records(found: bytes) -> tuple[RR, ...]:
    """Return the answer in a server's message; none when it cannot be read."""
    try:
        parsed = dnslib.DNSRecord.parse(found)
        return tuple(rr for record in parsed.rr if (rr := _translated(record)) is not None)
    except (dnslib.DNSError, ValueError, IndexError):
        return ()


def _translated(record: dnslib.RR) -> RR | None:
    """Return dnslib's record as ours; None for a kind that no chain has."""
    owner = names.from_labels(record.rname.label)
    if record.rtype == rrs.CNAME:
        target = names.from_labels(record.rdata.label.label)
        return RR(owner, rrs.CNAME, record.ttl, names=(target,))
    if record.rtype in {rrs.A, rrs.AAAA, rrs.TXT}:
        buffer = dnslib.DNSBuffer()
        record.rdata.pack(buffer)
        return RR(owner, record.rtype, record.ttl, bytes(buffer.data))
    return None
