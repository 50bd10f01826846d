# SPDX-License-Identifier: Apache-2.0
"""Moves packets between a TUN device and a UDP socket, on the event loop.

Each wake-up takes up to `_BURST` packets from one side, so that a flood on one cannot starve the
other, nor the daemon's control plane. The device lives as long as its descriptor.
"""

from __future__ import annotations

import asyncio
import os
import socket
from fcntl import ioctl
from ipaddress import IPv4Address
from pathlib import Path
from struct import pack
from typing import Final

from fairlead.errors import ActionError
from flannelpy.udp.packet import Reply, Send, Table, inbound, outbound

_TUNSETIFF: Final = 0x400454CA  # linux/if_tun.h
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_BURST: Final = 64
_QUEUE_BYTES: Final = 4 << 20


def open_tun(pattern: str = "flannel%d") -> tuple[int, str]:
    """Make a TUN device without packet-information header; return its descriptor and name.

    Raises:
        ActionError: /dev/net/tun is missing, or we may not.
    """
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ActionError(f"open {error.filename}", str(error.strerror), transient=False) from error
    try:
        answer = ioctl(tun, _TUNSETIFF, pack("16sH22x", pattern.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError as error:
        os.close(tun)
        raise ActionError(f"make TUN {pattern}", str(error.strerror), transient=False) from error
    name = answer[:16].rstrip(b"\0").decode()
    # Our ICMP messages come from the device's own address; without this the kernel takes them
    # for forged and drops them (as it does with the original's: seen on 6.x).
    try:
        Path(f"/proc/sys/net/ipv4/conf/{name}/accept_local").write_text("1")
    except OSError as error:
        os.close(tun)
        raise ActionError(f"set accept_local of {name}", str(error.strerror)) from error
    return tun, name


class Pump:
    """One TUN device and one socket.

    Args:
        tun: the device's descriptor; closed by `close`, and the device with it.
        own: the address of the TUN.
        bind: the uplink's own address.
        port: of our socket and of every peer's: the original knows no other (§10.4).
        mtu: of the TUN; longer datagrams are cut, as the original does.

    Attributes:
        table: where packets go; changed in place.
        broken: the device was taken away.
        sent: packets handed to the socket; also `received`, `refused` (ICMP sent), `dropped`.
    """

    def __init__(self, tun: int, own: IPv4Address, bind: IPv4Address, port: int, mtu: int) -> None:
        self.sent = self.received = self.refused = self.dropped = 0
        self._tun = tun
        self._own = own.packed
        self._port = port
        self._mtu = mtu
        self.table = Table({})
        self.broken = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _QUEUE_BYTES)
        try:
            self._socket.bind((str(bind), port))
        except OSError as error:
            self._socket.close()
            raise ActionError(f"bind {bind}:{port}/udp", str(error.strerror)) from error

    def start(self) -> None:
        """Take part in the running loop."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._tun, self._out)
        loop.add_reader(self._socket, self._in)

    def close(self) -> None:
        """Leave the loop; the device and its routes go."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._tun)
        loop.remove_reader(self._socket)
        self._socket.close()
        os.close(self._tun)

    def _out(self) -> None:
        for _ in range(_BURST):
            try:
                packet = bytearray(os.read(self._tun, 65535))
            except BlockingIOError:
                return
            except OSError:  # somebody deleted the device: the descriptor is of no more use
                self.broken = True
                asyncio.get_running_loop().remove_reader(self._tun)
                return
            match outbound(packet, self.table, self._own):
                case Send(peer, whole):
                    try:
                        self._socket.sendto(whole, (peer, self._port))
                        self.sent += 1
                    except OSError:  # full queue, or the peer's ICMP: a datagram may be lost
                        self.dropped += 1
                case Reply(answer):
                    self.refused += 1
                    self._write(answer)
                case None:
                    self.dropped += 1

    def _in(self) -> None:
        for _ in range(_BURST):
            try:
                packet = bytearray(self._socket.recv(self._mtu))
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about something we sent (ECONNREFUSED …)
                continue
            if inbound(packet):
                self.received += 1
                self._write(packet)
            else:
                self.dropped += 1

    def _write(self, packet: bytes | bytearray) -> None:
        try:
            os.write(self._tun, packet)
        except OSError:  # the device is down or its queue full: as on any wire
            self.dropped += 1
