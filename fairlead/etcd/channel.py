# SPDX-License-Identifier: Apache-2.0
"""One connection to one endpoint: with `transport`, all of the client that knows grpclib.

A `Channel` is made connected (`open`), serves until something is wrong with it, and then is
dead for good: the choice of the next endpoint is the client's (specs/etcd.md §4, §5.2).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import h2.exceptions
from google.protobuf.message import DecodeError, Message
from grpclib.const import Cardinality
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.exceptions import ProtocolError as GRPCProtocolError
from multidict import MultiDict

from fairlead.errors import StoreError
from fairlead.etcd.errors import NotSent, Timeout, TLSFailed, Unavailable, from_status
from fairlead.etcd.options import Endpoint, Options
from fairlead.etcd.rpc import Method
from fairlead.etcd.transport import (
    MIN_PING,
    Call,
    Protocol,
    Transport,
    configuration,
    tls_context,
    tls_reason,
)

if TYPE_CHECKING:
    from grpclib.metadata import _Metadata

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Channel:
    """A live connection to `endpoint`; `dead` says why once it is not."""

    def __init__(self, endpoint: Endpoint, options: Options, transport: Transport) -> None:
        self.endpoint = endpoint
        self._options = options
        self._transport = transport
        self._protocol = cast(Protocol, transport._protocol)
        self._dropped = ""
        self._retiring = False
        self._open = 0

    @classmethod
    async def open(cls, endpoint: Endpoint, options: Options) -> Channel:
        """Connect, and wait for the server's first bytes.

        Raises:
            NotSent: nobody answers there; TLSFailed when certificates are the reason.
        """
        place = {"path": endpoint.path} if endpoint.path else {}
        transport = Transport(
            None if endpoint.path else endpoint.host,
            None if endpoint.path else endpoint.port,
            **place,  # type: ignore[arg-type]
            codec=ProtoCodec(),
            ssl=tls_context(options) if endpoint.tls else None,
            config=configuration(options),
        )
        try:
            async with asyncio.timeout(options.connect_timeout):
                protocol = cast(Protocol, await transport.__connect__())
                await protocol.heard.wait()
            protocol.check()
        except BaseException as error:
            transport.close()
            if isinstance(error, ssl.SSLError | ssl.CertificateError):
                raise TLSFailed(f"{endpoint}: {tls_reason(error, options)}") from error
            if isinstance(error, TimeoutError):
                wait = f"{options.connect_timeout:g} s"
                raise NotSent(f"{endpoint}: no answer within {wait}; is it frozen?") from error
            if isinstance(error, OSError):
                raise NotSent(f"{endpoint}: {error.strerror or error}") from error
            raise
        return cls(endpoint, options, transport)

    @property
    def dead(self) -> str:
        """Why no call can be made here any more; "" while one can."""
        if self._dropped:
            return self._dropped
        return "" if self._transport._connected else (self._protocol.ended or "closed")

    @property
    def local(self) -> str:
        """The address of this host that it speaks from; "" for a unix socket."""
        name = self._protocol.connection._transport.get_extra_info("sockname")
        return str(name[0]) if isinstance(name, tuple) else ""

    def drop(self, reason: str) -> None:
        """Close now; calls under way end with Unavailable."""
        self._dropped = self._dropped or reason
        self._transport.close()

    def retire(self) -> None:
        """Close when the calls under way are done; nobody may start another."""
        self._retiring = True
        if not self._open:
            self.drop("left for another endpoint")

    def probe(self) -> None:
        """Ask whether the server still turns: no answer within the ping timeout ends this."""
        connection = self._protocol.connection
        last = connection.last_ping_sent
        now = time.monotonic()
        if self.dead or connection._close_by_ping_handler or not self._open:
            return
        if last is not None and now - last < MIN_PING:
            return
        connection._connection.ping(b"fairlead")
        connection.flush()
        connection.last_ping_sent = now
        connection._close_by_ping_handler = asyncio.get_running_loop().call_later(
            self._options.ping_timeout, connection.close
        )

    async def unary(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        timeout: float,
        metadata: Mapping[str, str],
    ) -> Response:
        """Call once and return the answer.

        Raises:
            Timeout: no answer within `timeout` seconds; the caller drops this channel.
            NotSent: surely not carried out. Unavailable: the connection broke.
        """
        try:
            async with asyncio.timeout(timeout):
                async with self.stream(method, metadata) as stream:
                    await stream.send(request, end=True)
                    answer = await stream.receive()
                    await stream.finish()
                    return answer
        except TimeoutError as error:
            reason = f"{self.endpoint}: {method.name}: no answer within {timeout:.3g} s"
            raise Timeout(reason) from error

    def stream(
        self, method: Method[Request, Response], metadata: Mapping[str, str]
    ) -> Stream[Request, Response]:
        """Return a call with messages both ways, to be used as a context."""
        return Stream(self, method, metadata)

    def _request(
        self, method: Method[Request, Response], metadata: Mapping[str, str]
    ) -> Call[Request, Response]:
        transport = self._transport
        call: Call[Request, Response] = Call(
            transport,
            method.path,
            cast("_Metadata", MultiDict(metadata)),
            Cardinality.STREAM_STREAM if method.client_stream else Cardinality.UNARY_UNARY,
            method.request,
            method.response,
            codec=transport._codec,
            status_details_codec=None,
            dispatch=transport.__dispatch__,
        )
        call.max_message = self._options.max_message
        return call

    @contextmanager
    def _translated(self, call: Call[Request, Response]) -> Iterator[None]:
        """Turn what the libraries raise into StoreErrors."""
        try:
            yield
        except GRPCError as error:
            raise from_status(error.status.value, error.message or "") from error
        except (
            StreamTerminatedError,
            GRPCProtocolError,
            h2.exceptions.H2Error,
            OSError,
            AssertionError,  # grpclib: the stream ended inside a message
            DecodeError,
        ) as error:
            if isinstance(error, StreamTerminatedError) and call._send_request_done:
                try:  # refused before all was taken: the status came before the reset (§4.1)
                    call._maybe_raise()
                except GRPCError as refused:
                    said = refused.message or ""
                    raise from_status(refused.status.value, said) from refused
            reason = (
                f"{self.endpoint}: {call._method_name}: {self.dead or error or 'stream broken'}"
            )
            last = self._protocol.last_stream
            number = call._stream.id if call._send_request_done else None
            if number is None or (last is not None and number > last):
                raise NotSent(reason) from error
            raise Unavailable(reason) from error


class Stream(Generic[Request, Response]):
    """One call; `async with`, then `send` and `receive`. Leaving it resets what still runs."""

    def __init__(
        self, channel: Channel, method: Method[Request, Response], metadata: Mapping[str, str]
    ) -> None:
        self.channel = channel
        self._call = channel._request(method, metadata)

    async def __aenter__(self) -> Stream[Request, Response]:
        if self.channel.dead or self.channel._retiring:
            raise NotSent(f"{self.channel.endpoint}: {self.channel.dead or 'retiring'}")
        await self._call.__aenter__()
        self.channel._open += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        call = self._call
        try:
            # grpclib's own exit would wait for trailers; with an error set it only resets
            error = value or StoreError("left")
            await call.__aexit__(type(error), error, traceback)
        finally:
            channel = self.channel
            channel._open -= 1
            if channel._retiring:
                channel.retire()

    async def send(self, message: Request, *, end: bool = False) -> None:
        """Send one message; `end` when it is the last."""
        with self.channel._translated(self._call):
            await self._call.send_message(message, end=end)

    async def receive(self) -> Response:
        """Return the next message.

        Raises:
            Unavailable: the server ended the stream without saying why.
            StoreError: the status it ended with.
        """
        with self.channel._translated(self._call):
            message = await self._call.recv_message()
            if message is None:  # what came with the end is already here
                self._call._maybe_raise()
                raise Unavailable(f"{self.channel.endpoint}: the server ended the stream")
            return message

    async def finish(self) -> None:
        """Wait for the status; raise what is not OK."""
        call = self._call
        with self.channel._translated(call):
            if not call._trailers_only:
                with call._wrapper:
                    await call._stream.recv_trailers()
            call._maybe_raise()
