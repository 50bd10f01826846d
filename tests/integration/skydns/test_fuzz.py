# SPDX-License-Identifier: Apache-2.0
"""Mutated packets: a reply to every query, none to anything else, none too large.

CI takes some; FAIRLEAD_FUZZ=1000000 takes as many (of streams a hundredth, each of many messages).
"""

import asyncio
import base64
import gc
import os
import random
import time
from collections import Counter
from contextlib import suppress

import pytest
from h2.connection import H2Connection

from fairlead.etcd.types import KeyValue, Revision
from skydns import doh, keys, records, sharedkeys, tsig
from skydns.compiled import Answers
from skydns.cookies import Cookies
from skydns.limit import Limiter
from skydns.policy import PROFILES, Policy
from skydns.responder import Client, Responder
from skydns.server import Server
from skydns.state import Served

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PACKETS = int(os.environ.get("FAIRLEAD_FUZZ", "30000"))

STORED = {
    "a/x": '{"host":"10.0.0.1","port":1}', "a/y": '{"host":"10.0.0.2"}', "b": '{"host":"a.z.test","text":"t"}',
    "c": '{"host":"b.z.test","mail":true}', "*": '{"host":"10.0.0.9"}', "dns/ns/n": '{"host":"10.0.0.3"}', "d": '{"host":"x.example.org"}',
}  # fmt: skip
NAMES = (
    "a.z.test",
    "x.a.z.test",
    "b.z.test",
    "z.test",
    "*.z.test",
    "no.z.test",
    "c.z.test",
    "1.0.0.10.in-addr.arpa",
    "example.org",
    "version.bind",
)
TYPES = (1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 65, 250, 251, 252, 255)
OPTS = (
    b"",
    b"\0\0\x29\x04\xd0\0\0\x80\0\0\0",
    b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x0812345678",
    b"\0\0\x29\x10\0\0\0\x80\0\0\x1c\0\x0a\0\x1812345678\1\0\0\0\0\0\x03\xe812345678",
)


KEY = sharedkeys.made("k.example", "hmac-sha256", "AAECAwQFBgc=")


def signed(packet):
    """A query with a signature; it is good unless something is changed."""
    return tsig.signed(packet, KEY, 1000)[0]


def seeds():
    for name in NAMES:
        wire = b"".join(bytes((len(label),)) + label for label in name.encode().split(b".")) + b"\0"
        for rtype in TYPES:
            for opt in OPTS:
                packet = (
                    b"\0\1\1\0\0\1\0\0\0\0\0"
                    + bytes((bool(opt),))
                    + wire
                    + rtype.to_bytes(2, "big")
                    + b"\0\1"
                    + opt
                )
                yield packet
                if not opt:
                    yield signed(packet)


def mutated(chance, packet):
    data = bytearray(packet)
    for _ in range(chance.randrange(4)):
        if not data:
            break
        at = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                del data[at:]
            case 3:
                data[at:at] = chance.randbytes(chance.randrange(6))
            case _:
                data[at:at] = data[chance.randrange(len(data)) :][: chance.randrange(20)]
    return bytes(data)


def loaded(profile):
    policy = Policy(frozenset(keys.zones("z.test,10.0.0.0/8")), profile=PROFILES[profile])
    answers = Answers(Served(), policy, time.monotonic)
    answers.loaded = True
    answers.keyring = tsig.Keyring({KEY.name: KEY}, lambda: 1000.0)
    for path, value in STORED.items():
        kv = KeyValue(
            f"/skydns/test/z/{path}".encode(), value.encode(), Revision(1), Revision(1), 1
        )
        answers.served.index.put(records.decode(b"/skydns", kv))
    return answers


@pytest.mark.parametrize("profile", ["coredns", "strict"])
def test_mutated_packets(profile):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    answers = loaded(profile)
    cookies = Cookies(bytes(16), lambda: 1000.0)
    limiter = Limiter(3, 2, (), cookies, lambda: 0.0)
    known = list(seeds())
    slowest = 0.0
    gc.collect()  # a full collection in the middle would be counted as a packet's
    gc.freeze()
    for _ in range(PACKETS):
        data = mutated(chance, chance.choice(known))
        begun = time.thread_time()  # of this thread's own: other programs do not count
        reply = answers.quick(data) or answers.reply(data)
        if isinstance(reply, bytes):
            reply = cookies.completed(data, reply, bytes(4))
            limited = limiter.passed(chance.randbytes(4), data, reply[2:])
            assert len(limited) <= max(len(reply), len(data) + 40)
        slowest = max(slowest, time.thread_time() - begun)
        if len(data) < 12 or data[2] & 0x80:
            assert reply is None, data
        else:
            assert isinstance(reply, bytes), data
            assert reply[:2] == data[:2], data
            assert reply[2] & 0x80, data
            assert len(reply) <= 1232, data
    gc.unfreeze()
    assert slowest < 5, "a packet that stalls us"


