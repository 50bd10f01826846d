# SPDX-License-Identifier: Apache-2.0
"""The data plane alone: balancing, large bodies, upgraded connections, PROXY headers; real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from dataclasses import replace

import pytest

from lb.policy import (
    BackendPolicy,
    FrontendPolicy,
    HealthCheck,
    Outliers,
    Retry,
    ServerPolicy,
    Sticky,
)
from lb.probe import Prober
from lb.state import Frontend, Listener

from .conftest import Rig, named, pool_of

pytestmark = [pytest.mark.integration]

F = Frontend("f", "Path(`/`)", "b")
ANY = Frontend("f", "PathRegexp(`.*`)", "b")


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


async def names(rig: Rig, count: int, *fields: str) -> Counter[bytes]:
    return Counter([body(await rig.get("/", *fields)) for _ in range(count)])


async def trio(rig: Rig) -> dict[str, int]:
    return {name: await rig.server(named(name.encode())) for name in ("a", "b", "c")}


async def test_a_draining_server_and_a_backup_get_nothing(rig: Rig) -> None:
    ports = await trio(rig)
    pool = pool_of(ports, b=ServerPolicy(draining=True), c=ServerPolicy(backup=True))
    await rig.apply([F], [pool])
    assert await names(rig, 6) == {b"a": 6}
    pool = pool_of(
        ports,
        a=ServerPolicy(draining=True),
        b=ServerPolicy(draining=True),
        c=ServerPolicy(backup=True),
    )
    await rig.apply([F], [pool])
    assert await names(rig, 3) == {b"c": 3}


async def test_least_connections_passes_over_a_busy_server(rig: Rig) -> None:
    hold = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await hold.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

    ports = {"a": await rig.server(slow), "b": await rig.server(named(b"fast"))}
    await rig.apply([F], [pool_of(ports, BackendPolicy(balance="least_conn"))])
    waiting = [asyncio.create_task(rig.get()) for _ in range(2)]
    await asyncio.sleep(0.1)
    assert await names(rig, 5) == {b"fast": 5}
    hold.set()
    assert {body(answer) for answer in await asyncio.gather(*waiting)} >= {b"slow"}


async def test_hash_keeps_a_key_at_its_server(rig: Rig) -> None:
    ports = await trio(rig)
    await rig.apply(
        [F], [pool_of(ports, BackendPolicy(balance="hash", hash_on="request.header.X-User"))]
    )
    seen = {user: await names(rig, 3, f"X-User: {user}") for user in map(str, range(12))}
    assert all(len(found) == 1 for found in seen.values())
    assert len({next(iter(found)) for found in seen.values()}) > 1


async def test_sticky_cookie_outlives_draining(rig: Rig) -> None:
    ports = await trio(rig)
    policy = BackendPolicy(sticky=Sticky("lb"))
    await rig.apply([F], [pool_of(ports, policy)])
    first = await rig.get()
    cookie = first.partition(b"Set-Cookie: ")[2].partition(b";")[0].decode()
    assert cookie.startswith("lb=")
    again = await rig.get("/", f"Cookie: a=b; {cookie}")
    assert body(again) == body(first)
    assert b"Set-Cookie" not in again
    name = body(first).decode()
    await rig.apply([F], [pool_of(ports, policy, **{name: ServerPolicy(draining=True)})])
    assert body(await rig.get("/", f"Cookie: {cookie}")) == body(first)
    assert body(await rig.get()) != body(first)


async def test_most_connections_of_a_server(rig: Rig) -> None:
    hold = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await hold.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
        await writer.drain()

    await rig.apply([F], [pool_of(await rig.server(slow), s=ServerPolicy(max_conns=1))])
    first = asyncio.create_task(rig.get())
    await asyncio.sleep(0.1)
    assert (await rig.get()).startswith(b"HTTP/1.1 503 ")
    hold.set()
    assert body(await first) == b"slow"


async def test_an_outlier_is_left_out_for_a_while(rig: Rig) -> None:
    ports = {"a": await rig.server(named(b"bad", b"503 No")), "b": await rig.server(named(b"good"))}
    policy = BackendPolicy(outliers=Outliers(consecutive=3, ejection=1.5), rebalance=False)
    await rig.apply([F], [pool_of(ports, policy)])
    assert (await names(rig, 10))[b"bad"] == 5
    await asyncio.sleep(0.6)
    assert await names(rig, 10) == {b"good": 10}
    await asyncio.sleep(1.6)
    assert (await names(rig, 4))[b"bad"] == 2


async def test_half_of_a_pool_at_most_is_left_out(rig: Rig) -> None:
    ports = {n: await rig.server(named(n.encode(), b"503 No")) for n in "ab"}
    policy = BackendPolicy(outliers=Outliers(consecutive=1, ejection=5.0), rebalance=False)
    await rig.apply([F], [pool_of(ports, policy)])
    await names(rig, 8)
    await asyncio.sleep(0.6)
    assert sum((await names(rig, 4)).values()) == 4
    assert len(rig.plane.pools["b"].usable) == 1


async def test_retries_stop_at_the_budget(rig: Rig) -> None:
    count = 0

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        await reader.readuntil(b"\r\n\r\n")
        count += 1

    ports = {n: await rig.server(reset) for n in "ab"}
    retry = Frontend("f", "Path(`/`)", "b", failover="IsNetworkError() && Attempts() < 10")
    await rig.apply(
        [retry], [pool_of(ports, BackendPolicy(retry=Retry(budget=0, minimum=4), rebalance=False))]
    )
    for _ in range(4):
        assert (await rig.get()).startswith(b"HTTP/1.1 502 ")
    assert count <= 4 + 4 + 2  # requests, the budget, what time gave back meanwhile


async def test_split_sends_a_share_elsewhere(rig: Rig) -> None:
    main, canary = await rig.server(named(b"main")), await rig.server(named(b"canary"))
    frontend = Frontend("f", "Path(`/`)", "b", policy=FrontendPolicy(split=(("c", 25),)))
    await rig.apply([frontend], [pool_of(main), replace(pool_of(canary), id="c")])
    assert await names(rig, 20) == {b"main": 15, b"canary": 5}


async def test_priority_wins_over_the_order_of_texts(rig: Rig) -> None:
    one, two = await rig.server(named(b"regexp")), await rig.server(named(b"host"))
    await rig.apply(
        [
            Frontend("r", "PathRegexp(`.*`)", "b"),
            Frontend("h", "Host(`a`)", "c", policy=FrontendPolicy(priority=10)),
        ],
        [pool_of(one), replace(pool_of(two), id="c")],
    )
    assert body(await rig.get()) == b"host"


async def test_checks_take_a_server_out_and_survive_a_change(rig: Rig) -> None:
    good = True

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            status = b"200 OK" if good or b"/health" not in head else b"500 No"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 4\r\n\r\nsick" % status)

    ports = {"a": await rig.server(answer), "b": await rig.server(named(b"well"))}
    check = HealthCheck(path="/health", interval=0.05, timeout=0.5, rise=2, fall=2)
    policy = BackendPolicy(check=check, rebalance=False)
    await rig.apply([F], [pool_of(ports, policy)])
    prober = asyncio.create_task(Prober(rig.plane).run())
    try:
        assert len(await names(rig, 4)) == 2
        good = False
        await asyncio.sleep(0.5)
        assert await names(rig, 4) == {b"well": 4}
        await rig.apply(
            [F], [pool_of(ports, BackendPolicy(check=check, rebalance=False, balance="p2c"))]
        )
        assert await names(rig, 4) == {b"well": 4}, (
            "a change of settings forgot what the check found"
        )
        good = True
        await asyncio.sleep(0.5)
        assert (await names(rig, 12))[b"sick"] > 0
    finally:
        prober.cancel()


async def test_tcp_check_of_a_closed_port(rig: Rig) -> None:
    live = await rig.server(named(b"live"))
    check = HealthCheck(type="tcp", interval=0.05, fall=1)
    await rig.apply([F], [pool_of({"a": live, "b": 1}, BackendPolicy(check=check))])
    prober = asyncio.create_task(Prober(rig.plane).run())
    await asyncio.sleep(0.4)
    prober.cancel()
    assert [s.spec.id for s in rig.plane.pools["b"].usable] == ["a"]


# large bodies and tunnels: splice


async def test_a_large_response_arrives_whole(rig: Rig) -> None:
    data = os.urandom(1 << 20) * 5

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
            await writer.drain()

    await rig.apply([F], [pool_of(await rig.server(answer))])
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=1 << 16)
    for pause in (0.0, 0.2):  # the second time a client that reads late: the pipe and socket fill
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(pause)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(data)) == data
    writer.close()
    assert len(rig.plane.upstreams) == 1, "the connection was kept after a spliced body"


async def test_a_large_upload_arrives_whole(rig: Rig) -> None:
    data = os.urandom(1 << 20) * 6

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            digest = hashlib.sha256(await reader.readexactly(len(data))).hexdigest().encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + digest)

    await rig.apply([F], [pool_of(await rig.server(answer))])
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(
        data
    )
    assert body(await rig.ask(head + data)) == hashlib.sha256(data).hexdigest().encode()


async def test_a_server_that_dies_in_a_large_body_costs_the_client_its_connection(rig: Rig) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(4000000))
        await writer.drain()

    await rig.apply([F], [pool_of(await rig.server(answer))])
    try:
        got = body(await rig.get())
    except ConnectionError:
        return
    assert len(got) < 9000000


async def test_a_tunnel_carries_bulk_both_ways(rig: Rig) -> None:
    data = os.urandom(1 << 20) * 3

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()

    await rig.apply([F], [pool_of(await rig.server(echo))])
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    for _ in range(2):
        writer.write(b"small")
        assert await reader.readexactly(5) == b"small"
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
    writer.close()
    for _ in range(100):
        await asyncio.sleep(0.02)
        if not rig.plane.upstreams:
            break
    assert not rig.plane.upstreams, "the server's side stayed open"


async def test_a_client_that_pipelines_and_does_not_read_is_made_to_wait(rig: Rig) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60000))
            await writer.drain()

    await rig.apply([F], [pool_of(await rig.server(answer))])
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=1 << 16)
    count = 600
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * count)
    await asyncio.sleep(0.5)
    served = rig.plane.pools["b"].servers
    assert sum(s.requests for s in served.values()) < count, "answers pile up in memory"
    for _ in range(count):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(60000)
    writer.close()
    # none was asked twice: a server's connection that was made to wait went on with the next request
    assert sum(s.requests for s in served.values()) == count


# PROXY headers


async def seen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the request's own head."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
        await writer.drain()


async def test_a_proxy_header_names_the_client(rig: Rig) -> None:
    port = rig.other
    listener = Listener("p", "tcp", f"127.0.0.1:{port}", proxy="PROXY")
    await rig.apply([F], [pool_of(await rig.server(seen))], listener)
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    one = await rig.ask(b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\n" + request, port)
    assert b"X-Forwarded-For: 192.0.2.7\r\n" in one
    two = await rig.ask(
        bytes.fromhex("0d0a0d0a000d0a515549540a 2111000c c0000208 c6336401 1388 0050") + request,
        port,
    )
    assert b"X-Forwarded-For: 192.0.2.8\r\n" in two
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in await rig.ask(request, port)
    assert await rig.ask(b"PROXY TCP4 nonsense\r\n" + request, port) == b""


async def test_a_proxy_header_is_believed_from_trusted_networks_only(rig: Rig) -> None:
    port = rig.other
    listener = Listener(
        "p", "tcp", f"127.0.0.1:{port}", proxy="PROXY_V1", trusted=("192.0.2.0/24",)
    )
    await rig.apply([F], [pool_of(await rig.server(seen))], listener)
    answer = await rig.ask(
        b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", port
    )
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_server_is_told_the_client_by_a_proxy_header(rig: Rig, version: str) -> None:
    async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"HTTP/1.1\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
        await writer.drain()
        await reader.read()

    await rig.apply([F], [pool_of(await rig.server(first), BackendPolicy(send_proxy=version))])
    for _ in range(2):  # a connection is one client's
        got = body(await rig.get())
        assert got.startswith(
            b"PROXY TCP4 127.0.0.1 127.0.0.1 " if version == "v1" else b"\r\n\r\n\0\r\nQUIT\n"
        )


async def test_a_server_that_answers_early_gets_no_second_request_amid_a_body(rig: Rig) -> None:
    heads: list[bytes] = []

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await asyncio.sleep(0.3)  # the body stays where it is
        while True:
            line = await reader.readline()
            if line.startswith(b"GET "):
                heads.append(line)

    await rig.apply([F], [pool_of(await rig.server(early))])
    body_of = bytes(100_000) * 70
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body_of) + body_of
    )
    await reader.readuntil(b"ok")
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.sleep(0.5)
    writer.close()
    assert not [head for head in heads[1:] if head.startswith(b"GET / HTTP/1.1\r\n\0")]
    assert all(head.startswith((b"POST / ", b"GET / ")) for head in heads)


async def test_an_answer_502_is_tried_again_however_often_it_came(rig: Rig) -> None:
    async def bad(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 502 No\r\nDate: x\r\nContent-Length: 3\r\n\r\nbad")

    ports = {"a": await rig.server(bad)}
    await rig.apply([F], [pool_of(ports, BackendPolicy(rebalance=False))])
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    for _ in range(3):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"bad")).startswith(b"HTTP/1.1 502 ")
    ports["b"] = await rig.server(named(b"good"))
    await rig.apply([F], [pool_of(ports, BackendPolicy(rebalance=False))])
    for _ in range(6):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"good")).startswith(b"HTTP/1.1 200 ")
    writer.close()
