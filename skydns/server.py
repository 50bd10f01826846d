# SPDX-License-Identifier: Apache-2.0
"""The sockets: UDP by `fastpath.Loop`, TCP as streams; what needs the name servers waits aside.

TCP (RFC 7766): many queries a connection, answered as they come; one that has to be forwarded
does not hold up the next, so answers may be out of order. Bounds: connections in all and for one
client, queries of one connection under way, seconds of silence, of a half-sent query, of a reader
that does not read.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from skydns import doh, message, rrs, sockets, streamed
from skydns.attentive import Attentive
from skydns.batch import LIBRARY
from skydns.compiled import Ask
from skydns.fastpath import Loop
from skydns.responder import Client, Responder, by_stream, by_udp
from skydns.rewrite import Change
from skydns.tally import Tally
from skydns.transfer import Source, is_transfer

_BREATH: Final = 0.1  # seconds until connections are accepted again after a failure
_HASTE: Final = 0.2  # seconds of silence when connections run short
_WAITING: Final = 5000  # clients waiting for the name servers, and connections; 3 KiB each


Coming = Change | Ask | bytes | None
"""What is made of a query at once: a reply, or what one comes of later."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one TCP client and all together may take."""

    connections: int = 1000
    by_client: int = 100
    under_way: int = 64
    idle: float = 10.0
    message: float = 3.0
    write: float = 5.0

    def shared(self, count: int) -> Limits:
        """Return what one of so many processes may let take."""
        most = (-(-self.connections // count), -(-self.by_client // count))
        return replace(self, connections=most[0], by_client=most[1])


@dataclass(slots=True)
class Server:
    """One address, UDP and TCP.

    Attributes:
        way: what makes replies; it and `tally`, what is counted, are shared with all siblings.
    """

    way: Responder
    limits: Limits = field(default_factory=Limits)
    transfers: Source | None = None
    tally: Tally = field(default_factory=Tally)
    host: str = ""
    port: int = 0
    _udp: Loop | None = None
    _tcp: asyncio.Server | None = None
    _encrypted: list[asyncio.Task[None]] = field(default_factory=list)
    _retired: bool = False
    _looks: tuple[object, ...] = ()
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def protocols(self) -> tuple[str, ...]:
        """What is answered on."""
        both = (("udp", self._udp), ("tcp", self._tcp))
        return tuple(name for name, present in both if present is not None)

    def sibling(self) -> Server:
        """Return a server that answers alike, on another address."""
        return Server(self.way, self.limits, self.transfers, self.tally)

    async def listen(self, host: str, port: int) -> None:
        """Bind both sockets and begin to answer; port 0 takes a free one.

        Raises:
            ConfigError: an address is not ours, or is taken.
        """
        await self.adopt(*sockets.pair(host, port))

    def _serve_udp(self, sock: socket.socket, host: str) -> None:
        """Begin to answer on a bound UDP socket."""
        way, wildcard = self.way, host in {"0.0.0.0", "::"}  # noqa: S104
        self._retired = False
        self._looks = self._looking()
        if self._looks or (way.log is not None and LIBRARY is None):
            self._udp = Attentive(
                sock, way.answers, self._forward_udp, way.log, way.screen, way.limiter,
                self._rewrite_udp, wildcard=wildcard, tally=self.tally,
            )  # fmt: skip
        else:
            self._udp = Loop(
                sock, way.answers, self._forward_udp, way.limiter, way.log,
                wildcard=wildcard, tally=self.tally,
            )  # fmt: skip
        asyncio.get_running_loop().add_reader(sock, self._udp.drain)

    async def adopt(self, udp: socket.socket | None, tcp: socket.socket | None) -> None:
        """Answer on sockets that somebody else has bound."""
        for sock in filter(None, (udp, tcp)):
            sock.setblocking(False)
            self.host, self.port = sock.getsockname()[:2]
        if tcp is not None:
            self._tcp = await asyncio.start_server(
                self._converse, sock=tcp, limit=message.TCP_SIZE + 2, backlog=sockets.BACKLOG
            )
        if udp is not None:
            self._serve_udp(udp, self.host)

    def _looking(self) -> tuple[object, ...]:
        """Return why every query by UDP has to be looked at; empty: none has."""
        way = self.way
        return tuple(filter(None, (way.screen, way.rewriter, way.answers.policy.by_client)))

    def renew(self) -> None:
        """Have other lists, rules and orders of `way` in force for UDP too."""
        if self._udp is not None and not self._retired and self._looks != self._looking():
            asyncio.get_running_loop().remove_reader(self._udp.sock)
            self._serve_udp(self._udp.sock, self.host)

    async def listen_encrypted(
        self, host: str, port: int, context: ssl.SSLContext, *, https: bool
    ) -> int:
        """Answer DNS over TLS (RFC 7858), or over HTTPS (RFC 8484); return the port.

        Raises:
            ConfigError: the address is not ours, or is taken.
        """
        flag = "-https-addr" if https else "-tls-addr"
        sock = sockets.bound(sockets.TCP, host, port, flag)
        await self.adopt_encrypted(sock, context, https=https)
        bound: int = sock.getsockname()[1]
        return bound

    async def adopt_encrypted(
        self, sock: socket.socket, context: ssl.SSLContext, *, https: bool
    ) -> None:
        """Answer over TLS, or over HTTPS, on a socket that somebody else has bound."""
        sock.setblocking(False)
        sock.listen(sockets.BACKLOG)
        self._encrypted.append(asyncio.create_task(self._accept(sock, context, https=https)))

    async def _accept(self, sock: socket.socket, context: ssl.SSLContext, *, https: bool) -> None:
        """Accept connections until cancelled; a client's count before they have shaken hands."""
        loop = asyncio.get_running_loop()
        with sock:
            while True:
                try:
                    connection, peer = await loop.sock_accept(sock)
                except OSError:  # no descriptor is free, or the client went again
                    await asyncio.sleep(_BREATH)
                    continue
                client = by_stream(peer)
                if self.tally.admit(client.host, self.limits.connections, self.limits.by_client):
                    self._start(self._shake_hands(connection, client, context, https=https))
                else:
                    connection.close()

    async def _shake_hands(
        self, connection: socket.socket, client: Client, context: ssl.SSLContext, *, https: bool
    ) -> None:
        """Serve one connection, once it is encrypted."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(message.TCP_SIZE + 2)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=context, ssl_handshake_timeout=self.limits.idle
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            await self._conversation(reader, writer, client, https=https)
        except OSError:  # it does not want our certificate, or speaks no TLS
            connection.close()
        finally:
            self.tally.leave(client.host)

    def retire(self) -> None:
        """Answer on these sockets no more, but what is under way; they may be adopted again."""
        self._retired = True
        if self._udp is not None:
            asyncio.get_running_loop().remove_reader(self._udp.sock)
        self._stop_listening()

    async def aclose(self) -> None:
        """Close the sockets; what is being forwarded is given up."""
        if self._udp is not None:
            asyncio.get_running_loop().remove_reader(self._udp.sock)
            self._udp.sock.close()
        self._stop_listening()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _stop_listening(self) -> None:
        """Accept no more connections."""
        if self._tcp is not None:
            self._tcp.close()
        self._tcp = None
        for accepting in self._encrypted:
            accepting.cancel()
        self._encrypted.clear()

    # ── UDP

    def _forward_udp(self, ask: Ask, data: bytes, peer: Any) -> None:
        """Answer what needs the name servers: at once where they need not be asked."""
        reply = self.way.at_hand(ask, data, by_udp(peer))
        if reply is not None and self._udp is not None:
            self._udp.send(reply, peer)
            return
        if len(self._tasks) >= _WAITING and self._udp is not None:
            self._udp.send(message.failure(ask.query, rrs.SERVFAIL, recursion=True), peer)
            return
        self._start(self._answer_udp(ask, data, peer))

    async def _answer_udp(self, ask: Ask, data: bytes, peer: Any) -> None:
        reply = await self.way.asked(ask, data, by_udp(peer))
        if self._udp is not None:
            self._udp.send(reply, peer)

    def _rewrite_udp(self, data: bytes, peer: Any) -> bool:
        """Begin to answer a query that rules change; False: none does."""
        client = by_udp(peer)
        if not (change := self.way.change(data, client)):
            return False
        self._start(self._answer_rewritten(change, data, peer, client))
        return True

    async def _answer_rewritten(
        self, change: Change, data: bytes, peer: Any, client: Client
    ) -> None:
        reply, limiter = await self.way.rewritten(change, data, client), self.way.limiter
        if reply and limiter is not None and limiter.pressed(1):
            passed = limiter.passed(client.packed, data, reply[2:])
            reply = reply[:2] + passed if passed else b""
        if reply and self._udp is not None:
            self._udp.send(reply, peer)

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── TCP

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection without encryption."""
        client = by_stream(writer.get_extra_info("peername"))
        if not self.tally.admit(client.host, self.limits.connections, self.limits.by_client):
            writer.close()
            return
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._conversation(reader, writer, client)
        finally:
            self.tally.leave(client.host)

    async def _conversation(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: Client,
        *,
        https: bool = False,
    ) -> None:
        """Answer a client's messages until it goes."""
        # what is written is the kernel's, or waited for: closing never leaves octets behind for ever
        writer.transport.set_write_buffer_limits(high=0)
        try:
            if https:
                await doh.converse(
                    reader, writer, partial(self._respond_https, client=client), self.tally.statuses
                )
            else:
                await self._queries(reader, writer, client)
        except* (OSError, asyncio.IncompleteReadError):  # a group's: answers are under way in one
            # it went, or was too slow: what is not sent yet must not hold the socket open
            writer.transport.abort()
        finally:
            writer.close()

    async def _respond_https(self, data: bytes, *, client: Client) -> bytes | None:
        """Return the reply to a query over HTTPS; None: it is none."""
        reply = await self.way.respond(data, client)
        return reply and streamed.completed(data, reply, idle=None, encrypted=True)

    async def _reply(self, writer: asyncio.StreamWriter, data: bytes, reply: bytes) -> None:
        """Send the reply to a query over TCP or TLS."""
        encrypted = writer.get_extra_info("ssl_object") is not None
        reply = streamed.completed(data, reply, idle=self._patience(), encrypted=encrypted)
        await _write(writer, reply, self.limits.write)

    def _patience(self) -> float:
        """Return the seconds a connection may be idle; hardly any when they run short (RFC 7766 §6.2.3)."""
        short = self.tally.clients.total() * 4 > self.limits.connections * 3
        return _HASTE if short else self.limits.idle

    async def _queries(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Client
    ) -> None:
        """Answer the queries of one connection until it ends."""
        limits = self.limits
        room = asyncio.Semaphore(limits.under_way)
        patience = limits.message  # for the first
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    async with asyncio.timeout(max(patience, self._patience())):
                        size = int.from_bytes(await reader.readexactly(2), "big")
                    async with asyncio.timeout(limits.message):
                        data = await reader.readexactly(size)
                    patience = 0.0
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    return  # leaving the group waits for what is under way
                change = self.way.change(data, client)
                verdict = self.way.screened(data, client) if change is None else None
                if verdict is not None:
                    if verdict:
                        await _write(writer, verdict, limits.write)
                    continue
                if self.transfers is not None and is_transfer(data):
                    async for part in self.transfers.messages(data, client.host):
                        await _write(writer, part, limits.write)
                    continue
                made: Coming = change or self.way.answers.reply(data, udp=False)
                reply: bytes | None = None
                if isinstance(made, bytes):
                    reply = self.way.baked(data, made, client)
                elif isinstance(made, Ask):
                    reply = self.way.at_hand(made, data, client)
                if reply is not None:
                    await self._reply(writer, data, reply)
                elif made is None or isinstance(made, bytes):
                    return  # not a query: whoever sends that is no DNS client
                else:
                    await room.acquire()
                    group.create_task(self._answer_later(made, data, writer, client, room))

    async def _answer_later(
        self,
        made: Change | Ask,
        data: bytes,
        writer: asyncio.StreamWriter,
        client: Client,
        room: asyncio.Semaphore,
    ) -> None:
        try:
            if isinstance(made, Ask):
                reply = await self.way.asked(made, data, client)
            else:
                reply = await self.way.rewritten(made, data, client)
            if reply:
                await self._reply(writer, data, reply)
        except (OSError, TimeoutError):
            writer.close()
        finally:
            room.release()


async def _write(writer: asyncio.StreamWriter, reply: bytes, seconds: float) -> None:
    """Send one message, length and all in one write (RFC 7766 §8)."""
    writer.write(len(reply).to_bytes(2, "big") + reply)
    async with asyncio.timeout(seconds):
        await writer.drain()
