# SPDX-License-Identifier: Apache-2.0
"""Questions that are not ours: asked of the name servers, never left without an answer.

One exchange: a fresh query with a random id from a random port; UDP, then TCP when the answer is
cut; `timeout` seconds a server, then the next one (specs/skydns.md §9.1). SERVFAIL is tried on
the next server too; a server that was silent is asked last for a while. When all have failed the client gets SERVFAIL and an extended error, where
the original said nothing at all (trap 19).

Equal questions at the same time are asked once. EDNS is hop by hop (RFC 6891): the client's
options do not go on, the server's OPT does not come back.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

import dnslib

from skydns import message, names, rrs
from skydns.addresses import Server
from skydns.answer import Reply
from skydns.compiled import Answers, Ask
from skydns.message import Query
from skydns.rrs import RR
from skydns.upstream import Upstream

MOST_ASKED: Final = 1000  # questions under way; more get SERVFAIL at once
DEADLINE: Final = 4.5  # seconds for all servers together: stub resolvers give up after 5
REST: Final = 10.0  # seconds that a server which did not answer is asked last
NO_SERVER: Final = 22  # RFC 8914: no reachable authority
OTHER: Final = 0


class Sent(NamedTuple):
    """A question as it goes out."""

    name: bytes
    rtype: int
    rclass: int
    flags: int
    do: bool


class Forwarder:
    """Asks the servers."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.asked = 0
        self.failed = 0
        self._turn = 0
        self._silent: dict[Server, float] = {}  # until when, on the loop's clock
        self._pending: dict[Sent, asyncio.Task[bytes | None]] = {}

    async def answer(self, ask: Ask, answers: Answers, host: str, *, udp: bool) -> bytes:
        """Return the whole reply to a query that needs the servers."""
        query = ask.query
        limit = min(query.size, message.UDP_SIZE) if udp else message.TCP_SIZE
        allowed = self.upstream.serves(host)
        if ask.reply is not None:
            found = await self.ask(_sent(ask, query)) if allowed else None
            return answers.close(query, completed(ask.reply, found), udp=udp)
        if not allowed:
            return message.failure(query, rrs.REFUSED, recursion=False, trouble=18)
        if names.count(query.name) < self.upstream.ndots:
            return message.failure(query, rrs.SERVFAIL, recursion=True, trouble=OTHER)
        found = await self.ask(_sent(ask, query))
        if found is None:
            return message.failure(query, rrs.SERVFAIL, recursion=True, trouble=NO_SERVER)
        return relayed(query, found, limit)

    async def ask(self, sent: Sent) -> bytes | None:
        """Return a server's answer, None when none gave one; equal questions share one."""
        task = self._pending.get(sent)
        if task is None:
            if len(self._pending) >= MOST_ASKED:
                return None
            task = asyncio.ensure_future(self._exchange(sent))
            self._pending[sent] = task
            task.add_done_callback(lambda _: self._pending.pop(sent, None))
        return await asyncio.shield(task)

    async def _exchange(self, sent: Sent) -> bytes | None:
        """Ask one server after the other."""
        self.asked += 1
        loop = asyncio.get_running_loop()
        ends = loop.time() + DEADLINE
        unwell: bytes | None = None
        for server in self._order(loop.time()):
            try:
                async with asyncio.timeout_at(min(loop.time() + self.upstream.timeout, ends)):
                    found = await _ask_one(server, sent)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                self._silent[server] = loop.time() + REST
                if loop.time() >= ends:
                    break
                continue
            self._silent.pop(server, None)
            if found[3] & 0xF != rrs.SERVFAIL:
                return found
            unwell = found
        if unwell is None:
            self.failed += 1
        return unwell

    def _order(self, now: float) -> list[Server]:
        """Return the servers as they are to be asked: in turn, those lately silent last."""
        servers = self.upstream.servers
        if self.upstream.rotate:
            self._turn = (self._turn + 1) % len(servers)
        turned = (*servers[self._turn :], *servers[: self._turn])
        return sorted(turned, key=lambda server: self._silent.get(server, 0.0) > now)


def _sent(ask: Ask, query: Query) -> Sent:
    """Return the question for the servers: the client's RD and CD, nothing else of it."""
    flags = query.flags & (message.RD | message.CD)
    if ask.reply is not None:  # a target of ours must be resolved, whatever the client wants
        flags |= message.RD
    return Sent(ask.name, query.rtype, rrs.IN if ask.reply else query.rclass, flags, query.do)


