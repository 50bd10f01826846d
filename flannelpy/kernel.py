# SPDX-License-Identifier: Apache-2.0
"""The kernel's network tables, typed; the only module that knows pyroute2 and netlink sockets.

Links go through pyroute2. Everything that a peer is made of goes through a socket of our own, in
batches: many requests in one datagram, of which only the last asks for an answer, so that the
kernel answers just that one and the ones it refuses. A netlink request is carried out while
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
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from fairlead.errors import FairleadError
from flannelpy import rtnetlink
from flannelpy.rtnetlink import RawAddress, RawNeighbour, RawRoute, Reply
from flannelpy.state import IPAddress, Link, Vxlan

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
        l2miss: a VXLAN device that asks about unknown MACs; ours never do.
    """

    name: str
    index: int
    mtu: int
    up: bool
    mac: str
    link: Link
    l2miss: bool = False


class Kernel:
    """Reads and writes this network namespace's tables. Use `connect`."""

    def __init__(self, links: AsyncIPRoute, requests: socket.socket) -> None:
        self._links = links
        self._socket = requests
        self._sequence = itertools.count(1)
        self.port: int = requests.getsockname()[0]
        """Notifications with this port tell of our own changes."""

    # --- links ---

    async def interface(self, name: str) -> Interface | None:
        """Return an interface by name, or None."""
        try:
            answers = await self._links.link("get", ifname=name)
            return await self._interface(next(iter(answers)))
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise KernelError(error.code or 0) from error

    async def interfaces(self) -> tuple[Interface, ...]:
        """Return all interfaces, by index."""
        with _translated():
            found = [
                await self._interface(answer) async for answer in await self._links.get_links()
            ]
        return tuple(sorted(found, key=lambda it: it.index))

    async def _interface(self, answer: Any) -> Interface:
        name, mtu, mac = answer.get("ifname"), answer.get("mtu"), answer.get("address") or ""
        up = bool(answer["flags"] & 1)
        tunnel, learning, l2miss = None, False, False
        if answer.get(("linkinfo", "kind")) == "vxlan":
            data = answer.get(("linkinfo", "data"))
            local = data.get("vxlan_local") or data.get("vxlan_local6") or "0.0.0.0"  # noqa: S104
            tunnel = Vxlan(
                vni=data.get("vxlan_id"),
                lower=_name(data.get("vxlan_link") or 0),
                local=IPv6Address(local) if ":" in local else IPv4Address(local),
                port=data.get("vxlan_port") or 0,
                gbp=bool(data.get("vxlan_gbp")),
            )
            learning, l2miss = bool(data.get("vxlan_learning")), bool(data.get("vxlan_l2miss"))
        link = Link(name, tunnel, mtu, mac, learning, up)
        return Interface(name, answer["index"], mtu, up, mac, link, l2miss)

    async def create(self, link: Link) -> None:
        """Create a VXLAN device, still down; its MAC is there from the first moment."""
        tunnel = link.tunnel
        if tunnel is None:
            raise KernelError(errno.EOPNOTSUPP, f"no way to make {link.name}")
        options: dict[str, object] = {
            "vxlan_id": tunnel.vni,
            "vxlan_link": index_of(tunnel.lower),
            f"vxlan_local{'6' if tunnel.local.version == 6 else ''}": str(tunnel.local),
            "vxlan_learning": int(link.learning),
            "vxlan_ttl": 0,
        }
        if tunnel.port:
            options["vxlan_port"] = tunnel.port
        if tunnel.gbp:
            options["vxlan_gbp"] = True
        with _translated():
            await self._links.link(
                "add", ifname=link.name, kind="vxlan", address=link.mac, mtu=link.mtu, **options
            )
        # the overlay hears no router: an advertisement would give it addresses and a default route
        try:
            Path(f"/proc/sys/net/ipv6/conf/{link.name}/accept_ra").write_text("0")  # noqa: ASYNC240
        except OSError:
            return  # no IPv6 on this host: nothing to refuse

    async def change(self, link: Link, was: Link) -> None:
        """Set what can be set in place, in the order that the kernel takes."""
        index = index_of(link.name)
        with _translated():
            if link.learning != was.learning and link.tunnel is not None:
                await self._links.link(
                    "set",
                    index=index,
                    kind="vxlan",
                    vxlan_id=link.tunnel.vni,
                    vxlan_learning=int(link.learning),
                )
            if link.mtu != was.mtu:
                await self._links.link("set", index=index, mtu=link.mtu)
            if link.mac != was.mac:
                await self._links.link("set", index=index, address=link.mac)
            if link.up != was.up:
                await self._links.link("set", index=index, state="up" if link.up else "down")

    async def delete(self, name: str) -> None:
        """Delete a device; one already gone counts as done."""
        with _translated():
            try:
                await self._links.link("del", index=index_of(name))
            except KernelError as error:
                if not error.absent:
                    raise

    async def route_to(self, address: IPAddress) -> tuple[str, IPAddress | None, IPAddress | None]:
        """Return the interface, the source address and the gateway by which `address` is reached."""
        with _translated():
            answer = next(iter(await self._links.route("get", dst=str(address))))
        source, gateway = answer.get("prefsrc"), answer.get("gateway")
        kind = IPv4Address if address.version == 4 else IPv6Address
        return _name(answer.get("oif") or 0), source and kind(source), gateway and kind(gateway)

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
        """Return the plain unicast routes of the main table, through a device or of a protocol."""
        replies = await self.dump(rtnetlink.dump_routes(version, index=index, proto=proto))
        found = map(rtnetlink.parse_route, replies)
        return [it for it in found if it is not None and it.table == rtnetlink.MAIN and it.plain]

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
        async with AsyncIPRoute() as links:
            yield Kernel(links, requests)


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


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise KernelError(error.code or 0) from error


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
