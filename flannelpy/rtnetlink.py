# SPDX-License-Identifier: Apache-2.0
"""Addresses, neighbours, FDB entries and routes as rtnetlink messages, both ways. Pure.

Packed by hand, for these are what thousands of peers are made of: one route costs 2 µs here
and 90 µs through pyroute2's generic encoder (`bench/flannel.py encode`). pyroute2 is the oracle
of the tests instead: its sockets do not run on uvloop, and importing it costs a daemon 13 MiB
and 130 ms. Links are in `rtlink`, what all messages have in `nlmsg`. Layouts: linux/rtnetlink.h, neighbour.h, if_addr.h.
"""

from __future__ import annotations

import struct
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import NamedTuple

from flannelpy.nlmsg import (
    F_CREATE,
    F_DUMP,
    F_REPLACE,
    F_REQUEST,
    NOTHING,
    Reply,
    attribute,
    attributes,
    message,
    number,
    u32,
)
from flannelpy.state import (
    PROTO_OURS,
    Address,
    Fdb,
    IPAddress,
    IPInterface,
    IPNetwork,
    Key,
    Neighbour,
    Route,
    mac_bytes,
)

NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30

INET, INET6, BRIDGE = 2, 10, 7
PERMANENT = 0x80  # NUD_PERMANENT
SELF = 0x02  # NTF_SELF: the device's own table, not its bridge's
ONLINK = 0x04  # RTNH_F_ONLINK
FIB_MATCH = 0x2000  # RTM_F_FIB_MATCH: the entry itself, not what it resolves to
MAIN = 254  # RT_TABLE_MAIN
LINK_SCOPE = 253  # RT_SCOPE_LINK
PROTO_KERNEL = 2
_BLACKHOLE = 6  # RTN_BLACKHOLE

_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BBHiHBB")
_IFADDRMSG = struct.Struct("=BBBBI")


class RawRoute(NamedTuple):
    """A route with its device as an index; `plain` unless it has a metric, several hops or a nexthop object."""

    dst: IPNetwork
    via: IPAddress | None
    ifindex: int
    onlink: bool
    proto: int
    table: int
    metric: int
    plain: bool


class RawNeighbour(NamedTuple):
    """A neighbour or FDB entry with its device as an index."""

    ifindex: int
    is_fdb: bool
    dst: IPAddress | None
    lladdr: str
    state: int


class RawAddress(NamedTuple):
    """An address with its device as an index; `flags` are IFA_F_*."""

    ifindex: int
    address: IPInterface
    flags: int
    scope: int


# --- what we ask for ---

# What peers are made of is packed whole, header and attributes in one call, by family: an object
# takes 1.2 µs so instead of 4.5 by `message` and `attribute`, a sixth of a cold start with 5,000.
_PUT = F_REQUEST | F_CREATE | F_REPLACE
_ENTRY = {n: struct.Struct(f"=IHHII BBHiHBB HH{size}s HH6s2x") for n, size in ((4, 4), (6, 16))}
_ROUTE = {n: struct.Struct(f"=IHHII BBBBBBBBI HHI HH{size}s") for n, size in ((4, 4), (6, 16))}
_GATEWAY = {n: struct.Struct(f"=HH{size}s") for n, size in ((4, 4), (6, 16))}


def put_neighbour(entry: Neighbour, index: int) -> bytes:
    """Create or replace a permanent neighbour entry."""
    return _entry(NEWNEIGH, _PUT, _family(entry.ip.version), entry.ip, entry.lladdr, index)


def delete_neighbour(entry: Neighbour, index: int) -> bytes:
    """Delete a neighbour entry."""
    return _entry(DELNEIGH, F_REQUEST, _family(entry.ip.version), entry.ip, entry.lladdr, index)


def put_fdb(entry: Fdb, index: int) -> bytes:
    """Create or replace a permanent FDB entry of the device itself."""
    return _entry(NEWNEIGH, _PUT, BRIDGE, entry.dst, entry.lladdr, index)


def delete_fdb(entry: Fdb, index: int) -> bytes:
    """Delete an FDB entry."""
    return _entry(DELNEIGH, F_REQUEST, BRIDGE, entry.dst, entry.lladdr, index)


def _entry(kind: int, flags: int, family: int, ip: IPAddress, lladdr: str, index: int) -> bytes:
    layout = _ENTRY[ip.version]
    packed, own = ip.packed, SELF if family == BRIDGE else 0
    return layout.pack(
        layout.size, kind, flags, 0, 0,
        family, 0, 0, index, PERMANENT, own, 0,
        4 + len(packed), 1, packed,
        10, 2, mac_bytes(lladdr),
    )  # fmt: skip


