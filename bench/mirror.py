# SPDX-License-Identifier: Apache-2.0
"""Mirror load and latency on a real etcd, beside the bare client in the same run.

    python bench/mirror.py [keys ...]          default 10000 100000

Load: seconds until the first full snapshot is delivered, beside the bare paged list; MiB, and
bytes a key beyond key and value (tracemalloc, undecoded; bar 300). Latency: a put until its
change is in the view, beside a bare put and a bare put + watch event (p50, p99).
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable

from fairlead.etcd.client import Client
from fairlead.etcd.mirror import Mirror
from fairlead.etcd.options import Options
from fairlead.etcd.types import KeyRange, Put, WatchRequest
from fairlead.testing.etcd import real_etcd

BARS = {"seconds at 100k keys": 5.0, "bytes a key": 300.0}
ROUNDS = 500


async def fill(client: Client, keys: int) -> KeyRange:
    """Write `keys` keys of 40 bytes with values of 100."""
    prefix = b"/bench/%d/" % keys
    for start in range(0, keys, 1000):
        await asyncio.gather(
            *(
                client.txn(
                    success=[Put(prefix + b"%030d" % n, b"v" * 100) for n in range(at, at + 100)],
                    repeatable=True,
                )
                for at in range(start, min(start + 1000, keys), 100)
            )
        )
    return KeyRange.prefix(prefix)


async def load(client: Client, keys: KeyRange) -> float:
    """Return the seconds a mirror takes to its first snapshot."""
    mirror = Mirror(client, keys, name="bench")
    begun = time.perf_counter()
    task = asyncio.create_task(mirror.run())
    await mirror.ready()
    taken = time.perf_counter() - begun
    await stop(task)
    return taken


async def bare_list(client: Client, keys: KeyRange) -> float:
    begun = time.perf_counter()
    async for _ in client.pages(keys):
        pass
    return time.perf_counter() - begun


async def memory(client: Client, keys: KeyRange) -> tuple[float, float]:
    """Return MiB held, and bytes a key beyond key and value."""
    gc.collect()
    tracemalloc.start()
    mirror = Mirror(client, keys, name="bench")
    task = asyncio.create_task(mirror.run())
    await mirror.ready()
    await asyncio.sleep(0.2)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    content = sum(len(kv.key) + len(kv.value) for kv in mirror.data.values())
    each = (held - content) / len(mirror.data)
    await stop(task)
    return held / 2**20, each


async def stop(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def timed(call: Callable[[], Awaitable[object]]) -> list[float]:
    found = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        await call()
        found.append((time.perf_counter() - begun) * 1e3)
    return found


def show(what: str, times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=100)
    return f"  {what:<34} p50 {cuts[49]:6.2f} ms   p99 {cuts[98]:6.2f} ms"


async def latency(client: Client, writer: Client, keys: KeyRange) -> list[str]:
    key = keys.start + b"latency"
    lines = [show("bare put", await timed(lambda: writer.put(key, b"x")))]
    async with client.watch(WatchRequest(keys)) as watch:
        answers = aiter(watch)
        await anext(answers)

        async def put_and_event() -> None:
            done = await writer.put(key, b"x")
            while True:
                answer = await anext(answers)
                if answer.events and answer.events[-1].kv.mod_revision >= done.header.revision:
                    return

        lines.append(show("bare client: put → watch event", await timed(put_and_event)))
    mirror = Mirror(client, keys, name="bench")
    task = asyncio.create_task(mirror.run())
    await mirror.ready()

    async def put_and_view() -> None:
        done = await writer.put(key, b"x")
        await mirror.at_least(done.header.revision)

    await put_and_view()
    lines.append(show("mirror: put → view", await timed(put_and_view)))
    await stop(task)
    return lines


async def main(sizes: list[int]) -> int:
    failed = []
    async with real_etcd() as cluster:
        options = Options(endpoints=cluster.endpoints)
        client, writer = Client(options), Client(options)
        version = (await client.status()).version
        print(
            f"etcd {version}, one node; keys of 40 bytes, values of 100; page {options.page_keys}"
        )
        for size in sizes:
            keys = await fill(writer, size)
            listed = min([await bare_list(client, keys) for _ in range(3)])
            loaded = min([await load(client, keys) for _ in range(3)])
            mib, each = await memory(client, keys)
            print(
                f"load {size:>7} keys: mirror {loaded:.2f} s (bare list {listed:.2f} s), "
                f"{mib:.1f} MiB, {each:.0f} bytes a key beyond key and value"
            )
            if size >= 100_000 and loaded > BARS["seconds at 100k keys"]:
                failed.append(f"{size} keys took {loaded:.2f} s")
            if size >= 10_000 and each > BARS["bytes a key"]:
                failed.append(f"{each:.0f} bytes a key at {size} keys")
            print(f"latency with {size} keys in view:")
            print("\n".join(await latency(client, writer, keys)))
        await client.aclose()
        await writer.aclose()
    for line in failed:
        print(f"BAR MISSED: {line}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main([int(n) for n in sys.argv[1:]] or [10_000, 100_000])))
