# SPDX-License-Identifier: Apache-2.0
"""lb/ledger.py: several processes count in the same memory, exactly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lb.ledger import SETS, WAYS, Ledger
from lb.middleware.ratelimit import Rate

pytestmark = pytest.mark.integration
SEATS = 3
TAKER = """
import sys
from lb.ledger import Ledger
from lb.middleware.ratelimit import Rate
pid, tokens, counts, seat = map(int, sys.argv[1:])
ledger = Ledger.of(pid, (tokens, counts), 3, seat)
print("ready", flush=True)
sys.stdin.readline()
got = sum(not ledger.tokens.take(b"k", (Rate(1000000, 1, 500),), 5.0) for _ in range(400))
entered = sum(ledger.counts.enter(b"k", 500, 5.0) for _ in range(400))
print(got, entered, flush=True)
"""


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    found = Ledger.make(SEATS)
    yield found
    found.close()


def test_processes_at_once_never_get_more_than_the_limit(ledger: Ledger) -> None:
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                TAKER,
                str(os.getpid()),
                *map(str, ledger.descriptors),
                str(seat),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seat in range(SEATS)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    told = [process.communicate("go\n")[0].split() for process in processes]
    assert sum(int(got) for got, _ in told) == 500
    assert sum(int(entered) for _, entered in told) == 500
    assert ledger.counts.count(b"k") == 500
    for seat in range(SEATS):
        ledger.counts.clear(seat)
    assert ledger.counts.count(b"k") == 0


def test_tokens_come_back_with_time_and_by_the_slowest_rate(ledger: Ledger) -> None:
    rates = (Rate(1, 2, 2), Rate(10, 3, 3))
    assert [ledger.tokens.take(b"a", rates, 1.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert ledger.tokens.take(b"a", rates, 1.5) == 0.0  # the third of ten seconds
    assert ledger.tokens.take(b"a", rates, 2.5) == pytest.approx((1 - 0.45) / 0.3)
    assert ledger.tokens.take(b"b", rates, 2.5) == 0.0


def test_a_full_set_lets_go_of_what_was_used_longest_ago(ledger: Ledger) -> None:
    same: dict[int, list[bytes]] = {}
    for i in range(SETS * WAYS):
        key = b"%d" % i
        number, _ = ledger.counts.table.lock(key)
        ledger.counts.table.unlock(number)
        keys = same.setdefault(number, [])
        keys.append(key)
        if len(keys) > WAYS + 1:
            break
    first, second, *rest = keys
    for at, key in enumerate((first, second, *rest[: WAYS - 2])):
        assert ledger.counts.enter(key, 1, float(at))
    ledger.counts.leave(second)
    assert ledger.counts.enter(rest[-1], 1, 99.0)  # in the place of the one that holds nothing
    assert ledger.counts.count(rest[-1]) == 1
    assert ledger.counts.count(first) == 1
    assert ledger.counts.enter(b"%d" % -1, 1, 99.0)