def put_route(route: Route, index: int) -> bytes:
    """Create or replace a unicast route of the main table."""
    return _route(NEWROUTE, _PUT, route, index)


def delete_route(route: Route, index: int) -> bytes:
    """Delete a route; its gateway and device must match, so that no stranger's goes instead."""
    return _route(DELROUTE, F_REQUEST, route, index)


def _route(kind: int, flags: int, route: Route, index: int) -> bytes:
    dst, via = route.dst, route.via
    layout, packed = _ROUTE[dst.version], dst.network_address.packed
    gateway = b""
    if via is not None:
        gateway = _GATEWAY[via.version].pack(4 + len(via.packed), 5, via.packed)
    scope = LINK_SCOPE if via is None and dst.version == 4 else 0
    hop = ONLINK if route.onlink else 0
    body = layout.pack(
        layout.size + len(gateway), kind, flags, 0, 0,
        _family(dst.version), dst.prefixlen, 0, 0, MAIN, route.proto, scope, 1, hop,
        8, 4, index,
        4 + len(packed), 1, packed,
    )  # fmt: skip
    return body + gateway


def _family(version: int) -> int:
    return INET if version == 4 else INET6


def blackhole(dst: IPNetwork, metric: int, *, gone: bool) -> bytes:
    """Create or delete a blackhole route of the main table with our protocol."""
    body = _RTMSG.pack(
        _family(dst.version), dst.prefixlen, 0, 0, MAIN, PROTO_OURS, 0, _BLACKHOLE, 0
    )
    body += attribute(1, dst.network_address.packed) + u32(6, metric)
    return message(DELROUTE if gone else NEWROUTE, 0 if gone else F_CREATE | F_REPLACE, body)


def dump_blackholes(version: int) -> bytes:
    """Ask for the main table's blackhole routes with our protocol."""
    body = _RTMSG.pack(_family(version), 0, 0, 0, MAIN, PROTO_OURS, 0, _BLACKHOLE, 0)
    return message(GETROUTE, F_DUMP, body)


def put_address(address: Address, index: int) -> bytes:
    """Add an address to a device."""
    return message(NEWADDR, F_CREATE | F_REPLACE, _address(address, index))


def delete_address(address: Address, index: int) -> bytes:
    """Take an address from a device."""
    return message(DELADDR, 0, _address(address, index))


def _address(address: Address, index: int) -> bytes:
    it = address.address
    nodad = 0x02 if it.version == 6 else 0  # nobody else can have it: no need to ask and wait
    head = _IFADDRMSG.pack(_family(it.version), it.network.prefixlen, nodad, 0, index)
    return head + attribute(2, it.ip.packed) + attribute(1, it.ip.packed)


def get_route(dst: IPNetwork) -> bytes:
    """Ask for the entry that matches the base address of `dst`, which may be another one."""
    base = dst.network_address
    bits = base.max_prefixlen
    body = _RTMSG.pack(_family(dst.version), bits, 0, 0, 0, 0, 0, 0, FIB_MATCH)
    return message(GETROUTE, 0, body + attribute(1, base.packed))


def get_route_to(address: IPAddress) -> bytes:
    """Ask how packets to an address leave."""
    family = _family(address.version)
    body = _RTMSG.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    return message(GETROUTE, 0, body + attribute(1, address.packed))


def get_neighbour(ip: IPAddress, index: int) -> bytes:
    """Ask for one neighbour entry."""
    head = _NDMSG.pack(_family(ip.version), 0, 0, index, 0, 0, 0)
    return message(GETNEIGH, 0, head + attribute(1, ip.packed))


def get_fdb(lladdr: str, index: int) -> bytes:
    """Ask for one FDB entry of the device itself."""
    head = _NDMSG.pack(BRIDGE, 0, 0, index, 0, SELF, 0)
    return message(GETNEIGH, 0, head + attribute(2, mac_bytes(lladdr)))


def dump_routes(version: int, *, index: int = 0, proto: int = 0) -> bytes:
    """Ask for the main table's routes, only those through a device or of a protocol if given."""
    body = _RTMSG.pack(_family(version), 0, 0, 0, MAIN, proto, 0, 0, 0)
    return message(GETROUTE, F_DUMP, body + (u32(4, index) if index else b""))


