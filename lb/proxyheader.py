# SPDX-License-Identifier: Apache-2.0
r"""The PROXY protocol's header, versions 1 and 2: bytes ↔ the address of the client. Pure.

    v1: PROXY TCP4 192.0.2.1 198.51.100.1 5000 80\r\n      v2: 12 bytes signature, version, family, length, addresses

Source: the PROXY protocol specification, sections 2.1 and 2.2; specs/vulcand.md §3.7.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
MOST: Final = 107
"""Bytes of the longest header of version 1."""
_V1: Final = re.compile(
    rb"PROXY (TCP4|TCP6|UNKNOWN)(?: ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) ([0-9]{1,5}) ([0-9]{1,5})|[ -~]*)\r\n"
)


class Refused(ValueError):
    """No PROXY header, or one that cannot be believed."""


def decode(data: bytes, kind: str) -> tuple[int, tuple[str, int] | None] | None:
    """Return (bytes of the header, the client's address and port, None where it names none).

    A peer may send no header (specs/vulcand.md §3.7): then 0 bytes. None: more bytes are needed.

    Args:
        kind: PROXY_V1, PROXY_V2, or PROXY for either.

    Raises:
        Refused: a header that is malformed.
    """
    if kind != "PROXY_V1" and _opens(data, SIGNATURE):
        return _second(data) if len(data) >= 16 else None
    if kind != "PROXY_V2" and _opens(data, b"PROXY "):
        return _first(data)
    return 0, None


def _opens(data: bytes, mark: bytes) -> bool:
    return bool(data) and (data.startswith(mark) or mark.startswith(data))


def _first(data: bytes) -> tuple[int, tuple[str, int] | None] | None:
    end = data.find(b"\r\n", 0, MOST)
    if end < 0:
        if len(data) >= MOST:
            raise Refused("a PROXY header longer than 107 bytes")
        return None
    found = _V1.fullmatch(data, 0, end + 2)
    if found is None:
        raise Refused("a malformed PROXY header")
    family, source, _, port, _ = found.groups()
    if family == b"UNKNOWN":
        return end + 2, None
    if source is None:
        raise Refused("a PROXY header without addresses")
    try:
        address = ip_address(source.decode())
    except ValueError as error:
        raise Refused("a PROXY header with a bad address") from error
    if address.version != (4 if family == b"TCP4" else 6) or int(port) > 65535:
        raise Refused("a PROXY header with a bad address")
    return end + 2, (str(address), int(port))


def _second(data: bytes) -> tuple[int, tuple[str, int] | None] | None:
    command, family, length = struct.unpack_from("!BBH", data, 12)
    if command >> 4 != 2 or command & 15 > 1:
        raise Refused("a PROXY header of an unknown version or command")
    if length > 4096:
        raise Refused("a PROXY header longer than 4096 bytes")
    if len(data) < 16 + length:
        return None
    size = 16 + length
    if command & 15 == 0:  # LOCAL: the proxy itself, e.g. a health check
        return size, None
    if family >> 4 == 1 and length >= 12:
        port = struct.unpack_from("!H", data, 24)[0]
        return size, (str(IPv4Address(data[16:20])), port)
    if family >> 4 == 2 and length >= 36:
        port = struct.unpack_from("!H", data, 48)[0]
        return size, (str(IPv6Address(data[16:32])), port)
    return size, None


def encode(version: str, source: object, target: object) -> bytes:
    """Return the header that names a client, from the peer and socket names of its connection."""
    addresses = _pair(source, target)
    if version == "v1":
        if addresses is None:
            return b"PROXY UNKNOWN\r\n"
        (one, one_port), (two, two_port) = addresses
        return f"PROXY TCP{one.version} {one} {two} {one_port} {two_port}\r\n".encode()
    if addresses is None:
        return SIGNATURE + b"\x20\x00\x00\x00"
    (one, one_port), (two, two_port) = addresses
    body = one.packed + two.packed + struct.pack("!HH", one_port, two_port)
    family = 0x11 if one.version == 4 else 0x21
    return SIGNATURE + struct.pack("!BBH", 0x21, family, len(body)) + body


_Place = tuple[IPv4Address | IPv6Address, int]


def _pair(source: object, target: object) -> tuple[_Place, _Place] | None:
    places: list[_Place] = []
    for name in (source, target):
        if not isinstance(name, tuple) or len(name) < 2:
            return None
        address = ip_address(str(name[0]).partition("%")[0])
        places.append((getattr(address, "ipv4_mapped", None) or address, int(name[1])))
    if places[0][0].version != places[1][0].version:
        return None
    return places[0], places[1]
