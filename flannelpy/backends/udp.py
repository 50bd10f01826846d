# SPDX-License-Identifier: Apache-2.0
"""udp: packets pass through this process, bare in datagrams (specs/flannel.md §10.4). Pure.

::

    10.5.0.0/16 dev flannel0                             the whole network to our TUN device
    10.5.35.0/24 by udp to 192.0.2.12 dev flannel0       its table: a peer's subnet and address

For hosts whose kernel has nothing better. IPv4 only; a lease has no BackendType, and leases of
every type are peers (traps T7, T25).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface

from flannelpy.backends import Host, advertised, device
from flannelpy.fields import FieldError, unsigned
from flannelpy.kernel import Kernel
from flannelpy.keys import Subnets
from flannelpy.records import Attributes, Lease
from flannelpy.state import Address, Link, Object, Route, Tun
from flannelpy.udp.host import UdpHost, UdpPeer

OVERHEAD = 28  # UDP 8 + IPv4 20
DEFAULT_PORT = 8285


def build(host: Host) -> Udp:
    """Return the backend for a host.

    Raises:
        FieldError: the network has IPv6, which these packets do not carry.
    """
    if host.config.v6 is not None:
        raise FieldError("Type: udp carries IPv4 only; vxlan, host-gw and wireguard carry IPv6")
    port = unsigned("Port", host.config.backend.fields, default=DEFAULT_PORT, most=65535)
    return Udp(host, port or DEFAULT_PORT)


def equip(kernel: Kernel, host: Host) -> None:
    """Bring the TUN device and its pump."""
    udp = UdpHost()
    kernel.parts += (udp,)
    kernel.makers += (udp,)
    kernel.ends.callback(udp.close)


@dataclass(frozen=True, slots=True)
class Udp:
    """A host's side of the overlay in datagrams."""

    host: Host
    port: int
    type: str = ""
    takes_any: bool = True
    ports: Mapping[int, int] = field(default_factory=dict)

    @property
    def dev(self) -> str:
        """Name of the TUN device."""
        return device(self.host, "flannel0", "fl-udp")

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the overlay devices."""
        return (self.dev,)

    @property
    def mtu(self) -> int:
        """The uplink's, less what a datagram adds."""
        return self.host.uplink.mtu - OVERHEAD

    def attributes(self) -> Attributes:
        """Return the value of our own lease."""
        return advertised(self.host)

    def identity(self, attributes: Attributes) -> dict[str, str]:
        """Return nothing: the device has no MAC."""
        return {}

    def own(self, subnets: Subnets) -> Sequence[Object]:
        """Return the device, its address and the route to all others."""
        uplink, config = self.host.uplink, self.host.config
        if subnets.v4 is None or uplink.v4 is None or config.v4 is None:
            return ()
        base = subnets.v4.network_address
        return (
            Link(self.dev, Tun(base, uplink.v4.ip, self.port), self.mtu),
            Address(self.dev, IPv4Interface((base, 32))),
            Route(config.v4.network, None, self.dev),
        )

    def peer(self, lease: Lease) -> Sequence[Object]:
        """Return the table's entry."""
        if lease.subnets.v4 is None:
            return ()
        if not int(lease.attributes.public_ip):
            raise FieldError("PublicIP: missing")
        return (UdpPeer(self.dev, lease.subnets.v4, lease.attributes.public_ip),)
