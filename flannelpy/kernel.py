# SPDX-License-Identifier: Apache-2.0
"""The kernel's network tables, typed; the only module with netlink sockets.

Requests go in batches: many in one datagram, of which only the last asks for an answer, so that
the kernel answers just that one and the ones it refuses. A netlink request is carried out while
`send` runs and its answer lies ready when it returns, so nothing here waits for anything; between
batches the event loop gets its turn.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from fairlead.errors import FairleadError
from flannelpy import rtnetlink
from flannelpy.parts import Maker, Part
from flannelpy.rtnetlink import RawAddress, RawNeighbour, RawRoute, Reply
from flannelpy.state import IPAddress, Ipip, Link, Tunnel, Vxlan, Wireguard

BATCH = 512  # requests in one datagram: about 30 KiB, under 3 ms in the kernel
_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK, _STRICT = 10, 11, 12
_BUFFER = 8 << 20  # bytes; a refused batch of 512 needs about 0.5 MiB of kernel memory
_GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400  # link, neigh, IPv4/6 address and route
_ABSENT = frozenset(
    {errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENETUNREACH}
)
_HOPELESS = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL})


class KernelError(FairleadError):
    """The kernel refused; `errno` says how, `absent` that the thing is not there."""

    def __init__(self, number: int, words: str = "") -> None:
        text = os.strerror(number) if number else "no answer"
        super().__init__(f"{text}{': ' + words if words else ''}")
        self.errno = number
        self.transient = number not in _HOPELESS

    @property
    def absent(self) -> bool:
        """Say whether what was asked for or to be deleted is not there."""
        return self.errno in _ABSENT


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface as it is.

    Attributes:
        link: the same as an overlay device; its tunnel is None when it is none we know.
    """

    name: str
    index: int
    mtu: int
    up: bool
    mac: str
    link: Link


