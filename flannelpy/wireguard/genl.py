# SPDX-License-Identifier: Apache-2.0
"""The kernel's WireGuard in generic netlink, both ways. Pure.

Layouts: linux/genetlink.h, linux/wireguard.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

from flannelpy import nlmsg
from flannelpy.nlmsg import Reply, attribute, attributes
from flannelpy.rtnetlink import INET, INET6
from flannelpy.state import IPNetwork
from flannelpy.wireguard.objects import NO_KEY, Endpoint, Identity, Peer, in_order

_CONTROL, _GETFAMILY = 0x10, 3  # GENL_ID_CTRL
_GET_DEVICE, _SET_DEVICE = 0, 1
_NESTED = 0x8000
_REMOVE, _REPLACE_ALLOWED = 1, 2  # WGPEER_F_*
_NOTHING = memoryview(b"")


def family() -> bytes:
    """Ask for the number that WireGuard has in this kernel."""
    return nlmsg.message(_CONTROL, 0, bytes((_GETFAMILY, 1, 0, 0)) + attribute(2, b"wireguard\0"))


def parse_family(reply: Reply) -> int:
    """Return that number."""
    return _number(attributes(reply.body, 4).get(1, _NOTHING))


def get(kind: int, index: int) -> bytes:
    """Ask for a device and its peers."""
    return nlmsg.message(
        kind, nlmsg.F_DUMP, _head(_GET_DEVICE) + attribute(1, struct.pack("=I", index))
    )


def identity(kind: int, index: int, it: Identity) -> bytes:
    """Set a device's key and port."""
    body = attribute(1, struct.pack("=I", index)) + attribute(3, it.private)
    return nlmsg.message(
        kind, 0, _head(_SET_DEVICE) + body + attribute(6, struct.pack("=H", it.port))
    )


def put(kind: int, index: int, it: Peer) -> bytes:
    """Put a peer as a whole."""
    body = attribute(1, it.public) + attribute(2, it.psk)
    body += attribute(3, struct.pack("=I", _REPLACE_ALLOWED))
    if it.endpoint is not None:
        body += attribute(4, _sockaddr(it.endpoint))
    body += attribute(5, struct.pack("=H", it.keepalive))
    nets = b"".join(attribute(0 | _NESTED, _allowed(net)) for net in it.allowed)
    return _peer(kind, index, body + attribute(9 | _NESTED, nets))


def delete(kind: int, index: int, it: Peer) -> bytes:
    """Remove a peer."""
    flags = attribute(3, struct.pack("=I", _REMOVE))
    return _peer(kind, index, attribute(1, it.public) + flags)


def _head(command: int) -> bytes:
    return bytes((command, 1, 0, 0))


def _peer(kind: int, index: int, body: bytes) -> bytes:
    peers = attribute(8 | _NESTED, attribute(0 | _NESTED, body))
    head = _head(_SET_DEVICE) + attribute(1, struct.pack("=I", index))
    return nlmsg.message(kind, 0, head + peers)


def _allowed(net: IPNetwork) -> bytes:
    family = INET if net.version == 4 else INET6
    body = attribute(1, struct.pack("=H", family)) + attribute(2, net.network_address.packed)
    return body + attribute(3, bytes((net.prefixlen,)))


def _sockaddr(end: Endpoint) -> bytes:
    port = end.port.to_bytes(2)
    if end.address.version == 4:
        return struct.pack("=H", INET) + port + end.address.packed + bytes(8)
    return struct.pack("=H", INET6) + port + bytes(4) + end.address.packed + bytes(4)


def device(name: str, replies: Iterable[Reply]) -> tuple[bytes, int, tuple[Peer, ...]]:
    """Return a device's private key, its port and its peers; they come in several messages."""
    private, port = NO_KEY, 0
    found: dict[bytes, Peer] = {}
    for reply in replies:
        has = attributes(reply.body, 4)
        private = bytes(has.get(3, private))
        port = _number(has[6]) if 6 in has else port
        for entry in _items(has.get(8, _NOTHING)):
            it = _parse_peer(name, entry)
            if it.public in found:  # too many allowed IPs for one message: the rest of them
                it = Peer(
                    name,
                    it.public,
                    found[it.public].endpoint,
                    in_order([*found[it.public].allowed, *it.allowed]),
                    found[it.public].psk,
                    found[it.public].keepalive,
                )
            found[it.public] = it
    return private, port, tuple(found.values())


def _parse_peer(name: str, entry: memoryview) -> Peer:
    has = attributes(entry, 0)
    endpoint = None
    if 4 in has:
        raw = bytes(has[4])
        packed = raw[4:8] if _number(has[4][:2]) == INET else raw[8:24]
        endpoint = Endpoint(ip_address(packed), int.from_bytes(raw[2:4]))
    allowed = []
    for item in _items(has.get(9, _NOTHING)):
        net = attributes(item, 0)
        allowed.append(ip_network((bytes(net[2]), net[3][0])))
    return Peer(
        name,
        bytes(has[1]),
        endpoint,
        in_order(allowed),
        bytes(has.get(2, NO_KEY)),
        _number(has.get(5, _NOTHING)),
    )


def _items(data: memoryview) -> Iterator[memoryview]:
    """Yield the entries of a list, whose attributes all have one number."""
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 2], sys.byteorder)
        if size < 4:
            return
        yield data[at + 4 : at + size]
        at += size + (-size & 3)


def _number(data: memoryview | bytes) -> int:
    return int.from_bytes(data, sys.byteorder)
