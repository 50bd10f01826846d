# SPDX-License-Identifier: Apache-2.0
"""A new connection to a server, or a new stream on the one there is."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

from lb import proxyheader
from lb.http2.servers import Mux
from lb.upstream import Upstream

if TYPE_CHECKING:
    from lb.liveserver import LiveServer
    from lb.sides import Surroundings


async def connect(
    plane: Surroundings, server: LiveServer, client: asyncio.BaseTransport
) -> Upstream:
    """Open a connection to a server.

    Args:
        client: whose connection a PROXY header names, where the backend asks for one.

    Raises:
        TimeoutError: it did not answer within the dial timeout.
        OSError: it refused, its name does not resolve, or TLS failed.
    """
    pool = server.pool.spec
    spec = server.spec
    policy = server.pool.policy
    tls = plane.contexts.client(pool) if spec.tls and pool and plane.contexts else None
    if spec.tls and tls is None:
        raise OSError("no TLS settings for this server")
    made: dict[str, Any] = {}
    if tls is not None:
        made.update(ssl=tls, server_hostname=spec.host)
        if pool is not None and pool.handshake_timeout:
            made["ssl_handshake_timeout"] = pool.handshake_timeout
    if policy.http2:
        while server.mux_coming is not None:  # one connection for all who ask at once
            await asyncio.wait([server.mux_coming])
        if server.mux is not None and server.mux.usable:
            return _on_stream(plane, server)
        server.mux_coming = plane.loop.create_future()
        if tls is not None:
            tls.set_alpn_protocols(["h2"])

    def make() -> asyncio.BaseProtocol:
        return Mux(plane.loop) if policy.http2 else Upstream(plane, server)

    try:
        async with asyncio.timeout(pool.dial_timeout if pool else 5.0) as patience:
            if policy.send_proxy or tls is not None:
                made["sock"] = await _introduced(plane, server, client)
            else:
                made["host"], made["port"] = spec.host, spec.port
            if tls is not None:
                patience.reschedule(None)  # the handshake has a limit of its own
            transport, made_of = await plane.loop.create_connection(make, **made)
    finally:
        if server.mux_coming is not None:
            coming, server.mux_coming = server.mux_coming, None
            coming.set_result(None)
    if isinstance(made_of, Mux):
        tls_object = transport.get_extra_info("ssl_object")
        if tls_object is not None and tls_object.selected_alpn_protocol() != "h2":
            transport.abort()
            raise OSError("the server does not speak HTTP/2")
        if server.mux is not None:
            server.mux.retire()
        server.mux = made_of
        if server.gone:
            made_of.over = True
        upstream = _on_stream(plane, server)
    else:
        upstream = cast(Upstream, made_of)
        upstream.single = bool(policy.send_proxy)
    sock = transport.get_extra_info("socket")
    if pool is not None and sock is not None:
        period = max(1, int(pool.keepalive))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, period)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, period)
    return upstream


def _on_stream(plane: Surroundings, server: LiveServer) -> Upstream:
    """Return an upstream that is one stream of the server's HTTP/2 connection."""
    upstream = Upstream(plane, server)
    upstream.single = True
    upstream.connection_made(server.mux.stream(upstream))
    return upstream


async def _introduced(
    plane: Surroundings, server: LiveServer, client: asyncio.BaseTransport
) -> socket.socket:
    """Return a connected socket, on which the PROXY header has been sent if one is wanted."""
    found = await plane.loop.getaddrinfo(
        server.spec.host, server.spec.port, type=socket.SOCK_STREAM
    )
    family, kind, _, _, address = found[0]
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        await plane.loop.sock_connect(sock, address)
        if server.pool.policy.send_proxy:
            header = proxyheader.encode(
                server.pool.policy.send_proxy,
                client.get_extra_info("peername"),
                client.get_extra_info("sockname"),
            )
            await plane.loop.sock_sendall(sock, header)
    except BaseException:
        sock.close()
        raise
    return sock
