# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC110  (the data plane has no events to wait for)
"""Traps of forwarding and answers, each named by its section of specs/vulcand.md; real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lb.policy import SERVER, FrontendPolicy, Patience
from lb.state import Frontend, Middleware, Pool, Server

from .conftest import Rig, named, pool_of

pytestmark = [pytest.mark.integration]
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NOT_FOUND = b'{"error":"not found"}'


def front(**more: Any) -> Frontend:
    return Frontend("f", "PathRegexp(`.*`)", "b", **more)


def says(raw: bytes) -> Answer:
    """Return a server that answers every head with these bytes, and closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()

    return answer


async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the request's own head."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
        await writer.drain()


async def forwarded(rig: Rig, *fields: str, host: str = "h", **more: Any) -> list[str]:
    """Return the lines of the head that a server gets."""
    await rig.apply([front(**more)], [pool_of(await rig.server(mirror))])
    lines = "".join(f"{field}\r\n" for field in fields)
    raw = f"GET /a//b?x=%20 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n"
    answer = await rig.ask(raw.encode())
    return answer.decode("latin-1").split("\r\n\r\n")[1].split("\r\n")


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


# ---------------------------------------------------------------------- §1, §7 retries


def limited(burst: int) -> Middleware:
    body = {"PeriodSeconds": 60, "Requests": 1, "Burst": burst, "Variable": "client.ip"}
    return Middleware("rl", "ratelimit", 0, body)


async def test_1_trap_each_try_passes_the_middlewares_again(rig: Rig) -> None:
    predicate = "IsNetworkError() && Attempts() <= 5"
    spec = front(failover=predicate, middlewares=(limited(2),))
    await rig.apply([spec], [pool_of({"a": 1, "b": 2})])
    assert (await rig.get()).startswith(b"HTTP/1.1 429 ")  # the third try met an empty bucket


