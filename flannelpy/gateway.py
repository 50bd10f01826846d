# SPDX-License-Identifier: Apache-2.0
"""The bridge that containers attach to (-bridge): made, and kept with what the subnet file says.

Who gives out addresses and plugs containers in differs: podman's unmanaged networks, LXC,
systemd-nspawn, libvirt, a script. All of them need a bridge with the subnet's first address and
the overlay's MTU, at once after a boot, and with another address when the subnet is another.
The bridge's ports, its MAC and addresses outside the overlay's range are not looked at, and it
stays when the daemon ends.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from fairlead.errors import ActionError
from flannelpy import rtlink, rtnetlink
from flannelpy.kernel import Kernel
from flannelpy.keys import Subnets
from flannelpy.netlink import KernelError
from flannelpy.plan import Action, Put, thing_of
from flannelpy.state import Address, IPInterface, IPNetwork, Key, Kind, Link, Object


@dataclass(frozen=True, slots=True)
class Gateway:
    """A bridge with the containers' gateway.

    Attributes:
        addresses: those in the overlay's range, sorted by family.
        kind: rtnetlink's word; another than "bridge" is a device that is not ours to change.
    """

    dev: str
    mtu: int
    addresses: tuple[IPInterface, ...]
    up: bool = True
    kind: str = "bridge"

    @property
    def key(self) -> Key:
        """Its name."""
        return Key(Kind.BRIDGE, self.dev)

    def __str__(self) -> str:
        return f"bridge {self.dev} mtu {self.mtu} {' '.join(map(str, self.addresses))}"


def wanted(dev: str, held: Subnets, mtu: int) -> Gateway:
    """Return the bridge for the subnets of this host."""
    addresses: list[IPInterface] = []
    if held.v4 is not None:
        addresses.append(IPv4Interface((held.v4.network_address + 1, held.v4.prefixlen)))
    if held.v6 is not None:
        addresses.append(IPv6Interface((held.v6.network_address + 1, held.v6.prefixlen)))
    return Gateway(dev, mtu, tuple(addresses))


class Gateways:
    """The part of the host that the bridge is."""

    kinds = frozenset({Kind.BRIDGE})

    def __init__(self, kernel: Kernel, dev: str, ranges: Sequence[IPNetwork]) -> None:
        """Look after the bridge `dev`; "": none."""
        self._kernel = kernel
        self._dev = dev
        self._ranges = tuple(ranges)

    async def observe(self, keys: Collection[Key] | None) -> Sequence[Object]:
        """Return the bridge as it is."""
        if not self._dev or (keys is not None and Key(Kind.BRIDGE, self._dev) not in keys):
            return ()
        there = await self._kernel.interface(self._dev)
        if there is None:
            return ()
        found = [it.address for it in await self._kernel.addresses(there.index)]
        ours = [it for it in found if any(_within(it, net) for net in self._ranges)]
        ours.sort(key=lambda it: (it.version, it.ip.packed))
        return (Gateway(self._dev, there.mtu, tuple(ours), there.up, there.kind),)

    async def carry_out(self, actions: Sequence[Action]) -> Sequence[ActionError]:
        """Make or mend it; it is never deleted."""
        refused = []
        for action in actions:
            try:
                if isinstance(action, Put):
                    await self._put(action)
            except KernelError as error:
                refused.append(ActionError(action, str(error), transient=error.transient))
        return refused

    async def _put(self, action: Put) -> None:
        kernel, thing, before = self._kernel, thing_of(action), action.instead
        if not isinstance(thing, Gateway):
            raise TypeError(thing)
        if not isinstance(before, Gateway):
            link = Link(thing.dev, None, thing.mtu)
            await kernel.do(rtlink.create_plain(link, "bridge"))
            before = Gateway(thing.dev, 0, (), up=False)
        elif before.kind != thing.kind:
            what = before.kind or "a device of its own"
            raise KernelError(errno.EOPNOTSUPP, f"{thing.dev} is {what}, no bridge")
        index = kernel.index_of(thing.dev)
        if (thing.mtu, thing.up) != (before.mtu, before.up):
            await kernel.do(rtlink.change_link(index, mtu=thing.mtu, up=thing.up))
        gone = [it for it in before.addresses if it not in thing.addresses]
        new = [it for it in thing.addresses if it not in before.addresses]
        requests = [rtnetlink.put_address(Address(thing.dev, it), index) for it in new]
        requests += [rtnetlink.delete_address(Address(thing.dev, it), index) for it in gone]
        for error in await kernel.batch(requests):
            if error is not None and not error.absent:
                raise error


def _within(address: IPInterface, net: IPNetwork) -> bool:
    return address.version == net.version and address.ip in net
