# SPDX-License-Identifier: Apache-2.0
"""Checks: what the words mean, what the results mean, and real ones on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from fairlead.register.check import Check, CheckError, Health, Kind, parse, probe


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("none", Check(Kind.NONE, "h", 80)),
        ("tcp", Check(Kind.TCP, "h", 80)),
        ("tcp:81", Check(Kind.TCP, "h", 81)),
        ("http:/healthz", Check(Kind.HTTP, "h", 80, "/healthz")),
        ("https:/", Check(Kind.HTTPS, "h", 80, "/")),
        ("http://other:90/x?y=1", Check(Kind.HTTP, "other", 90, "/x?y=1")),
        ("https://[2001:db8::1]", Check(Kind.HTTPS, "2001:db8::1", 443, "/")),
        ("exec:test -e /run/x", Check(Kind.EXEC, "h", 80, "test -e /run/x")),
    ],
)
def test_parse(text: str, wanted: Check) -> None:
    assert parse(text, "h", 80) == wanted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("udp", "not known"),
        ("", "not known"),
        ("tcp:x", '"x" is not a port'),
        ("tcp:70000", "not a port"),
        ("http", "needs a path"),
        ("http:healthz", "needs a path"),
        ("http:/a b", "blank in the path"),
        ("http:/a\r\nX: y", "blank in the path"),
        ("exec:", "not complete"),
        ("exec", "not complete"),
        ("none:1", "not complete"),
    ],
)
def test_parse_refuses(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text, "h", 80)


def test_parse_needs_a_port() -> None:
    with pytest.raises(ValueError, match="needs a port: give --port"):
        parse("tcp", "h", 0)


@pytest.mark.parametrize(
    ("results", "turns"),
    [
        pytest.param("++", "+.", id="the first success counts at once"),
        pytest.param("---+", "...+", id="not announced before the first success"),
        pytest.param("+-+-+", "+....", id="one failure does not withdraw"),
        pytest.param("+--", "+.-", id="two in a row withdraw"),
        pytest.param("+--+-++", "+.-...+", id="two in a row announce again"),
    ],
)
def test_health(results: str, turns: str) -> None:
    """specs/registration.md §9: two consecutive results flip, after the first success."""
    health = Health()
    seen = ""
    for result in results:
        turned = health.feed(result == "+")
        seen += ("+" if health.passing else "-") if turned else "."
    assert seen == turns


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[int]:
    """Serve `answer` to every connection; None: never answer."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


@pytest.mark.parametrize("status", [b"200 OK", b"204 ", b"302 Found"])
async def test_http_passes(status: bytes) -> None:
    async with server(b"HTTP/1.1 " + status + b"\r\n\r\n") as port:
        await probe(parse("http:/", "127.0.0.1", port), 2)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 503 Busy\r\n\r\n", "status 503"),
        (b"SSH-2.0-x\r\n", "not HTTP"),
        (b"x" * 100_000, "not HTTP"),
        (b"", "connection closed unanswered"),
        (None, "no answer after 0.1 s"),
    ],
)
async def test_http_fails(answer: bytes | None, reason: str) -> None:
    async with server(answer) as port:
        with pytest.raises(CheckError, match=reason):
            await probe(parse("http:/", "127.0.0.1", port), 0.1 if answer is None else 2)


async def test_tcp() -> None:
    async with server(b"") as port:
        await probe(parse("tcp", "127.0.0.1", port), 2)
    with pytest.raises(CheckError):
        await probe(parse("tcp", "127.0.0.1", port), 2)


async def test_exec_gets_address_and_port() -> None:
    await probe(parse('exec:[ "$SERVICE_IP:$SERVICE_PORT" = 192.0.2.1:80 ]', "192.0.2.1", 80), 5)
    with pytest.raises(CheckError, match="exit status 3"):
        await probe(parse("exec:exit 3", "192.0.2.1", 80), 5)


async def test_exec_that_hangs_is_killed_with_what_it_started() -> None:
    begin = time.monotonic()
    with pytest.raises(CheckError, match=r"no answer after 0\.1 s"):
        await probe(parse("exec:sleep 60 & wait", "192.0.2.1", 80), 0.1)
    assert time.monotonic() - begin < 5
