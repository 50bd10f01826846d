# SPDX-License-Identifier: Apache-2.0
"""What a host has, or should have: links, addresses, neighbours, FDB entries, routes, a file. Pure.

Firewall rules stand in `flannelpy.firewall`, tunnels' peers beside their backends: a kind of
object is a frozen class with a key, observed and applied somewhere. A `HostState` maps keys to
objects. A key is what the kernel itself takes for identity, so that "put" replaces and two peers
that claim one thing meet under one key. Keys sort in the order in which things are put; a
reconcile scope is a set of them.

What there are thousands of is a `Struct`, here and in `keys`, `records`, `plan` and
`firewall.elements`: it is made in 0.14 µs where a frozen dataclass takes 1.7, and the garbage
collector need not look at it, for it cannot be part of a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Protocol

from msgspec import Struct

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network

PROTO_BOOT = 3  # what a hand-typed `ip route add` and the original give their routes
PROTO_OURS = 102  # marks our routes on links that are not ours; `ip route` shows "proto 102"


class Kind(IntEnum):
    """In the order of putting; the reverse is the order of deleting."""

    LINK = 0
    TUNNEL = 1  # a device's own key and port (wireguard)
    CHECKSUM = 2  # who makes them (-vxlan-checksum)
    ADDRESS = 3
    ELEMENT = 4  # a peer's address in the firewall's set: let in before it is programmed
    NEIGHBOUR = 5
    FDB = 6
    PEER = 7  # a tunnel's entry for one peer (wireguard, udp)
    ROUTE = 8
    BLACKHOLE = 9
    RULES = 10
    COMMAND = 11  # the operator's, for a subnet (extension)
    BRIDGE = 12  # the containers' (-bridge)
    FILE = 13


class Key(Struct, frozen=True, order=True, gc=False):
    """What makes an object the same object; `dev` is a file's path for Kind.FILE, "" for routes."""

    kind: Kind
    dev: str
    family: int = 0
    number: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class Vxlan:
    """What a VXLAN device is made with.

    Attributes:
        lower: name of the interface that carries the tunnel.
        local: source address of the tunnel packets; it and `lower` can change in place.
        port: UDP port; 0 leaves it to the kernel, whose default is 8472 (trap T9).
    """

    vni: int
    lower: str
    local: IPAddress
    port: int = 0
    gbp: bool = False

    def stands_for(self, other: object) -> bool:
        """Say whether a device with `other` serves as it is."""
        return (
            isinstance(other, Vxlan)
            and self.grows_from(other)
            and (self.lower, self.local) == (other.lower, other.local)
        )

    def grows_from(self, other: object) -> bool:
        """Say whether a device with `other` can be made to serve with all that is on it.

        A port of 0 agrees with any, as in the original.
        """
        if not isinstance(other, Vxlan):
            return False
        ports = not self.port or not other.port or self.port == other.port
        return ports and (self.vni, self.gbp, self.local.version) == (
            other.vni,
            other.gbp,
            other.local.version,
        )

    def __str__(self) -> str:
        port = f" dstport {self.port}" if self.port else ""
        return f"vxlan id {self.vni} dev {self.lower} local {self.local}{port}"


@dataclass(frozen=True, slots=True)
class Ipip:
    """An IP-in-IP device to any remote end; both ends can change in place."""

    local: IPAddress
    remote: IPAddress | None = None

    def stands_for(self, other: object) -> bool:
        """Say whether a device with `other` serves as it is."""
        return self == other

    def grows_from(self, other: object) -> bool:
        """Say whether a device with `other` can be made to serve with all that is on it."""
        return isinstance(other, Ipip)

    def __str__(self) -> str:
        return f"ipip local {self.local} remote {self.remote or 'any'}"


@dataclass(frozen=True, slots=True)
class Wireguard:
    """A WireGuard device, the kernel's or wireguard-go's; all but its being one can change."""

    def stands_for(self, other: object) -> bool:
        """Say whether a device with `other` serves as it is."""
        return self == other

    grows_from = stands_for

    def __str__(self) -> str:
        return "wireguard"


@dataclass(frozen=True, slots=True)
class Tun:
    """A TUN device whose packets this process carries in UDP.

    Attributes:
        own: its address, the source of our ICMP messages.
        bind: the uplink's own address.
        port: ours and every peer's.
    """

    own: IPv4Address
    bind: IPv4Address
    port: int

    def stands_for(self, other: object) -> bool:
        """Say whether a device with `other` serves as it is."""
        return self == other

    grows_from = stands_for

    def __str__(self) -> str:
        return f"tun udp {self.bind}:{self.port}"


Tunnel = Vxlan | Ipip | Wireguard | Tun


