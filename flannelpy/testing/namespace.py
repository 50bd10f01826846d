# SPDX-License-Identifier: Apache-2.0
"""`Namespace`: what the kernel keeps of a network namespace, and what a request does to it."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from itertools import count

from flannelpy import nlmsg, rtlink, rtnetlink
from flannelpy.netlink import KernelError
from flannelpy.nlmsg import HEADER_SIZE, Reply
from flannelpy.rtlink import RawLink, RawVxlan
from flannelpy.state import Address, IPAddress, IPInterface, Link, Vxlan, mac_number

_HEADER = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BBHiII")
_OVERHEAD = {4: 50, 6: 70}  # a VXLAN device's MTU is below its lower device's by that
Told = tuple[int, bytes]  # message type and body

_NEW = {
    rtlink.DELLINK: rtlink.NEWLINK,
    rtnetlink.DELADDR: rtnetlink.NEWADDR,
    rtnetlink.DELROUTE: rtnetlink.NEWROUTE,
    rtnetlink.DELNEIGH: rtnetlink.NEWNEIGH,
}


@dataclass(slots=True)
class Device:
    """A network interface as rtnetlink tells of it."""

    raw: RawLink

    def told(self) -> bytes:
        """Return what RTM_NEWLINK says of it."""
        raw, tunnel = self.raw, self.raw.vxlan
        link = Link(raw.name, None, raw.mtu, raw.mac or "00:00:00:00:00:00")
        if tunnel is None:
            body = rtlink.create_plain(link, raw.kind)
        else:
            made = Vxlan(tunnel.vni, "", tunnel.local or ip_address(0), tunnel.port, tunnel.gbp)
            body = rtlink.create_vxlan(
                replace(link, tunnel=made, learning=tunnel.learning), made, tunnel.lower
            )
        mac = b"" if tunnel else nlmsg.attribute(1, mac_number(link.mac).to_bytes(6))
        head = _IFINFOMSG.pack(0, 0, 0, raw.ifindex, int(raw.up), 0)
        return head + body[HEADER_SIZE + _IFINFOMSG.size :] + mac


@dataclass(slots=True)
class Namespace:
    """What the kernel keeps: bodies of messages under what it takes for identity."""

    devices: dict[int, Device] = field(default_factory=dict)
    addresses: dict[tuple[int, IPInterface], bytes] = field(default_factory=dict)
    routes: dict[tuple[int, bytes, int, int], bytes] = field(default_factory=dict)
    entries: dict[tuple[int, int, bytes], bytes] = field(default_factory=dict)
    listeners: list[Callable[[Sequence[Reply]], None]] = field(default_factory=list)
    indexes: Iterator[int] = field(default_factory=lambda: count(1))
    ports: Iterator[int] = field(default_factory=lambda: count(1001))

    def add(self, name: str, address: str, mtu: int = 1500, mac: str = "02:00:00:00:00:01") -> int:
        """Add an interface that is up and has an address; return its index."""
        index = next(self.indexes)
        self.devices[index] = Device(RawLink(index, name, mtu, True, mac, None, "veth"))
        address_ = Address(name, ip_interface(address))
        body = rtnetlink.put_address(address_, index)[HEADER_SIZE:]
        self.addresses[index, address_.address] = body
        return index

    def tell(self, told: Sequence[Told], port: int = 0) -> None:
        """Notify everybody."""
        replies = [Reply(kind, 0, 0, port, memoryview(body)) for kind, body in told]
        for heard in [*self.listeners]:
            heard(replies)

    def named(self, name: str) -> Device | None:
        """Return the device of a name."""
        return next((it for it in self.devices.values() if it.raw.name == name), None)

    def connected(self, index: int, via: IPAddress) -> bool:
        """Say whether an address is on the link of a device."""
        return any(at == index and via in it.network for at, it in self.addresses)

    def change(self, kind: int, flags: int, body: bytes) -> Sequence[Told]:
        """Carry out a request; return what there is to tell of it.

        Raises:
            KernelError: refused.
        """
        told: list[Told] = []
        match _NEW.get(kind, kind):
            case rtlink.NEWLINK:
                self._do_link(kind, flags, body, told)
            case rtnetlink.NEWADDR:
                self._do_address(kind, body, told)
            case rtnetlink.NEWROUTE:
                self._do_route(kind, flags, body, told)
            case _:
                self._do_entry(kind, body, told)
        return told

    def _do_link(self, kind: int, flags: int, body: bytes, told: list[Told]) -> None:
        asked = rtlink.parse_link(Reply(kind, 0, 0, 0, memoryview(body)))
        if flags & nlmsg.F_CREATE:
            self._add_link(asked, told)
            return
        device = self.devices.get(asked.ifindex)
        if device is None:
            raise KernelError(errno.ENODEV)
        if kind == rtlink.DELLINK:
            self._flush(asked.ifindex, told, addresses=True, entries=True)
            told.append((rtlink.DELLINK, device.told()))
            del self.devices[asked.ifindex]
            for index, other in [*self.devices.items()]:
                if other.raw.vxlan is not None and other.raw.vxlan.lower == asked.ifindex:
                    self._do_link(kind, 0, _IFINFOMSG.pack(0, 0, 0, index, 0, 0), told)
            return
        before = device.raw
        device.raw = self._changed(before, asked, body)
        if before.up and not device.raw.up:
            self._flush(asked.ifindex, told)
        told.append((rtlink.NEWLINK, device.told()))

    def _add_link(self, asked: RawLink, told: list[Told]) -> None:
        if asked.kind == "vxlan" and asked.vxlan is not None:
            if self.named(asked.name) is not None:
                raise KernelError(errno.EEXIST)
            tunnel = asked.vxlan._replace(port=asked.vxlan.port or 8472)
            asked = asked._replace(mtu=min(asked.mtu, self._most(tunnel)), vxlan=tunnel)
        elif asked.kind not in ("ipip", "dummy", "veth", "bridge"):
            raise KernelError(errno.EOPNOTSUPP, "Unknown device type")
        made = Device(asked._replace(ifindex=next(self.indexes), up=False))
        self.devices[made.raw.ifindex] = made
        told.append((rtlink.NEWLINK, made.told()))

    def _most(self, tunnel: RawVxlan) -> int:
        lower = self.devices.get(tunnel.lower)
        if lower is None:
            raise KernelError(errno.ENODEV)
        return lower.raw.mtu - _OVERHEAD[6 if tunnel.local and tunnel.local.version == 6 else 4]

    def _changed(self, before: RawLink, asked: RawLink, body: bytes) -> RawLink:
        mask = _IFINFOMSG.unpack_from(body)[5]
        after = before._replace(
            up=asked.up if mask & 1 else before.up,
            mac=asked.mac or before.mac,
            mtu=asked.mtu or before.mtu,
        )
        if before.vxlan is not None and asked.mtu > self._most(before.vxlan):
            raise KernelError(errno.EINVAL, "mtu greater than device maximum")
        if asked.vxlan is None or before.vxlan is None:
            return after
        if asked.vxlan.vni != before.vxlan.vni:
            raise KernelError(errno.EOPNOTSUPP, "Cannot change VNI")
        kept = asked.vxlan._replace(port=before.vxlan.port, gbp=before.vxlan.gbp)
        return after._replace(vxlan=kept)

    def _flush(
        self,
        index: int,
        told: list[Told],
        *,
        family: int = 0,
        addresses: bool = False,
        entries: bool = False,
    ) -> None:
        """Take routes away, without a word as the kernel does, and what else goes with a device."""
        mine = u32(4, index)
        for key, body in [*self.routes.items()]:
            if mine in body and family in (0, body[0]):
                del self.routes[key]
        if addresses:
            mine_too = [at for at in self.addresses if at[0] == index]
            told += [(rtnetlink.DELADDR, self.addresses.pop(at)) for at in mine_too]
        if entries:
            for entry in [it for it in self.entries if it[1] == index]:
                del self.entries[entry]

    def _do_address(self, kind: int, body: bytes, told: list[Told]) -> None:
        raw = rtnetlink.parse_address(Reply(kind, 0, 0, 0, memoryview(body)))
        if raw is None or raw.ifindex not in self.devices:
            raise KernelError(errno.ENODEV)
        key = raw.ifindex, raw.address
        if kind == rtnetlink.NEWADDR:
            self.addresses[key] = body
        elif self.addresses.pop(key, None) is None:
            raise KernelError(errno.EADDRNOTAVAIL)
        elif not any(
            at == raw.ifindex and it.version == raw.address.version for at, it in self.addresses
        ):
            self._flush(raw.ifindex, told, family=body[0])  # routes go with the last address
        told.append((kind, body))

    def _do_route(self, kind: int, flags: int, body: bytes, told: list[Told]) -> None:
        has = nlmsg.attributes(memoryview(body), 12)
        if body[0] == rtnetlink.INET6 and 6 not in has:
            body += u32(6, 1024)  # IPv6's usual metric
            has = nlmsg.attributes(memoryview(body), 12)
        metric = int.from_bytes(has.get(6, b""), "little")
        key = body[0], bytes(has.get(1, b"")), body[1], metric
        there = self.routes.get(key)
        if kind == rtnetlink.DELROUTE:
            if there is None or nlmsg.attributes(memoryview(there), 12).get(5) != has.get(5):
                raise KernelError(errno.ESRCH)
            told.append((kind, self.routes.pop(key)))
            return
        route = rtnetlink.parse_route(Reply(kind, 0, 0, 0, memoryview(body)))
        if route is not None:
            device = self.devices.get(route.ifindex)
            if device is None or not device.raw.up:
                raise KernelError(errno.ENETDOWN, "Device for nexthop is not up")
            if (
                route.via is not None
                and not route.onlink
                and not self.connected(route.ifindex, route.via)
            ):
                raise KernelError(errno.ENETUNREACH, "Nexthop has invalid gateway")
        if there is not None and not flags & nlmsg.F_REPLACE:
            raise KernelError(errno.EEXIST)
        self.routes[key] = body
        if there != body:
            told.append((kind, body))

    def _do_entry(self, kind: int, body: bytes, told: list[Told]) -> None:
        key = entry_key(memoryview(body))
        if key[1] not in self.devices:
            raise KernelError(errno.ENODEV)
        there = self.entries.get(key)
        if kind == rtnetlink.DELNEIGH:
            if there is None:
                raise KernelError(errno.ENOENT)
            told.append((kind, self.entries.pop(key)))
            return
        self.entries[key] = body
        if there != body:
            told.append((kind, body))


def reply(kind: int, body: bytes) -> Reply:
    """Return a message as it comes from the kernel."""
    return Reply(kind, 0, 0, 0, memoryview(body))


def u32(kind: int, value: int) -> bytes:
    """Return an attribute of four bytes."""
    return nlmsg.attribute(kind, value.to_bytes(4, "little"))


def entry_key(body: memoryview) -> tuple[int, int, bytes]:
    """Return what makes a neighbour (its address) or an FDB entry (its MAC) the same one."""
    family, index = body[0], int.from_bytes(body[4:8], "little")
    has = nlmsg.attributes(body, 12)
    return family, index, bytes(has[2 if family == rtnetlink.BRIDGE else 1])
