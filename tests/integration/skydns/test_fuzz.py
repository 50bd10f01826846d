# SPDX-License-Identifier: Apache-2.0
"""Mutated packets: a reply to every query, none to anything else, none too large.

CI takes some; FAIRLEAD_FUZZ=1000000 takes as many.
"""

import os
import random
import time

import pytest

from fairlead.etcd.types import KeyValue, Revision
from skydns import keys, records
from skydns.compiled import Answers
from skydns.cookies import Cookies
from skydns.limit import Limiter
from skydns.policy import PROFILES, Policy
from skydns.state import Served

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PACKETS = int(os.environ.get("FAIRLEAD_FUZZ", "50000"))

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


def seeds():
    for name in NAMES:
        wire = b"".join(bytes((len(label),)) + label for label in name.encode().split(b".")) + b"\0"
        for rtype in TYPES:
            for opt in OPTS:
                yield (
                    b"\0\1\1\0\0\1\0\0\0\0\0"
                    + bytes((bool(opt),))
                    + wire
                    + rtype.to_bytes(2, "big")
                    + b"\0\1"
                    + opt
                )


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


@pytest.mark.parametrize("profile", ["coredns", "strict"])
def test_mutated_packets(profile):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    policy = Policy(frozenset(keys.zones("z.test,10.0.0.0/8")), profile=PROFILES[profile])
    answers = Answers(Served(), policy, time.monotonic)
    answers.loaded = True
    for path, value in STORED.items():
        kv = KeyValue(
            f"/skydns/test/z/{path}".encode(), value.encode(), Revision(1), Revision(1), 1
        )
        answers.served.index.put(records.decode(b"/skydns", kv))
    cookies = Cookies(bytes(16), lambda: 1000.0)
    limiter = Limiter(3, 2, (), cookies, lambda: 0.0)
    known = list(seeds())
    slowest = 0.0
    for _ in range(PACKETS):
        data = mutated(chance, chance.choice(known))
        begun = time.perf_counter()
        reply = answers.quick(data) or answers.reply(data)
        if isinstance(reply, bytes):
            reply = cookies.completed(data, reply, bytes(4))
            limited = limiter.passed(chance.randbytes(4), data, reply[2:])
            assert len(limited) <= max(len(reply), len(data) + 40)
        slowest = max(slowest, time.perf_counter() - begun)
        if len(data) < 12 or data[2] & 0x80:
            assert reply is None, data
        else:
            assert isinstance(reply, bytes), data
            assert reply[:2] == data[:2], data
            assert reply[2] & 0x80, data
            assert len(reply) <= 1232, data
    assert slowest < 0.5
