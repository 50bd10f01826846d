# SPDX-License-Identifier: Apache-2.0
"""host-gw: the peers' addresses are the gateways (specs/flannel.md §10.2). Pure.

For hosts on one segment: no tunnel, no overhead, no device of ours::

    10.5.35.0/24 via 192.0.2.12 dev eth0 proto 102
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flannelpy.backends import Host, advertised
from flannelpy.fields import FieldError
from flannelpy.keys import Subnets
from flannelpy.records import Attributes, Lease
from flannelpy.state import PROTO_OURS, Object, Route


def build(host: Host) -> HostGw:
    """Return the backend for a host.

    Raises:
        FieldError: this host is behind NAT, where no peer can route to it (trap T22).
    """
    uplink = host.uplink
    for own, public in ((uplink.v4, uplink.ext_v4), (uplink.v6, uplink.ext_v6)):
        if own is not None and public is not None and own.ip != public:
            raise FieldError(
                f"Type: host-gw needs the public address on {uplink.name} itself, "
                f"which has {own.ip}, not {public}; vxlan works behind NAT"
            )
    return HostGw(host)


@dataclass(frozen=True, slots=True)
class HostGw:
    """A host's side of the routed overlay."""

    host: Host
    type: str = "host-gw"
    devices: tuple[str, ...] = ()
    ports: Mapping[int, int] = field(default_factory=dict)
    takes_any: bool = False

    @property
    def mtu(self) -> int:
        """The uplink's: nothing is added to a packet."""
        return self.host.uplink.mtu

    def attributes(self) -> Attributes:
        """Return the value of our own lease."""
        return advertised(self.host, self.type)

    def identity(self, attributes: Attributes) -> dict[str, str]:
        """Return nothing: there is no device."""
        return {}

    def own(self, subnets: Subnets) -> Sequence[Object]:
        """Return nothing: the containers' bridge is not ours."""
        return ()

    def peer(self, lease: Lease) -> Sequence[Object]:
        """Return one route per family."""
        has, dev, config = lease.attributes, self.host.uplink.name, self.host.config
        things: list[Object] = []
        if lease.subnets.v4 is not None and config.v4 is not None:
            if not int(has.public_ip):
                raise FieldError("PublicIP: missing")
            things.append(Route(lease.subnets.v4, has.public_ip, dev, proto=PROTO_OURS))
        if lease.subnets.v6 is not None and config.v6 is not None:
            if has.public_ipv6 is None:
                raise FieldError("PublicIPv6: missing")
            things.append(Route(lease.subnets.v6, has.public_ipv6, dev, proto=PROTO_OURS))
        return things
