# SPDX-License-Identifier: Apache-2.0
"""wireguard: encrypted, one device and one peer a host (specs/flannel.md §10.3). Pure.

::

    10.5.0.0/16 dev flannel-wg scope link                                 the whole network
    peer <public key> endpoint 192.0.2.12:51820 allowed-ips 10.5.35.0/24  who has which part of it

Mode "separate" has a device for each family; the others carry both families in one, to the
peer's IPv4 or IPv6 address ("auto" looks at which is public). Devices are kept over restarts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_network

from flannelpy.backends import Host, advertised, device
from flannelpy.fields import FieldError, encode_json, json_object, string, unsigned
from flannelpy.kernel import Kernel
from flannelpy.keys import Subnets
from flannelpy.records import Attributes, Lease
from flannelpy.state import Address, IPAddress, IPNetwork, Link, Object, Route, Wireguard
from flannelpy.wireguard.host import WireguardHost
from flannelpy.wireguard.keyfile import Keys, read
from flannelpy.wireguard.objects import NO_KEY, Endpoint, Identity, Peer, parse_key, text

OVERHEAD = 80  # IPv6 40 + UDP 8 + WireGuard 32
MODES = ("separate", "auto", "ipv4", "ipv6")
LIVE = frozenset({"persistentkeepaliveinterval", "mtu"})
_PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_LOCAL = ip_network("fc00::/7")


@dataclass(frozen=True, slots=True)
class Options:
    """The `Backend` object's keys; `psk` is not shown."""

    port: int = 51820
    port6: int = 51821
    psk: bytes = field(default=NO_KEY, repr=False)
    keepalive: int = 0
    mtu: int = 0
    mode: str = "separate"


def parse(fields: Mapping[str, bytes]) -> Options:
    """Return the options in the `Backend` object.

    Raises:
        FieldError: one of them has the wrong type or range.
    """
    psk, mode = string("PSK", fields), string("Mode", fields) or "separate"
    if mode not in MODES:
        raise FieldError(f'Mode: "{mode}" is none of {", ".join(MODES)}')
    return Options(
        unsigned("ListenPort", fields, most=65535) or 51820,
        unsigned("ListenPortV6", fields, most=65535) or 51821,
        parse_key("PSK", psk) if psk else NO_KEY,
        unsigned("PersistentKeepaliveInterval", fields, most=65535),
        unsigned("MTU", fields, most=65535),
        mode,
    )


async def prepare(host: Host, *, planning: bool) -> Keys:
    """Return this host's keys."""
    return read(host.suffix, planning=planning)


def equip(kernel: Kernel, host: Host) -> None:
    """Bring the devices, their keys and their peers."""
    part = WireguardHost(kernel, build(host).devices)
    kernel.parts += (part,)
    kernel.makers += (part,)


def build(host: Host) -> WireguardBackend:
    """Return the backend for a host."""
    options = parse(host.config.backend.fields)
    if not isinstance(host.prepared, Keys):
        raise FieldError("no keys")
    uplink = host.uplink
    if options.mode == "ipv6" and uplink.v6 is None:
        raise FieldError(f'Mode: "ipv6" needs an IPv6 address on {uplink.name} (EnableIPv6)')
    if options.mode == "ipv4" and uplink.v4 is None:
        raise FieldError(f'Mode: "ipv4" needs an IPv4 address on {uplink.name} (EnableIPv4)')
    if (options.mtu or uplink.mtu) - OVERHEAD < 576:
        raise FieldError(f"MTU: {options.mtu} leaves no room for packets inside the tunnel")
    return WireguardBackend(host, options, host.prepared)


