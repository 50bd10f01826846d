# SPDX-License-Identifier: Apache-2.0
"""What is told of requests: lines of the access log, spans at a collector that listens."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from lb.middleware import access, tracing
from lb.state import Frontend, Middleware

from .conftest import Rig, pool_of

pytestmark = pytest.mark.integration

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def frontend(name: str, body: dict[str, str]) -> Frontend:
    return Frontend("f", "Path(`/x`)", "b", middlewares=(Middleware(name, name, 0, body),))


async def test_a_line_has_the_bytes_of_bodies_whose_length_nobody_said(
    rig: Rig, tmp_path: Path
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"6\r\nseven \r\n4\r\nteen\r\n0\r\n\r\n")

    log = tmp_path / "log"
    await rig.apply(
        [frontend(access.NAME, access.body(str(log)))], [pool_of(await rig.server(answer))]
    )
    await rig.ask(
        b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    )
    access.log(str(log)).reopen()
    line = json.loads(log.read_text())
    assert (line["request_bytes"], line["response_bytes"], line["status"]) == (6, 10, 200)
    assert 0 <= line["first_byte_ms"] <= line["duration_ms"]


async def test_each_try_is_a_span_under_the_one_it_came_with(rig: Rig) -> None:
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    seen: list[bytes] = []

    async def collect(request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        for resource in (await request.json())["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    told.put_nowait(span)
        return web.json_response({})

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.partition(b"traceparent: ")[2].partition(b"\r")[0])
        status = b"502 Bad Gateway" if len(seen) == 1 else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        spec = frontend(tracing.NAME, tracing.body(f"http://127.0.0.1:{port}", 0.0))
        await rig.apply([spec], [pool_of(await rig.server(answer))])
        assert b" 200 OK" in await rig.get("/x", f"traceparent: {PARENT}")
        assert b" 404 " in await rig.get("/y")
        async with asyncio.timeout(10):
            first, second = await told.get(), await told.get()
    finally:
        await runner.cleanup()
    trace, parent = PARENT.split("-")[1:3]
    for span, passed_on in zip((first, second), seen, strict=True):
        assert (span["traceId"], span["parentSpanId"]) == (trace, parent)
        assert passed_on.decode() == f"00-{trace}-{span['spanId']}-01"
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
    facts = [
        {f["key"]: next(iter(f["value"].values())) for f in s["attributes"]}
        for s in (first, second)
    ]
    assert [f["http.response.status_code"] for f in facts] == ["502", "200"]
    assert [f["lb.attempt"] for f in facts] == ["1", "2"]
    assert told.empty()
