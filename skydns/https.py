# SPDX-License-Identifier: Apache-2.0
"""Questions to name servers over HTTPS (RFC 8484): HTTP/2 by the library h2, one at a time."""

from __future__ import annotations

import asyncio
import base64
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

PATH: Final = "/dns-query"  # as CoreDNS, which knows no other
TYPE: Final = "application/dns-message"
ALPN: Final = "h2"
_MOST: Final = 65535


class Https:
    """One connection.

    Args:
        authority: whom requests are to.
        get: send questions by GET, not by POST.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        authority: str,
        *,
        get: bool,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._authority = authority
        self._get = get
        self._terminated = False
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self._h2.initiate_connection()

    @property
    def ended(self) -> bool:
        """Whether the server, or we, have closed it."""
        return self._terminated or self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        """Close it."""
        self._writer.close()

    async def exchange(self, octets: bytes) -> bytes:
        """Send a question and return what comes back; a connection that failed is closed.

        Raises:
            OSError: there was no answer, or another status than 200.
        """
        try:
            return await self._exchange(octets)
        except ProtocolError as error:
            self.close()
            raise OSError(f"HTTP/2: {error}") from error
        except BaseException:
            self.close()
            raise

    async def _exchange(self, octets: bytes) -> bytes:
        stream = self._h2.get_next_available_stream_id()
        fields = [(":authority", self._authority), (":scheme", "https"), ("accept", TYPE)]
        if self._get:
            text = base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
            self._h2.send_headers(
                stream, [(":method", "GET"), (":path", f"{PATH}?dns={text}"), *fields], end_stream=True
            )  # fmt: skip
            octets = b""
        else:
            length = ("content-length", str(len(octets)))
            self._h2.send_headers(
                stream,
                [(":method", "POST"), (":path", PATH), *fields, ("content-type", TYPE), length],
            )
        status, body, ended = "", bytearray(), False
        while not ended:
            octets = self._send(stream, octets)
            for event in await self._events():
                if isinstance(event, ConnectionTerminated):
                    self._terminated = True
                if isinstance(event, WindowUpdated) or getattr(event, "stream_id", 0) != stream:
                    continue
                if isinstance(event, ResponseReceived):
                    status = dict(event.headers).get(":status", "")
                elif isinstance(event, DataReceived):
                    self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
                    body += event.data
                elif isinstance(event, StreamReset):
                    raise OSError(f"HTTP/2: the stream was reset: {event.error_code}")
                ended |= isinstance(event, StreamEnded)
            if len(body) > _MOST:
                raise OSError("answers more than a message")
        await self._flush()
        if status != "200":
            raise OSError(f"answers HTTP status {status or 'none'}")
        return bytes(body)

    def _send(self, stream: int, octets: bytes) -> bytes:
        """Hand over what the server has room for of a request's body; return the rest."""
        if not octets:
            return b""
        size = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
        part, rest = octets[:size], octets[size:]
        if part:
            self._h2.send_data(stream, part, end_stream=not rest)
        return rest

    async def _events(self) -> list[Event]:
        """Return what comes next.

        Raises:
            OSError: nothing more does.
        """
        await self._flush()
        data = await self._reader.read(65536)
        if not data:
            raise OSError("the server has closed the connection")
        events: list[Event] = self._h2.receive_data(data)
        return events

    async def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._writer.write(data)
            await self._writer.drain()
