# SPDX-License-Identifier: Apache-2.0
"""The udp backend's device and its table of peers, as parts of the host.

The device ends with this process: so it is made at each start, and nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from fairlead.errors import ActionError
from flannelpy.netlink import KernelError
from flannelpy.plan import Action, Delete, thing_of
from flannelpy.state import Key, Kind, Link, Object, Tun, Tunnel
from flannelpy.udp.pump import Pump, open_tun


@dataclass(frozen=True, slots=True)
class UdpPeer:
    """Packets for `subnet` go to `peer`."""

    dev: str
    subnet: IPv4Network
    peer: IPv4Address

    @property
    def key(self) -> Key:
        """Device and subnet."""
        net = self.subnet
        return Key(Kind.PEER, self.dev, 4, int(net.network_address), net.prefixlen)

    def __str__(self) -> str:
        return f"{self.subnet} by udp to {self.peer} dev {self.dev}"


class UdpHost:
    """Makes the TUN device and keeps its pump's table."""

    kinds = frozenset({Kind.PEER})

    def __init__(self) -> None:
        self._device: tuple[str, Tun, Pump] | None = None
        self._peers: dict[Key, UdpPeer] = {}

    def close(self) -> None:
        """Let the device go, and with it its routes."""
        if self._device is not None:
            self._device[2].close()
            self._device = None
        self._peers.clear()

    async def make(self, link: Link) -> bool:
        """Make the device and start its pump."""
        tunnel = link.tunnel
        if not isinstance(tunnel, Tun):
            return False
        self.close()
        try:
            handle, name = open_tun(link.name)
            pump = Pump(handle, tunnel.own, tunnel.bind, tunnel.port, link.mtu)
        except ActionError as error:
            raise KernelError(0, f"{error.action}: {error.reason}") from error
        pump.start()
        self._device = name, tunnel, pump
        return True

    def made(self, name: str) -> Tunnel | None:
        """Return what our device is."""
        if self._device is None or self._device[0] != name or self._device[2].broken:
            return None
        return self._device[1]

    async def observe(self, keys: Collection[Key] | None) -> Sequence[Object]:
        """Return the pump's table."""
        if self._device is None or self._device[2].broken:
            return []
        return [it for key, it in self._peers.items() if keys is None or key in keys]

    async def carry_out(self, actions: Sequence[Action]) -> Sequence[ActionError]:
        """Change the pump's table."""
        if self._device is None:
            return [ActionError(action, "its device is gone") for action in actions]
        table = self._device[2].table
        for action in actions:
            thing = thing_of(action)
            if not isinstance(thing, UdpPeer):
                raise TypeError(thing)
            if isinstance(action, Delete):
                table.delete(thing.subnet)
                self._peers.pop(thing.key, None)
            else:
                table.put(thing.subnet, thing.peer)
                self._peers[thing.key] = thing
        return []
