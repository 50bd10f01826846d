# SPDX-License-Identifier: Apache-2.0
"""One question to one name server: UDP, then TCP when the answer is cut; TCP, TLS or HTTPS alone if so set.

A fresh query with a random id from a random port, its name in random letter case (draft 0x20):
what does not match in every octet, or cannot be read, is not the answer. A server that folds the name is asked over
TCP from then on; one that does not know EDNS is asked without (RFC 6891 §7).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from skydns import message, relayed, rrs
from skydns.addresses import Server
from skydns.streams import Streams, Way

_MARK: Final = b"\xfd\xf3\0\1\1"  # specs/skydns.md §9.2: option 65011, so that stubs do not loop


class Sent(NamedTuple):
    """A question as it goes out: the name folded."""

    name: bytes
    rtype: int
    rclass: int
    flags: int
    do: bool
    stub: bool = False
    options: bytes = b""


@dataclass(slots=True)
class Habits:
    """What is known of a server's ways.

    Attributes:
        folds: it answers with the name in lower case.
        plain: it does not know EDNS.
        strays: messages in its name that answered no question of ours.
        unreachable: the last question failed by the network's word, not by silence.
    """

    folds: bool = False
    plain: bool = False
    strays: int = 0
    unreachable: bool = False


def query_octets(sent: Sent, number: int, *, edns: bool = True) -> bytes:
    """Return a query as it goes to a server."""
    head = b"".join((
        number.to_bytes(2, "big"), sent.flags.to_bytes(2, "big"), b"\0\x01\0\0\0\0", b"\0\x01" if edns else b"\0\0",
        sent.name, sent.rtype.to_bytes(2, "big"), sent.rclass.to_bytes(2, "big"),
    ))  # fmt: skip
    if not edns:
        return head
    option = (_MARK if sent.stub else b"") + sent.options
    return b"".join((
        head, b"\0\0\x29", message.UDP_SIZE.to_bytes(2, "big"), b"\0\0", b"\x80\0" if sent.do else b"\0\0",
        len(option).to_bytes(2, "big"), option,
    ))  # fmt: skip


def matches(sent: Sent, number: int, data: bytes) -> bool:
    """Say whether a message answers this question and no other, letter case aside."""
    end = message.HEADER + len(sent.name) + 4
    if (
        len(data) < message.HEADER
        or data[:2] != number.to_bytes(2, "big")
        or not data[2] & 0x80
        or data[2] & 0x78
    ):
        return False
    if data[4:6] == b"\0\0":  # some refuse without repeating the question
        return data[3] & 0xF not in {rrs.NOERROR, rrs.NXDOMAIN} and len(data) == message.HEADER
    return (
        len(data) >= end
        and data[4:6] == b"\0\x01"
        and data[12 : end - 4].lower() == sent.name.lower()
        and data[end - 4 : end] == sent.rtype.to_bytes(2, "big") + sent.rclass.to_bytes(2, "big")
    )


def _cut(found: bytes) -> bool:
    """Say whether TC is set; what is left of a message may be no message then."""
    return bool(found[2] & message.TC >> 8)


def mixed(name: bytes) -> bytes:
    """Return a folded name with each letter's case by chance."""
    bits = secrets.randbits(len(name))
    return bytes(
        octet - 32 if 0x61 <= octet <= 0x7A and bits >> at & 1 else octet
        for at, octet in enumerate(name)
    )


async def exchange(server: Server, sent: Sent, habits: Habits, streams: Streams, way: Way) -> bytes:
    """Return a server's answer, its question in the case of `sent`.

    Raises:
        OSError, TimeoutError, IncompleteReadError: it gave none.
    """
    if (
        server.https
    ):  # nothing to forge there, and caches between know equal questions (RFC 8484 §4.1)
        number, asked = 0, sent
    else:
        number, asked = secrets.randbits(16), sent._replace(name=mixed(sent.name))
    stream = way.tcp or server.tls or habits.folds
    octets = query_octets(asked, number, edns=not habits.plain)
    found = b""

    def wanted(data: bytes) -> bool:
        good = matches(asked, number, data) and (_cut(data) or relayed.body(data, kept=False) is not None)  # fmt: skip
        habits.strays += not good
        return good

    if not stream:
        found = await by_udp(server, octets, wanted, source=way.source)
        named = found[4:6] != b"\0\0"
        if named and found[12 : 12 + len(asked.name)] != asked.name:
            habits.folds = stream = True
        stream |= _cut(found)
    if stream:
        found = await streams.ask(server, octets, way)
        if not wanted(found):
            raise OSError("answers another question, or in no words of the DNS")
    if found[3] & 0xF in {rrs.FORMERR, rrs.NOTIMP} and not habits.plain:
        habits.plain = True
        return await exchange(server, sent, habits, streams, way)
    if found[4:6] == b"\0\0":
        raise OSError(f"answers {rrs.RCODES.get(found[3] & 0xF, '?')} without the question")
    return found[:12] + sent.name + found[12 + len(sent.name) :]


class _Datagrams(asyncio.DatagramProtocol):
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


async def by_udp(
    server: Server, octets: bytes, wanted: Callable[[bytes], bool], *, source: str = ""
) -> bytes:
    """Return the first datagram from a server that is wanted.

    Args:
        source: address to ask from; "": the system's choice.
    """
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(wanted),
        local_addr=(source, 0) if source else None,
        remote_addr=(server.host, server.port),
    )
    try:
        transport.sendto(octets)
        return await protocol.answer
    finally:
        transport.close()
