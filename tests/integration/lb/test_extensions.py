# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC110  (the data plane has no events to wait for)
"""Our fields of frontends and listeners on the data plane alone: patience, mirrors, limits (§15.1)."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from lb.policy import FrontendPolicy, ListenerPolicy, Mirror, Patience
from lb.state import Frontend, Listener, Pool, Server

from .conftest import Rig, named, pool_of

pytestmark = [pytest.mark.integration]
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def frontend(policy: FrontendPolicy, **more: object) -> Frontend:
    return Frontend("f", "PathRegexp(`.*`)", "b", policy=policy, **more)  # type: ignore[arg-type]


async def hurried(rig: Rig, asking: asyncio.Task[bytes]) -> bytes:
    """Return the answer, the sweep made every few milliseconds instead of twice a second."""
    async with asyncio.timeout(10):
        while not asking.done():
            await asyncio.sleep(0.005)
            rig.plane.sweep()
    return await asking


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst")
    await reader.read()


@pytest.mark.parametrize("what", ["read", "request"])
async def test_a_frontends_own_timeouts(rig: Rig, what: str) -> None:
    patience = Patience(**{what: 0.05})
    await rig.apply([frontend(FrontendPolicy(patience=patience))], [pool_of(await rig.server(silent))])  # fmt: skip
    answer = await hurried(rig, asyncio.create_task(rig.get()))
    assert answer.startswith(b"HTTP/1.1 504 ")
    post = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\nabc"
    if what == "request":  # however slowly the client sends
        answer = await hurried(rig, asyncio.create_task(rig.ask(post)))
        assert answer.startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize("what", ["write", "request"])
async def test_a_response_that_stalls_is_broken_off(rig: Rig, what: str) -> None:
    patience = Patience(**{what: 0.05})
    await rig.apply([frontend(FrontendPolicy(patience=patience))], [pool_of(await rig.server(slow_body))])  # fmt: skip
    answer = await hurried(rig, asyncio.create_task(rig.get()))
    assert answer in (b"", answer.partition(b"first")[0] + b"first")  # reset, and nothing made up
    (server,) = rig.plane.pools["b"].servers.values()
    assert not server.active


async def test_an_upgraded_connection_may_be_idle_for_so_long(rig: Rig) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while piece := await reader.read(100):
            writer.write(piece)

    policy = FrontendPolicy(patience=Patience(idle=0.1))
    await rig.apply([frontend(policy)], [pool_of(await rig.server(echo))])
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(4):  # longer than that in all, but never still for so long
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await asyncio.sleep(0.04)
        rig.plane.sweep()
    assert await hurried(rig, asyncio.create_task(reader.read())) == b""
    writer.close()
    async with asyncio.timeout(5):
        while rig.plane.upstreams:
            await asyncio.sleep(0.01)


def response(head: bytes, data: bytes) -> object:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + data)

    return answer


@pytest.mark.parametrize(
    ("head", "data", "whole"),
    [
        (b"Content-Length: 8\r\n", b"12345678", True),
        (b"Content-Length: 9\r\n", b"123456789", False),
        (b"Transfer-Encoding: chunked\r\n", b"8\r\n12345678\r\n0\r\n\r\n", True),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\n12345\r\n4\r\n6789\r\n0\r\n\r\n", False),
        (b"Connection: close\r\n", b"12345678", True),
        (b"Connection: close\r\n", b"123456789", False),
    ],
)
async def test_a_response_may_be_so_large(rig: Rig, head: bytes, data: bytes, whole: bool) -> None:
    port = await rig.server(response(head, data))  # type: ignore[arg-type]
    await rig.apply([frontend(FrontendPolicy(max_response=8))], [pool_of(port)])
    answer = await rig.get()
    if whole:
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"12345678" in answer
    elif b"Content-Length" in head:
        assert answer.startswith(b"HTTP/1.1 502 ")
    else:  # the head may be out already: then only a close without an end says it
        assert not answer.endswith(b"0\r\n\r\n")
        assert b"6789" not in answer


async def test_a_mirror_gets_copies_and_nobody_waits_for_it(rig: Rig) -> None:
    copies: Counter[bytes] = Counter()

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = 5 if b"Content-Length: 5" in head else 0
            copies[head.split(b"\r\n")[0] + await reader.readexactly(size)] += 1
            assert b"X-Forwarded-For: 127.0.0.1" in head
            writer.write(b"HTTP/1.1 500 Bad\r\nContent-Length: 3\r\n\r\nbad")

    port = await rig.server(other)
    mirror = Pool("m", (Server("m", "127.0.0.1", port, "m"),), 5.0, 2.0, 15.0, 8)
    policy = FrontendPolicy(mirror=Mirror("m", 50, 8))
    await rig.apply([frontend(policy, replay=8)], [pool_of(await rig.server(named(b"s"))), mirror])
    for _ in range(4):
        assert (await rig.get("/x")).endswith(b"s")
    async with asyncio.timeout(5):
        while rig.plane.mirrors.counts["sent"] < 2:
            await asyncio.sleep(0.005)
    assert copies == {b"GET /x HTTP/1.1": 2}  # every other one

    async def takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\ns")

    policy = FrontendPolicy(mirror=Mirror("m", 100, 8))
    await rig.apply([frontend(policy, replay=8)], [pool_of(await rig.server(takes)), mirror])
    for size in (5, 9):  # the larger one is not kept, so there is no copy of it
        raw = (
            b"POST /y HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
        )
        assert (await rig.ask(raw + b"abcdefghi"[:size])).endswith(b"s")
    async with asyncio.timeout(5):
        while rig.plane.mirrors.counts["sent"] < 3:
            await asyncio.sleep(0.005)
    assert copies == {b"GET /x HTTP/1.1": 2, b"POST /y HTTP/1.1abcde": 1}

    dead = Pool("m", (Server("m", "127.0.0.1", 1, "m"),), 5.0, 2.0, 15.0, 8)
    await rig.apply([frontend(policy)], [pool_of(await rig.server(named(b"s"))), dead])
    assert (await rig.get("/z")).endswith(b"s")
    async with asyncio.timeout(5):
        while rig.plane.mirrors.counts["failed"] < 1:
            await asyncio.sleep(0.005)


async def test_a_listener_takes_so_many_connections(rig: Rig) -> None:
    policy = ListenerPolicy(max_conns=2)
    few = Listener("few", "tcp", f"127.0.0.1:{rig.other}", policy=policy)
    await rig.apply(
        [Frontend("f", "Path(`/`)", "b")], [pool_of(await rig.server(named(b"s")))], few
    )
    open_ = [await asyncio.open_connection("127.0.0.1", rig.other) for _ in range(2)]
    for _, writer in open_:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for reader, _ in open_:
        assert (await reader.readuntil(b"\r\n\r\ns")).startswith(b"HTTP/1.1 200 ")
    assert await rig.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", rig.other) == b""  # closed at once
    open_[0][1].close()
    async with asyncio.timeout(5):
        while rig.plane.listeners["few"].connections == 2:
            await asyncio.sleep(0.005)
    get = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert (await rig.ask(get, rig.other)).endswith(b"s")
    open_[1][1].close()


async def test_a_listeners_own_timeouts(rig: Rig) -> None:
    hasty = Listener(
        "h", "tcp", f"127.0.0.1:{rig.other}", policy=ListenerPolicy(0, 0.05, 0.0, 0.15)
    )
    await rig.apply([Frontend("f", "Path(`/`)", "b")], [pool_of(await rig.server(named(b"s")))], hasty)  # fmt: skip
    begun = b"GET / HTTP/1.1\r\nHost:"
    answer = await hurried(rig, asyncio.create_task(rig.ask(begun, rig.other)))
    assert answer.startswith(b"HTTP/1.1 408 ")
    get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = await hurried(rig, asyncio.create_task(rig.ask(get, rig.other)))
    assert answer.endswith(b"s")  # then, idle, closed
