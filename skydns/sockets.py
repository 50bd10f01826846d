# SPDX-License-Identifier: Apache-2.0
"""Bound sockets: one of a kind, or one for each worker with SO_REUSEPORT."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import Final

from fairlead.errors import ConfigError

_BUFFER: Final = (
    1 << 20
)  # octets of queued queries and replies: what comes while a change is applied
BACKLOG: Final = 1024
_IP_MTU_DISCOVER: Final = 10  # Linux's numbers; Python has no names for them
_IPV6_MTU_DISCOVER: Final = 23
_OMIT: Final = 5
_TRIES: Final = 8  # the kernel's next free UDP port may be somebody's of TCP

UDP: Final = socket.SOCK_DGRAM
TCP: Final = socket.SOCK_STREAM


def bound(
    kind: socket.SocketKind, host: str, port: int, flag: str = "-addr", *, shared: bool = False
) -> socket.socket:
    """Return a bound, non-blocking socket; one of TCP listens.

    Args:
        port: 0: a free one.
        flag: what an error names.
        shared: others of ours are bound to the same address, and the kernel deals out.

    Raises:
        ConfigError: the address is not ours, or is taken.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    try:
        sock.setblocking(False)
        if kind == UDP:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            whole(sock)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        if kind == TCP:
            sock.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        reason = f"cannot listen: {error}; is another name server running, or root needed?"
        raise ConfigError(flag, f"{host}:{port}", "start", reason) from error
    return sock


def pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a TCP socket on one port; of port 0 on one that is free for both.

    Raises:
        ConfigError: as `bound`.
    """
    tries = 1 if port else _TRIES
    while True:
        udp = bound(UDP, host, port)
        try:
            return udp, bound(TCP, host, udp.getsockname()[1])
        except ConfigError:
            udp.close()
            tries -= 1
            if not tries:
                raise


def whole(sock: socket.socket) -> None:
    """Have replies by UDP leave in one piece, whatever anybody says of the path (RFC 9715 §3.1)."""
    six = sock.family == socket.AF_INET6
    if sock.type != UDP or not sys.platform.startswith("linux"):
        return
    with suppress(
        OSError
    ):  # a sandbox's kernel may not know it; 1232 octets pass nearly everywhere
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _OMIT)  # of IPv4 on [::] too
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _OMIT)


def shared(
    kinds: tuple[socket.SocketKind, ...], host: str, port: int, flag: str, count: int
) -> list[tuple[socket.socket, ...]]:
    """Return `count` sockets of each kind on one address.

    Raises:
        ConfigError: as `bound`; also when somebody else shares the address already.
    """
    for kind in kinds:  # whoever is bound with SO_REUSEPORT would be joined without a word
        with bound(kind, host, port, flag) as alone:
            port = alone.getsockname()[1]
    return [
        tuple(bound(kind, host, port, flag, shared=True) for kind in kinds) for _ in range(count)
    ]
