# SPDX-License-Identifier: Apache-2.0
"""Container bridges that still have the gateway of a subnet we no longer hold (trap T24).

The CNI plugin `bridge` refuses to start a container then: "already has an IP address different
from". We name the bridge and its address; -takeover-bridge has them taken off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fairlead.log import Log
from flannelpy import rtnetlink
from flannelpy.kernel import Kernel
from flannelpy.keys import Subnets
from flannelpy.netlink import KernelError
from flannelpy.records import NetworkConfig
from flannelpy.state import Address, IPInterface

USUAL = "cni0"  # the bridge of CNI's plugin; looked at without being asked


@dataclass(frozen=True, slots=True)
class Stale:
    """An address of a former subnet on a bridge."""

    dev: str
    address: IPInterface


def stale(
    network: NetworkConfig, held: Subnets, dev: str, addresses: Iterable[IPInterface]
) -> tuple[Stale, ...]:
    """Return the addresses that are in the overlay's network and not in our subnet."""
    found = []
    for it in addresses:
        whole = network.v4 if it.version == 4 else network.v6
        own = held.v4 if it.version == 4 else held.v6
        if whole is not None and it.ip in whole.network and (own is None or it.ip not in own):
            found.append(Stale(dev, it))
    return tuple(found)


async def look(
    kernel: Kernel, network: NetworkConfig, held: Subnets, takeover: tuple[str, ...], log: Log
) -> None:
    """Take the stale addresses off the bridges of -takeover-bridge; name those of `cni0`."""
    for dev in dict.fromkeys((*takeover, USUAL)):
        interface = await kernel.interface(dev)
        if interface is None:
            continue
        addresses = [it.address for it in await kernel.addresses(interface.index)]
        for it in stale(network, held, dev, addresses):
            if dev not in takeover:
                log.warning(
                    "bridge has the address of a former subnet; new containers will not start",
                    bridge=dev,
                    address=it.address,
                    fix=f"ip addr del {it.address} dev {dev}, or -takeover-bridge {dev}",
                )
                continue
            try:
                await kernel.do(rtnetlink.delete_address(Address(dev, it.address), interface.index))
            except KernelError as error:
                log.error("address not taken off", bridge=dev, reason=str(error))  # noqa: TRY400
            else:
                log.info("took a former subnet's address off", bridge=dev, address=it.address)
