# SPDX-License-Identifier: Apache-2.0
"""One HTTP/2 connection: frames in and out, windows, floods, the end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, RemoteSettingsChanged, StreamReset, WindowUpdated
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from lb.http2.stream import Stream

_STREAMS: Final = 128
_WINDOW: Final = 1 << 20
_HEADERS: Final = 64 << 10
_CONTROL: Final = 2000  # frames that carry nothing, between two looks of the sweep


class Session(asyncio.Protocol):
    """One HTTP/2 connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, client_side: bool) -> None:
        self.loop = loop
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.conn = H2Connection(H2Configuration(client_side=client_side, header_encoding=None))
        values = {
            SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: _HEADERS,
        }
        if client_side:
            values[SettingCodes.ENABLE_PUSH] = 0
        self.conn.local_settings = Settings(client=client_side, initial_values=values)
        self.streams: dict[int, Stream] = {}
        self.control = 0
        self.over = False  # no new streams

    def open(self, transport: asyncio.Transport) -> None:
        """Begin to speak."""
        self.transport = transport
        self.conn.initiate_connection()
        self.conn.increment_flow_control_window(_WINDOW)
        self.flush()

    def flush(self) -> None:
        """Write what `h2` has made."""
        data = self.conn.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def acknowledge(self, size: int, number: int) -> None:
        """Open the peer's window again."""
        if size:
            try:
                self.conn.acknowledge_received_data(size, number)
            except H2Error:  # the stream is closed; the connection's window was opened by h2
                return
            self.flush()

    def reset(self, number: int, code: ErrorCodes) -> None:
        """Take a stream back."""
        try:
            self.conn.reset_stream(number, code)
        except H2Error:  # closed already
            return
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Every stream is over."""
        self._lose(exc)

    def _lose(self, exc: Exception | None) -> None:
        self.over = True
        for stream in tuple(self.streams.values()):
            stream.lost(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        """Take in frames."""
        try:
            events = self.conn.receive_data(data)
        except H2Error:  # a connection error: h2 has the GOAWAY ready, and speaks no more
            self.flush()
            self.transport.close()
            self._lose(ConnectionResetError())
            return
        for event in events:
            self.happened(event)
            if self.control > _CONTROL:
                self.end(ErrorCodes.ENHANCE_YOUR_CALM)
                return
        self.flush()

    def happened(self, event: Event) -> None:
        """Act on an event; subclasses take those of messages."""
        if isinstance(event, WindowUpdated | RemoteSettingsChanged):
            self.control += 1
            for stream in tuple(self.streams.values()):
                if stream.out and event_is_for(event, stream.number):
                    stream.flush()
        elif isinstance(event, StreamReset):
            taken = self.streams.get(event.stream_id or 0)
            if taken is not None:
                taken.lost(ConnectionResetError())
        elif isinstance(event, ConnectionTerminated):
            self.over = True
            if not self.streams:
                self.transport.close()
        else:  # pings, acknowledgements, priorities, frames of no known type
            self.control += 1

    def end(self, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Say goodbye and close."""
        self.over = True
        if self.transport.is_closing():
            return
        with suppress(H2Error):  # said already
            self.conn.close_connection(code)
        self.flush()
        self.transport.close()


def event_is_for(event: Event, number: int) -> bool:
    """Say whether a window's change may let a stream go on."""
    return not isinstance(event, WindowUpdated) or event.stream_id in (0, number)
