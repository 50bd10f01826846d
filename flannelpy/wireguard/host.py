# SPDX-License-Identifier: Apache-2.0
"""WireGuard devices as they are and should be: the kernel's by netlink, wireguard-go's by its socket.

A device is kept over restarts and its peers are changed in place, so traffic does not stop with
this process. An endpoint that a peer has roamed to stays: only another wish replaces it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import Protocol

from fairlead.errors import ActionError
from flannelpy import netlink
from flannelpy.kernel import Kernel, index_of
from flannelpy.netlink import KernelError, Netlink
from flannelpy.plan import Action, Delete, Put, thing_of
from flannelpy.state import Key, Kind, Link, Object, Tunnel, Wireguard
from flannelpy.tools import run
from flannelpy.wireguard import genl, uapi
from flannelpy.wireguard.keyfile import public_of
from flannelpy.wireguard.objects import NO_KEY, Endpoint, Identity, Peer

SOCKETS = Path("/var/run/wireguard")
_LIMIT = 5.0  # seconds for an answer of wireguard-go


class _Way(Protocol):
    """How to speak with one device."""

    async def read(self) -> tuple[bytes, int, tuple[Peer, ...]]:
        """Return its private key, port and peers."""
        ...

    async def identity(self, it: Identity) -> None:
        """Set its key and port."""
        ...

    async def peers(self, put: Sequence[Peer], gone: Sequence[Peer]) -> None:
        """Put and remove peers."""
        ...


class WireguardHost:
    """Makes the devices and keeps their keys and peers."""

    kinds = frozenset({Kind.TUNNEL, Kind.PEER})

    def __init__(self, kernel: Kernel, devices: Sequence[str]) -> None:
        self._kernel = kernel
        self._devices = tuple(devices)
        self._put: dict[Key, Endpoint | None] = {}  # where we sent a peer's datagrams to

    async def make(self, link: Link) -> bool:
        """Start wireguard-go; it puts itself into the background when its device is there."""
        if not isinstance(link.tunnel, Wireguard):
            return False
        try:
            await run("wireguard-go", link.name)
        except ActionError as error:
            raise KernelError(
                0, f"this kernel has no WireGuard; wireguard-go: {error.reason}"
            ) from error
        return True

    def made(self, name: str) -> Tunnel | None:
        """Return Wireguard for a device of wireguard-go's."""
        return Wireguard() if (SOCKETS / f"{name}.sock").exists() else None

    async def observe(self, keys: Collection[Key] | None) -> Sequence[Object]:
        """Return keys and peers of our devices."""
        found: list[Object] = []
        for name in self._devices:
            if keys is not None and all(key.dev != name for key in keys):
                continue
            interface = await self._kernel.interface(name)
            if interface is None or interface.link.tunnel != Wireguard():
                continue
            try:
                private, port, peers = await (await self._way(name)).read()
            except (KernelError, OSError) as error:
                raise ActionError(f"observe {name}", str(error)) from error
            if private != NO_KEY:
                found.append(Identity(name, public_of(private), port, private))
            found += [it.at(self._put.get(it.key, it.endpoint)) for it in peers]
        return [it for it in found if keys is None or it.key in keys]

    async def carry_out(self, actions: Sequence[Action]) -> Sequence[ActionError]:
        """Set keys; put and remove peers, those of one device in one request."""
        refused: list[ActionError] = []
        for name, run_ in groupby(actions, lambda it: thing_of(it).key.dev):
            part = list(run_)
            try:
                await self._change(name, part)
            except (KernelError, OSError) as error:
                refused += [ActionError(action, str(error)) for action in part]
        return refused

    async def _change(self, name: str, actions: Sequence[Action]) -> None:
        if all(isinstance(it, Delete) for it in actions) and self._gone(name):
            return
        way = await self._way(name)
        put: list[Peer] = []
        gone: list[Peer] = []
        for action in actions:
            match action:
                case Put(Identity() as identity):
                    await way.identity(identity)
                case Put(Peer() as peer):
                    put.append(peer)
                case Delete(Peer() as peer):
                    gone.append(peer)
                case Delete(Identity()):
                    pass  # it goes with its device
                case _:
                    raise TypeError(action)
        await way.peers(put, gone)
        self._put |= {it.key: it.endpoint for it in put}
        for it in gone:
            self._put.pop(it.key, None)

    def _gone(self, name: str) -> bool:
        try:
            index_of(name)
        except KernelError:
            return True
        return False

    async def _way(self, name: str) -> _Way:
        if self.made(name) is not None:
            return _Uapi(name)
        with netlink.opened(netlink.GENERIC) as requests:
            requests.bind((0, 0))
            (reply,) = await Netlink(requests).ask([genl.family()])
        if reply is None:
            raise KernelError(0, f"nobody stands behind {name}")
        return _Genl(name, genl.parse_family(reply))


class _Uapi:
    """wireguard-go's socket."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def read(self) -> tuple[bytes, int, tuple[Peer, ...]]:
        return uapi.device(self._name, await self._ask(uapi.GET))

    async def identity(self, it: Identity) -> None:
        await self._ask(uapi.identity(it))

    async def peers(self, put: Sequence[Peer], gone: Sequence[Peer]) -> None:
        if put or gone:
            await self._ask(uapi.peers(put, gone))

    async def _ask(self, request: str) -> str:
        async with asyncio.timeout(_LIMIT):
            reader, writer = await asyncio.open_unix_connection(SOCKETS / f"{self._name}.sock")
            try:
                writer.write(request.encode())
                answer = (await reader.readuntil(b"\n\n")).decode()
            except asyncio.IncompleteReadError as error:
                raise KernelError(0, "wireguard-go broke off") from error
            finally:
                writer.close()
        number = uapi.refused(answer)
        if number:
            raise KernelError(number, f"wireguard-go: {os.strerror(number)}")
        return answer


class _Genl:
    """The kernel's."""

    def __init__(self, name: str, kind: int) -> None:
        self._name, self._kind = name, kind

    async def read(self) -> tuple[bytes, int, tuple[Peer, ...]]:
        with netlink.opened(netlink.GENERIC) as requests:
            requests.bind((0, 0))
            replies = await Netlink(requests).dump(genl.get(self._kind, index_of(self._name)))
        return genl.device(self._name, replies)

    async def identity(self, it: Identity) -> None:
        await self._do([genl.identity(self._kind, index_of(self._name), it)])

    async def peers(self, put: Sequence[Peer], gone: Sequence[Peer]) -> None:
        index = index_of(self._name)
        await self._do(
            [
                *(genl.put(self._kind, index, it) for it in put),
                *(genl.delete(self._kind, index, it) for it in gone),
            ]
        )

    async def _do(self, requests: Sequence[bytes]) -> None:
        with netlink.opened(netlink.GENERIC) as to:
            to.bind((0, 0))
            for error in await Netlink(to).batch(requests):
                if error is not None:
                    raise error