@dataclass(frozen=True, slots=True)
class Link:
    """An overlay device. MTU, MAC, learning and up can change in place, and some of the tunnel.

    Attributes:
        tunnel: None: a device of this name that is not of a kind we make.
        mac: "" for a device that has none.
    """

    name: str
    tunnel: Tunnel | None
    mtu: int
    mac: str = ""
    learning: bool = False
    up: bool = True

    @property
    def key(self) -> Key:
        """What the kernel knows it by."""
        return Key(Kind.LINK, self.name)

    def __str__(self) -> str:
        mac = f" address {self.mac}" if self.mac else ""
        tunnel = "" if self.tunnel is None else f" {self.tunnel}"
        return f"link {self.name} mtu {self.mtu}{mac}{tunnel}"


@dataclass(frozen=True, slots=True)
class Address:
    """An address on an overlay device."""

    dev: str
    address: IPInterface

    @property
    def key(self) -> Key:
        """What the kernel knows it by."""
        it = self.address
        return Key(Kind.ADDRESS, self.dev, it.version, int(it.ip), it.network.prefixlen)

    def __str__(self) -> str:
        return f"address {self.address} dev {self.dev}"


class Neighbour(Struct, frozen=True, gc=False):
    """A permanent neighbour entry."""

    dev: str
    ip: IPAddress
    lladdr: str

    @property
    def key(self) -> Key:
        """What the kernel knows it by."""
        return Key(Kind.NEIGHBOUR, self.dev, self.ip.version, int(self.ip))

    def __str__(self) -> str:
        return f"neigh {self.ip} dev {self.dev} lladdr {self.lladdr} PERMANENT"


class Fdb(Struct, frozen=True, gc=False):
    """A permanent entry of a device's forwarding table: this MAC is behind that tunnel end."""

    dev: str
    lladdr: str
    dst: IPAddress

    @property
    def key(self) -> Key:
        """What the kernel knows it by."""
        return Key(Kind.FDB, self.dev, 0, mac_number(self.lladdr))

    def __str__(self) -> str:
        return f"fdb {self.lladdr} dev {self.dev} dst {self.dst} self permanent"


class Route(Struct, frozen=True, gc=False):
    """A route of the main table; prints as `ip route` does.

    Attributes:
        onlink: the gateway is reached through `dev` though no address of it is there.
    """

    dst: IPNetwork
    via: IPAddress | None
    dev: str
    onlink: bool = False
    proto: int = PROTO_BOOT

    @property
    def key(self) -> Key:
        """What the kernel knows it by: in one table, at our metric, the destination alone."""
        dst = self.dst
        return Key(Kind.ROUTE, "", dst.version, int(dst.network_address), dst.prefixlen)

    def __str__(self) -> str:
        via = "" if self.via is None else f" via {self.via}"
        proto = "" if self.proto == PROTO_BOOT else f" proto {self.proto}"
        return f"{self.dst}{via} dev {self.dev}{proto}{' onlink' if self.onlink else ''}"


@dataclass(frozen=True, slots=True)
class File:
    """A file that is replaced whole, mode 0644."""

    path: str
    text: str

    @property
    def key(self) -> Key:
        """Its path."""
        return Key(Kind.FILE, self.path)

    def __str__(self) -> str:
        return f"file {self.path} ({len(self.text.encode())} bytes)"


class Object(Protocol):
    """A thing that is there or not; equal values need nothing done. Prints as people write it."""

    @property
    def key(self) -> Key:
        """What makes it the same thing."""
        ...


HostState = Mapping[Key, Object]


@dataclass(frozen=True, slots=True)
class Territory:
    """What on this host is ours; `observe` sees nothing else (promise 6).

    Attributes:
        devices: our overlay devices: every permanent neighbour, FDB entry and static route on
            them, and their addresses inside `networks` (all but link-local ones for IPv6).
        networks: the overlay's ranges.
        files: the files we write.
    On other devices those routes of the main table are ours that have our protocol number and
    lead into `networks`: a second daemon on this host has its own network (trap T27).
    """

    devices: tuple[str, ...]
    networks: tuple[IPNetwork, ...]
    files: tuple[str, ...] = ()

    def has_route(self, dst: IPNetwork, proto: int) -> bool:
        """Say whether a route on a device that is not ours is ours all the same."""
        if proto != PROTO_OURS:
            return False
        return any(lies_in(dst, net) for net in self.networks)

    def has_address(self, address: IPInterface) -> bool:
        """Say whether an address on one of our devices is ours to remove."""
        if isinstance(address, IPv6Interface):
            return not address.is_link_local
        return any(net.version == 4 and address.ip in net for net in self.networks)


def lies_in(subnet: IPNetwork, network: IPNetwork) -> bool:
    """Say whether all of `subnet` is in `network`; a fifth of `subnet_of`'s time."""
    return (
        subnet.version == network.version
        and subnet.prefixlen >= network.prefixlen
        and subnet.network_address in network
    )


def mac_number(lladdr: str) -> int:
    """Return a MAC as a number; "0a:00:00:00:00:01" is 0x0a0000000001."""
    return int(lladdr.replace(":", ""), 16)


def mac_bytes(lladdr: str) -> bytes:
    """Return a MAC's six bytes."""
    return bytes.fromhex(lladdr.replace(":", ""))


def mac_text(number: int) -> str:
    """Return a MAC as text, lower case with colons."""
    return number.to_bytes(6).hex(":")
