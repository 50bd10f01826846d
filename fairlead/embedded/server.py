# SPDX-License-Identifier: Apache-2.0
"""The embedded store on a socket: etcd's gRPC services, and the JSON gateway on the same port.

::

    connection ─► first bytes ─┬─ "PRI * HTTP/2.0" ─► grpclib ─► services
                               └─ anything else ────► aiohttp ─► gateway ─► services

Every path is answered in gRPC's form: for one it does not know, grpclib's own server leaves the
content-type out, and Go clients then report code 2 instead of 12 (specs/etcd.md §9.2).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError, Message
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from fairlead.clock import SYSTEM, Clock
from fairlead.embedded.gateway import Gateway
from fairlead.embedded.logins import Logins
from fairlead.embedded.refusals import code
from fairlead.embedded.services import MAX_MESSAGE, Services
from fairlead.embedded.store import EmbeddedStore
from fairlead.errors import ConfigError, StoreError
from fairlead.etcd import rpc
from fairlead.etcd import rpc_pb2 as pb

MAX_CONNECTIONS = 1000
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW = 8 * 1024 * 1024
_CLOSING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and for whom to listen.

    Attributes:
        urls: `http://host:port`, `https://host:port` or `unix:///path`; port 0: any free one.
        users: name → password; empty: everybody.
        insecure: listen beyond this machine without users.
        tls: for https.
        setting: what an error names, e.g. "-listen-client-urls".
    """

    urls: tuple[str, ...] = ("http://127.0.0.1:2379",)
    users: Mapping[str, str] = field(default_factory=dict)
    insecure: bool = False
    tls: ssl.SSLContext | None = None
    setting: str = "-listen-client-urls"

    def check(self) -> tuple[ConfigError, ...]:
        """Return what is wrong with it; opens nothing."""
        return tuple(
            ConfigError(self.setting, url, "command line", reason)
            for url in self.urls
            if (reason := self._fault(url))
        )

    def _fault(self, url: str) -> str | None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            return "the port is not a number from 0 to 65535"
        if parts.scheme == "unix":
            return None if parts.path else "a socket's path is missing: unix:///run/x.sock"
        if parts.scheme not in {"http", "https"}:
            return "the scheme must be http, https or unix"
        if port is None or not parts.hostname:
            return "host and port are needed, as http://127.0.0.1:2379"
        if parts.path not in {"", "/"}:
            return "a path has no meaning here"
        if parts.scheme == "https" and self.tls is None:
            return "https needs -cert-file and -key-file"
        if not (_is_loopback(parts.hostname) or self.users or self.insecure):
            return "it is reachable from other machines: give -user, or allow it with -insecure"
        return None


@asynccontextmanager
async def serve(
    store: EmbeddedStore,
    listening: Listening,
    *,
    name: str = "fairlead",
    advertise: tuple[str, ...] = (),
    clock: Clock = SYSTEM,
) -> AsyncIterator[tuple[str, ...]]:
    """Serve `store` while the block runs; yields the endpoints, ports filled in.

    Args:
        name: the member's name in member lists.
        advertise: the member's addresses there; empty: where it listens.

    Raises:
        ConfigError: an address is wrong or taken.
    """
    for error in listening.check():
        raise error
    services = Services(store, Logins(listening.users, clock), name)
    gateway = Gateway(services)
    connections: set[asyncio.BaseTransport] = set()
    async with AsyncExitStack() as stack:
        stack.callback(_abort_all, connections)
        await stack.enter_async_context(gateway)
        endpoints: list[str] = []
        for url in listening.urls:
            listener = _bind(url, listening.setting)
            stack.callback(_unlink, url)
            server = _GrpcServer(services, gateway, connections)
            tls = listening.tls if url.startswith("https:") else None
            await server.start(sock=listener, ssl=tls)
            stack.push_async_callback(_close, server)
            endpoints.append(_endpoint(url, listener))
        services.client_urls = advertise or tuple(endpoints)
        yield tuple(endpoints)


async def _close(server: Server) -> None:
    """Stop listening; calls under way get a second, watches are ended."""
    server.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSING_SECONDS):
            await server.wait_closed()


def _abort_all(connections: set[asyncio.BaseTransport]) -> None:
    for transport in tuple(connections):
        transport.close()


