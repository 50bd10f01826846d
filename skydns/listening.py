# SPDX-License-Identifier: Apache-2.0
"""Which sockets are opened: the address, those that systemd passes, those that speak TLS."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Never

from fairlead import admin
from fairlead.errors import ConfigError
from skydns import addresses, sockets
from skydns.config import Config
from skydns.files import digest
from skydns.server import Server

if TYPE_CHECKING:
    import ssl

    from fairlead.runtime import Runtime
    from skydns.live import Live

_FIRST: Final = 3  # sd_listen_fds(3)
_SAID: Final = {"tls": "listening for TLS", "https": "listening for HTTPS"}


async def start(config: Config, runtime: Runtime, server: Server, live: Live) -> list[Server]:
    """Open the sockets and begin to answer; return the servers beside `server`.

    Raises:
        ConfigError: an address is taken or not ours, or systemd passed no socket.
    """
    others: list[Server] = []
    if config.systemd or (live.stored is not None and live.stored.systemd):
        for at, (udp, tcp) in enumerate(_passed(runtime)):
            one = server.sibling() if at else server
            await one.adopt(udp, tcp)
            others += [one] if at else []
    else:
        await server.listen(*live.address)
        for address in config.binds:
            one = server.sibling()
            await one.listen(address.host, address.port)
            others.append(one)
    for kind, address in _encrypted(config):
        context = _context(config, runtime, kind)
        port = await server.listen_encrypted(
            address.host, address.port, context, https=kind == "https"
        )
        runtime.log.info(_SAID[kind], address=f"{address.host}:{port}")
    return others


@dataclass(frozen=True, slots=True)
class Opened:
    """An address that workers answer on.

    Attributes:
        kind: dns, tls or https.
        sockets: of each worker, by its number; of dns UDP and TCP.
    """

    kind: str
    sockets: tuple[tuple[socket.socket, ...], ...]


def opened(config: Config, runtime: Runtime, live: Live, count: int) -> list[Opened]:
    """Open the sockets of so many workers; those that systemd passes are for all of them.

    Raises:
        ConfigError: as `start`.
    """
    found: list[Opened] = []
    if config.systemd or (live.stored is not None and live.stored.systemd):
        found += [Opened("dns", (tuple(filter(None, pair)),) * count) for pair in _passed(runtime)]
    else:
        both = (sockets.UDP, sockets.TCP)
        places = [live.address, *((each.host, each.port) for each in config.binds)]
        found += [
            Opened("dns", tuple(sockets.shared(both, host, port, "-addr", count)))
            for host, port in places
        ]
    for kind, address in _encrypted(config):
        made = sockets.shared((sockets.TCP,), address.host, address.port, f"-{kind}-addr", count)
        found.append(Opened(kind, tuple(made)))
        bound = made[0][0].getsockname()
        runtime.log.info(_SAID[kind], address=f"{bound[0]}:{bound[1]}")
    return found


async def adopt(
    config: Config,
    runtime: Runtime,
    server: Server,
    given: Iterable[tuple[str, Sequence[socket.socket]]],
) -> list[Server]:
    """Begin to answer on what the parent opened; return the servers beside `server`.

    Raises:
        ConfigError: a certificate cannot be used.
    """
    others: list[Server] = []
    taken = False
    for kind, some in given:
        if kind == "dns":
            one = server.sibling() if taken else server
            others += [one] if taken else []
            taken = True
            await one.adopt(
                next((sock for sock in some if sock.type == sockets.UDP), None),
                next((sock for sock in some if sock.type == sockets.TCP), None),
            )
        else:
            context = _context(config, runtime, kind)
            await server.adopt_encrypted(some[0], context, https=kind == "https")
    return others


def _encrypted(config: Config) -> Iterator[tuple[str, addresses.Server]]:
    """Yield where TLS and HTTPS are spoken."""
    if config.encrypted is not None:
        for kind, address in (("tls", config.encrypted.tls), ("https", config.encrypted.https)):
            if address is not None:
                yield kind, address


def _context(config: Config, runtime: Runtime, kind: str) -> ssl.SSLContext:
    """Return what TLS needs."""
    assert config.encrypted is not None  # noqa: S101  (`_encrypted` yielded this kind)
    protocols = ("dot",) if kind == "tls" else ("h2", "http/1.1")
    return config.encrypted.context(*protocols, failed=partial(_refused, runtime))


def _passed(runtime: Runtime) -> list[tuple[socket.socket | None, socket.socket | None]]:
    pairs = passed(runtime.environ)
    if not pairs:
        raise ConfigError("-systemd", "true", "start", "systemd passed no socket (LISTEN_FDS)")
    return pairs


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
    before = digest(path)
    while True:
        await asyncio.sleep(seconds)
        now = digest(path)
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
        sockets.whole(sock)
        place = found.setdefault(sock.getsockname()[:2], [None, None])
        place[sock.type == socket.SOCK_STREAM] = sock
    return [(udp, tcp) for udp, tcp in found.values()]
