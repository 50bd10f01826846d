# SPDX-License-Identifier: Apache-2.0
"""`FakeKernel`: a program's sockets to a `Namespace`."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address

from flannelpy import nlmsg, rtlink, rtnetlink
from flannelpy.kernel import Kernel
from flannelpy.netlink import KernelError
from flannelpy.nlmsg import HEADER_SIZE, Reply
from flannelpy.testing.namespace import Namespace, entry_key, reply, u32

_HEADER = struct.Struct("=IHHII")


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
        if (refused := self.refuse(kind, body)) is not None:
            return refused
        try:
            told = self.namespace.change(kind, flags, body)
        except KernelError as error:
            return error
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
            case rtlink.GETLINK:
                device = now.named(rtlink.parse_link(asked).name)
                return None if device is None else reply(rtlink.NEWLINK, device.told())
            case rtnetlink.GETROUTE:
                return self._way(asked)
            case _:
                body = now.entries.get(entry_key(asked.body))
                return None if body is None else reply(rtnetlink.NEWNEIGH, body)

    def _way(self, asked: Reply) -> Reply | None:
        """Return the most specific route to an address."""
        family, length = asked.body[0], asked.body[1]
        wanted = ip_address(bytes(nlmsg.attributes(asked.body, 12)[1]))
        matching = (rtnetlink.FIB_MATCH).to_bytes(4, "little") == bytes(asked.body[8:12])
        best: tuple[int, bytes] | None = None
        for body in self.namespace.routes.values():
            route = rtnetlink.parse_route(reply(rtnetlink.NEWROUTE, body))
            if body[0] == family and route is not None and wanted in route.dst:
                best = max(best or (-1, b""), (route.dst.prefixlen, body))
        if best is not None and (matching or length):
            source = self._source(best[1])
            return reply(rtnetlink.NEWROUTE, best[1] + (b"" if matching else source))
        for index, own in self.namespace.addresses:
            if wanted in own.network:
                body = bytes([family, length]) + bytes(10) + u32(4, index)
                return reply(rtnetlink.NEWROUTE, body + nlmsg.attribute(7, own.ip.packed))
        return None

    def _source(self, body: bytes) -> bytes:
        route = rtnetlink.parse_route(reply(rtnetlink.NEWROUTE, body))
        for index, own in self.namespace.addresses:
            if route is not None and index == route.ifindex and own.version == route.dst.version:
                return nlmsg.attribute(7, own.ip.packed)
        return b""

    async def dump(self, request: bytes) -> list[Reply]:
        """Return a whole table, filtered as asked."""
        kind = _HEADER.unpack_from(request)[1]
        body, now = request[HEADER_SIZE:], self.namespace
        match kind:
            case rtlink.GETLINK:
                return [reply(rtlink.NEWLINK, it.told()) for it in now.devices.values()]
            case rtnetlink.GETADDR:
                index = int.from_bytes(body[4:8], "little")
                found = [it for (at, _), it in now.addresses.items() if index in (0, at)]
                return [reply(rtnetlink.NEWADDR, it) for it in found]
            case rtnetlink.GETROUTE:
                return self._routes(body)
            case _:
                return self._entries(body)

    def _routes(self, asked: bytes) -> list[Reply]:
        through = nlmsg.attributes(memoryview(asked), 12).get(4)
        found = []
        for body in self.namespace.routes.values():
            device = nlmsg.attributes(memoryview(body), 12).get(4)
            same = body[0] == asked[0] and asked[5] in (0, body[5]) and asked[7] in (0, body[7])
            if same and (through is None or device == through):
                found.append(reply(rtnetlink.NEWROUTE, body))
        return found

    def _entries(self, asked: bytes) -> list[Reply]:
        family = asked[0]
        index = int.from_bytes(asked[4:8], "little")
        if not index:
            index = int.from_bytes(nlmsg.attributes(memoryview(asked), 12)[8], "little")
        return [
            reply(rtnetlink.NEWNEIGH, body)
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
