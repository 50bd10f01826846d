"""The udp backend's forwarding (specs/flannel.md §10.4, RFC 1624, RFC 792)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address
from struct import pack, unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flannelpy.udp.packet import Reply, Send, Table, checksum, decrement_ttl, inbound, outbound

OWN = IPv4Address("10.5.1.0").packed
TABLE = Table(
    {
        IPv4Network("10.5.2.0/24"): IPv4Address("192.0.2.12"),
        IPv4Network("10.5.2.128/25"): IPv4Address("192.0.2.13"),
    }
)


def ipv4(
    dest: str = "10.5.2.9", *, ttl: int = 64, proto: int = 17, fragment: int = 0, body: bytes = b""
) -> bytearray:
    body = body or b"\x12\x34\x56\x78abcdefgh"
    addresses = ip_address("10.5.1.2").packed + ip_address(dest).packed
    header = pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, fragment, ttl, proto, 0) + addresses
    return bytearray(header[:10] + pack("!H", checksum(header)) + header[12:] + body)


def test_a_packet_goes_to_the_peer_with_the_longest_prefix_one_hop_older() -> None:
    for dest, peer in (("10.5.2.9", "192.0.2.12"), ("10.5.2.200", "192.0.2.13")):
        match outbound(ipv4(dest), TABLE, OWN):
            case Send(to, packet):
                assert (to, packet) == (peer, ipv4(dest, ttl=63))
            case other:
                pytest.fail(f"{other}")


@given(st.integers(2, 255), st.integers(0, 0xFFFFFFFF))
def test_the_patched_checksum_is_right(ttl: int, dest: int) -> None:
    packet = ipv4(str(IPv4Address(dest)), ttl=ttl)
    assert decrement_ttl(packet)
    assert packet[8] == ttl - 1
    assert checksum(packet[:20]) == 0


@pytest.mark.parametrize("ttl", [0, 1])
def test_at_the_end_of_its_ttl_it_is_dropped_without_a_word(ttl: int) -> None:
    assert outbound(ipv4(ttl=ttl), TABLE, OWN) is None
    assert not inbound(ipv4(ttl=ttl))


def test_no_subnet_for_it_is_answered_with_net_unreachable() -> None:
    packet = ipv4("10.5.9.9")
    match outbound(packet, TABLE, OWN):
        case Reply(answer):
            pass
        case other:
            pytest.fail(f"{other}")
    assert answer[8] == 8
    assert answer[12:20] == OWN + packet[12:16]
    assert checksum(answer[:20]) == checksum(answer[20:]) == 0
    assert unpack_from("!BB", answer, 20) == (3, 0)
    assert answer[28:] == packet[:28]
    assert unpack_from("!H", answer, 2) == (len(answer),)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(ipv4("10.5.9.9", proto=1), id="never about ICMP"),
        pytest.param(ipv4("10.5.9.9", fragment=185), id="never about a later fragment"),
        pytest.param(bytearray(), id="empty"),
        pytest.param(bytearray(19), id="short"),
        pytest.param(bytearray(b"\x60" + bytes(39)), id="IPv6"),
        pytest.param(bytearray(b"\x4f" + bytes(30)), id="header longer than the packet"),
        pytest.param(bytearray(b"\x41" + bytes(30)), id="header shorter than a header"),
    ],
)
def test_some_are_dropped(packet: bytearray) -> None:
    assert outbound(packet, TABLE, OWN) is None


@given(st.binary(max_size=80))
def test_no_octets_raise(data: bytes) -> None:
    outbound(bytearray(data), TABLE, OWN)
    inbound(bytearray(data))
