# SPDX-License-Identifier: Apache-2.0
"""VXLAN: one device, and three permanent entries per peer (specs/flannel.md §10.1). Pure.

::

    10.5.35.0/24 via 10.5.35.0 dev flannel.1 onlink      route: the peer's base is the gateway
    10.5.35.0 dev flannel.1 lladdr 2e:… PERMANENT        neighbour: its VTEP's MAC
    2e:… dev flannel.1 dst 192.0.2.12 self permanent     FDB: the host behind that MAC

The kernel never has to ask, so the daemon may be away for as long as it likes. A peer on the
same segment gets a plain route instead when `DirectRouting` is on. IPv6 has a device of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from flannelpy.backends import Host, advertised
from flannelpy.fields import FieldError, boolean, encode_json, json_object, string, unsigned
from flannelpy.keys import Subnets
from flannelpy.records import NO_PUBLIC_IP, Attributes, Lease
from flannelpy.state import (
    PROTO_OURS,
    Address,
    Fdb,
    IPAddress,
    IPNetwork,
    Link,
    Neighbour,
    Object,
    Route,
    Vxlan,
    mac_number,
    mac_text,
)

DEFAULT_PORT = 8472  # the kernel's, from before the number was assigned (trap T9)
OVERHEAD_V4 = 50  # inner Ethernet 14 + VXLAN 8 + UDP 8 + IPv4 20
OVERHEAD_V6 = 70  # the same with IPv6's 40; the kernel clamps to it at creation

LIVE = frozenset({"mtu", "learning", "directrouting"})
"""Options that one host can change by itself; the others name the tunnel, and peers must agree."""


@dataclass(frozen=True, slots=True)
class Options:
    """The `Backend` object's keys.

    Attributes:
        mtu: the *outer* MTU (trap T10); 0: the uplink's.
    """

    vni: int = 1
    port: int = 0
    gbp: bool = False
    learning: bool = False
    direct_routing: bool = False
    mtu: int = 0


def parse(fields: Mapping[str, bytes]) -> Options:
    """Return the options in the `Backend` object.

    Raises:
        FieldError: one of them has the wrong type or range.
    """
    return Options(
        vni=unsigned("VNI", fields, default=1, most=2**24 - 1),
        port=unsigned("Port", fields, most=65535),
        gbp=boolean("GBP", fields),
        learning=boolean("Learning", fields),
        direct_routing=boolean("DirectRouting", fields),
        mtu=unsigned("MTU", fields, most=65535),
    )


def build(host: Host) -> VxlanBackend:
    """Return the backend for a host."""
    options = parse(host.config.backend.fields)
    outer = options.mtu or host.uplink.mtu
    if outer - OVERHEAD_V6 < 576:
        raise FieldError(f"MTU: {outer} leaves no room for packets inside the tunnel")
    return VxlanBackend(host, options)


@dataclass(frozen=True, slots=True)
class VxlanBackend:
    """A host's side of the VXLAN overlay."""

    host: Host
    options: Options
    type: str = "vxlan"
    takes_any: bool = False

    @property
    def dev4(self) -> str:
        """Name of the IPv4 overlay's device."""
        return f"flannel.{self.options.vni}"

    @property
    def dev6(self) -> str:
        """Name of the IPv6 overlay's device."""
        return f"flannel-v6.{self.options.vni}"

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the overlay devices."""
        v4 = (self.dev4,) if self.host.config.v4 is not None else ()
        v6 = (self.dev6,) if self.host.config.v6 is not None else ()
        return v4 + v6

    @property
    def ports(self) -> Mapping[int, int]:
        """The tunnel's, by family of the addresses outside."""
        config, port = self.host.config, self.options.port or DEFAULT_PORT
        return {n: port for n, half in ((4, config.v4), (6, config.v6)) if half is not None}

    @property
    def mtu(self) -> int:
        """The smaller of the devices' MTUs: what fits both families (trap T10)."""
        return min(self._mtu(dev) for dev in self.devices)

    def _mtu(self, dev: str) -> int:
        lower = self.host.uplink.mtu
        overhead = OVERHEAD_V4 if dev == self.dev4 else OVERHEAD_V6
        # as the original sets it, and then as the kernel clamps it
        return min((self.options.mtu or lower) - OVERHEAD_V4, lower - overhead)

    def mac(self, dev: str) -> str:
        """Return a device's MAC: the one it had, or a new one (the second one's differs)."""
        kept = self.host.macs.get(dev)
        if kept is not None:
            return kept
        fresh = mac_number(self.host.fresh_mac)
        return mac_text(fresh if dev == self.dev4 else fresh ^ 1)

    def attributes(self) -> Attributes:
        """Return the value of our own lease."""
        data = {dev: self._data(dev) for dev in self.devices}
        return advertised(self.host, self.type, data.get(self.dev4, b""), data.get(self.dev6, b""))

    def _data(self, dev: str) -> bytes:
        return encode_json({"VNI": self.options.vni, "VtepMAC": self.mac(dev)})

    def identity(self, attributes: Attributes) -> dict[str, str]:
        """Return the MACs by device that a former lease of ours advertised."""
        found = {}
        data = {self.dev4: attributes.backend_data, self.dev6: attributes.backend_v6_data}
        for dev in self.devices:
            try:
                found[dev] = decode_mac("BackendData", data[dev])
            except FieldError:
                continue  # the device gets a new one
        return found

    def own(self, subnets: Subnets) -> Sequence[Object]:
        """Return the devices and their addresses: the subnet's base, as /32 or /128 (trap T14)."""
        uplink = self.host.uplink
        things: list[Object] = []
        if subnets.v4 is not None and uplink.v4 is not None:
            base = IPv4Interface((subnets.v4.network_address, 32))
            things += [self._link(self.dev4, uplink.v4.ip), Address(self.dev4, base)]
        if subnets.v6 is not None and uplink.v6 is not None:
            base6 = IPv6Interface((subnets.v6.network_address, 128))
            things += [self._link(self.dev6, uplink.v6.ip), Address(self.dev6, base6)]
        return things

    def _link(self, dev: str, local: IPAddress) -> Link:
        # local is the interface's own address, never the advertised one: behind NAT the kernel
        # would drop every packet (trap T26)
        tunnel = Vxlan(
            self.options.vni, self.host.uplink.name, local, self.options.port, self.options.gbp
        )
        return Link(dev, tunnel, self._mtu(dev), self.mac(dev), self.options.learning)

    def peer(self, lease: Lease) -> Sequence[Object]:
        """Return the three entries of each family, or one plain route when it is a neighbour."""
        config, has = self.host.config, lease.attributes
        v4, v6 = lease.subnets.v4, lease.subnets.v6
        things: list[Object] = []
        if v4 is not None and config.v4 is not None:
            if has.public_ip == NO_PUBLIC_IP:
                raise FieldError("PublicIP: missing")
            data = ("BackendData", has.backend_data)
            things += self._family(self.dev4, v4, has.public_ip, data)
        if v6 is not None and config.v6 is not None:
            if has.public_ipv6 is None:
                raise FieldError("PublicIPv6: missing")
            data = ("BackendV6Data", has.backend_v6_data)
            things += self._family(self.dev6, v6, has.public_ipv6, data)
        return things

    def _family(
        self, dev: str, subnet: IPNetwork, public: IPAddress, data: tuple[str, bytes]
    ) -> Sequence[Object]:
        if self.options.direct_routing:
            out = self.host.underlay.direct(public)
            if out is not None:
                return (Route(subnet, public, out, proto=PROTO_OURS),)
        mac = decode_mac(*data)
        base = subnet.network_address
        return (
            Neighbour(dev, base, mac),
            Fdb(dev, mac, public),
            Route(subnet, base, dev, onlink=True),
        )


