# SPDX-License-Identifier: Apache-2.0
"""Connections to name servers over TCP, TLS and HTTPS: one question at a time, kept for the next."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from skydns.addresses import Server
from skydns.https import ALPN, Https


class Way(NamedTuple):
    """How servers are spoken to.

    Attributes:
        tcp: begin with TCP.
        context: for servers that speak TLS.
        source: address to ask from; "": the system's choice.
        expire: seconds a connection is kept for the next question; 0: not at all.
        idle: connections kept to one server; 0: any number.
        get: over HTTPS questions go by GET, not by POST.
    """

    tcp: bool = False
    context: ssl.SSLContext | None = None
    source: str = ""
    expire: float = 10.0
    idle: int = 0
    get: bool = False


class Line(Protocol):
    """A connection that one question at a time goes over."""

    @property
    def ended(self) -> bool:
        """Whether either side has closed it."""
        ...

    def close(self) -> None:
        """Close it."""
        ...

    async def exchange(self, octets: bytes) -> bytes:
        """Send a message and return the one that comes; a connection that failed is closed."""
        ...


class _Framed:
    """Messages with their length before them, over TCP or TLS (RFC 7766, 7858)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def ended(self) -> bool:
        """Whether either side has closed it."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        """Close it."""
        self._writer.close()

    async def exchange(self, octets: bytes) -> bytes:
        """Send a message and return the one that comes; a connection that failed is closed."""
        try:
            self._writer.write(len(octets).to_bytes(2, "big") + octets)
            size = int.from_bytes(await self._reader.readexactly(2), "big")
            return await self._reader.readexactly(size)
        except BaseException:
            self.close()
            raise


class _Idle(NamedTuple):
    line: Line
    ends: float


@dataclass(slots=True)
class Streams:
    """The connections that are kept.

    Attributes:
        reused, opened: questions by server over a connection that was there, and over a new one.
    """

    reused: Counter[Server] = field(default_factory=Counter)
    opened: Counter[Server] = field(default_factory=Counter)
    _idle: dict[Server, list[_Idle]] = field(default_factory=dict)

    async def ask(self, server: Server, octets: bytes, way: Way) -> bytes:
        """Return the message that answers a question.

        Raises:
            OSError, IncompleteReadError: there was none.
        """
        while (line := self._take(server)) is not None:
            try:
                found = await line.exchange(octets)
            except (OSError, asyncio.IncompleteReadError):
                continue  # it had ended meanwhile: as good as none
            self.reused[server] += 1
            self._keep(server, line, way)
            return found
        self.opened[server] += 1
        line = await _opened(server, way)
        found = await line.exchange(octets)
        self._keep(server, line, way)
        return found

    def _take(self, server: Server) -> Line | None:
        """Return the connection that was used last, if one is still good."""
        now = asyncio.get_running_loop().time()
        kept = self._idle.get(server, [])
        while kept:
            last = kept.pop()
            if last.ends > now and not last.line.ended:
                return last.line
            last.line.close()
        return None

    def _keep(self, server: Server, line: Line, way: Way) -> None:
        kept = self._idle.setdefault(server, [])
        if not way.expire or (way.idle and len(kept) >= way.idle):
            line.close()
            return
        loop = asyncio.get_running_loop()
        kept.append(_Idle(line, loop.time() + way.expire))
        loop.call_later(way.expire + 0.1, self._prune, server)

    def _prune(self, server: Server) -> None:
        """Close what nobody used in its time."""
        now = asyncio.get_running_loop().time()
        kept = self._idle.get(server, [])
        for each in kept:
            if each.ends <= now:
                each.line.close()
        self._idle[server] = [each for each in kept if each.ends > now]

    def close(self) -> None:
        """Close all."""
        for kept in self._idle.values():
            for each in kept:
                each.line.close()
        self._idle.clear()


async def _opened(server: Server, way: Way) -> Line:
    """Connect to a server.

    Raises:
        OSError: it cannot be reached, or does not speak HTTP/2.
    """
    context = way.context if server.tls else None
    named = server.name or server.host
    reader, writer = await asyncio.open_connection(
        server.host, server.port, ssl=context, server_hostname=named if context else None,
        local_addr=(way.source, 0) if way.source else None,
    )  # fmt: skip
    if not server.https:
        return _Framed(reader, writer)
    agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    if agreed != ALPN:
        writer.close()
        raise OSError(f"{server} does not speak HTTP/2")
    place = f"[{named}]" if ":" in named else named
    return Https(reader, writer, place if server.port == 443 else f"{place}:{server.port}", get=way.get)  # fmt: skip