async def test_7_eleven_tries_at_most(rig: Rig) -> None:
    bad = says(b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n")
    await rig.apply([front(failover="Attempts() < 99")], [pool_of(await rig.server(bad))])
    assert (await rig.get()).startswith(b"HTTP/1.1 502 ")
    (server,) = rig.plane.pools["b"].servers.values()
    assert server.requests == 11


@pytest.mark.parametrize(
    ("predicate", "tries"),
    [
        ("IsNetworkError() && Attempts() <= 1", 2),  # one more
        ("ResponseCode() == 503 && Attempts() < 3", 3),
        ('RequestMethod() == "POST"', 1),
        ("!IsNetworkError() && Attempts() < 2", 2),
    ],
)
async def test_7_what_is_tried_again(rig: Rig, predicate: str, tries: int) -> None:
    network = predicate.startswith("IsNetwork")
    bad = says(b"HTTP/1.1 %d Bad\r\nContent-Length: 0\r\n\r\n" % (502 if network else 503))
    await rig.apply([front(failover=predicate)], [pool_of(await rig.server(bad))])
    await rig.get()
    (server,) = rig.plane.pools["b"].servers.values()
    assert server.requests == tries


async def test_3_3_a_body_larger_than_memory_is_sent_again(rig: Rig) -> None:
    data, seen = bytes(range(256)) * 4096, []

    async def second_time(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        seen.append(await reader.readexactly(len(data)))
        writer.write(b"HTTP/1.1 50%d X\r\nContent-Length: 0\r\n\r\n" % (2 if len(seen) < 3 else 0))

    spec = front(failover="IsNetworkError() && Attempts() <= 5", replay=1000, spill=1 << 21)
    await rig.apply([spec], [pool_of(await rig.server(second_time))])
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(
        data
    )
    assert statuses(await rig.ask(head + data)) == [500]
    assert seen == [data] * 3


async def test_7_503_for_no_servers_is_no_network_error(rig: Rig) -> None:
    await rig.apply([front()], [pool_of({})])
    answer = await rig.get()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"Service Unavailable")


# ---------------------------------------------------------------------- §8 what a server gets


async def test_8_not_trusted(rig: Rig) -> None:
    claims = [f"X-Forwarded-{name}: 9" for name in ("For", "Proto", "Host", "Port", "Server")]
    lines = await forwarded(rig, *claims, "X-Real-Ip: 9", host="h:81")
    assert lines[0] == "GET /a//b?x=%20 HTTP/1.1"  # byte for byte
    told = sorted(line for line in lines if line.startswith("X-"))
    assert told == [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: h:81",
        "X-Forwarded-Port: 81",
        "X-Forwarded-Proto: http",
        "X-Real-Ip: 127.0.0.1",
    ]


async def test_8_trusted(rig: Rig) -> None:
    claims = ["For: 1.1.1.1", "For: 2.2.2.2", "Proto: https", "Host: x", "Server: s"]
    lines = await forwarded(
        rig, *(f"X-Forwarded-{c}" for c in claims), "X-Real-Ip: 9", trust_forward=True
    )
    assert "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 127.0.0.1" in lines
    for line in ("Proto: https", "Host: x", "Server: s", "Port: 443"):
        assert f"X-Forwarded-{line}" in lines
    assert "X-Real-Ip: 9" in lines


async def test_8_trap_connection_strips_no_field_of_ours(rig: Rig) -> None:  # V11
    lines = await forwarded(rig, "Connection: X-Forwarded-Host, X-Real-Ip, X-Drop", "X-Drop: 1")
    assert "X-Forwarded-Host: h" in lines
    assert "X-Real-Ip: 127.0.0.1" in lines
    assert not [line for line in lines if line.startswith("X-Drop")]


async def test_8_trap_only_a_websocket_is_upgraded(rig: Rig) -> None:
    lines = await forwarded(rig, "Connection: Upgrade", "Upgrade: h2c")
    assert not [line for line in lines if line.lower().startswith(("upgrade", "connection"))]
    lines = await forwarded(rig, "TE: trailers, deflate", "Keep-Alive: 5", "Proxy-Connection: x")
    assert "TE: trailers" in lines
    assert not [line for line in lines if line.startswith(("Keep-Alive", "Proxy-"))]


async def test_8_a_client_that_names_no_host(rig: Rig) -> None:
    await rig.apply([front()], [pool_of(await rig.server(mirror))])
    answer = await rig.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert b"X-Forwarded-Port: 80\r\n" in answer
    assert b"X-Forwarded-Host" not in answer


@pytest.mark.parametrize("host", ["h.example.org:81", "[2001:db8::1]:81"])
async def test_8_host(rig: Rig, host: str) -> None:
    assert f"Host: {host}" in await forwarded(rig, host=host, pass_host=True)
    (line,) = [line for line in await forwarded(rig, host=host) if line.startswith("Host")]
    assert line.startswith("Host: 127.0.0.1:")


async def test_8_trap_interim_responses(rig: Rig) -> None:
    early = says(
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    port = await rig.server(early)
    await rig.apply([front()], [pool_of(port)])
    assert statuses(await rig.get()) == [200]
    await rig.apply([front(stream=True)], [pool_of(port)])
    assert statuses(await rig.get()) == [103, 200]
    old = await rig.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert statuses(old) == [200]  # never to HTTP/1.0 (RFC 9110 §15.2)


async def test_8_a_chunked_upload_reaches_the_server_with_a_length(rig: Rig) -> None:
    """Buffered mode de-chunks uploads; a frontend that streams, or trailers, leaves chunks."""
    seen = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"Content-Length: (\d+)", head)
        body = await (reader.readexactly(int(found[1])) if found else reader.readuntil(b"\r\n\r\n"))
        seen.append((found is not None, body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    pool = pool_of(await rig.server(keep))
    for spec in (front(gather=4, spill=100), front(gather=0), front(gather=4)):
        await rig.apply([spec], [pool])
        assert statuses(await rig.ask(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")) == [200]
    assert seen == [
        (True, b"abcde"),
        (False, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        (False, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),  # there was no room for it
    ]
    await rig.apply([front(gather=4)], [pool])
    assert statuses(await rig.ask(head + b"1\r\na\r\n0\r\nX-T: 1\r\n\r\n")) == [200]
    assert statuses(await rig.ask(head + b"0\r\n\r\n")) == [200]
    assert seen[3:] == [(False, b"1\r\na\r\n0\r\nX-T: 1\r\n\r\n"), (True, b"")]
    # §9: what is malformed never gets there
    assert statuses(await rig.ask(head + b"1\r\na\r\nzz\r\n")) == [400]
    assert len(seen) == 5


async def test_8_a_gathered_body_is_sent_as_the_server_takes_it(rig: Rig) -> None:
    data, go, taken = bytes(range(256)) * (8 << 12), asyncio.Event(), []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        taken.append(await reader.readexactly(len(data)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    await rig.apply([front(gather=1000, spill=1 << 24)], [pool_of(await rig.server(slow))])
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    asked = asyncio.create_task(rig.ask(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)))
    async with asyncio.timeout(10):
        while not any(up.transport.get_write_buffer_size() for up in rig.plane.upstreams):
            await asyncio.sleep(0.005)
        (upstream,) = rig.plane.upstreams
        assert upstream.transport.get_write_buffer_size() < 1 << 20  # of 8 MiB
        go.set()
        assert statuses(await asked) == [200]
    assert taken == [data]


@pytest.mark.parametrize("framing", ["Content-Length: 30000000", "Transfer-Encoding: chunked"])
async def test_9_a_server_that_takes_no_body_is_504(rig: Rig, framing: str) -> None:
    over = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")  # and no more than its buffer holds
        await over.wait()
        writer.transport.abort()

    pool = dataclasses.replace(pool_of(await rig.server(deaf)), read_timeout=0.2)
    await rig.apply([front(gather=1000, spill=1 << 26)], [pool])
    body = b"x" * 30_000_000  # more than buffers hold
    if framing.startswith("T"):
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = f"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(head.encode() + body)
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 504 ")
    over.set()
    writer.transport.abort()
    await asyncio.sleep(0.01)


async def test_8_trap_an_empty_body_without_a_length(rig: Rig) -> None:  # V10
    await rig.apply([front()], [pool_of(await rig.server(says(b"HTTP/1.1 200 OK\r\n\r\n")))])
    answer = await rig.get()
    assert statuses(answer) == [200]


async def test_8_trailers_are_relayed(rig: Rig) -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T: 1\r\n\r\n"
    await rig.apply([front()], [pool_of(await rig.server(says(raw)))])
    assert (await rig.get()).endswith(b"1\r\nx\r\n0\r\nX-T: 1\r\n\r\n")


async def test_8_date_is_added_and_no_type_is_guessed(rig: Rig) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
    await rig.apply([front()], [pool_of(await rig.server(says(raw)))])
    answer = await rig.get()
    assert b"\r\nDate: " in answer
    assert b"Content-Type" not in answer


# ---------------------------------------------------------------------- §9 answers of our own


async def frozen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_9_no_route(rig: Rig) -> None:
    await rig.apply([Frontend("f", "Path(`/x`)", "b")], [])
    answer = await rig.get("/y")
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"\r\nContent-Type: application/json\r\n" in answer
    assert answer.endswith(NOT_FOUND)


@pytest.mark.parametrize(
    ("server", "status", "words"),
    [
        (says(b""), 502, b"Bad Gateway"),
        (says(b"nonsense\r\n\r\n"), 502, b"Bad Gateway"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"), 502, b"Bad Gateway"),
    ],
    ids=["closed", "no HTTP", "two lengths"],
)
async def test_9_servers_that_fail(rig: Rig, server: Answer, status: int, words: bytes) -> None:
    await rig.apply([front()], [pool_of(await rig.server(server))])
    answer = await rig.get()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"\r\n\r\n" + words)
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in answer


async def test_9_a_server_that_does_not_answer_in_time(rig: Rig) -> None:
    port = await rig.server(frozen)
    pool = Pool("b", (Server("s", "127.0.0.1", port, "s", policy=SERVER),), 0.02, 2.0, 15.0, 8)
    await rig.apply([front(failover=None)], [pool])
    asking = asyncio.create_task(rig.get())
    async with asyncio.timeout(10):
        while not asking.done():
            await asyncio.sleep(0.005)
            rig.plane.sweep()
    answer = await asking
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert answer.endswith(b"Gateway Timeout")


async def test_9_client_gone_is_counted_499(rig: Rig) -> None:
    await rig.apply([front()], [pool_of(await rig.server(frozen))])
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(5):
        while not rig.plane.upstreams:
            await asyncio.sleep(0.005)
        writer.close()
        while not rig.plane.frontends["f"].codes.get(499):
            rig.plane.settle()
            await asyncio.sleep(0.005)


POST = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (POST + "Content-Length: 5\r\n\r\n12345", 200, ""),  # exactly the limit
        (POST + "Content-Length: 6\r\n\r\n", 413, "Request Entity Too Large"),
        (
            POST + "Transfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n0\r\n\r\n",
            413,
            "Request Entity Too Large",
        ),
        (
            POST + "Expect: 100-continue\r\nContent-Length: 6\r\n\r\n",
            413,
            "Request Entity Too Large",
        ),  # no 100 before
        (POST + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "Unsupported transfer encoding"),
        (POST + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "Bad Request"),
        (
            POST + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "400 Bad Request: ",
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "400 Bad Request: ",
        ),
        (
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            505,
            "505 HTTP Version Not Supported: unsupported protocol version",
        ),
        ("GET / HTTP/1.1\r\n\r\n", 400, "400 Bad Request: "),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n", 400, "400 Bad Request: "),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: " + "x" * 70000 + "\r\n\r\n",
            431,
            "431 Request Header Fields Too Large",
        ),
    ],
)
async def test_9_what_is_refused(rig: Rig, raw: str, status: int, body: str) -> None:
    async def takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    from dataclasses import replace

    rig.plane.limits = replace(rig.plane.limits, head_bytes=65536)
    await rig.apply([front(max_body=5)], [pool_of(await rig.server(takes))])
    answer = await rig.ask(raw.encode())  # returns when the connection is closed
    assert statuses(answer) == [status]
    said = answer.partition(b"\r\n\r\n")[2].decode()
    assert said.startswith(body) if body.endswith(": ") else said == body


async def test_9_a_fault_of_one_frontend_is_not_anothers(rig: Rig) -> None:  # V13
    other = Frontend("g", "Path(`/g`)", "b", refuse="a middleware cannot be used")
    await rig.apply(
        [Frontend("f", "Path(`/f`)", "b"), other], [pool_of(await rig.server(named(b"s")))]
    )
    assert (await rig.get("/f")).endswith(b"s")
    assert (await rig.get("/g")).startswith(b"HTTP/1.1 503 ")


# ---------------------------------------------------------------------- §4.5


async def test_4_5_trace_of_a_request(rig: Rig) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        syslog.settimeout(5)
        address = f"syslog://127.0.0.1:{syslog.getsockname()[1]}?f=LOG_USER&sev=INFO"
        trace = Middleware(
            "t", "trace", 0, {"Addr": address, "ReqHeaders": ["X-a"], "RespHeaders": []}
        )
        await rig.apply([front(middlewares=(trace,))], [pool_of(await rig.server(named(b"s")))])
        await rig.get("/x?y=1", "x-A: 1")
        line = syslog.recv(4096).decode()
        await rig.apply([], [])  # the link closes its socket
    when = r"\d{4}-\d\d-\d\dT[\d:]{8}(Z|[+-](?!00:00)\d\d:\d\d)"  # RFC 3339 as Go writes it
    assert re.match(rf"<{1 * 8 + 6}>{when} \S+ pid\[\d+\]: @cee: ", line)
    told = json.loads(line.partition("@cee: ")[2])
    assert told["request"] == {
        "method": "GET",
        "body_bytes": 0,
        "url": "/x?y=1",
        "headers": {"X-a": ["1"]},
    }
    assert (told["response"]["code"], told["response"]["body_bytes"]) == (200, 1)
    assert 0 < told["response"]["roundtrip"] < 10_000


async def test_12_trap_a_long_response_is_cut_only_when_it_stands_still(rig: Rig) -> None:
    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(5):  # 1.5 s in all; the write timeout is 0.6
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.3)
        await reader.read()

    patience = Patience(write=0.6)
    spec = front(policy=FrontendPolicy(patience=patience))
    await rig.apply([spec], [pool_of(await rig.server(slowly))])
    answer = await rig.get()  # the last of the six never comes
    assert answer.endswith(b"\r\n\r\nxxxxx")
