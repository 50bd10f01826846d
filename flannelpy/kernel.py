# SPDX-License-Identifier: Apache-2.0
"""The kernel's network tables, typed: links, addresses, neighbours, routes by rtnetlink."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from flannelpy import netlink, rtlink, rtnetlink
from flannelpy.netlink import KernelError, Netlink
from flannelpy.nlmsg import Reply
from flannelpy.parts import Maker, Part
from flannelpy.rtnetlink import RawAddress, RawNeighbour, RawRoute
from flannelpy.state import IPAddress, Ipip, Link, Tunnel, Vxlan, Wireguard

_CAP_NET_ADMIN = 12
_GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400  # link, neigh, IPv4/6 address and route


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface as it is.

    Attributes:
        link: the same as an overlay device; its tunnel is None when it is none we know.
        kind: rtnetlink's word for a virtual one; "" for hardware.
    """

    name: str
    index: int
    mtu: int
    up: bool
    mac: str
    link: Link
    kind: str = ""


class Kernel(Netlink):
    """Reads and writes this network namespace's tables. Use `connect`."""

    def __init__(self, requests: socket.socket) -> None:
        super().__init__(requests)
        self.parts: tuple[Part, ...] = ()
        """Who observes and applies the kinds of objects that are no rtnetlink messages."""
        self.makers: tuple[Maker, ...] = ()
        """Who makes the devices that a program stands behind."""
        self.ends = ExitStack()
        """What is given back when the sockets are closed."""

    # --- links ---

    def index_of(self, name: str) -> int:
        """Return an interface's index.

        Raises:
            KernelError: there is none of that name.
        """
        return index_of(name)

    def name_of(self, index: int) -> str | None:
        """Return an interface's name, or None when it is gone."""
        try:
            return socket.if_indextoname(index)
        except OSError:
            return None

    async def interface(self, name: str) -> Interface | None:
        """Return an interface by name, or None."""
        (reply,) = await self.ask([rtlink.get_link(name)])
        return None if reply is None else self._interface(reply)

    async def interfaces(self) -> tuple[Interface, ...]:
        """Return all interfaces, by index."""
        found = map(self._interface, await self.dump(rtlink.dump_links()))
        return tuple(sorted(found, key=lambda it: it.index))

    def _interface(self, reply: Reply) -> Interface:
        raw = rtlink.parse_link(reply)
        tunnel: Tunnel | None = raw.ipip
        learning = False
        if raw.vxlan is not None:
            it = raw.vxlan
            local = it.local or IPv4Address(0)
            tunnel = Vxlan(it.vni, self._name(it.lower), local, it.port, it.gbp)
            learning = it.learning
        elif raw.kind == "wireguard":
            tunnel = Wireguard()
        elif raw.kind == "tun":
            made = (maker.made(raw.name) for maker in self.makers)
            tunnel = next((it for it in made if it is not None), None)
        link = Link(raw.name, tunnel, raw.mtu, raw.mac, learning, raw.up)
        return Interface(raw.name, raw.ifindex, raw.mtu, raw.up, raw.mac, link, raw.kind)

    async def create(self, link: Link) -> None:
        """Create an overlay device, still down."""
        match link.tunnel:
            case Vxlan() as tunnel:
                await self.do(rtlink.create_vxlan(link, tunnel, self.index_of(tunnel.lower)))
            case Ipip() as tunnel:
                await self.do(rtlink.create_ipip(link, tunnel))
            case Wireguard():
                await self._create_wireguard(link)
            case _:
                await self._make(link)
        self._hear_no_router(link.name)

    def _hear_no_router(self, name: str) -> None:
        """An advertisement would give the device addresses and a default route."""
        try:
            Path(f"/proc/sys/net/ipv6/conf/{name}/accept_ra").write_text("0")
        except OSError:
            return  # no IPv6 on this host: nothing to refuse

    async def _create_wireguard(self, link: Link) -> None:
        try:
            await self.do(rtlink.create_plain(link, "wireguard"))
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
        index = self.index_of(link.name)
        tunnel = link.tunnel
        if isinstance(tunnel, Vxlan) and (
            link.learning != was.learning or not tunnel.stands_for(was.tunnel)
        ):
            lower = self.index_of(tunnel.lower)
            await self.do(rtlink.change_vxlan(index, tunnel, lower, link.learning))
        if isinstance(tunnel, Ipip) and not tunnel.stands_for(was.tunnel):
            await self.do(rtlink.change_ipip(index, tunnel))
        if link.mtu != was.mtu:
            await self.do(rtlink.change_link(index, mtu=link.mtu))
        if link.mac != was.mac:
            await self.do(rtlink.change_link(index, mac=link.mac))
        if link.up != was.up:
            await self.do(rtlink.change_link(index, up=link.up))

    async def delete(self, name: str) -> None:
        """Delete a device; one already gone counts as done."""
        try:
            await self.do(rtlink.delete_link(self.index_of(name)))
        except KernelError as error:
            if not error.absent:
                raise

    async def route_to(self, address: IPAddress) -> tuple[str, IPAddress | None]:
        """Return the interface and the source address by which `address` is reached."""
        (reply,) = await self.ask([rtnetlink.get_route_to(address)])
        if reply is None:
            raise KernelError(errno.ENETUNREACH, str(address))
        index, source = rtnetlink.parse_way(reply)
        return self._name(index), source

    def _name(self, index: int) -> str:
        return self.name_of(index) or f"index {index}"

    # --- what peers are made of ---

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

    @contextmanager
    def changes(
        self, heard: Callable[[Sequence[Reply]], None], lost: Callable[[], None]
    ) -> Iterator[None]:
        """Call `heard` with the notifications about links, addresses, neighbours and routes.

        Args:
            lost: called when some did not fit into the buffer: anything may have changed.
        """
        with netlink.changes(netlink.ROUTE, _GROUPS, heard, lost):
            yield


def may_administer() -> bool:
    """Say whether this process has CAP_NET_ADMIN (proc(5), "CapEff")."""
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return True


@asynccontextmanager
async def connect() -> AsyncIterator[Kernel]:
    """Open the sockets to this network namespace's kernel.

    Raises:
        KernelError: this process may not change networks: said before anything is done.
    """
    if not may_administer():
        raise KernelError(errno.EPERM, "CAP_NET_ADMIN is missing; run as root or with that alone")
    with netlink.opened(netlink.ROUTE) as requests:
        requests.bind((0, 0))
        kernel = Kernel(requests)
        with kernel.ends:
            yield kernel


def index_of(name: str) -> int:
    """Return an interface's index.

    Raises:
        KernelError: there is none of that name.
    """
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise KernelError(errno.ENODEV, f'device "{name}"') from error