def _bind(url: str, setting: str) -> socket.socket:
    parts = urlsplit(url)
    family = socket.AF_UNIX if parts.scheme == "unix" else socket.AF_INET
    if family == socket.AF_INET and ":" in (parts.hostname or ""):
        family = socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_UNIX:
            _unlink(url)
            before = os.umask(0o177)
            try:
                listener.bind(parts.path)
            finally:
                os.umask(before)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((parts.hostname, parts.port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        if isinstance(error, socket.gaierror):
            reason = f"the host has no address: {reason}"
        raise ConfigError(setting, url, "command line", reason) from error
    listener.setblocking(False)
    return listener


def _unlink(url: str) -> None:
    if url.startswith("unix:"):
        Path(urlsplit(url).path).unlink(missing_ok=True)


def _endpoint(url: str, listener: socket.socket) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return url
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{listener.getsockname()[1]}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Codec(ProtoCodec):
    """Protobuf with etcd's limit on what a client may send."""

    def decode(self, data: bytes, message_type: Any) -> Any:
        if len(data) > MAX_MESSAGE:
            raise GRPCError(
                Status.RESOURCE_EXHAUSTED,
                f"grpc: received message larger than max ({len(data)} vs. {MAX_MESSAGE})",
            )
        try:
            return super().decode(data, message_type)
        except DecodeError as error:
            raise GRPCError(
                Status.INTERNAL, f"grpc: failed to unmarshal the received message: {error}"
            ) from error


class _GrpcServer(Server):
    """grpclib's server; tells HTTP/1 connections from gRPC's, and answers every path."""

    def __init__(
        self, services: Services, gateway: Gateway, connections: set[asyncio.BaseTransport]
    ) -> None:
        super().__init__(
            [],
            codec=_Codec(),
            config=Configuration(
                http2_connection_window_size=_WINDOW, http2_stream_window_size=_WINDOW
            ),
        )
        self._mapping = _Methods(_handlers(services))
        self._gateway = gateway
        self._connections = connections

    def _protocol_factory(self) -> Any:  # grpclib's name: one protocol for each connection
        return _Sniffer(super()._protocol_factory, self._gateway.protocol, self._connections)


class _Sniffer(asyncio.Protocol):
    """Waits for the first bytes of a connection, then hands it to who speaks its protocol."""

    def __init__(
        self,
        grpc: Callable[[], Any],
        http: Callable[[], asyncio.Protocol],
        connections: set[asyncio.BaseTransport],
    ) -> None:
        self._factories = (http, grpc)
        self._connections = connections
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only
        if len(self._connections) >= MAX_CONNECTIONS:
            # those that have ended are only counted out here: later protocols hear of their end
            self._connections -= {one for one in self._connections if one.is_closing()}
        if len(self._connections) >= MAX_CONNECTIONS:
            transport.abort()
            return
        self._transport = transport
        self._connections.add(transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        known = min(len(self._head), len(_PREFACE))
        is_grpc = self._head[:known] == _PREFACE[:known]
        if self._transport is None or (is_grpc and known < len(_PREFACE)):
            return
        protocol = self._factories[is_grpc]()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._head)


class _Methods(dict[str, Handler]):
    """Handlers by path; a path nobody serves is refused in gRPC's own form."""

    def get(self, path: str, default: Any = None) -> Any:
        if path in self:
            return self[path]
        refuse = partial(_unimplemented, path)
        return Handler(refuse, Cardinality.STREAM_STREAM, pb.Empty, pb.Empty)


async def _unimplemented(path: str, stream: Stream[Any, Any]) -> NoReturn:
    raise GRPCError(
        Status.UNIMPLEMENTED,
        f"{path} is not served by fairlead etcd, a store for one machine; a real etcd has it",
    )


def _handlers(services: Services) -> dict[str, Handler]:
    methods = {
        method.path: method for method in vars(rpc).values() if isinstance(method, rpc.Method)
    }
    handlers = {
        path: Handler(
            partial(_serve_unary, services, path),
            Cardinality.UNARY_UNARY,
            methods[path].request,
            methods[path].response,
        )
        for path in services.unary
    }
    for method, serve_stream in (
        (rpc.WATCH, services.watch),
        (rpc.LEASE_KEEP_ALIVE, services.keep_alive),
    ):
        handlers[method.path] = Handler(
            partial(_serve_stream, services, serve_stream),
            Cardinality.STREAM_STREAM,
            method.request,
            method.response,
        )
    return handlers


async def _serve_unary(services: Services, path: str, stream: Stream[Any, Any]) -> None:
    try:
        request = await stream.recv_message()
        if request is None:
            raise GRPCError(Status.INTERNAL, "grpc: the request has no message")
        if path != rpc.AUTHENTICATE.path:
            services.logins.check(_token(stream))
        answer = await services.unary[path](request)
    except StoreError as error:
        raise _grpc_error(error) from error
    await stream.send_message(answer)


async def _serve_stream(
    services: Services,
    call: Callable[[AsyncIterator[Any]], AsyncIterator[Message]],
    stream: Stream[Any, Any],
) -> None:
    try:
        services.logins.check(_token(stream))
        async with aclosing(call(aiter(stream))) as answers:  # type: ignore[type-var]  # generators
            async for answer in answers:
                await stream.send_message(answer)
    except StoreError as error:
        raise _grpc_error(error) from error


def _token(stream: Stream[Any, Any]) -> str | None:
    if stream.metadata is None:
        return None
    token = stream.metadata.get("token")
    return token if isinstance(token, str) else None


def _grpc_error(error: StoreError) -> GRPCError:
    return GRPCError(Status(code(error)), str(error))