class Kernel:
    """Reads and writes this network namespace's tables. Use `connect`."""

    def __init__(self, requests: socket.socket) -> None:
        self._socket = requests
        self._sequence = itertools.count(1)
        self.port: int = requests.getsockname()[0]
        """Notifications with this port tell of our own changes."""
        self.parts: tuple[Part, ...] = ()
        """Who observes and applies the kinds of objects that are no rtnetlink messages."""
        self.makers: tuple[Maker, ...] = ()
        """Who makes the devices that a program stands behind."""

    # --- links ---

    async def interface(self, name: str) -> Interface | None:
        """Return an interface by name, or None."""
        (reply,) = await self.ask([rtnetlink.get_link(name)])
        return None if reply is None else self._interface(reply)

    async def interfaces(self) -> tuple[Interface, ...]:
        """Return all interfaces, by index."""
        found = map(self._interface, await self.dump(rtnetlink.dump_links()))
        return tuple(sorted(found, key=lambda it: it.index))

    def _interface(self, reply: Reply) -> Interface:
        raw = rtnetlink.parse_link(reply)
        tunnel: Tunnel | None = raw.ipip
        learning = False
        if raw.vxlan is not None:
            it = raw.vxlan
            local = it.local or IPv4Address(0)
            tunnel = Vxlan(it.vni, _name(it.lower), local, it.port, it.gbp)
            learning = it.learning
        elif raw.kind == "wireguard":
            tunnel = Wireguard()
        elif raw.kind == "tun":
            made = (maker.made(raw.name) for maker in self.makers)
            tunnel = next((it for it in made if it is not None), None)
        link = Link(raw.name, tunnel, raw.mtu, raw.mac, learning, raw.up)
        return Interface(raw.name, raw.ifindex, raw.mtu, raw.up, raw.mac, link)

    async def create(self, link: Link) -> None:
        """Create an overlay device, still down."""
        match link.tunnel:
            case Vxlan() as tunnel:
                await self.do(rtnetlink.create_vxlan(link, tunnel, index_of(tunnel.lower)))
            case Ipip() as tunnel:
                await self.do(rtnetlink.create_ipip(link, tunnel))
            case Wireguard():
                await self._create_wireguard(link)
            case _:
                await self._make(link)
        # the overlay hears no router: an advertisement would give it addresses and a default route
        try:
            Path(f"/proc/sys/net/ipv6/conf/{link.name}/accept_ra").write_text("0")  # noqa: ASYNC240
        except OSError:
            return  # no IPv6 on this host: nothing to refuse

    async def _create_wireguard(self, link: Link) -> None:
        try:
            await self.do(rtnetlink.create_plain(link, "wireguard"))
        except KernelError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            await self._make(link)  # a kernel without: wireguard-go

    async def _make(self, link: Link) -> None:
        for maker in self.makers:
            if await maker.make(link):
                return
        raise KernelError(errno.EOPNOTSUPP, f"no way to make {link.name}")

    async def change(self, link: Link, was: Link) -> None:
        """Set what can be set in place."""
        index = index_of(link.name)
        if isinstance(link.tunnel, Vxlan) and link.learning != was.learning:
            await self.do(rtnetlink.change_learning(index, link.tunnel, link.learning))
        if link.mtu != was.mtu:
            await self.do(rtnetlink.change_link(index, mtu=link.mtu))
        if link.mac != was.mac:
            await self.do(rtnetlink.change_link(index, mac=link.mac))
        if link.up != was.up:
            await self.do(rtnetlink.change_link(index, up=link.up))

    async def delete(self, name: str) -> None:
        """Delete a device; one already gone counts as done."""
        try:
            await self.do(rtnetlink.delete_link(index_of(name)))
        except KernelError as error:
            if not error.absent:
                raise

    async def route_to(self, address: IPAddress) -> tuple[str, IPAddress | None]:
        """Return the interface and the source address by which `address` is reached."""
        (reply,) = await self.ask([rtnetlink.get_route_to(address)])
        if reply is None:
            raise KernelError(errno.ENETUNREACH, str(address))
        index, source = rtnetlink.parse_way(reply)
        return _name(index), source

    async def do(self, request: bytes) -> None:
        """Carry out one request.

        Raises:
            KernelError: refused.
        """
        (error,) = await self.batch([request])
        if error is not None:
            raise error

    # --- what peers are made of ---

    async def batch(self, requests: Sequence[bytes]) -> list[KernelError | None]:
        """Carry out many requests in order; return for each what was refused, or None."""
        results: list[KernelError | None] = []
        for start in range(0, len(requests), BATCH):
            results += self._batch(requests[start : start + BATCH])
            await asyncio.sleep(0)
        return results

    def _batch(self, requests: Sequence[bytes]) -> list[KernelError | None]:
        first = next(self._sequence)
        last = first + len(requests) - 1
        self._sequence = itertools.count(last + 1)
        # every request but the last is silent unless it is refused
        data = [rtnetlink.numbered(it, first + n) for n, it in enumerate(requests[:-1])]
        data.append(rtnetlink.numbered(requests[-1], last, ack=True))
        self._socket.send(b"".join(data))
        results: list[KernelError | None] = [None] * len(requests)
        for reply in self._replies(first, last):
            if reply.type == rtnetlink.ERROR:
                number, words = rtnetlink.refusal(reply)
                if number:
                    results[reply.sequence - first] = KernelError(number, words)
                if reply.sequence == last:
                    break
        return results

    async def ask(self, requests: Sequence[bytes]) -> list[Reply | None]:
        """Ask for single objects; return for each the answer, or None when it is not there.

        Raises:
            KernelError: refused for another reason.
        """
        answers: list[Reply | None] = []
        for n, request in enumerate(requests):
            answers.append(self._ask(request))
            if n % 64 == 63:
                await asyncio.sleep(0)
        return answers

    def _ask(self, request: bytes) -> Reply | None:
        sequence = next(self._sequence)
        self._socket.send(rtnetlink.numbered(request, sequence, ack=True))
        found: Reply | None = None
        for reply in self._replies(sequence, sequence):
            if reply.type != rtnetlink.ERROR:
                found = reply
                continue
            number, words = rtnetlink.refusal(reply)
            error = KernelError(number, words)
            if number and not error.absent:
                raise error
            break
        return found

    async def dump(self, request: bytes) -> list[Reply]:
        """Return all answers to a dump, again from its start when the table changed meanwhile.

        Raises:
            KernelError: refused.
        """
        for _ in range(5):
            replies = self._dump(request)
            await asyncio.sleep(0)
            if replies is not None:
                return replies
        raise KernelError(errno.EINTR, "the table changed during five dumps on end")

    def _dump(self, request: bytes) -> list[Reply] | None:
        sequence = next(self._sequence)
        self._socket.send(rtnetlink.numbered(request, sequence))
        found: list[Reply] = []
        whole = True
        for reply in self._replies(sequence, sequence):
            whole = whole and not reply.flags & rtnetlink.F_DUMP_INTR
            if reply.type in (rtnetlink.DONE, rtnetlink.ERROR):
                number, words = rtnetlink.refusal(reply)
                if number and number != errno.ENOENT:
                    raise KernelError(number, words)
                break
            found.append(reply)
        return found if whole else None

    def _replies(self, first: int, last: int) -> Iterator[Reply]:
        """Yield what answers the requests `first` to `last`; what is left of older ones is dropped."""
        while True:
            try:
                data = self._socket.recv(1 << 18)
            except TimeoutError as error:
                raise KernelError(0, "netlink was silent for 5 s") from error
            except OSError as error:
                raise KernelError(error.errno or 0) from error
            for reply in rtnetlink.replies(data):
                if first <= reply.sequence <= last:
                    yield reply

    async def routes(self, version: int, *, index: int = 0, proto: int = 0) -> list[RawRoute]:
        """Return the unicast routes of the main table, through a device or of a protocol."""
        replies = await self.dump(rtnetlink.dump_routes(version, index=index, proto=proto))
        found = map(rtnetlink.parse_route, replies)
        # a kernel without IPv6 answers the question for IPv6 with what it has
        return [
            it
            for it in found
            if it is not None and it.table == rtnetlink.MAIN and it.dst.version == version
        ]

    async def neighbours(self, version: int, index: int) -> list[RawNeighbour]:
        """Return a device's neighbour entries of one family, 0: its FDB."""
        if version:
            replies = await self.dump(rtnetlink.dump_neighbours(version, index))
        else:
            replies = await self.dump(rtnetlink.dump_fdb(index))
        found = map(rtnetlink.parse_neighbour, replies)
        return [it for it in found if it is not None and it.ifindex == index]

    async def addresses(self, index: int = 0) -> list[RawAddress]:
        """Return the addresses of one device, or of all."""
        found = map(rtnetlink.parse_address, await self.dump(rtnetlink.dump_addresses(index)))
        return [it for it in found if it is not None]


