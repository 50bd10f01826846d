# SPDX-License-Identifier: Apache-2.0
"""What grpclib does not do by itself, taught to it (specs/etcd.md §4).

* It closes a suspect transport politely: with bytes unsent, or under TLS, that waits for the
  frozen peer (30 s). `Protocol` aborts.
* It takes a TCP connect for a usable server; a frozen process accepts too. `Protocol.heard` is
  set by the first bytes of the server (its SETTINGS frame).
* It wakes waiting calls by cancelling their task and swallows that cancellation, which leaves
  `task.cancelling()` raised: a later `asyncio.timeout` around would end in CancelledError
  instead of TimeoutError. `Wrapper` takes it back, and keeps a real cancellation real.
* It reads a message of any announced size; `Call` has a limit.
* It connects again by itself; a `Transport` connects once in its life.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import struct
from types import TracebackType
from typing import Any, TypeVar, cast

import grpclib.client
from google.protobuf.message import Message
from grpclib.config import Configuration
from grpclib.protocol import H2Protocol
from h2.events import ConnectionTerminated

from fairlead.errors import ConfigError
from fairlead.etcd.errors import TLSFailed, TooLarge, Unavailable
from fairlead.etcd.options import Options
from fairlead.tls import client_context

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

WINDOW = 8 << 20  # bytes, stream and connection each (§4.1)
MIN_PING = 5.0  # seconds; etcd answers anything more often with "too_many_pings" (§4.4)
_jitter = random.Random().uniform  # noqa: S311  (spreads load; guards nothing)


def tls_context(options: Options) -> ssl.SSLContext:
    """Return a context from the files as they are now: a rotated certificate is picked up.

    Raises:
        TLSFailed: a file cannot be read or is not what it should be.
    """
    try:
        context = client_context(
            options.ca, options.cert, options.key, verify=not options.insecure_skip_verify
        )
    except ConfigError as error:
        raise TLSFailed(f'{error.setting} "{error.value}": {error.reason}') from error
    context.set_alpn_protocols(["h2"])
    return context


class Wrapper:
    """grpclib's way to wake the tasks of one stream, with the cancellation taken back."""

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._tasks: dict[asyncio.Task[object], int] = {}  # task → its cancelling() at entry
        self._hit: set[asyncio.Task[object]] = set()

    def __enter__(self) -> None:
        if self._error is not None:
            raise self._error
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (coroutines run in tasks)
        self._tasks[task] = task.cancelling()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        before = self._tasks.pop(task)
        if self._error is None:
            return
        if task in self._hit:
            self._hit.discard(task)
            if task.uncancel() > before and isinstance(value, asyncio.CancelledError):
                return  # somebody else wants this task to end, too
        raise self._error

    def cancel(self, error: Exception) -> None:
        """End what the stream's tasks wait for with `error`."""
        if self._error is None:
            self._error = error
        for task in self._tasks:
            if task not in self._hit:
                self._hit.add(task)
                task.cancel()


class Call(grpclib.client.Stream[Request, Response]):
    """A stream that wakes its tasks by `Wrapper` and limits the size of a message."""

    max_message: int

    async def __aenter__(self) -> Call[Request, Response]:
        await super().__aenter__()
        self._wrapper = Wrapper()  # type: ignore[assignment]  # same three methods
        return self

    async def recv_message(self) -> Response | None:
        """Return the next message, or None at the end."""
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        with self._wrapper:
            head = await self._stream.recv_data(5)
            if not head:
                return None
            flag, size = struct.unpack("!BI", head)
            if flag:
                raise Unavailable("the server compresses its answers; nobody asked for that")
            if size > self.max_message:
                raise TooLarge(f"an answer of {size} bytes; at most {self.max_message} are read")
            body = await self._stream.recv_data(size)
            return cast(Response, self._codec.decode(body, self._recv_type))


class Protocol(H2Protocol):
    """An HTTP/2 connection that tells when it first heard of the server, and why it ended."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.heard = asyncio.Event()
        self.ended: str = ""
        self.last_stream: int | None = None  # GOAWAY: streams above it did nothing
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make closing an abort, and listen for GOAWAY."""
        super().connection_made(transport)
        polite = self.connection.close

        def close() -> None:
            cast(asyncio.Transport, transport).abort()
            polite()

        self.connection.close = close  # type: ignore[method-assign]
        processors = self.processor.processors
        terminated = self.processor.process_connection_terminated

        def goaway(event: ConnectionTerminated) -> None:
            self.last_stream = event.last_stream_id
            said = (event.additional_data or b"").decode("ascii", "replace")
            self.ended = f"GOAWAY code {event.error_code} {said}".rstrip()
            terminated(event)

        processors[ConnectionTerminated] = goaway

    def check(self) -> None:
        """Raise what ended the connection, if it has ended."""
        if self.ended:
            raise self.error or ConnectionResetError(self.ended)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; the first say that the server turns."""
        self.heard.set()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Keep the reason."""
        if isinstance(exc, Exception):
            self.error = exc
        if not self.ended:
            self.ended = str(exc) if exc else "closed by the server, or no answer to a ping"
        self.heard.set()
        super().connection_lost(exc)


class Transport(grpclib.client.Channel):
    """grpclib's channel, held to one connection in its life."""

    def _protocol_factory(self) -> H2Protocol:
        return Protocol(grpclib.client.Handler(), self._config, self._h2_config)

    async def _create_connection(self) -> H2Protocol:
        if self._path is not None or self._ssl is not None:
            return await super()._create_connection()
        # a host with several addresses is tried on all of them, 250 ms apart (§5.2); uvloop
        # does not know that setting and tries them one after the other
        eyes = isinstance(self._loop, asyncio.BaseEventLoop)
        extra: dict[str, Any] = {"happy_eyeballs_delay": 0.25} if eyes else {}
        _, protocol = await self._loop.create_connection(
            self._protocol_factory, self._host, self._port, **extra
        )
        return protocol

    async def __connect__(self) -> H2Protocol:
        if self._protocol is None:
            self._protocol = await self._create_connection()
        if not self._connected:
            raise ConnectionResetError(cast(Protocol, self._protocol).ended or "closed")
        return self._protocol


def configuration(options: Options) -> Configuration:
    """Return windows and pings; the underscored settings are the only way (tests see them act)."""
    every = options.ping_every * _jitter(0.9, 1.1)  # a fleet must not ping in step
    return Configuration(
        http2_connection_window_size=WINDOW,
        http2_stream_window_size=WINDOW,
        ssl_target_name_override=options.server_name or None,
        _keepalive_time=every,
        _keepalive_timeout=options.ping_timeout,
        _keepalive_permit_without_calls=False,
        _http2_max_pings_without_data=0,
        _http2_min_sent_ping_interval_without_data=min(MIN_PING, 0.5 * every),
    )


def tls_reason(error: ssl.SSLError | ssl.CertificateError, options: Options) -> str:
    """Return what the operator has to mend (§4.2)."""
    text = str(error).lower()
    refused = "bad certificate" in text or "bad_certificate" in text
    # servers built with an older Go say "bad certificate" for none at all (seen: etcd 3.4.23)
    if "certificate required" in text or (refused and not options.cert):
        return f"the server asks for a client certificate: give cert and key ({error})"
    if refused or "unknown ca" in text:
        return f"the server refuses our certificate ({error})"
    if isinstance(error, ssl.SSLCertVerificationError):
        words = error.verify_message
        dated = "expired" in words or "not yet valid" in words
        hint = "; renew it, or is this host's clock wrong?" if dated else ""
        return f"the server's certificate is not good: {words}{hint}"
    return str(error)
