# SPDX-License-Identifier: Apache-2.0
"""What an answer of skydns costs by the size of its batch: missing names beside names that exist.

    python bench/dns_batches.py [--names 10000] [--sizes 4 8 16 30 63] [--answers 100000]

`bench/dns.py` measures the whole program, where the size of the batches is dnsperf's doing and a ratio
of two cases moves by a tenth from run to run. Here one process is both ends: so many queries are sent to
a socket on loopback in one call, the server's loop takes and answers them, that alone is timed, and the
replies are fetched in one call. The cases take turns batch by batch. What the kernel does is in it, the
waiting is not. Of each case the median, microseconds an answer, and the median of its ratios to `hit` of
the same turn.

Cases: `hit` names that exist; `nx` missing ones, with digits like theirs (a tenth is shorter); `same`
missing ones of one length; `stray` missing ones with labels of 4 to 15 octets.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import socket
import statistics
import time
from collections.abc import Callable

from fairlead.etcd.types import KeyValue, Revision
from skydns import keys, records
from skydns.batch import LIBRARY, Message, Vector
from skydns.compiled import Answers
from skydns.fastpath import Loop
from skydns.places import PLACES
from skydns.policy import Policy
from skydns.state import Served

ZONE = "skydns.test"
_REPLY = 512


class Datagrams:
    """Places for datagrams that one call sends, or fills."""

    def __init__(self, datagrams: list[bytes]) -> None:
        self.count = len(datagrams)
        self._held = [ctypes.create_string_buffer(each, len(each)) for each in datagrams]
        self._vectors, self._messages = (Vector * self.count)(), (Message * self.count)()
        for held, vector, message in zip(self._held, self._vectors, self._messages, strict=True):
            vector.base, vector.size = ctypes.addressof(held), len(held)
            message.vectors, message.vector_count = ctypes.addressof(vector), 1
        self.at = ctypes.addressof(self._messages)


def query(label: str) -> bytes:
    """Return a question for an address."""
    name = b"".join(bytes((len(x),)) + x.encode() for x in (label, *ZONE.split(".")))
    return b"\0\0\1\0\0\1\0\0\0\0\0\0" + name + b"\0\0\1\0\1"


def digits(names: int) -> str:
    """Return a hexadecimal number with as many digits as one of the names has."""
    count = len(str(random.randrange(names)))
    return f"{random.randrange(16**count):0{count}x}"


def filled(names: int) -> Answers:
    """Return answers for so many names, all asked for once."""
    answers = Answers(Served(), Policy(frozenset(keys.zones(ZONE))), time.monotonic)
    answers.loaded = True
    for at in range(names):
        value = b'{"host":"10.1.%d.%d"}' % (at >> 8 & 255, at & 255)
        item = KeyValue(b"/skydns/test/skydns/n%d" % at, value, Revision(1), Revision(1), 1)
        answers.served.index.put(records.decode(b"/skydns", item))
    for at in range(names):
        answers.reply(query(f"n{at}"))
    return answers


def measure(cases: dict[str, Callable[[], str]], answers: Answers, count: int, turns: int) -> None:
    """Print what an answer costs in batches of `count`."""
    server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for each in (server, client):
        each.bind(("127.0.0.1", 0))
        each.setblocking(False)
    client.connect(server.getsockname())
    loops = {case: Loop(server, answers, lambda *_: None) for case in cases}
    batches = {
        case: [Datagrams([query(label()) for _ in range(count)]) for _ in range(300)]
        for case, label in cases.items()
    }
    replies = Datagrams([bytes(_REPLY)] * PLACES)
    took: dict[str, list[float]] = {case: [] for case in cases}
    for turn in range(turns):
        for case, loop in loops.items():
            batch = batches[case][turn % 300]
            sent = LIBRARY.sendmmsg(client.fileno(), batch.at, count, 0)
            begun = time.perf_counter()
            loop.drain()
            took[case].append((time.perf_counter() - begun) / count * 1e6)
            got = LIBRARY.recvmmsg(client.fileno(), replies.at, PLACES, 0, None)
            if not sent == got == count:
                raise SystemExit(f"{case}: {sent} of {count} sent, {got} answered")
    shown = "  ".join(
        f"{case} {statistics.median(each):5.2f} ({_ratio(each, took['hit']):.2f})"
        for case, each in took.items()
    )
    print(f"batches of {count:2}: {shown}", flush=True)
    server.close()
    client.close()


def _ratio(of: list[float], to: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


def main() -> None:
    """Measure by sizes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--names", type=int, default=10_000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[4, 8, 16, 30, 63])
    parser.add_argument("--answers", type=int, default=100_000)
    given = parser.parse_args()
    if LIBRARY is None:
        raise SystemExit("no recvmmsg here")
    random.seed(1)
    answers = filled(given.names)
    cases: dict[str, Callable[[], str]] = {
        "hit": lambda: f"n{random.randrange(given.names)}",
        "nx": lambda: f"x{digits(given.names)}",
        "same": lambda: f"x{random.randrange(16**4):04x}",
        "stray": lambda: "x" + "".join(random.choices("0123456789abcdef", k=random.randint(3, 14))),
    }
    for label in cases.values():
        for _ in range(3000):  # so that there are templates
            answers.reply(query(label()))
    print(f"{given.names} names; us an answer, in brackets by hit")
    for count in given.sizes:
        measure(cases, answers, count, given.answers // count)


if __name__ == "__main__":
    main()
