# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC110  (what is waited for is a count of answers)
"""Servers that fail under load: no wrong answer, and no request lost that could be asked again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest

from lb.policy import BackendPolicy, Outliers
from lb.state import Frontend

from .conftest import Rig, named, pool_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]

F = Frontend("f", "Path(`/`)", "b")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Load:
    """Eight clients that ask without pause; what came, counted."""

    def __init__(self, rig: Rig, method: str = "GET") -> None:
        self.rig = rig
        self.method = method
        self.seen: Counter[object] = Counter()
        self.stop = False

    async def ask(self, session: aiohttp.ClientSession) -> None:
        data = b"x" * 100 if self.method == "POST" else None
        while not self.stop:
            try:
                async with session.request(
                    self.method, f"http://127.0.0.1:{self.rig.port}/", data=data
                ) as answer:
                    self.seen[answer.status, await answer.text()] += 1
            except aiohttp.ClientError as error:
                self.seen[type(error)] += 1

    async def more(self, count: int) -> None:
        wanted = self.seen.total() + count
        async with asyncio.timeout(30):
            while self.seen.total() < wanted:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def load(rig: Rig, method: str = "GET") -> AsyncIterator[Load]:
    one = Load(rig, method)
    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.create_task(one.ask(session)) for _ in range(8)]
        try:
            yield one
        finally:
            one.stop = True
            await asyncio.gather(*tasks)


async def frozen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH\r\n")
    await writer.drain()
    await reader.read()


async def half_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await writer.drain()


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")


@pytest.mark.parametrize(
    "fault", [frozen, hangs_up, resets, garbage, half_a_head, slow], ids=lambda f: f.__name__
)
async def test_a_faulty_server_costs_no_get(rig: Rig, fault: Serve) -> None:
    ports = {"good": await rig.server(named(b"good")), "bad": await rig.server(fault)}
    await rig.apply([F], [replace(pool_of(ports), read_timeout=0.5)])
    async with load(rig) as clients:
        await clients.more(24)
    assert set(clients.seen) == {(200, "good")}


async def test_an_outlier_rule_makes_a_frozen_server_cheap(rig: Rig) -> None:
    ports = {"good": await rig.server(named(b"good")), "bad": await rig.server(frozen)}
    policy = BackendPolicy(outliers=Outliers(consecutive=2, ejection=30.0))
    await rig.apply([F], [replace(pool_of(ports, policy), read_timeout=0.5)])
    async with load(rig) as clients:
        await clients.more(1000)  # at half a second for every second one this would take a minute
    assert set(clients.seen) == {(200, "good")}


async def test_a_post_is_not_asked_again_by_itself(rig: Rig) -> None:
    count = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        await reader.readuntil(b"\r\n\r\n")
        count += 1

    await rig.apply([F], [pool_of({n: await rig.server(answer) for n in "ab"})])
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    assert (await rig.ask(head)).startswith(b"HTTP/1.1 502 ")
    assert count == 1


async def test_a_reset_in_a_body_is_never_a_whole_answer(rig: Rig) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.transport.abort()

    ports = {"good": await rig.server(named(b"good")), "bad": await rig.server(breaks)}
    await rig.apply([F], [pool_of(ports, BackendPolicy(rebalance=False))])
    async with load(rig) as clients:
        await clients.more(200)
    texts = {key for key in clients.seen if isinstance(key, tuple)}
    assert texts == {(200, "good")}
    assert clients.seen.total() > clients.seen[200, "good"]  # the others are errors to the client


async def test_a_server_killed_and_started_again_costs_no_get(rig: Rig) -> None:
    steady = await rig.server(named(b"good"))
    dying = await rig.server(named(b"good"))
    await rig.apply([F], [pool_of({"a": steady, "b": dying})])
    async with load(rig) as clients:
        await clients.more(200)
        rig.closers[-1].close()
        for writer in tuple(rig.writers):
            if writer.get_extra_info("sockname")[1] == dying:
                writer.transport.abort()
        await clients.more(500)
        again = await asyncio.start_server(named(b"good"), "127.0.0.1", dying)
        rig.closers.append(again)
        await clients.more(500)
    assert set(clients.seen) == {(200, "good")}


async def test_a_hundred_changes_a_second_fail_no_request(rig: Rig) -> None:
    ports = {n: await rig.server(named(b"good")) for n in "abc"}
    await rig.apply([F], [pool_of(ports)])
    async with load(rig) as clients:
        for n in range(200):
            names = sorted(ports)[: 1 + n % 3]
            pool = pool_of(
                {name: ports[name] for name in names}, BackendPolicy(slow_start=float(n % 2))
            )
            other = Frontend(f"x{n % 7}", f"Path(`/x{n}`)", "b")
            await rig.apply([replace(F, hostname=f"h{n}"), other], [replace(pool, max_idle=n % 5)])
            await asyncio.sleep(0.01)
    assert clients.seen.total() > 200
    assert set(clients.seen) == {(200, "good")}
