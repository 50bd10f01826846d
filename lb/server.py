# SPDX-License-Identifier: Apache-2.0
"""Sockets to listen on: opened, closed and drained."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import Sequence, Set
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Final

from fairlead.errors import ActionError
from lb import proxyheader
from lb.client import Client
from lb.live import Accepting, LiveListener
from lb.plane import Plane
from lb.records import split_address
from lb.state import Listener

_BACKLOG: Final = 4096
_PEEK: Final = 4096 + 16  # bytes: more than the longest PROXY header that is accepted
_GLANCE: Final = 0.005  # seconds between two looks for the rest of a header


async def listen(
    plane: Plane, spec: Listener, action: object, socks: list[socket.socket] | None = None
) -> LiveListener:
    """Open an address and accept there, or let others accept (`plane.offers`).

    Args:
        socks: open already: of the listener that this one replaces.

    Raises:
        ActionError: the address is in use or not ours, or the TLS settings cannot be used.
    """
    live = LiveListener(spec, plane.limits, plane.counts)
    try:
        if socks is None:
            handed = plane.inherited.pop((spec.network, spec.address), [])
            socks = handed if plane.follows else open_sockets(spec, plane.seats, handed)
        live.socks = socks
        tls = None
        if spec.tls is not None:
            if plane.contexts is None:
                raise ActionError(action, f'listener "{spec.id}": no certificates here')
            tls = plane.contexts.server(spec)
            tls.set_alpn_protocols(["h2", "http/1.1"])
        if plane.offers is not None:
            for sock in socks:
                sock.listen(_BACKLOG)
            plane.offers.offer(live)
            return live
        live.tls = tls
        apart = plane.follows and len(socks) >= plane.seats
        for sock in socks[plane.seat :: plane.seats] if apart else socks:
            live.servers.append(await _accept(plane, live, sock, tls))
        await _settle_shares(plane, live)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ActionError(action, f'listener "{spec.id}" on {spec.address}: {reason}') from error
    return live


async def adopt(plane: Plane, seats: Set[int]) -> None:
    """Accept for these other workers, and for no others any more: they do not serve now."""
    plane.adopted = frozenset(seats)
    for live in tuple(plane.listeners.values()):
        await _settle_shares(plane, live)


async def _settle_shares(plane: Plane, live: LiveListener) -> None:
    if not plane.follows or len(live.socks) < plane.seats:  # where all accept on all
        return
    async with plane.adopting:
        for seat in live.shares.keys() - plane.adopted:
            for server in live.shares.pop(seat):
                server.close()
        for seat in plane.adopted - live.shares.keys():
            live.shares[seat] = [
                await _accept(plane, live, sock, live.tls)
                for sock in live.socks[seat :: plane.seats]
            ]
        if live.closing:
            retire(plane, live)


async def _accept(
    plane: Plane, live: LiveListener, sock: socket.socket, tls: ssl.SSLContext | None
) -> Accepting:
    if live.spec.proxy:
        sock.listen(_BACKLOG)
        return Announced(plane, live, sock, tls)
    # the server owns a duplicate: ours outlives it, for its successor (§12.2, USR2)
    return await plane.loop.create_server(
        lambda: Client(plane, live), sock=sock.dup(), ssl=tls, backlog=_BACKLOG
    )


class Announced:
    """Accepts connections that a PROXY header opens (specs/vulcand.md §3.7).

    The header is taken off the socket before anything else reads from it, so that TLS may follow.
    """

    def __init__(
        self, plane: Plane, live: LiveListener, sock: socket.socket, tls: ssl.SSLContext | None
    ) -> None:
        self._plane = plane
        self._sock = sock
        self._live = live
        self._tls = tls
        self._trusted = [ip_network(text) for text in live.spec.trusted]
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = plane.loop.create_task(self._accept(), name=f"accept {live.spec.id}")

    def close(self) -> None:
        """Stop accepting."""
        self._loop.cancel()

    async def _accept(self) -> None:
        while True:
            try:
                sock, _ = await self._plane.loop.sock_accept(self._sock)
            except OSError:  # out of descriptors, or the client is gone already
                await asyncio.sleep(0.05)
                continue
            if self._live.full:
                sock.close()
                continue
            sock.setblocking(False)
            task = self._plane.loop.create_task(self._greet(sock), name="proxy header")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _greet(self, sock: socket.socket) -> None:
        try:
            async with asyncio.timeout(self._live.limits.read_timeout):
                source = await self._header(sock)
            await self._plane.loop.connect_accepted_socket(
                lambda: Client(self._plane, self._live, source), sock, ssl=self._tls
            )
        except (OSError, TimeoutError, proxyheader.Refused):
            self._plane.refused += 1
            sock.close()

    async def _header(self, sock: socket.socket) -> tuple[str, int] | None:
        peer = sock.getpeername()
        if self._trusted and (
            not isinstance(peer, tuple)
            or not any(ip_address(peer[0].partition("%")[0]) in net for net in self._trusted)
        ):
            return None
        while True:
            try:
                seen = sock.recv(_PEEK, socket.MSG_PEEK)
            except BlockingIOError:
                await asyncio.sleep(_GLANCE)
                continue
            if not seen:
                raise proxyheader.Refused("closed before a header")
            found = proxyheader.decode(seen, self._live.spec.proxy)
            if found is not None:
                size, source = found
                if size:
                    sock.recv(size)
                return source
            await asyncio.sleep(_GLANCE)


def open_sockets(
    spec: Listener, seats: int, handed: Sequence[socket.socket] = ()
) -> list[socket.socket]:
    """Return the bound sockets of an address: one, or one for each process that accepts.

    Args:
        handed: open already, by whoever served before us; all of them are used, since clients
            may wait in each.

    Raises:
        OSError: the address is in use or not ours.
    """
    if spec.network == "unix" or seats == 1:
        return list(handed) or [open_socket(spec)]
    if handed and not all(_shares(sock) for sock in handed):
        return list(handed)  # all accept from the one queue
    if not handed:  # of the kernel's sharing nobody else is told: ask who else is there
        open_socket(spec).close()
    socks = list(handed)
    while len(socks) < seats:
        socks.append(open_socket(spec, shared=True))
    return socks


def _shares(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def open_socket(spec: Listener, *, shared: bool = False) -> socket.socket:
    """Return a bound socket for an address; `shared`: with others of ours. Raises OSError."""
    if spec.network == "unix":
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(spec.address).st_mode) and not _answers(spec.address):
                os.unlink(spec.address)
        return _bound(socket.AF_UNIX, spec.address)
    host, port = split_address(spec.address)
    if host:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _bound(family, address, shared=shared)
    try:  # every address of both families on one socket, as Go does
        return _bound(socket.AF_INET6, ("::", port), shared=shared)
    except OSError:
        return _bound(socket.AF_INET, ("0.0.0.0", port), shared=shared)  # noqa: S104  (what ":port" asks for)


def _bound(family: int, address: object, *, shared: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # inherited by what is accepted: a dead client is noticed (specs/vulcand.md §3.7)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 180)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")  # type: ignore[index]
        sock.setblocking(False)
        sock.bind(address)  # type: ignore[arg-type]
    except OSError:
        sock.close()
        raise
    return sock


def _answers(path: str) -> bool:
    """Say whether somebody still accepts on a socket file."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def close(plane: Plane, live: LiveListener) -> None:
    """Stop accepting; what is connected ends after its request, idle connections at once."""
    retire(plane, live)
    if plane.offers is not None:
        plane.offers.withdraw(live)
    for sock in live.socks:
        sock.close()
    live.socks = []


def retire(plane: Plane, live: LiveListener) -> None:
    """Accept no more here, but leave the sockets open for whoever accepts on them next."""
    live.closing = True
    plane.version += 1
    for server in (*live.servers, *(one for share in live.shares.values() for one in share)):
        server.close()
    live.shares = {}
    plane.retired.add(live)
    for client in tuple(live.clients):
        client.check(plane.now)