def dump_neighbours(version: int, index: int) -> bytes:
    """Ask for a device's neighbour entries."""
    head = _NDMSG.pack(_family(version), 0, 0, 0, 0, 0, 0)
    return message(GETNEIGH, F_DUMP, head + u32(8, index))


def dump_fdb(index: int) -> bytes:
    """Ask for a device's FDB entries."""
    return message(GETNEIGH, F_DUMP, _NDMSG.pack(BRIDGE, 0, 0, index, 0, 0, 0))


def dump_addresses(index: int = 0) -> bytes:
    """Ask for the addresses of one device or of all."""
    return message(GETADDR, F_DUMP, _IFADDRMSG.pack(0, 0, 0, 0, index))


# --- what comes back ---


def parse_route(reply: Reply) -> RawRoute | None:
    """Return a unicast IPv4 or IPv6 route; None for any other."""
    body = reply.body
    family, length, _, tos, table, proto, _, kind, flags = _RTMSG.unpack_from(body)
    if family not in (INET, INET6) or kind != 1:
        return None
    has = attributes(body, _RTMSG.size)
    if 15 in has:
        table = number(has[15])
    metric = number(has[6]) if 6 in has else 0
    usual = 0 if family == INET else 1024
    dst = _network(family, bytes(has.get(1, b"")), length)
    via = _ip(family, bytes(has[5])) if 5 in has else None
    index = number(has[4]) if 4 in has else 0
    # 9: several hops; 18: a gateway of another family; 30: a nexthop object
    plain = not tos and metric == usual and not has.keys() & {9, 18, 30} and index > 0
    return RawRoute(dst, via, index, bool(flags & ONLINK), proto, table, metric, plain)


def parse_blackhole(reply: Reply, metric: int) -> IPNetwork | None:
    """Return the destination of a blackhole route with this metric; None for any other route."""
    family, length, _, _, _, proto, _, kind, _ = _RTMSG.unpack_from(reply.body)
    has = attributes(reply.body, _RTMSG.size)
    if (proto, kind, number(has.get(6, NOTHING))) != (PROTO_OURS, _BLACKHOLE, metric):
        return None
    return _network(family, bytes(has.get(1, b"")), length)


def parse_way(reply: Reply) -> tuple[int, IPAddress | None]:
    """Return the device's index and the source address of an answer to `get_route_to`."""
    family = reply.body[0]
    has = attributes(reply.body, _RTMSG.size)
    source = _ip(family, bytes(has[7])) if 7 in has else None  # RTA_PREFSRC
    return number(has.get(4, NOTHING)), source


def parse_neighbour(reply: Reply) -> RawNeighbour | None:
    """Return a neighbour or FDB entry; None for a family that is neither."""
    family, _, _, index, state, _, _ = _NDMSG.unpack_from(reply.body)
    if family not in (INET, INET6, BRIDGE):
        return None
    has = attributes(reply.body, _NDMSG.size)
    dst = bytes(has[1]) if 1 in has else b""
    mac = bytes(has[2]) if 2 in has else b""
    ip = _ip(INET if len(dst) == 4 else INET6, dst) if len(dst) in (4, 16) else None
    return RawNeighbour(index, family == BRIDGE, ip, mac.hex(":") if len(mac) == 6 else "", state)


def parse_address(reply: Reply) -> RawAddress | None:
    """Return an address; None for one of another family."""
    family, length, flags, scope, index = _IFADDRMSG.unpack_from(reply.body)
    if family not in (INET, INET6):
        return None
    has = attributes(reply.body, _IFADDRMSG.size)
    packed = bytes(has.get(2, has.get(1, b"")))  # the local end first: the other is the peer's
    if 8 in has:
        flags = number(has[8])
    interface: IPInterface
    if family == INET:
        interface = IPv4Interface((packed, length))
    else:
        interface = IPv6Interface((packed, length))
    return RawAddress(index, interface, flags, scope)


def _ip(family: int, packed: bytes) -> IPAddress:
    return IPv4Address(packed) if family == INET else IPv6Address(packed)


def _network(family: int, packed: bytes, length: int) -> IPNetwork:
    if family == INET:
        return IPv4Network((packed or bytes(4), length))
    return IPv6Network((packed or bytes(16), length))


def key_network(key: Key) -> IPNetwork:
    """Return the destination that a route's key names."""
    if key.family == 4:
        return IPv4Network((key.number, key.length))
    return IPv6Network((key.number, key.length))


def key_ip(key: Key) -> IPAddress:
    """Return the address that a neighbour's key names."""
    return IPv4Address(key.number) if key.family == 4 else IPv6Address(key.number)
