# SPDX-License-Identifier: Apache-2.0
"""Endpoints from SRV records (specs/etcd.md §5.1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from dnslib import QTYPE, RCODE, RR, SRV, DNSRecord

from fairlead.etcd import srv
from fairlead.etcd.client import Client
from fairlead.etcd.errors import NotSent
from fairlead.etcd.options import Endpoint, Options


@asynccontextmanager
async def name_server(records: dict[str, list[SRV]]) -> AsyncIterator[tuple[str, int]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        question = DNSRecord.parse(await reader.readexactly(size))
        answer = question.reply()
        name = str(question.q.qname).rstrip(".")
        for record in records.get(name, ()):
            answer.add_answer(RR(name, QTYPE.SRV, rdata=record))
        if name not in records:
            answer.header.rcode = RCODE.NXDOMAIN
        body = answer.pack()
        writer.write(len(body).to_bytes(2, "big") + body)
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "127.0.0.1", listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


async def test_tls_records_first_by_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    records = {
        "_etcd-client-ssl._tcp.example.org": [
            SRV(20, 0, 2379, "b.example.org"),
            SRV(10, 0, 2380, "a.example.org"),
        ],
        "_etcd-client._tcp.example.org": [SRV(0, 0, 2379, "c.example.org")],
    }
    async with name_server(records) as place:
        monkeypatch.setattr(srv, "_configured", lambda: (place,))
        assert await srv.discover(Options(dns_srv="example.org")) == (
            Endpoint("https", "a.example.org", 2380),
            Endpoint("https", "b.example.org", 2379),
            Endpoint("http", "c.example.org", 2379),
        )


async def test_a_name_is_part_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    records = {"_etcd-client-east._tcp.example.org": [SRV(0, 0, 1, "127.0.0.1")]}
    async with name_server(records) as place:
        monkeypatch.setattr(srv, "_configured", lambda: (place,))
        options = Options(dns_srv="example.org", dns_srv_name="east")
        assert await srv.discover(options) == (Endpoint("http", "127.0.0.1", 1),)
        client = Client(options)
        with pytest.raises(NotSent, match=r"http://127\.0\.0\.1:1"):
            await client._pool.channel("calls")
        await client.aclose()


async def test_no_record_says_which_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    async with name_server({}) as place:
        monkeypatch.setattr(srv, "_configured", lambda: (("127.0.0.1", 1), place))
        with pytest.raises(NotSent, match=r"dns-srv example\.org: no SRV record"):
            await srv.discover(Options(dns_srv="example.org"))


def test_name_servers_of_a_resolv_conf() -> None:
    text = "search x\nnameserver 192.0.2.1\nnameserver rubbish\nnameserver fe80::1%eth0\n"
    assert srv.servers(text) == (("192.0.2.1", 53), ("fe80::1%eth0", 53))
    assert srv.servers("") == (("127.0.0.1", 53),)
