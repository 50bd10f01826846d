# SPDX-License-Identifier: Apache-2.0
"""Where a batch's datagrams came from: senders and control data as the kernel wrote them."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any, Final

PLACES: Final = 64
HEAD: Final = 128  # octets; no query for an existing name of ours is longer
QUERY: Final = 4096
"""Octets read of a query; larger ones arrive cut and get FORMERR."""
SENDER: Final = 28  # octets a place: sockaddr_in6, the longer one
CONTROL: Final = 64


def by_count(place: str) -> tuple[struct.Struct, ...]:
    """Return what reads so many places at once: most batches are small."""
    return tuple(struct.Struct(place * count) for count in range(PLACES + 1))


_MAPPED: Final = bytes(10) + b"\xff\xff"  # IPv4 on a socket of IPv6
_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8)  # Python 3.11 has no name for it
_ADDRESSES_4: Final = by_count("4x4s20x")  # sockaddr_in in SENDER octets
_ADDRESSES_6: Final = by_count("8x16s4x")


class Places:
    """The places of one socket.

    Args:
        wildcard: the socket tells to which of our addresses a datagram came (IP_PKTINFO).

    Attributes:
        senders: where from, SENDER octets a place; `size_of_sender` of them count.
        controls: where to, CONTROL octets a place.
    """

    def __init__(self, sock: socket.socket, *, wildcard: bool) -> None:
        self.v4 = sock.family == socket.AF_INET
        self.wildcard = wildcard
        self.size_of_sender = 16 if self.v4 else SENDER
        self.senders = bytearray(PLACES * SENDER)
        self.controls = bytearray(PLACES * CONTROL)

    def address(self, place: int) -> bytes:
        """Return a sender's address, 4 or 16 octets."""
        start = place * SENDER + (4 if self.v4 else 8)
        found = bytes(self.senders[start : start + (4 if self.v4 else 16)])
        return found[12:] if found[:12] == _MAPPED else found

    def addresses(self, count: int) -> tuple[bytes, ...]:
        """Return the addresses of the first `count` senders as they stand, mapped ones of 16 octets."""
        return (_ADDRESSES_4 if self.v4 else _ADDRESSES_6)[count].unpack_from(self.senders)

    def port(self, place: int) -> int:
        """Return a sender's port."""
        start = place * SENDER + 2
        return int.from_bytes(self.senders[start : start + 2], "big")

    def sender(self, place: int) -> Any:
        """Return where a query came from as Python's sockets say it, and the way back."""
        start = place * SENDER
        raw = bytes(self.senders[start : start + self.size_of_sender])
        port = int.from_bytes(raw[2:4], "big")
        if self.v4:
            peer: tuple[Any, ...] = (socket.inet_ntop(socket.AF_INET, raw[4:8]), port)
        else:
            scope = int.from_bytes(raw[24:28], sys.byteorder)
            peer = (socket.inet_ntop(socket.AF_INET6, raw[8:24]), port, 0, scope)
        if not self.wildcard:
            return peer
        start = place * CONTROL
        control = bytes(self.controls[start : start + CONTROL])
        if self.v4:
            return peer, [(socket.IPPROTO_IP, _PKTINFO, b"\0\0\0\0" + control[20:24] + b"\0\0\0\0")]
        return peer, [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, control[16:36])]
