# SPDX-License-Identifier: Apache-2.0
"""What decides how other name servers are asked: a frozen value."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from skydns.addresses import Server


@dataclass(frozen=True, slots=True)
class Upstream:
    """What decides how we ask.

    Attributes:
        timeout: seconds a server gets.
        rotate: begin with another server each time.
        ndots: names with fewer labels are not asked for.
        clients: networks whose queries are passed on.
    """

    servers: tuple[Server, ...]
    timeout: float = 2.0
    rotate: bool = True
    ndots: int = 2
    clients: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    def serves(self, host: str) -> bool:
        """Say whether a client's address lies in the networks we ask for."""
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.clients)