_USUAL = re.compile(
    rb'\{"VNI":\d+,"VtepMAC":"((?!00:00:00:00:00:00)[\da-f][02468ace](?::[\da-f]{2}){5})"\}'
)


def decode_mac(field: str, data: bytes) -> str:
    """Return the MAC in a peer's backend data; its VNI is for people and not looked at.

    Raises:
        FieldError: no object, or no usable MAC in it.
    """
    usual = _USUAL.fullmatch(data)
    if usual is not None:  # as every daemon writes it: 1 µs instead of 5 for JSON's corners
        return usual[1].decode()
    try:
        text = string("VtepMAC", json_object(data))
        return parse_mac(text)
    except FieldError as error:
        raise FieldError(f"{field}: {error}") from error


def parse_mac(text: str) -> str:
    """Return a MAC in lower case with colons; Go reads colons, dashes and Cisco's dots.

    Raises:
        FieldError: it is none, or one that no device can have.
    """
    for separator, groups, digits in ((":", 6, 2), ("-", 6, 2), (".", 3, 4)):
        words = text.split(separator)
        if len(words) == groups and all(len(word) == digits for word in words):
            try:
                number = int("".join(words), 16)
            except ValueError:
                break
            if not number or number >> 40 & 1:
                raise FieldError(f'VtepMAC: "{text}" is not the address of one device')
            return mac_text(number)
    raise FieldError(f'VtepMAC: "{text}" is not a MAC address')
