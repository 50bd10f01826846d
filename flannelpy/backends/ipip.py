# SPDX-License-Identifier: Apache-2.0
"""ipip: IPv4 in IPv4, the smallest tunnel (specs/flannel.md §10.5). Pure.

::

    10.5.35.0/24 via 192.0.2.12 dev flannel.ipip onlink    the route says where a packet goes
    10.5.35.0/24 via 192.0.2.12 dev eth0 proto 102         a neighbour's, with DirectRouting

The kernel's module makes a device `tunl0` of its own, which is nobody's business. IPv4 only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface

from flannelpy.backends import Host, advertised, device
from flannelpy.fields import FieldError, boolean
from flannelpy.keys import Subnets
from flannelpy.records import Attributes, Lease
from flannelpy.state import PROTO_OURS, Address, Ipip, Link, Object, Route

OVERHEAD = 20  # the outer IPv4 header
LIVE = frozenset({"directrouting"})


def build(host: Host) -> IpipBackend:
    """Return the backend for a host.

    Raises:
        FieldError: the network has IPv6, which this tunnel does not carry.
    """
    if host.config.v6 is not None:
        raise FieldError("Type: ipip carries IPv4 only; vxlan, host-gw and wireguard carry IPv6")
    return IpipBackend(host, boolean("DirectRouting", host.config.backend.fields))


@dataclass(frozen=True, slots=True)
class IpipBackend:
    """A host's side of the IP-in-IP overlay."""

    host: Host
    direct_routing: bool = False
    type: str = "ipip"
    takes_any: bool = False
    ports: Mapping[int, int] = field(default_factory=dict)

    @property
    def dev(self) -> str:
        """Name of the tunnel device."""
        return device(self.host, "flannel.ipip", "fl-ipip")

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the overlay devices."""
        return (self.dev,)

    @property
    def mtu(self) -> int:
        """The uplink's, less the outer header."""
        return self.host.uplink.mtu - OVERHEAD

    def attributes(self) -> Attributes:
        """Return the value of our own lease."""
        return advertised(self.host, self.type)

    def identity(self, attributes: Attributes) -> dict[str, str]:
        """Return nothing: the device has no MAC."""
        return {}

    def own(self, subnets: Subnets) -> Sequence[Object]:
        """Return the device and its address."""
        uplink = self.host.uplink
        if subnets.v4 is None or uplink.v4 is None:
            return ()
        base = IPv4Interface((subnets.v4.network_address, 32))
        return Link(self.dev, Ipip(uplink.v4.ip), self.mtu), Address(self.dev, base)

    def peer(self, lease: Lease) -> Sequence[Object]:
        """Return the route."""
        subnet, public = lease.subnets.v4, lease.attributes.public_ip
        if subnet is None:
            return ()
        if not int(public):
            raise FieldError("PublicIP: missing")
        out = self.host.underlay.direct(public) if self.direct_routing else None
        if out is not None:
            return (Route(subnet, public, out, proto=PROTO_OURS),)
        return (Route(subnet, public, self.dev, onlink=True),)
