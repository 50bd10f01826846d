# SPDX-License-Identifier: Apache-2.0
"""What becomes of one inner IPv4 packet. Pure: bytes in, a verdict out.

Both ends take one off the TTL, as a router does, and patch the header's checksum instead of
computing it anew (RFC 1624). A packet for no known subnet is answered with ICMP net
unreachable, as RFC 1812 §4.3.2.7 allows: not for ICMP itself, only for the first fragment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from struct import pack, unpack_from
from typing import Final

_HEADER: Final = 20  # octets of an IPv4 header without options
_ICMP: Final = 1
_REPLY_TTL: Final = 8  # as the original
_FRAGMENT_OFFSET: Final = 0x1FFF


@dataclass(frozen=True, slots=True)
class Send:
    """Send `packet` to `peer`, an underlay address as text (what sendto takes)."""

    peer: str
    packet: bytearray


@dataclass(frozen=True, slots=True)
class Reply:
    """Write `packet` back into the TUN."""

    packet: bytes


Verdict = Send | Reply | None  # None: drop it without a word


class Table:
    """Subnet → peer, by longest prefix; subnets of one network mostly have one length."""

    def __init__(self, peers: Mapping[IPv4Network, IPv4Address]) -> None:
        self._found: dict[int, dict[int, str]] = {}
        self._by_shift: tuple[tuple[int, dict[int, str]], ...] = ()
        for subnet, peer in peers.items():
            self.put(subnet, peer)

    def put(self, subnet: IPv4Network, peer: IPv4Address) -> None:
        """Have packets for `subnet` sent to `peer`."""
        shift = 32 - subnet.prefixlen
        if shift not in self._found:
            self._found[shift] = {}
            # least shift first: longest prefix first
            self._by_shift = tuple(sorted(self._found.items(), key=lambda it: it[0]))
        self._found[shift][int(subnet.network_address) >> shift] = str(peer)

    def delete(self, subnet: IPv4Network) -> None:
        """Forget a subnet."""
        shift = 32 - subnet.prefixlen
        self._found.get(shift, {}).pop(int(subnet.network_address) >> shift, None)

    def lookup(self, address: int) -> str | None:
        """Return the peer whose subnet holds `address`; a dict look-up for each prefix length."""
        for shift, peers in self._by_shift:
            peer = peers.get(address >> shift)
            if peer is not None:
                return peer
        return None


def outbound(packet: bytearray, table: Table, own: bytes) -> Verdict:
    """Decide about a packet that the kernel gave us through the TUN.

    Args:
        packet: one IPv4 packet; its TTL and checksum are changed in place.
        table: where the subnets are.
        own: the TUN's address, 4 octets: source of our ICMP messages.
    """
    if not _whole(packet):
        return None
    (dest,) = unpack_from("!I", packet, 16)
    peer = table.lookup(dest)
    if peer is None:
        answer = net_unreachable(packet, own)
        return None if answer is None else Reply(answer)
    return Send(peer, packet) if decrement_ttl(packet) else None


def inbound(packet: bytearray) -> bool:
    """Take one off the TTL of a packet from a peer; say whether it may go into the TUN."""
    return _whole(packet) and decrement_ttl(packet)


def _whole(packet: bytearray) -> bool:
    """Say whether this is an IPv4 packet with all of its header."""
    if len(packet) < _HEADER or packet[0] >> 4 != 4:
        return False
    return _HEADER <= (packet[0] & 15) * 4 <= len(packet)


def decrement_ttl(packet: bytearray) -> bool:
    """Take one off the TTL and patch the checksum; False: it has come to its end.

    TTL is the high octet of its 16-bit word, so the word falls by 0x0100 and the checksum rises
    by as much, in ones' complement (RFC 1624 eq. 3).
    """
    if packet[8] <= 1:
        return False
    packet[8] -= 1
    total = ((packet[10] << 8) | packet[11]) + 0x0100
    total = (total & 0xFFFF) + (total >> 16)
    packet[10], packet[11] = total >> 8, total & 0xFF
    return True


def checksum(data: bytes | bytearray) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    total: int = sum(unpack_from(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def net_unreachable(packet: bytearray, own: bytes) -> bytes | None:
    """Return ICMP type 3 code 0 about `packet`, or None where none may be sent (RFC 1122 §3.2.2)."""
    (fragment,) = unpack_from("!H", packet, 6)
    if packet[9] == _ICMP or fragment & _FRAGMENT_OFFSET:
        return None
    quoted = bytes(packet[: (packet[0] & 15) * 4 + 8])  # RFC 792: the header and 64 bits
    body = pack("!BBHI", 3, 0, 0, 0) + quoted
    body = body[:2] + pack("!H", checksum(body)) + body[4:]
    source = bytes(packet[12:16])
    header = pack(
        "!BBHHHBBH4s4s", 0x45, 0, _HEADER + len(body), 0, 0, _REPLY_TTL, _ICMP, 0, own, source
    )
    return header[:10] + pack("!H", checksum(header)) + header[12:] + body
