# SPDX-License-Identifier: Apache-2.0
"""What a user of the cluster does: ask for names, fetch pages, and go on doing so under load.

Everything here runs in our own process, which lies in the demo's root network, so that a moment
can be taken to the millisecond; `dig`, `ping` and `getent` are run as programs by the story.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import cast

from dnslib import QTYPE, RCODE, DNSRecord

from fairlead.demo.report import Failed

POLL = 0.002  # seconds between looks: the resolution of the figures


@dataclass(frozen=True, slots=True)
class Place:
    """An address and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Resolver(asyncio.DatagramProtocol):
    """Asks one DNS server over UDP."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: dict[int, asyncio.Future[DNSRecord]] = {}
        self._ids = itertools.count(1)

    @classmethod
    async def open(cls, server: Place) -> Resolver:
        """Open a socket to the server."""
        loop = asyncio.get_running_loop()
        address = (server.host, server.port)
        _, protocol = await loop.create_datagram_endpoint(cls, remote_addr=address)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Give an answer to who asked."""
        answer = DNSRecord.parse(data)
        waiting = self._waiting.pop(answer.header.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        """Tell those who wait: nobody listens there."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Failed(f"DNS: {exc}"))

    async def ask(self, name: str, kind: str = "A", timeout: float = 1.0) -> list[str]:
        """Return the answer's data as text, sorted; NXDOMAIN and no data are an empty list.

        Raises:
            Failed: no answer in time, or another rcode than NOERROR and NXDOMAIN.
        """
        if self._transport is None:
            raise Failed("the resolver is closed")
        question = DNSRecord.question(name, kind)
        question.header.id = number = next(self._ids) & 0xFFFF
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            self._transport.sendto(question.pack())
            async with asyncio.timeout(timeout):
                answer = await waiting
        except TimeoutError:
            raise Failed(f"DNS: no answer for {name} {kind} within {timeout:g} s") from None
        finally:
            self._waiting.pop(number, None)
        rcode = RCODE.get(answer.header.rcode)
        if rcode not in ("NOERROR", "NXDOMAIN"):
            raise Failed(f"DNS: {rcode} for {name} {kind}")
        wanted = getattr(QTYPE, kind)
        return sorted(str(record.rdata) for record in answer.rr if record.rtype == wanted)

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


async def fetch(server: Place, host: str, path: str = "/", timeout: float = 5.0) -> str:
    """Fetch one page over a connection of its own and return its body.

    Raises:
        Failed: no whole answer in time, or another status than 200.
    """
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            try:
                request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                answer = await reader.read()
            finally:
                writer.close()
    except TimeoutError:
        raise Failed(f"HTTP: no answer from {server} within {timeout:g} s") from None
    except OSError as error:
        raise Failed(f"HTTP: {server}: {error.strerror or error}") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].decode(errors="replace")
    if status.split(" ")[1:2] != ["200"]:
        raise Failed(f'HTTP: {server} answered "{status}"')
    if b"transfer-encoding: chunked" in head.lower():
        return _unchunk(body).decode()
    return body.decode()


def _unchunk(body: bytes) -> bytes:
    parts: list[bytes] = []
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length:
            return b"".join(parts)
        parts.append(rest[:length])
        body = rest[length + 2 :]


async def until(
    holds: Callable[[], Awaitable[bool]], what: str, timeout: float = 15.0, poll: float = POLL
) -> float:
    """Look until `holds`; return the loop's time at which it did.

    A `Failed` within is a "not yet": things are being started.

    Raises:
        Failed: it did not hold within `timeout` seconds.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    last = ""
    while True:
        try:
            if await holds():
                return loop.time()
        except Failed as error:
            last = f"; {error}"
        if loop.time() >= end:
            raise Failed(f"{what}: not within {timeout:g} s{last}")
        await asyncio.sleep(poll)


@dataclass(slots=True)
class Load:
    """Requests one after the other, all the time; counts what failed.

    Attributes:
        each: makes one request; raises Failed when it failed.
        pause: seconds between two.
    """

    each: Callable[[], Awaitable[object]]
    pause: float = 0.005
    done: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Load:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="load")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begin = loop.time()
            try:
                await self.each()
            except Failed as error:
                self.failures.append(str(error))
            self.done += 1
            self.slowest = max(self.slowest, loop.time() - begin)
            await asyncio.sleep(self.pause)