STREAMS = PACKETS // 200


def framed(chance, known):
    """A conversation over TCP: messages whose lengths are mostly true."""
    out = b""
    for _ in range(chance.randrange(1, 8)):
        data = mutated(chance, chance.choice(known))[:65535]
        size = len(data)
        match chance.randrange(8):
            case 0:
                size = chance.randrange(65536)
            case 1:
                size = max(size - 1, 0)
            case 2:
                data = b""
        out += size.to_bytes(2, "big") + data
    return out[: chance.randrange(len(out) + 1)] if chance.randrange(3) == 0 else out


async def talk(port, octets, chance):
    """Send octets in pieces, and read until the server or we have had enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    replies = []
    try:
        while octets:
            cut = chance.randrange(1, len(octets) + 1)
            writer.write(octets[:cut])
            await writer.drain()
            octets = octets[cut:]
        writer.write_eof()
        while head := await reader.read(2):
            head += await reader.readexactly(2 - len(head))
            replies.append(await reader.readexactly(int.from_bytes(head, "big")))
    except ConnectionError:
        pass  # closed for what was no DNS
    finally:
        writer.close()
    return replies


async def test_mutated_streams(caplog):
    """TCP: broken framing never stalls or stops the server, and whole messages have whole replies."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    server = Server(Responder(loaded("coredns")))
    await server.listen("127.0.0.1", 0)
    known = list(seeds())
    good = b"".join(len(data).to_bytes(2, "big") + data for data in known[:3])
    try:
        for _ in range(STREAMS):
            async with asyncio.timeout(20):
                replies = await talk(server.port, framed(chance, known), chance)
            assert all(len(reply) >= 12 and reply[2] & 0x80 for reply in replies)
        async with asyncio.timeout(20):
            assert len(await talk(server.port, good, chance)) == 3
    finally:
        await server.aclose()
    assert not caplog.records


class Writer:
    """As much of a StreamWriter as `doh` uses; `protocol` is what TLS agreed on."""

    def __init__(self, protocol):
        self.protocol, self.out = protocol, b""

    def get_extra_info(self, name):
        return self if name == "ssl_object" else None

    def selected_alpn_protocol(self):
        return self.protocol

    def write(self, data):
        self.out += data

    async def drain(self):
        pass


def requests(chance, known, protocol):
    """Octets of a conversation over HTTP, mostly sound."""
    body = mutated(chance, chance.choice(known))
    if protocol == "http/1.1":
        text = base64.urlsafe_b64encode(body).rstrip(b"=")
        head = chance.choice((
            b"GET /dns-query?dns=" + text + b" HTTP/1.1\r\nhost: x\r\n\r\n",
            b"POST /dns-query HTTP/1.1\r\ncontent-type: application/dns-message\r\ncontent-length: %d\r\n\r\n" % len(body) + body,
        ))  # fmt: skip
        return mutated(chance, head)
    client = H2Connection()
    client.initiate_connection()
    fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "x"),
        (":path", "/dns-query"),
    ]
    client.send_headers(1, [*fields, ("content-type", "application/dns-message")])
    client.send_data(1, body, end_stream=True)
    octets = client.data_to_send()
    return octets if chance.randrange(2) else mutated(chance, octets)


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_mutated_requests(protocol):
    """HTTPS: whatever comes, the conversation ends, and nothing is raised."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    server = Server(Responder(loaded("coredns")))
    known = list(seeds())
    statuses = Counter()
    for _ in range(STREAMS):
        reader, writer = asyncio.StreamReader(), Writer(protocol)
        reader.feed_data(requests(chance, known, protocol))
        reader.feed_eof()
        async with asyncio.timeout(20):
            with suppress(asyncio.IncompleteReadError):  # as the server does
                await doh.converse(
                    reader,
                    writer,
                    lambda data: server.way.respond(data, Client("127.0.0.1")),
                    statuses,
                )
    assert statuses[200] > STREAMS // 20
    assert set(statuses) <= {200, 400, 404, 405, 415}
