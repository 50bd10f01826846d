# SPDX-License-Identifier: Apache-2.0
"""alloc: a subnet and nothing else; others carry the packets (specs/flannel.md §10.6). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flannelpy.backends import Host
from flannelpy.keys import Subnets
from flannelpy.records import NO_PUBLIC_IP, Attributes, Lease
from flannelpy.state import Object


def build(host: Host) -> Alloc:
    """Return the backend for a host."""
    return Alloc(host)


@dataclass(frozen=True, slots=True)
class Alloc:
    """Leases only. The lease has no BackendType (trap T7)."""

    host: Host
    type: str = ""
    devices: tuple[str, ...] = ()
    ports: Mapping[int, int] = field(default_factory=dict)

    @property
    def mtu(self) -> int:
        """The uplink's."""
        return self.host.uplink.mtu

    def attributes(self) -> Attributes:
        """Return the value of our own lease."""
        uplink, config = self.host.uplink, self.host.config
        public4 = uplink.ext_v4 if config.v4 is not None else None
        return Attributes(
            public_ip=NO_PUBLIC_IP if public4 is None else public4,
            public_ipv6=uplink.ext_v6 if config.v6 is not None else None,
        )

    def identity(self, attributes: Attributes) -> dict[str, str]:
        """Return nothing: there is no device."""
        return {}

    def own(self, subnets: Subnets) -> Sequence[Object]:
        """Return nothing."""
        return ()

    def peer(self, lease: Lease) -> Sequence[Object]:
        """Return nothing."""
        return ()
