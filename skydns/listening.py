# SPDX-License-Identifier: Apache-2.0
"""Which sockets are opened: the address, those that systemd passes, those that speak TLS."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never

from fairlead import admin
from fairlead.errors import ConfigError
from skydns.config import Config
from skydns.server import Server

if TYPE_CHECKING:
    from fairlead.runtime import Runtime
    from skydns.live import Live

_FIRST: Final = 3  # sd_listen_fds(3)


async def start(config: Config, runtime: Runtime, server: Server, live: Live) -> list[Server]:
    """Open the sockets and begin to answer; return the servers beside `server`.

    Raises:
        ConfigError: an address is taken or not ours, or systemd passed no socket.
    """
    others: list[Server] = []
    stored = live.stored
    if config.systemd or (stored is not None and stored.systemd):
        pairs = passed(runtime.environ)
        if not pairs:
            raise ConfigError("-systemd", "true", "start", "systemd passed no socket (LISTEN_FDS)")
        for at, (udp, tcp) in enumerate(pairs):
            one = Server(server.answers, server.forwarder, server.limits) if at else server
            if at:
                one.transfers, one.log, one.limiter = server.transfers, server.log, server.limiter
                one.screen, one.rewriter = server.screen, server.rewriter
            await one.adopt(udp, tcp)
            others += [one] if at else []
    else:
        await server.listen(*live.address)
        for address in config.binds:
            one = Server(server.answers, server.forwarder, server.limits)
            one.transfers, one.log, one.limiter = server.transfers, server.log, server.limiter
            one.screen, one.rewriter = server.screen, server.rewriter
            await one.listen(address.host, address.port)
            others.append(one)
    encrypted = config.encrypted
    if encrypted is not None:
        runtime.certificates(encrypted.cert)
        failed = partial(_refused, runtime)
        if encrypted.tls is not None:
            context = encrypted.context("dot", failed=failed)
            port = await server.listen_encrypted(*encrypted.tls[:2], context, https=False)
            runtime.log.info("listening for TLS", address=f"{encrypted.tls.host}:{port}")
        if encrypted.https is not None:
            context = encrypted.context("h2", "http/1.1", failed=failed)
            port = await server.listen_encrypted(*encrypted.https[:2], context, https=True)
            runtime.log.info("listening for HTTPS", address=f"{encrypted.https.host}:{port}")
    return others


def _refused(runtime: Runtime, error: ConfigError) -> None:
    """Log that new certificate files cannot be used."""
    runtime.log.warning("new certificate not used, the old one stays", reason=str(error))


async def metrics(config: Config, runtime: Runtime) -> list[admin.Listener]:
    """Serve the metrics where the configuration wants them beside the admin socket.

    Raises:
        ConfigError: an address is taken or not ours.
    """
    found = []
    for host, port, path in config.metrics.addresses:
        page = runtime.routes["GET", "/metrics"]
        listener = admin.Listener({("GET", path): page}, read_only=True)
        try:
            await listener.listen_tcp(host, port)
        except OSError as error:
            raise ConfigError("-prometheus-port", f"{host}:{port}", "start", str(error)) from error
        found.append(listener)
    for kind, host, port in config.pages:
        listener = admin.Listener({("GET", f"/{kind}"): _page(kind, runtime)}, read_only=True)
        try:
            await listener.listen_tcp(host, port)
        except OSError as error:
            raise ConfigError("-conf", f"{kind} {host}:{port}", "start", str(error)) from error
        found.append(listener)
    return found


def _page(kind: str, runtime: Runtime) -> admin.Route:
    """Return CoreDNS's page of liveness or readiness (specs/skydns.md §14.3)."""

    async def page() -> admin.Answer:
        if kind == "health" or runtime.health.ready:
            return admin.text(200, "OK")
        return admin.text(503, ",".join(condition.name for condition in runtime.health.missing()))

    return page


async def watch_file(path: str, seconds: float) -> Never:
    """Look whether a file that settings come from has changed; have all read anew, as by SIGHUP."""

    def digest() -> bytes:
        try:
            return hashlib.sha512(Path(path).read_bytes()).digest()
        except OSError:
            return b""

    before = digest()
    while True:
        await asyncio.sleep(seconds)
        now = digest()
        if now and now != before:
            before = now
            os.kill(os.getpid(), signal.SIGHUP)


def passed(
    environ: Mapping[str, str],
) -> list[tuple[socket.socket | None, socket.socket | None]]:
    """Return the sockets that systemd passed: UDP and TCP of one address together."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    found: dict[tuple[str, int], list[socket.socket | None]] = {}
    for number in range(_FIRST, _FIRST + int(environ.get("LISTEN_FDS", "0"))):
        sock = socket.socket(fileno=number)
        sock.set_inheritable(False)
        place = found.setdefault(sock.getsockname()[:2], [None, None])
        place[sock.type == socket.SOCK_STREAM] = sock
    return [(udp, tcp) for udp, tcp in found.values()]