@dataclass(frozen=True, slots=True)
class WireguardBackend:
    """A host's side of the encrypted overlay."""

    host: Host
    options: Options
    keys: Keys
    type: str = "wireguard"
    takes_any: bool = False
    ports: Mapping[int, int] = field(default_factory=dict)  # strangers cannot speak with it anyway

    @property
    def dev4(self) -> str:
        """Name of the IPv4 device, or of the only one."""
        return device(self.host, "flannel-wg", "fl-wg")

    @property
    def dev6(self) -> str:
        """Name of the IPv6 device."""
        if self.options.mode != "separate":
            return self.dev4
        return device(self.host, "flannel-wg-v6", "fl-wg6")

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the overlay devices."""
        config = self.host.config
        both = [(config.v4, self.dev4), (config.v6, self.dev6)]
        return tuple(dict.fromkeys(name for half, name in both if half is not None))

    @property
    def mtu(self) -> int:
        """The outer one, less what encryption adds."""
        return (self.options.mtu or self.host.uplink.mtu) - OVERHEAD

    def _port(self, dev: str) -> int:
        return self.options.port if dev == self.dev4 else self.options.port6

    def attributes(self) -> Attributes:
        """Return the value of our own lease."""
        config = self.host.config
        return advertised(
            self.host,
            self.type,
            self._data(self.dev4) if config.v4 is not None else b"",
            self._data(self.dev6) if config.v6 is not None else b"",
        )

    def _data(self, dev: str) -> bytes:
        return encode_json({"PublicKey": text(self.keys.public), "Port": self._port(dev)})

    def identity(self, attributes: Attributes) -> dict[str, str]:
        """Return nothing: the devices have no MAC."""
        return {}

    def own(self, subnets: Subnets) -> Sequence[Object]:
        """Return the devices, keys, addresses and the route of each network."""
        keys, config = self.keys, self.host.config
        things: list[Object] = []
        for dev in self.devices:
            things.append(Link(dev, Wireguard(), self.mtu))
            things.append(Identity(dev, keys.public, self._port(dev), keys.private))
        if subnets.v4 is not None and config.v4 is not None:
            base = IPv4Interface((subnets.v4.network_address, 32))
            things += [Address(self.dev4, base), Route(config.v4.network, None, self.dev4)]
        if subnets.v6 is not None and config.v6 is not None:
            base6 = IPv6Interface((subnets.v6.network_address, 128))
            things += [Address(self.dev6, base6), Route(config.v6.network, None, self.dev6)]
        return things

    def peer(self, lease: Lease) -> Sequence[Object]:
        """Return the peer on each device."""
        subnets, has, config = lease.subnets, lease.attributes, self.host.config
        v4 = subnets.v4 if config.v4 is not None else None
        v6 = subnets.v6 if config.v6 is not None else None
        if self.options.mode == "separate":
            things: list[Object] = []
            if v4 is not None:
                end = self._end4(has)
                things.append(self._peer(self.dev4, "BackendData", has.backend_data, end, [v4]))
            if v6 is not None:
                end = self._end6(has, has.backend_v6_data)
                data6 = has.backend_v6_data
                things.append(self._peer(self.dev6, "BackendV6Data", data6, end, [v6]))
            return things
        allowed: list[IPNetwork] = [net for net in (v4, v6) if net is not None]
        if not allowed:
            return ()
        data = has.backend_data or has.backend_v6_data
        end = self._end6(has, data) if self._over6(has) else self._end4(has)
        return (self._peer(self.dev4, "BackendData", data, end, allowed),)

    def _peer(
        self, dev: str, name: str, data: bytes, end: Endpoint, allowed: Sequence[IPNetwork]
    ) -> Peer:
        public = _public(name, data)
        options = self.options
        return Peer(dev, public, end, tuple(allowed), options.psk, options.keepalive)

    def _over6(self, has: Attributes) -> bool:
        """Say whether a peer is reached by its IPv6 address, in the modes with one device."""
        if self.options.mode != "auto":
            return self.options.mode == "ipv6"
        uplink, there4, there6 = self.host.uplink, has.public_ip, has.public_ipv6
        if there6 is None or uplink.v6 is None:
            return False
        if not int(there4) or uplink.v4 is None:
            return True
        if not any(there4 in net for net in _PRIVATE):
            return False
        return there6 not in _LOCAL and uplink.v6.ip not in _LOCAL

    def _end4(self, has: Attributes) -> Endpoint:
        if not int(has.public_ip):
            raise FieldError("PublicIP: missing")
        return self._end("BackendData", has.public_ip, has.backend_data, self.dev4)

    def _end6(self, has: Attributes, data: bytes) -> Endpoint:
        if has.public_ipv6 is None:
            raise FieldError("PublicIPv6: missing")
        return self._end("BackendV6Data", has.public_ipv6, data, self.dev6)

    def _end(self, name: str, address: IPAddress, data: bytes, dev: str) -> Endpoint:
        """Return where a peer listens; leases of flannel before 0.26.6 do not tell the port."""
        try:
            port = unsigned("Port", json_object(data), most=65535) or self._port(dev)
        except FieldError as error:
            raise FieldError(f"{name}: {error}") from error
        return Endpoint(address, port)


def _public(name: str, data: bytes) -> bytes:
    try:
        return parse_key("PublicKey", string("PublicKey", json_object(data)))
    except FieldError as error:
        raise FieldError(f"{name}: {error}") from error
