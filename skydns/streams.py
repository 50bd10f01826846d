# SPDX-License-Identifier: Apache-2.0
"""Connections to name servers over TCP and TLS: one question at a time, kept for the next."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from skydns.addresses import Server


class Way(NamedTuple):
    """How servers are spoken to.

    Attributes:
        tcp: begin with TCP.
        context: for servers that speak TLS.
        source: address to ask from; "": the system's choice.
        expire: seconds a connection is kept for the next question; 0: not at all.
        idle: connections kept to one server; 0: any number.
    """

    tcp: bool = False
    context: ssl.SSLContext | None = None
    source: str = ""
    expire: float = 10.0
    idle: int = 0


class _Idle(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
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
        while (kept := self._take(server)) is not None:
            try:
                found = await _exchange(kept.reader, kept.writer, octets)
            except (OSError, asyncio.IncompleteReadError):
                continue  # it had ended meanwhile: as good as none
            self.reused[server] += 1
            self._keep(server, kept.reader, kept.writer, way)
            return found
        self.opened[server] += 1
        context = way.context if server.tls else None
        reader, writer = await asyncio.open_connection(
            server.host, server.port, ssl=context,
            server_hostname=(server.name or server.host) if context else None,
            local_addr=(way.source, 0) if way.source else None,
        )  # fmt: skip
        found = await _exchange(reader, writer, octets)
        self._keep(server, reader, writer, way)
        return found

    def _take(self, server: Server) -> _Idle | None:
        """Return the connection that was used last, if one is still good."""
        now = asyncio.get_running_loop().time()
        kept = self._idle.get(server, [])
        while kept:
            last = kept.pop()
            if last.ends > now and not last.reader.at_eof() and not last.writer.is_closing():
                return last
            last.writer.close()
        return None

    def _keep(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
    ) -> None:
        kept = self._idle.setdefault(server, [])
        if not way.expire or (way.idle and len(kept) >= way.idle):
            writer.close()
            return
        loop = asyncio.get_running_loop()
        kept.append(_Idle(reader, writer, loop.time() + way.expire))
        loop.call_later(way.expire + 0.1, self._prune, server)

    def _prune(self, server: Server) -> None:
        """Close what nobody used in its time."""
        now = asyncio.get_running_loop().time()
        kept = self._idle.get(server, [])
        for each in kept:
            if each.ends <= now:
                each.writer.close()
        self._idle[server] = [each for each in kept if each.ends > now]

    def close(self) -> None:
        """Close all."""
        for kept in self._idle.values():
            for each in kept:
                each.writer.close()
        self._idle.clear()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, octets: bytes
) -> bytes:
    """Send a message and return the one that comes; a connection that failed is closed."""
    try:
        writer.write(len(octets).to_bytes(2, "big") + octets)
        size = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(size)
    except BaseException:
        writer.close()
        raise
