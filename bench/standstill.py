# SPDX-License-Identifier: Apache-2.0
"""Notice when the machine itself is slow: a guest whose host has other guests.

A late answer is the program's fault only if the program could run. One watcher a core, before all
ordinary processes (SCHED_FIFO), wakes up each millisecond and does the same 15 µs of arithmetic;
nothing but the kernel and the host can hold it up. When that takes three times the usual, or comes
half a millisecond late, the core was not all ours: benches of tail latencies leave out what fell
into that time, for every program alike, and print how much it was.

Written on a host that, about once a second, let this guest's cores run at a tenth of their speed
for 20 to 80 ms, with nothing of it in the guest's "steal" time: plain arithmetic took ten times as
long, a round trip through the kernel too, no other process ran, and the p99 of nginx was 50 ms.
"""

from __future__ import annotations

import bisect
import contextlib
import gc
import itertools
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

_EACH = 0.001  # seconds between two looks
_LATE = 0.0005  # seconds; a sound core is 0.1 ms late
_SLOW = 3.0  # times the usual
_LOOP = 1500  # turns of nothing: about 15 µs, so 1.5 % of a core
_NEAR = 0.03  # seconds; what is slow twice within that is slow in between
_AFTER = 2.0  # times its length: what piled up at half load takes once to be worked off


class Standstills:
    """The spans in which a core was not all ours, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []

    def add(self, spans: list[tuple[float, float]]) -> None:
        """Take further spans in, each with the time to catch up; those that overlap become one."""
        slow = _joined(spans, _NEAR)
        self.spans = _joined(
            self.spans + [(begin, end + _NEAR + _AFTER * (end - begin)) for begin, end in slow], 0.0
        )

    def at(self, begin: float, end: float | None = None) -> bool:
        """Whether a core was slow at a time, or at some time between two."""
        until = begin if end is None else end
        after = bisect.bisect_right(self.spans, (until, float("inf")))
        return after > 0 and self.spans[after - 1][1] >= begin


@contextlib.contextmanager
def watched() -> Iterator[Standstills]:
    """Watch all cores; what is yielded has its spans when the block has ended.

    It has none, and that is printed, where nobody may run before others (not root).
    """
    found = Standstills()
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        print("not root: what the machine itself was slow in is not left out")
        yield found
        return
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    watchers = [
        subprocess.Popen(
            [sys.executable, "-S", __file__, str(core)], stdout=subprocess.PIPE, text=True
        )
        for core in sorted(os.sched_getaffinity(0))
    ]
    try:
        for watcher in watchers:
            assert watcher.stdout is not None
            watcher.stdout.readline()
        yield found
    finally:
        for watcher in watchers:
            watcher.send_signal(signal.SIGTERM)
        told = [watcher.communicate()[0] for watcher in watchers]
        for text in told:
            found.add(_slow([tuple(map(float, line.split())) for line in text.splitlines()]))


def _joined(spans: list[tuple[float, float]], near: float) -> list[tuple[float, float]]:
    """Return the spans in order, those that overlap or are nearer than that (seconds) as one."""
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1] + near:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _slow(looks: list[tuple[float, ...]]) -> list[tuple[float, float]]:
    """Return the spans before looks that came late or took long; a look is (begin, seconds)."""
    usual = statistics.median([took for _, took in looks] or [0.0])
    return [
        (was, now + took)
        for (was, _), (now, took) in itertools.pairwise(looks)
        if took > _SLOW * usual or now - was > _EACH + _LATE
    ]


def _watch(core: int) -> None:
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    looks: list[tuple[float, float]] = []

    def stop(*_: object) -> None:
        sys.stdout.write("".join(f"{begin} {took}\n" for begin, took in looks))
        sys.stdout.flush()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    gc.disable()
    print("watching", flush=True)
    clock, sleep, turns, parent = time.monotonic, time.sleep, range(_LOOP), os.getppid()
    while os.getppid() == parent:
        sleep(_EACH)
        begin = clock()
        for _ in turns:
            pass
        looks.append((begin, clock() - begin))


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
