# SPDX-License-Identifier: Apache-2.0
"""`fairlead etcd` beside a real etcd, through the same client in the same run.

    .venv/bin/python -m bench.embedded [--quick]

Both write to disk before they answer. Single-call latency (one put or get at a time), rate with 64
puts under way, a list of 20,000 keys, watch delay, memory and start. The ratio is ours ÷ etcd's.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.etcd.store import Store
from fairlead.etcd.types import KeyRange, Put, WatchRequest
from fairlead.testing.etcd import Cluster, Node, fairlead_etcd

ROUNDS = 5
VALUE = b"v" * 200
Figures = dict[str, float]


async def latency(call: Callable[[], Awaitable[object]], count: int) -> tuple[float, float]:
    """Return p50 and p99 of `count` calls, one after the other, in milliseconds."""
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await call()
        times.append((time.perf_counter() - begun) * 1000)
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


async def rate(store: Store, count: int, width: int = 64) -> float:
    """Return puts a second with `width` under way."""
    left = iter(range(count))

    async def worker() -> None:
        for number in left:
            await store.put(b"/rate/%d" % number, VALUE)

    begun = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(width)))
    return count / (time.perf_counter() - begun)


async def listing(store: Store, keys: int, *, fill: bool) -> float:
    """Return the seconds that a list of `keys` keys takes, in pages."""
    for start in range(0, keys if fill else 0, 100):
        await store.txn(success=[Put(b"/l/%07d" % n, VALUE) for n in range(start, start + 100)])
    begun = time.perf_counter()
    found = 0
    async for page in store.pages(KeyRange.prefix(b"/l/")):
        found += len(page.kvs)
    assert found == keys
    return time.perf_counter() - begun


async def watch_delay(store: Store, count: int) -> float:
    """Return the p50 from the call of a put to its event, in milliseconds."""
    times = []
    async with store.watch(WatchRequest(KeyRange(b"/w"))) as watching:
        answers = aiter(watching)
        await anext(answers)
        for _ in range(count):
            begun = time.perf_counter()
            put = asyncio.ensure_future(store.put(b"/w", VALUE))
            await anext(answers)
            times.append((time.perf_counter() - begun) * 1000)
            await put
    return statistics.median(times)


async def measure(node: Node, scale: int, turn: int) -> Figures:
    """Return one round's figures of a server that has been warmed."""
    async with connect(Options((node.endpoint,))) as store:
        await latency(lambda: store.get(b"/k"), 20)
        put50, put99 = await latency(lambda: store.put(b"/k", VALUE), 300 // scale)
        get50, get99 = await latency(lambda: store.get(b"/k"), 300 // scale)
        return {
            "put p50, ms": put50,
            "put p99, ms": put99,
            "get p50, ms": get50,
            "get p99, ms": get99,
            "puts a second, 64 under way": await rate(store, 3000 // scale),
            "watch p50, ms": await watch_delay(store, 200 // scale),
            "list of 20,000 keys, s": await listing(store, 20_000, fill=turn == 0),
        }


def rss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"no VmRSS for {pid}")


@asynccontextmanager
async def durable_etcd(directory: Path) -> AsyncIterator[Node]:
    """Run a real etcd that writes to disk before it answers, as ours does."""
    await asyncio.to_thread(directory.mkdir)
    cluster = Cluster(directory, 1)
    node = cluster.nodes[0]
    node.arguments = ("--unsafe-no-fsync=false",)
    try:
        await cluster.start()
        yield node
    finally:
        await cluster.aclose()


async def main() -> None:
    scale = 10 if "--quick" in sys.argv else 1
    figures: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-embedded-")))
        nodes: list[Node] = []
        for which, server in enumerate(
            (fairlead_etcd(directory / "ours"), durable_etcd(directory / "etcd"))
        ):
            begun = time.perf_counter()
            nodes.append(await stack.enter_async_context(server))
            figures["ready after, s"][which].append(time.perf_counter() - begun)
            figures["RSS when empty, MiB"][which].append(rss(nodes[which].pid))
        for turn in range(ROUNDS):
            # in turns, so that what else the machine does falls on both
            for which, node in enumerate(nodes):
                for name, value in (await measure(node, scale, turn)).items():
                    figures[name][which].append(value)
        for which, node in enumerate(nodes):
            figures["RSS then, MiB"][which].append(rss(node.pid))
    print(
        f"{'medians of ' + str(ROUNDS) + ' rounds':32} {'fairlead etcd':>14} {'etcd':>10} {'ratio':>7}"
    )
    for name, (ours, etcds) in figures.items():
        one, other = statistics.median(ours), statistics.median(etcds)
        print(f"{name:32} {one:14.3f} {other:10.3f} {one / other:7.2f}")


if __name__ == "__main__":
    asyncio.run(main())
