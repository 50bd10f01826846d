# SPDX-License-Identifier: Apache-2.0
"""Checksums of what goes into the tunnel, made in software (-vxlan-checksum=off).

An overlay device leaves the checksums of the packets inside to the card below. Some cards,
drivers and NAT on the way get them wrong there, and then ping works while UDP and TCP do not;
the usual cure is `ethtool -K flannel.1 tx-checksum-ip-generic off`, lost with the device. Here it
is kept (specs/flannel.md §18).
"""

from __future__ import annotations

import errno
import fcntl
import socket
from array import array
from collections.abc import Collection, Sequence
from struct import pack, unpack

from msgspec import Struct

from fairlead.errors import ActionError
from flannelpy.plan import Action, Put, thing_of
from flannelpy.state import Key, Kind, Object

_SIOCETHTOOL = 0x8946
_GET, _SET = 0x16, 0x17  # ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM
_GONE = (errno.ENODEV, errno.EOPNOTSUPP)


class Software(Struct, frozen=True):
    """The device's checksums are made in software."""

    dev: str

    @property
    def key(self) -> Key:
        """The device."""
        return Key(Kind.CHECKSUM, self.dev)

    def __str__(self) -> str:
        return f"checksums of {self.dev} in software"


class Checksums:
    """The part of the host that they are; made only where they are to be kept so."""

    kinds = frozenset({Kind.CHECKSUM})

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = tuple(devices)

    async def observe(self, keys: Collection[Key] | None) -> Sequence[Object]:
        """Return the devices that leave nothing to the card."""
        found = (Software(dev) for dev in self._devices if offloaded(dev) is False)
        return [it for it in found if keys is None or it.key in keys]

    async def carry_out(self, actions: Sequence[Action]) -> Sequence[ActionError]:
        """Have the devices do so; nobody asks for the contrary."""
        refused = []
        for action in actions:
            try:
                if isinstance(action, Put):
                    switch_off(thing_of(action).key.dev)
            except OSError as error:
                refused.append(ActionError(action, error.strerror or str(error)))
        return refused


def offloaded(dev: str) -> bool | None:
    """Say whether a device leaves checksums to what is below; None: there is no such device.

    Raises:
        ActionError: the kernel refused to tell.
    """
    try:
        return bool(_ethtool(dev, _GET, 0))
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise ActionError(f"observe checksums of {dev}", str(error), transient=True) from error


def switch_off(dev: str) -> None:
    """Have a device make checksums in software.

    Raises:
        OSError: the kernel refused.
    """
    _ethtool(dev, _SET, 0)


def _ethtool(dev: str, command: int, data: int) -> int:
    """Return what the kernel made of `struct ethtool_value` (linux/ethtool.h)."""
    value = array("B", pack("=II", command, data))
    request = pack("16sP16x", dev.encode(), value.buffer_info()[0])  # struct ifreq
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
        fcntl.ioctl(it, _SIOCETHTOOL, request)
    answer: int = unpack("=II", value)[1]
    return answer
