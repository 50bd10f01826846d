# SPDX-License-Identifier: Apache-2.0
"""Links as rtnetlink messages, both ways: VXLAN and IP-in-IP devices and what all have. Pure.

Layouts: linux/if_link.h, if_tunnel.h.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from flannelpy.nlmsg import (
    F_CREATE,
    F_DUMP,
    F_EXCL,
    NOTHING,
    Reply,
    attribute,
    attributes,
    message,
    number,
    string,
    u32,
)
from flannelpy.state import IPAddress, Ipip, Link, Vxlan, mac_bytes

NEWLINK, DELLINK, GETLINK = 16, 17, 18
_IFINFOMSG = struct.Struct("=BBHiII")
_NESTED = 0x8000


class RawLink(NamedTuple):
    """A link; `kind` is rtnetlink's word; of a tunnel also its parameters, `lower` as an index."""

    ifindex: int
    name: str
    mtu: int
    up: bool
    mac: str
    vxlan: RawVxlan | None
    kind: str = ""
    ipip: Ipip | None = None


class RawVxlan(NamedTuple):
    """What makes a VXLAN device this one."""

    vni: int
    lower: int
    local: IPAddress | None
    port: int
    learning: bool
    gbp: bool


def get_link(name: str) -> bytes:
    """Ask for a link by name."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0, 0) + attribute(3, name.encode() + b"\0")
    return message(GETLINK, 0, body)


def dump_links() -> bytes:
    """Ask for all links."""
    return message(GETLINK, F_DUMP, _IFINFOMSG.pack(0, 0, 0, 0, 0, 0))


def create_vxlan(link: Link, tunnel: Vxlan, lower: int) -> bytes:
    """Create a VXLAN device, down; its MAC is there from the first moment."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0, 0) + attribute(3, link.name.encode() + b"\0")
    body += attribute(1, mac_bytes(link.mac)) + u32(4, link.mtu)
    data = u32(1, tunnel.vni) + u32(3, lower)
    data += _local(tunnel)
    data += attribute(5, b"\0") + attribute(7, bytes((link.learning,)))  # TTL as the host's
    for miss in (11, 12, 13, 14):  # proxy, rsc, l2miss, l3miss: the kernel never has to ask
        data += attribute(miss, b"\0")
    if tunnel.port:
        data += attribute(15, tunnel.port.to_bytes(2))
    if tunnel.gbp:
        data += attribute(23, b"")
    return message(NEWLINK, F_CREATE | F_EXCL, body + _linkinfo("vxlan", data))


def create_ipip(link: Link, tunnel: Ipip) -> bytes:
    """Create an IP-in-IP device to any remote end, down; TTL and DF are the inner packet's."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0, 0) + attribute(3, link.name.encode() + b"\0")
    return message(NEWLINK, F_CREATE | F_EXCL, body + u32(4, link.mtu) + _ipip_info(tunnel))


def create_plain(link: Link, kind: str) -> bytes:
    """Create a device of a kind without parameters, down."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0, 0) + attribute(3, link.name.encode() + b"\0")
    return message(NEWLINK, F_CREATE | F_EXCL, body + u32(4, link.mtu) + _linkinfo(kind, b""))


def change_link(
    index: int, *, mtu: int | None = None, mac: str | None = None, up: bool | None = None
) -> bytes:
    """Set what is given."""
    flags, mask = (0, 0) if up is None else (int(up), 1)
    body = _IFINFOMSG.pack(0, 0, 0, index, flags, mask)
    if mtu is not None:
        body += u32(4, mtu)
    if mac is not None:
        body += attribute(1, mac_bytes(mac))
    return message(NEWLINK, 0, body)


def change_vxlan(index: int, tunnel: Vxlan, lower: int, learning: bool) -> bytes:
    """Give a VXLAN device another source address or lower device; all that is on it stays."""
    data = u32(1, tunnel.vni) + u32(3, lower) + _local(tunnel)
    data += attribute(7, bytes((learning,)))
    return message(NEWLINK, 0, _IFINFOMSG.pack(0, 0, 0, index, 0, 0) + _linkinfo("vxlan", data))


def change_ipip(index: int, tunnel: Ipip) -> bytes:
    """Give an IP-in-IP device another source address; what is not named takes its default."""
    return message(NEWLINK, 0, _IFINFOMSG.pack(0, 0, 0, index, 0, 0) + _ipip_info(tunnel))


def _ipip_info(tunnel: Ipip) -> bytes:
    data = attribute(2, tunnel.local.packed) + attribute(4, b"\0") + attribute(10, b"\0")
    return _linkinfo("ipip", data)


def _local(tunnel: Vxlan) -> bytes:
    return attribute(4 if tunnel.local.version == 4 else 17, tunnel.local.packed)


def delete_link(index: int) -> bytes:
    """Delete a link."""
    return message(DELLINK, 0, _IFINFOMSG.pack(0, 0, 0, index, 0, 0))


def _linkinfo(kind: str, data: bytes) -> bytes:
    name = attribute(1, kind.encode() + b"\0")
    return attribute(18 | _NESTED, name + (attribute(2 | _NESTED, data) if data else b""))


def parse_link(reply: Reply) -> RawLink:
    """Return a link."""
    _, _, _, index, flags, _ = _IFINFOMSG.unpack_from(reply.body)
    has = attributes(reply.body, _IFINFOMSG.size)
    info = attributes(has.get(18, NOTHING), 0)
    mac = bytes(has.get(1, NOTHING))
    kind = string(info.get(1, NOTHING))
    return RawLink(
        index,
        string(has.get(3, NOTHING)),
        number(has.get(4, NOTHING)),
        bool(flags & 1),
        mac.hex(":") if len(mac) == 6 else "",
        _vxlan(info.get(2, NOTHING)) if kind == "vxlan" else None,
        kind,
        _ipip(info.get(2, NOTHING)) if kind == "ipip" else None,
    )


def _ipip(data: memoryview) -> Ipip:
    has = attributes(data, 0)
    local = IPv4Address(bytes(has.get(2, bytes(4))))
    remote = IPv4Address(bytes(has.get(3, bytes(4))))
    return Ipip(local, remote if int(remote) else None)


def _vxlan(data: memoryview) -> RawVxlan:
    has = attributes(data, 0)
    local: IPAddress | None = None
    if 4 in has:
        local = IPv4Address(bytes(has[4]))
    elif 17 in has:
        local = IPv6Address(bytes(has[17]))
    return RawVxlan(
        number(has.get(1, NOTHING)),
        number(has.get(3, NOTHING)),
        local,
        int.from_bytes(has.get(15, NOTHING)),
        bool(number(has.get(7, NOTHING))),
        23 in has,
    )
