# SPDX-License-Identifier: Apache-2.0
"""The demo's user notices what a user would: wrong answers, no answers, late answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from dnslib import RCODE, RR, A, DNSRecord

from fairlead.demo.report import Failed
from fairlead.demo.user import Load, Place, Resolver, fetch, until


class Server(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[DNSRecord], DNSRecord | None]) -> None:
        self.answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self.answer(DNSRecord.parse(data))
        if reply is not None:
            self.transport.sendto(reply.pack(), addr)  # type: ignore[attr-defined]


@asynccontextmanager
async def resolver(answer: Callable[[DNSRecord], DNSRecord | None]) -> AsyncIterator[Resolver]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Server(answer), local_addr=("127.0.0.1", 0)
    )
    asks = await Resolver.open(Place(*transport.get_extra_info("sockname")))
    try:
        yield asks
    finally:
        asks.close()
        transport.close()


async def test_addresses_sorted() -> None:
    def answer(question: DNSRecord) -> DNSRecord:
        reply = question.reply()
        for address in ("192.0.2.2", "192.0.2.1"):
            reply.add_answer(RR(question.q.qname, rdata=A(address), ttl=1))
        return reply

    async with resolver(answer) as asks:
        assert await asks.ask("web.example.org") == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize("rcode", ["NOERROR", "NXDOMAIN"])
async def test_nothing_there_is_an_empty_list(rcode: str) -> None:
    def answer(question: DNSRecord) -> DNSRecord:
        reply = question.reply()
        reply.header.rcode = getattr(RCODE, rcode)
        return reply

    async with resolver(answer) as asks:
        assert await asks.ask("web.example.org") == []


async def test_server_failure_is_a_failure() -> None:
    def answer(question: DNSRecord) -> DNSRecord:
        reply = question.reply()
        reply.header.rcode = RCODE.SERVFAIL
        return reply

    async with resolver(answer) as asks:
        with pytest.raises(Failed, match=r"SERVFAIL for web\.example\.org A"):
            await asks.ask("web.example.org")


async def test_no_answer_is_a_failure() -> None:
    async with resolver(lambda _question: None) as asks:
        with pytest.raises(Failed, match=r"no answer .* within 0\.05 s"):
            await asks.ask("web.example.org", timeout=0.05)


async def test_nobody_listening_is_told_at_once() -> None:
    async with resolver(lambda _question: None) as asks:
        host, port = asks._transport.get_extra_info("peername")  # type: ignore[union-attr]
    asks = await Resolver.open(Place(host, port))
    with pytest.raises(Failed, match="refused"):
        await asks.ask("web.example.org", timeout=5)
    asks.close()


@asynccontextmanager
async def http(answer: bytes) -> AsyncIterator[Place]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield Place(*server.sockets[0].getsockname())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ],
)
async def test_fetch(answer: bytes) -> None:
    async with http(answer) as server:
        assert await fetch(server, "web.example.org") == "hello"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"", b"junk\r\n\r\n"])
async def test_fetch_fails(answer: bytes) -> None:
    async with http(answer) as server:
        with pytest.raises(Failed, match="answered"):
            await fetch(server, "web.example.org")


async def test_refused_connection_fails() -> None:
    async with http(b"") as server:
        pass
    with pytest.raises(Failed, match=str(server)):
        await fetch(server, "web.example.org")


async def test_until_tells_what_did_not_come_true_and_why() -> None:
    async def never() -> bool:
        raise Failed("closed on Sundays")

    with pytest.raises(Failed, match=r"the shop: not within 0\.01 s; closed on Sundays"):
        await until(never, "the shop", timeout=0.01)


async def test_load_counts_what_failed_and_goes_on() -> None:
    count = 0
    enough = asyncio.Event()

    async def each() -> None:
        nonlocal count
        count += 1
        if count >= 4:
            enough.set()
        if count == 2:
            raise Failed("the second")

    async with Load(each, pause=0) as load:
        await asyncio.wait_for(enough.wait(), 5)
    assert load.failures == ["the second"]
    assert load.done >= 3
