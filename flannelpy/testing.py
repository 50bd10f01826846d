# SPDX-License-Identifier: Apache-2.0
"""`FakeKernel`: a network namespace in memory, for tests of what stands on `flannelpy.kernel`.

::

    requests (netlink messages) ─► FakeKernel ─► Namespace: links, addresses, routes, entries
                                                     │
    heard(notifications, with their sender's port) ◄─┘

It takes the very messages that the real one gets, so encoders and parsers are under test too.
Two FakeKernels on one `Namespace` are two programs on one host: one plays the stranger. What it
keeps of the kernel's ways is what tests/contract/test_kernel.py asks of both. There are no rules,
no programs behind devices, no packets.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from itertools import count

from flannelpy import rtnetlink
from flannelpy.kernel import Kernel
from flannelpy.netlink import KernelError
from flannelpy.rtnetlink import HEADER_SIZE, RawLink, RawVxlan, Reply
from flannelpy.state import Address, IPAddress, IPInterface, Link, Vxlan, mac_number

_HEADER = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BBHiII")
_OVERHEAD = {4: 50, 6: 70}  # a VXLAN device's MTU is below its lower device's by that
_Told = tuple[int, bytes]  # message type and body

_NEW = {
    rtnetlink.DELLINK: rtnetlink.NEWLINK,
    rtnetlink.DELADDR: rtnetlink.NEWADDR,
    rtnetlink.DELROUTE: rtnetlink.NEWROUTE,
    rtnetlink.DELNEIGH: rtnetlink.NEWNEIGH,
}


@dataclass(slots=True)
class _Device:
    raw: RawLink

    def told(self) -> bytes:
        """Return what RTM_NEWLINK says of it."""
        raw, tunnel = self.raw, self.raw.vxlan
        link = Link(raw.name, None, raw.mtu, raw.mac or "00:00:00:00:00:00")
        if tunnel is None:
            body = rtnetlink.create_plain(link, raw.kind)
        else:
            made = Vxlan(tunnel.vni, "", tunnel.local or ip_address(0), tunnel.port, tunnel.gbp)
            body = rtnetlink.create_vxlan(
                replace(link, tunnel=made, learning=tunnel.learning), made, tunnel.lower
            )
        mac = b"" if tunnel else rtnetlink.attribute(1, mac_number(link.mac).to_bytes(6))
        head = _IFINFOMSG.pack(0, 0, 0, raw.ifindex, int(raw.up), 0)
        return head + body[HEADER_SIZE + _IFINFOMSG.size :] + mac


@dataclass(slots=True)
class Namespace:
    """What the kernel keeps: bodies of messages under what it takes for identity."""

    devices: dict[int, _Device] = field(default_factory=dict)
    addresses: dict[tuple[int, IPInterface], bytes] = field(default_factory=dict)
    routes: dict[tuple[int, bytes, int, int], bytes] = field(default_factory=dict)
    entries: dict[tuple[int, int, bytes], bytes] = field(default_factory=dict)
    listeners: list[Callable[[Sequence[Reply]], None]] = field(default_factory=list)
    indexes: Iterator[int] = field(default_factory=lambda: count(1))
    ports: Iterator[int] = field(default_factory=lambda: count(1001))

    def add(self, name: str, address: str, mtu: int = 1500, mac: str = "02:00:00:00:00:01") -> int:
        """Add an interface that is up and has an address; return its index."""
        index = next(self.indexes)
        self.devices[index] = _Device(RawLink(index, name, mtu, True, mac, None, "veth"))
        address_ = Address(name, ip_interface(address))
        body = rtnetlink.put_address(address_, index)[HEADER_SIZE:]
        self.addresses[index, address_.address] = body
        return index

    def tell(self, told: Sequence[_Told], port: int = 0) -> None:
        """Notify everybody."""
        replies = [Reply(kind, 0, 0, port, memoryview(body)) for kind, body in told]
        for heard in [*self.listeners]:
            heard(replies)

    def named(self, name: str) -> _Device | None:
        """Return the device of a name."""
        return next((it for it in self.devices.values() if it.raw.name == name), None)

    def connected(self, index: int, via: IPAddress) -> bool:
        """Say whether an address is on the link of a device."""
        return any(at == index and via in it.network for at, it in self.addresses)


class FakeKernel(Kernel):
    """One program's sockets to a `Namespace`."""

    def __init__(self, namespace: Namespace) -> None:
        # not Kernel's own: there is no socket
        self.namespace = namespace
        self.port = next(namespace.ports)
        self.parts, self.makers, self.ends = (), (), ExitStack()
        self.deaf = False
        """Set: nothing is heard, as if the kernel's buffer were full."""
        self.refuse: Callable[[int, bytes], KernelError | None] = lambda kind, body: None
        """Called with each request's type and body; what it returns is the kernel's answer."""

    # --- the sockets ---

    async def batch(self, requests: Sequence[bytes]) -> list[KernelError | None]:
        """Carry out requests in order."""
        return [self._refused(request) for request in requests]

    def _refused(self, request: bytes) -> KernelError | None:
        _, kind, flags, _, _ = _HEADER.unpack_from(request)
        body = request[HEADER_SIZE:]
        told: list[_Told] = []
        try:
            if (refused := self.refuse(kind, body)) is not None:
                return refused
            _DO[_NEW.get(kind, kind)](self, kind, flags, body, told)
        except KernelError as error:
            return error
        finally:
            # of an entry that goes, and of all in an FDB, the kernel tells in nobody's name
            fdb = kind == rtnetlink.NEWNEIGH and body[0] == rtnetlink.BRIDGE
            nobody = kind == rtnetlink.DELNEIGH or fdb
            self.namespace.tell(told, 0 if nobody else self.port)
        return None

    async def ask(self, requests: Sequence[bytes]) -> list[Reply | None]:
        """Return single objects."""
        return [self._found(request) for request in requests]

    def _found(self, request: bytes) -> Reply | None:
        kind = _HEADER.unpack_from(request)[1]
        asked = Reply(kind, 0, 0, 0, memoryview(request[HEADER_SIZE:]))
        now = self.namespace
        match kind:
            case rtnetlink.GETLINK:
                device = now.named(rtnetlink.parse_link(asked).name)
                return None if device is None else _reply(rtnetlink.NEWLINK, device.told())
            case rtnetlink.GETROUTE:
                return self._way(asked)
            case _:
                body = now.entries.get(_entry_key(asked.body))
                return None if body is None else _reply(rtnetlink.NEWNEIGH, body)

    def _way(self, asked: Reply) -> Reply | None:
        """Return the most specific route to an address."""
        family, length = asked.body[0], asked.body[1]
        wanted = ip_address(bytes(rtnetlink.attributes(asked.body, 12)[1]))
        matching = (rtnetlink.FIB_MATCH).to_bytes(4, "little") == bytes(asked.body[8:12])
        best: tuple[int, bytes] | None = None
        for body in self.namespace.routes.values():
            route = rtnetlink.parse_route(_reply(rtnetlink.NEWROUTE, body))
            if body[0] == family and route is not None and wanted in route.dst:
                best = max(best or (-1, b""), (route.dst.prefixlen, body))
        if best is not None and (matching or length):
            source = self._source(best[1])
            return _reply(rtnetlink.NEWROUTE, best[1] + (b"" if matching else source))
        for index, own in self.namespace.addresses:
            if wanted in own.network:
                body = bytes([family, length]) + bytes(10) + _u32(4, index)
                return _reply(rtnetlink.NEWROUTE, body + rtnetlink.attribute(7, own.ip.packed))
        return None

    def _source(self, body: bytes) -> bytes:
        route = rtnetlink.parse_route(_reply(rtnetlink.NEWROUTE, body))
        for index, own in self.namespace.addresses:
            if route is not None and index == route.ifindex and own.version == route.dst.version:
                return rtnetlink.attribute(7, own.ip.packed)
        return b""

    async def dump(self, request: bytes) -> list[Reply]:
        """Return a whole table, filtered as asked."""
        kind = _HEADER.unpack_from(request)[1]
        body, now = request[HEADER_SIZE:], self.namespace
        match kind:
            case rtnetlink.GETLINK:
                return [_reply(rtnetlink.NEWLINK, it.told()) for it in now.devices.values()]
            case rtnetlink.GETADDR:
                index = int.from_bytes(body[4:8], "little")
                found = [it for (at, _), it in now.addresses.items() if index in (0, at)]
                return [_reply(rtnetlink.NEWADDR, it) for it in found]
            case rtnetlink.GETROUTE:
                return self._routes(body)
            case _:
                return self._entries(body)

    def _routes(self, asked: bytes) -> list[Reply]:
        through = rtnetlink.attributes(memoryview(asked), 12).get(4)
        found = []
        for body in self.namespace.routes.values():
            device = rtnetlink.attributes(memoryview(body), 12).get(4)
            same = body[0] == asked[0] and asked[5] in (0, body[5]) and asked[7] in (0, body[7])
            if same and (through is None or device == through):
                found.append(_reply(rtnetlink.NEWROUTE, body))
        return found

    def _entries(self, asked: bytes) -> list[Reply]:
        family = asked[0]
        index = int.from_bytes(asked[4:8], "little")
        if not index:
            index = int.from_bytes(rtnetlink.attributes(memoryview(asked), 12)[8], "little")
        return [
            _reply(rtnetlink.NEWNEIGH, body)
            for (kind, at, _), body in self.namespace.entries.items()
            if (kind, at) == (family, index)
        ]

    def index_of(self, name: str) -> int:
        """Return an interface's index."""
        device = self.namespace.named(name)
        if device is None:
            raise KernelError(errno.ENODEV, f'device "{name}"')
        return device.raw.ifindex

    def name_of(self, index: int) -> str | None:
        """Return an interface's name, or None when it is gone."""
        device = self.namespace.devices.get(index)
        return None if device is None else device.raw.name

    def _hear_no_router(self, name: str) -> None:
        """There are none."""

    @contextmanager
    def changes(
        self, heard: Callable[[Sequence[Reply]], None], lost: Callable[[], None]
    ) -> Iterator[None]:
        """Call `heard` with everybody's changes while the block runs."""

        def hear(replies: Sequence[Reply]) -> None:
            if self.deaf:
                lost()
            else:
                heard(replies)

        self.namespace.listeners.append(hear)
        try:
            yield
        finally:
            self.namespace.listeners.remove(hear)

    # --- what requests do ---

    def _do_link(self, kind: int, flags: int, body: bytes, told: list[_Told]) -> None:
        now = self.namespace
        asked = rtnetlink.parse_link(Reply(kind, 0, 0, 0, memoryview(body)))
        if flags & rtnetlink.F_CREATE:
            self._add_link(asked, told)
            return
        device = now.devices.get(asked.ifindex)
        if device is None:
            raise KernelError(errno.ENODEV)
        if kind == rtnetlink.DELLINK:
            self._flush(asked.ifindex, told, addresses=True, entries=True)
            told.append((rtnetlink.DELLINK, device.told()))
            del now.devices[asked.ifindex]
            for index, other in [*now.devices.items()]:
                if other.raw.vxlan is not None and other.raw.vxlan.lower == asked.ifindex:
                    self._do_link(kind, 0, _IFINFOMSG.pack(0, 0, 0, index, 0, 0), told)
            return
        before = device.raw
        device.raw = self._changed(before, asked, body)
        if before.up and not device.raw.up:
            self._flush(asked.ifindex, told)
        told.append((rtnetlink.NEWLINK, device.told()))

    def _add_link(self, asked: RawLink, told: list[_Told]) -> None:
        now = self.namespace
        if asked.kind == "vxlan" and asked.vxlan is not None:
            if now.named(asked.name) is not None:
                raise KernelError(errno.EEXIST)
            tunnel = asked.vxlan._replace(port=asked.vxlan.port or 8472)
            asked = asked._replace(mtu=min(asked.mtu, self._most(tunnel)), vxlan=tunnel)
        elif asked.kind not in ("ipip", "dummy", "veth", "bridge"):
            raise KernelError(errno.EOPNOTSUPP, "Unknown device type")
        made = _Device(asked._replace(ifindex=next(now.indexes), up=False))
        now.devices[made.raw.ifindex] = made
        told.append((rtnetlink.NEWLINK, made.told()))

    def _most(self, tunnel: RawVxlan) -> int:
        lower = self.namespace.devices.get(tunnel.lower)
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
        told: list[_Told],
        *,
        family: int = 0,
        addresses: bool = False,
        entries: bool = False,
    ) -> None:
        """Take routes away, without a word as the kernel does, and what else goes with a device."""
        now = self.namespace
        mine = _u32(4, index)
        for key, body in [*now.routes.items()]:
            if mine in body and family in (0, body[0]):
                del now.routes[key]
        if addresses:
            mine_too = [at for at in now.addresses if at[0] == index]
            told += [(rtnetlink.DELADDR, now.addresses.pop(at)) for at in mine_too]
        if entries:
            for entry in [it for it in now.entries if it[1] == index]:
                del now.entries[entry]

    def _do_address(self, kind: int, flags: int, body: bytes, told: list[_Told]) -> None:
        now = self.namespace
        raw = rtnetlink.parse_address(Reply(kind, 0, 0, 0, memoryview(body)))
        if raw is None or raw.ifindex not in now.devices:
            raise KernelError(errno.ENODEV)
        key = raw.ifindex, raw.address
        if kind == rtnetlink.NEWADDR:
            now.addresses[key] = body
        elif now.addresses.pop(key, None) is None:
            raise KernelError(errno.EADDRNOTAVAIL)
        elif not any(
            at == raw.ifindex and it.version == raw.address.version for at, it in now.addresses
        ):
            self._flush(raw.ifindex, told, family=body[0])  # routes go with the last address
        told.append((kind, body))

    def _do_route(self, kind: int, flags: int, body: bytes, told: list[_Told]) -> None:
        now = self.namespace
        has = rtnetlink.attributes(memoryview(body), 12)
        if body[0] == rtnetlink.INET6 and 6 not in has:
            body += _u32(6, 1024)  # IPv6's usual metric
            has = rtnetlink.attributes(memoryview(body), 12)
        metric = int.from_bytes(has.get(6, b""), "little")
        key = body[0], bytes(has.get(1, b"")), body[1], metric
        there = now.routes.get(key)
        if kind == rtnetlink.DELROUTE:
            if there is None or rtnetlink.attributes(memoryview(there), 12).get(5) != has.get(5):
                raise KernelError(errno.ESRCH)
            told.append((kind, now.routes.pop(key)))
            return
        route = rtnetlink.parse_route(Reply(kind, 0, 0, 0, memoryview(body)))
        if route is not None:
            device = now.devices.get(route.ifindex)
            if device is None or not device.raw.up:
                raise KernelError(errno.ENETDOWN, "Device for nexthop is not up")
            if (
                route.via is not None
                and not route.onlink
                and not now.connected(route.ifindex, route.via)
            ):
                raise KernelError(errno.ENETUNREACH, "Nexthop has invalid gateway")
        if there is not None and not flags & rtnetlink.F_REPLACE:
            raise KernelError(errno.EEXIST)
        now.routes[key] = body
        if there != body:
            told.append((kind, body))

    def _do_entry(self, kind: int, flags: int, body: bytes, told: list[_Told]) -> None:
        now, key = self.namespace, _entry_key(memoryview(body))
        if key[1] not in now.devices:
            raise KernelError(errno.ENODEV)
        there = now.entries.get(key)
        if kind == rtnetlink.DELNEIGH:
            if there is None:
                raise KernelError(errno.ENOENT)
            told.append((kind, now.entries.pop(key)))
            return
        now.entries[key] = body
        if there != body:
            told.append((kind, body))


_DO = {
    rtnetlink.NEWLINK: FakeKernel._do_link,
    rtnetlink.NEWADDR: FakeKernel._do_address,
    rtnetlink.NEWROUTE: FakeKernel._do_route,
    rtnetlink.NEWNEIGH: FakeKernel._do_entry,
}


def _reply(kind: int, body: bytes) -> Reply:
    return Reply(kind, 0, 0, 0, memoryview(body))


def _u32(kind: int, value: int) -> bytes:
    return rtnetlink.attribute(kind, value.to_bytes(4, "little"))


def _entry_key(body: memoryview) -> tuple[int, int, bytes]:
    """Return what makes a neighbour (its address) or an FDB entry (its MAC) the same one."""
    family, index = body[0], int.from_bytes(body[4:8], "little")
    has = rtnetlink.attributes(body, 12)
    return family, index, bytes(has[2 if family == rtnetlink.BRIDGE else 1])
