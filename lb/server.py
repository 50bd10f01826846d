# SPDX-License-Identifier: Apache-2.0
"""Sockets to listen on: opened, closed and drained."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from typing import Final

from fairlead.errors import ActionError
from lb.plane import LiveListener, Plane
from lb.proxy import Client
from lb.records import split_address
from lb.state import Listener

_BACKLOG: Final = 4096


async def listen(plane: Plane, spec: Listener, action: object) -> LiveListener:
    """Open a socket and accept on it.

    Raises:
        ActionError: the address is in use or not ours.
    """
    live = LiveListener(spec)
    try:
        live.server = await plane.loop.create_server(
            lambda: Client(plane, live), sock=_open(spec), backlog=_BACKLOG
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise ActionError(action, f'listener "{spec.id}" on {spec.address}: {reason}') from error
    return live


def _open(spec: Listener) -> socket.socket:
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
        return _bound(family, address)
    try:  # every address of both families on one socket, as Go does
        return _bound(socket.AF_INET6, ("::", port))
    except OSError:
        return _bound(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104  (what ":port" asks for)


def _bound(family: int, address: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
    live.closing = True
    if live.server is not None:
        live.server.close()
    plane.retired.add(live)
    for client in tuple(live.clients):
        client.check(plane.now)