def query_octets(sent: Sent, number: int) -> bytes:
    """Return a query as it goes to a server."""
    return b"".join((
        number.to_bytes(2, "big"), sent.flags.to_bytes(2, "big"), b"\0\x01\0\0\0\0\0\x01",
        sent.name, sent.rtype.to_bytes(2, "big"), sent.rclass.to_bytes(2, "big"),
        b"\0\0\x29", message.UDP_SIZE.to_bytes(2, "big"), b"\0\0", b"\x80\0" if sent.do else b"\0\0", b"\0\0",
    ))  # fmt: skip


def matches(sent: Sent, number: int, data: bytes) -> bool:
    """Say whether a message answers this question and no other."""
    end = message.HEADER + len(sent.name) + 4
    return (
        len(data) >= end
        and data[:2] == number.to_bytes(2, "big")
        and bool(data[2] & 0x80)
        and data[4:6] == b"\0\x01"
        and data[12 : end - 4].lower() == sent.name.lower()
        and data[end - 4 : end] == sent.rtype.to_bytes(2, "big") + sent.rclass.to_bytes(2, "big")
    )


class _Exchange(asyncio.DatagramProtocol):
    """Waits for the one datagram that answers; others are not looked at twice."""

    def __init__(self, wanted: Callable[[bytes], bool]) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._wanted = wanted

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done() and self._wanted(data):
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask_one(server: Server, sent: Sent) -> bytes:
    """Return one server's answer, over TCP when UDP's was cut.

    Raises:
        OSError, TimeoutError, IncompleteReadError: it gave none.
    """
    number = secrets.randbits(16)
    octets = query_octets(sent, number)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Exchange(lambda data: matches(sent, number, data)), remote_addr=server
    )
    try:
        transport.sendto(octets)
        found = await protocol.answer
    finally:
        transport.close()
    if not found[2] & 0x02:
        return found
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(len(octets).to_bytes(2, "big") + octets)
        size = int.from_bytes(await reader.readexactly(2), "big")
        whole = await reader.readexactly(size)
    finally:
        writer.close()
    if not matches(sent, number, whole):
        raise OSError("answers another question")
    return whole


def relayed(query: Query, found: bytes, limit: int) -> bytes:
    """Return a server's answer as ours: the client's id, letter case and EDNS; RA set, AD not."""
    body = _without_opt(found, message.HEADER + len(query.question))
    if body is None:
        return message.failure(query, rrs.SERVFAIL, recursion=True, trouble=OTHER)
    records, counts = body
    opt = message.opt(query.do) if query.edns else b""
    bits = int.from_bytes(found[2:4], "big")
    flags = message.QR | (query.flags & (message.RD | message.CD)) | message.RA
    flags |= bits & (message.AA | message.TC | 0xF)
    if message.HEADER + len(query.question) + len(records) + len(opt) > limit:
        records, counts, flags = b"", (0, 0, 0), flags | message.TC
    return b"".join((
        query.id.to_bytes(2, "big"), flags.to_bytes(2, "big"), b"\0\x01",
        counts[0].to_bytes(2, "big"), counts[1].to_bytes(2, "big"), (counts[2] + bool(opt)).to_bytes(2, "big"),
        query.question, records, opt,
    ))  # fmt: skip


def completed(reply: Reply, found: bytes | None) -> Reply:
    """Return an alias chain with what the servers say about its end; of any rcode (§5.2)."""
    if found is None:
        return reply
    try:
        parsed = dnslib.DNSRecord.parse(found)
        rest = tuple(rr for record in parsed.rr if (rr := _translated(record)) is not None)
    except (dnslib.DNSError, ValueError, IndexError):
        return reply
    return replace(reply, answer=(*reply.answer, *rest))


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


def _without_opt(found: bytes, start: int) -> tuple[bytes, tuple[int, int, int]] | None:
    """Return the records of a message without its OPT, and their counts; None: unreadable."""
    an, ns, ar = (int.from_bytes(found[at : at + 2], "big") for at in (6, 8, 10))
    at = start
    for place in range(an + ns + ar):
        record = message.record(found, at)
        if record is None:
            return None
        _, kind, _, _, _, end = record
        if kind == rrs.OPT:
            if place != an + ns + ar - 1:  # what follows may be pointed at: written anew
                return _rewritten(found)
            return found[start:at], (an, ns, ar - 1)
        at = end
    return found[start:at], (an, ns, ar)


def _rewritten(found: bytes) -> tuple[bytes, tuple[int, int, int]] | None:
    """Return the records without an OPT that others follow, by way of dnslib."""
    try:
        parsed = dnslib.DNSRecord.parse(found)
        parsed.ar = [record for record in parsed.ar if record.rtype != rrs.OPT]
        octets = parsed.pack()
    except (dnslib.DNSError, ValueError):
        return None
    return octets[message.question_end(octets) :], (
        len(parsed.rr),
        len(parsed.auth),
        len(parsed.ar),
    )
