# SPDX-License-Identifier: Apache-2.0
"""DNS over HTTPS (RFC 8484): GET and POST at /dns-query, HTTP/2 by the library h2, and HTTP/1.1.

Status as CoreDNS's: 404 for another path, 400 for what is no query; `Cache-Control: max-age` is
the least TTL of the answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from skydns import cache, message
from skydns.cache import Bounds

PATH: Final = "/dns-query"
TYPE: Final = "application/dns-message"
IDLE: Final = 10.0
_MOST: Final = 65535
_HEAD: Final = 16384

Answering = Callable[[bytes], Awaitable[bytes | None]]
"""Takes a query's octets; None: there is no reply to such a thing."""


@dataclass(slots=True)
class Request:
    """One request, as far as it is here."""

    method: str = ""
    path: str = ""
    kind: str = ""
    body: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]


async def respond(request: Request, answering: Answering, statuses: Counter[int]) -> Response:
    """Return the response to a request, and count its status."""
    response = await _response(request, answering)
    statuses[response.status] += 1
    return response


async def _response(request: Request, answering: Answering) -> Response:
    path, _, query = request.path.partition("?")
    if path != PATH:
        return _plain(404, "not found")
    if request.method == "POST":
        if request.kind.partition(";")[0].strip().lower() != TYPE:
            return _plain(415, f"the content type is {TYPE}")
        data = bytes(request.body)
    elif request.method == "GET":
        text = parse_qs(query).get("dns", [""])[0]
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            return _plain(400, "dns is not base64url")
    else:
        return _plain(405, "GET or POST")
    if len(data) < message.HEADER or len(data) > _MOST:
        return _plain(400, "no DNS message")
    reply = await answering(data)
    if reply is None:
        return _plain(400, "no DNS query")
    found = cache.lifetime(reply, Bounds(positive=2**31, negative=2**31, failure=0))
    headers = (("content-type", TYPE), ("cache-control", f"max-age={found[0] if found else 0}"))
    return Response(200, reply, headers)


def _plain(status: int, text: str) -> Response:
    return Response(status, f"{text}\n".encode(), (("content-type", "text/plain"),))


async def converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answering: Answering,
    statuses: Counter[int],
) -> None:
    """Serve one connection, by the protocol that TLS agreed on."""
    tls = writer.get_extra_info("ssl_object")
    if tls is not None and tls.selected_alpn_protocol() == "h2":
        await _Http2(reader, writer, answering, statuses).run()
    else:
        await _http1(reader, writer, answering, statuses)


async def _http1(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answering: Answering,
    statuses: Counter[int],
) -> None:
    """Serve HTTP/1.1: one request after the other."""
    while True:
        async with asyncio.timeout(IDLE):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                return
            line, *rest = head.decode("latin-1").split("\r\n")
            words = line.split(" ")
            fields = {
                name.strip().lower(): value.strip()
                for name, colon, value in (each.partition(":") for each in rest)
                if colon
            }
            length = fields.get("content-length", "0")
            if (
                len(words) != 3
                or not words[2].startswith("HTTP/1.")
                or "transfer-encoding" in fields
                or not length.isdecimal()
                or int(length) > _MOST
            ):
                response, last = _plain(400, "bad request"), True
            else:
                request = Request(words[0], words[1], fields.get("content-type", ""))
                request.body += await reader.readexactly(int(length))
                response = await respond(request, answering, statuses)
                last = fields.get("connection", "").lower() == "close" or words[2] == "HTTP/1.0"
            headers = (*response.headers, ("content-length", str(len(response.body))))
            shown = "".join(f"{name}: {value}\r\n" for name, value in headers)
            closing = "connection: close\r\n" if last else ""
            status = f"HTTP/1.1 {response.status} {'OK' if response.status == 200 else 'Error'}\r\n"
            writer.write(f"{status}{shown}{closing}\r\n".encode() + response.body)
            await writer.drain()
            if last:
                return


class _Http2:
    """One HTTP/2 connection; requests are answered as they come, out of order."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answering: Answering,
        statuses: Counter[int],
    ) -> None:
        self._statuses = statuses
        self._reader = reader
        self._writer = writer
        self._answering = answering
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self._requests: dict[int, Request] = {}
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Serve until either side ends."""
        self._h2.initiate_connection()
        await self._flush()
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    async with asyncio.timeout(IDLE):
                        data = await self._reader.read(65536)
                    events = self._h2.receive_data(data) if data else []
                except (OSError, TimeoutError, ProtocolError):
                    break
                for event in events:
                    if isinstance(event, StreamEnded) and event.stream_id in self._requests:
                        request = self._requests.pop(event.stream_id)
                        group.create_task(self._answer(event.stream_id, request))
                    else:
                        self._take(event)
                if not data or any(isinstance(event, ConnectionTerminated) for event in events):
                    break
                await self._flush()
            self._room.set()
        await self._flush()

    def _take(self, event: object) -> None:
        """Put one event where it belongs."""
        if isinstance(event, RequestReceived):
            headers = dict(event.headers)
            self._requests[event.stream_id] = Request(
                headers.get(":method", ""),
                headers.get(":path", ""),
                headers.get("content-type", ""),
            )
        elif isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            request = self._requests.get(event.stream_id)
            if request is not None and len(request.body) <= _MOST:
                request.body += event.data
        elif isinstance(event, StreamReset):
            self._requests.pop(event.stream_id, None)
            self._room.set()
        elif isinstance(event, WindowUpdated):
            self._room.set()

    async def _answer(self, stream: int, request: Request) -> None:
        response = await respond(request, self._answering, self._statuses)
        headers = [
            (":status", str(response.status)), *response.headers, ("content-length", str(len(response.body)))
        ]  # fmt: skip
        try:
            self._h2.send_headers(stream, headers)
            body = response.body
            while body:
                size = min(
                    self._h2.local_flow_control_window(stream),
                    self._h2.max_outbound_frame_size,
                    len(body),
                )
                if size:
                    self._h2.send_data(stream, body[:size])
                    body = body[size:]
                else:
                    self._room.clear()
                    await self._flush()
                    async with asyncio.timeout(IDLE):
                        await self._room.wait()
            self._h2.end_stream(stream)
            await self._flush()
        except (OSError, TimeoutError, ProtocolError):
            return  # the client took the stream back, or went

    async def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._writer.write(data)
            await self._writer.drain()
