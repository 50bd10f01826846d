# SPDX-License-Identifier: Apache-2.0
"""alloc: a subnet and nothing else; others carry the packets (specs/flannel.md §10.6). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flannelpy.backends import Host, advertised
from flannelpy.keys import Subnets
from flannelpy.records import Attributes, Lease
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
    takes_any: bool = False

    @property
    def mtu(self) -> int:
        """The uplink's."""
        return self.host.uplink.mtu

    def attributes(self) -> Attributes:
        """Return the value of our own lease."""
        return advertised(self.host)

    def identity(self, attributes: Attributes) -> dict[str, str]:
        """Return nothing: there is no device."""
        return {}

    def own(self, subnets: Subnets) -> Sequence[Object]:
        """Return nothing."""
        return ()

    def peer(self, lease: Lease) -> Sequence[Object]:
        """Return nothing."""
        return ()