@asynccontextmanager
async def connect() -> AsyncIterator[Kernel]:
    """Open the sockets to this network namespace's kernel."""
    with _socket() as requests:
        requests.bind((0, 0))
        yield Kernel(requests)


@contextmanager
def changes(heard: Callable[[Sequence[Reply]], None], lost: Callable[[], None]) -> Iterator[None]:
    """Call `heard` with the kernel's notifications while the block runs.

    Args:
        lost: called when some did not fit into the buffer: anything may have changed.
    """
    loop = asyncio.get_running_loop()
    with _socket() as listener:
        listener.setblocking(False)
        listener.bind((0, _GROUPS))

        def read() -> None:
            got: list[Reply] = []
            for _ in range(64):
                try:
                    data = listener.recv(1 << 18)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    lost()
                    continue
                got.extend(rtnetlink.replies(data))
            if got:
                heard(got)

        loop.add_reader(listener, read)
        try:
            yield
        finally:
            loop.remove_reader(listener)


@contextmanager
def _socket() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as it:
        it.settimeout(5.0)
        try:
            it.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE, needs CAP_NET_ADMIN
            it.setsockopt(socket.SOL_SOCKET, 32, _BUFFER)  # SO_SNDBUFFORCE
        except PermissionError:
            it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            it.setsockopt(_SOL_NETLINK, option, 1)
        yield it


def index_of(name: str) -> int:
    """Return an interface's index.

    Raises:
        KernelError: there is none of that name.
    """
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise KernelError(errno.ENODEV, f'device "{name}"') from error


def _name(index: int) -> str:
    return name_of(index) or f"index {index}"


def name_of(index: int) -> str | None:
    """Return an interface's name, or None when it is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None
