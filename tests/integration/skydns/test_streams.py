# SPDX-License-Identifier: Apache-2.0
"""TCP connections of one server, in this process."""

import asyncio
import os
import socket
import struct
import time

import dns.edns
import dns.message
import pytest

from fairlead.etcd.types import KeyValue, Revision
from skydns import keys, records
from skydns.compiled import Answers
from skydns.policy import Policy
from skydns.querylog import QueryLog
from skydns.responder import Responder
from skydns.server import Limits, Server
from skydns.state import Served

pytestmark = pytest.mark.integration


def loaded(many=0):
    """Return what answers for `web`, and for a pool of so many addresses."""
    answers = Answers(Served(), Policy(frozenset(keys.zones("z.test"))), time.monotonic)
    answers.loaded = True
    hosts = {b"web": "10.0.0.1"} | {b"pool/x%d" % at: f"10.1.0.{at}" for at in range(many)}
    for path, host in hosts.items():
        value = f'{{"host":"{host}"}}'.encode()
        kv = KeyValue(b"/skydns/test/z/" + path, value, Revision(1), Revision(1), 1)
        answers.served.index.put(records.decode(b"/skydns", kv))
    return answers


async def connect(server):
    """Open a connection and have one question answered; return it and what keepalive said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    keepalive = dns.edns.GenericOption(dns.edns.OptionType.KEEPALIVE, b"")
    query = dns.message.make_query("web.z.test", "A", use_edns=0, options=[keepalive]).to_wire()
    writer.write(len(query).to_bytes(2, "big") + query)
    size = int.from_bytes(await reader.readexactly(2), "big")
    reply = dns.message.from_wire(await reader.readexactly(size))
    assert reply.answer[0][0].address == "10.0.0.1"
    return reader, writer, int.from_bytes(reply.options[0].to_wire(), "big") / 10


async def test_18_idle_connections_end_at_once_when_they_run_short():
    """RFC 7766 §6.2.3, RFC 7828 §3.4."""
    answers = loaded()
    lines = []
    server = Server(Responder(answers, log=QueryLog(lines.append)), Limits(connections=4, idle=600))
    await server.listen("127.0.0.1", 0)
    try:
        async with asyncio.timeout(20):
            calm = [await connect(server) for _ in range(3)]
            assert [told for _, _, told in calm] == [600.0] * 3
            reader, writer, told = await connect(server)
            assert told == 0.2
            assert await reader.read() == b""  # closed, where it could have been silent ten minutes
            writer.close()
            assert len(lines) == 4
            port = calm[0][1].get_extra_info("sockname")[1]
            assert lines[0].startswith(
                f"127.0.0.1:{port} - "
            )  # §14.4: client and port, over TCP too
            for _, other, _ in calm:
                other.close()
    finally:
        await server.aclose()


async def test_who_resets_and_who_never_reads_leave_nothing_in_the_log(caplog):
    server = Server(Responder(loaded(200)), Limits(write=0.2))
    await server.listen("127.0.0.1", 0)
    query = dns.message.make_query("pool.z.test", "A").to_wire()
    many = (len(query).to_bytes(2, "big") + query) * 2000  # 6 MB of replies
    clients = []
    before = len(os.listdir("/proc/self/fd"))
    try:
        async with asyncio.timeout(20):
            for _ in range(2):
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", server.port))
                await asyncio.get_running_loop().sock_sendall(client, many)
                clients.append(client)
            clients[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            clients[0].close()
            # the other is given up after `write` seconds, whatever it was owed: ours are closed
            while True:
                if not server.tally.clients and len(os.listdir("/proc/self/fd")) == before + 1:
                    break
                await asyncio.sleep(0.01)
    finally:
        for client in clients:
            client.close()
        await server.aclose()
    assert not caplog.records
