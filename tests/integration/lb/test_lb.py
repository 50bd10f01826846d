# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC110, ASYNC240  (what is waited for happens in another process)
"""vulcand on a real etcd: hot changes, faults, bad keys, power cuts; curl's and vctl's view."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from fairlead.etcd.types import KeyRange

from .conftest import Load, World

pytestmark = [pytest.mark.integration, pytest.mark.slow]


async def raw(world: World, data: bytes) -> bytes:
    """Send bytes on a connection of its own; return all that comes until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.lb.port)
    writer.write(data)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def test_walk_through_of_the_specification(world: World) -> None:  # specs/vulcand.md §15.2
    web = await world.web("s1")
    await world.put("backends/b1/backend", {"Type": "http"})
    await world.put("backends/b1/servers/s1", {"URL": web.url})
    await world.put(
        "frontends/f1/frontend", {"Type": "http", "BackendId": "b1", "Route": "Path(`/`)"}
    )
    await world.until("/", (200, "s1"))
    assert await world.get("/x") == (404, '{"error":"not found"}')
    limit = {"PeriodSeconds": 1, "Requests": 1, "Burst": 1, "Variable": "client.ip"}
    await world.put("frontends/f1/middlewares/rl", {"Type": "ratelimit", "Middleware": limit})
    await world.until("/", (429, "max rate reached: retry-in 1s"))
    async with world.session.get(world.lb.url) as response:
        assert response.headers["X-Retry-In"] == "1s"
    await world.store.delete(KeyRange(b"/vulcand/frontends/f1/middlewares/rl"))
    await world.until("/", (200, "s1"))
    await world.store.delete(KeyRange(b"/vulcand/backends/b1/servers/s1"))
    await world.until("/", (503, "Service Unavailable"))


async def test_order_of_keys_does_not_matter(world: World) -> None:  # V3
    web = await world.web("late")
    await world.put(
        "frontends/f/frontend", {"Type": "http", "BackendId": "b", "Route": "Path(`/`)"}
    )
    await world.until("/", (503, "Service Unavailable"))
    await world.put("backends/b/servers/s", {"URL": web.url})
    await world.until("/", (200, "late"))


async def test_keys_without_leading_slash(world: World) -> None:  # V1
    web = await world.web("v3")
    for key, value in (
        ("backends/b/servers/s", {"URL": web.url}),
        ("frontends/f/frontend", {"Type": "http", "BackendId": "b", "Route": "Path(`/`)"}),
    ):
        await world.store.put(f"vulcand/{key}".encode(), json.dumps(value).encode())
    await world.until("/", (200, "v3"))


async def test_what_the_server_gets(world: World) -> None:  # §8
    web = await world.web("s")
    await world.service("b", web, path="/<path:x>", Hostname="edge-1")
    headers = {
        "X-Forwarded-For": "1.2.3.4",
        "Connection": "X-Drop",
        "X-Drop": "1",
        "Host": "h.example.org:81",
    }
    async with world.session.post(
        f"{world.lb.url}/a//b?q=%20", data=b"body", headers=headers
    ) as response:
        assert response.status == 200
    request = web.requests[-1]
    assert request.startswith(
        f"POST /a//b?q=%20 HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n".encode()
    )
    assert request.endswith(b"\r\n\r\nbody")
    for line in (
        b"X-Forwarded-For: 127.0.0.1", b"X-Real-Ip: 127.0.0.1", b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: h.example.org:81", b"X-Forwarded-Port: 81", b"X-Forwarded-Server: edge-1",
    ):  # fmt: skip
        assert b"\r\n" + line + b"\r\n" in request
    assert b"X-Drop" not in request
    assert b"1.2.3.4" not in request


async def test_raw_requests(world: World) -> None:
    web = await world.web("s")
    await world.service("b", web, path="/<path:x>", Limits={"MaxBodyBytes": 8})
    get = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /l HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    count = web.count
    answer = await raw(world, b"".join(get % i for i in range(20)) + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 21  # pipelined, in order
    assert web.count == count + 21
    assert [r.split(b" ")[1] for r in web.requests[-21:]] == [b"/%d" % i for i in range(20)] + [
        b"/l"
    ]
    for data, status in (
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789" + last, 413),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n",
            413,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
    ):
        answer = await raw(world, data)
        assert answer.startswith(b"HTTP/1.1 %d " % status), data
        assert b"Connection: close" in answer
    assert web.count == count + 21  # none of them reached the server whole
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n"
    assert b"200 OK" in await raw(world, chunked)
    assert web.requests[-1].endswith(b"\r\nContent-Length: 3\r\n\r\nabc")  # §8: de-chunked
    old = await raw(world, b"GET / HTTP/1.0\r\n\r\n")
    assert b"Connection: close" in old
    assert old.endswith(b"\r\n\r\ns")


async def test_hot_changes_under_load_without_a_failed_request(world: World) -> None:
    first, second = await world.web("a"), await world.web("b")
    await world.service("b", first, second)
    async with Load(world) as load:
        for turn in range(15):
            await world.put(
                "backends/b/backend",
                {"Type": "http", "Settings": {"Timeouts": {"Read": f"{turn + 5}s"}}},
            )
            await world.put(
                f"frontends/x{turn}/frontend",
                {"Type": "http", "BackendId": "b", "Route": f"Path(`/x{turn}`)"},
            )
            await world.store.delete(KeyRange(b"/vulcand/backends/b/servers/a"))
            await load.more(20)
            await world.put("backends/b/servers/a", {"URL": first.url})
            await load.more(20)
    assert load.bad == []
    assert first.count
    assert second.count


async def test_removed_server_drains(world: World) -> None:
    slow, other = await world.web("slow"), await world.web("other")
    await world.service("b", slow)
    slow.delay = 2.0
    asked = asyncio.create_task(world.get("/"))
    before = slow.count
    while slow.count == before:
        await asyncio.sleep(0.01)
    slow.delay = 0.0  # for who comes before it is gone
    await world.put("backends/b/servers/other", {"URL": other.url})
    await world.store.delete(KeyRange(b"/vulcand/backends/b/servers/slow"))
    await world.until("/", (200, "other"))
    assert not asked.done()
    assert await asked == (200, "slow")
    for _ in range(5):
        assert await world.get("/") == (200, "other")


async def test_backend_killed_under_load(world: World) -> None:
    doomed, other = await world.web("doomed"), await world.web("other")
    await world.service("b", doomed, other)
    async with Load(world) as load:
        await load.more(100)
        await doomed.kill()
        await load.more(200)
        assert (await world.get("/"))[0] == 200  # it stays in rotation; the next try hides it (§5)
        await doomed.start(doomed.port)
        await load.more(100)
    assert load.bad == []
    await other.kill()
    await doomed.kill()
    assert await world.get("/") == (502, "Bad Gateway")


async def test_bad_key_of_each_kind_costs_itself(world: World) -> None:
    web = await world.web("good")
    await world.service("b", web)
    bad = {
        "backends/bad/backend": b"{",
        "backends/b/servers/bad": b'{"URL":"nowhere"}',
        "frontends/bad/frontend": b'{"Type":"http","BackendId":"b","Route":"Pth(`/`)"}',
        "frontends/b/middlewares/bad": b'{"Type":"zap"}',
        "listeners/bad": b'{"Protocol":"http","Address":{"Network":"tcp","Address":"x"}}',
        "hosts/bad/host": b"[]",
    }
    for key, value in bad.items():
        await world.put(key, value)
    state = ""
    async with asyncio.timeout(10):
        while not all(f"/vulcand/{key}" in state for key in bad):
            state = (await world.lb.admin("/debug/state"))[1]
            await asyncio.sleep(0.05)
    log = world.lb.log.read_text()
    metrics = (await world.lb.admin("/metrics"))[1]
    for key in bad:
        assert f"/vulcand/{key}" in log
    assert "fairlead_records_rejected_total" in metrics
    assert await world.get("/") == (200, "good")
    await world.put("backends/b/servers/good", b"{")  # the last good value stays
    await asyncio.sleep(0.3)
    assert await world.get("/") == (200, "good")


async def test_etcd_restart_under_load(world: World) -> None:
    web, later = await world.web("s"), await world.web("later")
    await world.service("b", web)
    async with Load(world) as load:
        await world.cluster.nodes[0].kill()
        await load.more(300)
        await world.cluster.nodes[0].start()
        await world.put("backends/b2/servers/s", {"URL": later.url})
        await world.put(
            "frontends/f2/frontend", {"Type": "http", "BackendId": "b2", "Route": "Path(`/2`)"}
        )
        await world.until("/2", (200, "later"), 20)
        await load.more(50)
    assert load.bad == []


async def test_start_while_etcd_is_down(world: World) -> None:
    web = await world.web("s")
    await world.service("b", web)
    await asyncio.sleep(1.5)  # the file is at most 1 s behind
    await world.lb.stop(signal.SIGKILL)
    await world.cluster.nodes[0].kill()
    await world.lb.start(patience=10.0)
    assert await world.get("/") == (200, "s")
    assert "state file" in world.lb.log.read_text()


async def test_sigterm_answers_what_is_under_way(world: World) -> None:
    web = await world.web("s")
    await world.service("b", web)
    web.delay = 0.4
    asked = asyncio.create_task(world.get("/"))
    before = web.count
    while web.count == before:
        await asyncio.sleep(0.01)
    stopped = asyncio.create_task(world.lb.stop())
    assert await asked == (200, "s")
    assert await stopped == 0
    assert world.lb.log.read_text().endswith("\nService exited gracefully\n")  # §12


async def test_listener_moves_and_unix_socket(world: World) -> None:  # V4
    from fairlead.testing.etcd import free_ports

    web = await world.web("s")
    await world.service("b", web)
    old, new = free_ports(2)
    path = str(world.lb.socket.parent / "front.sock")
    await world.put(
        "listeners/l",
        {"Protocol": "http", "Address": {"Network": "tcp", "Address": f"127.0.0.1:{old}"}},
    )
    await world.put(
        "listeners/u",
        {"Protocol": "http", "Address": {"Network": "unix", "Address": path}, "Scope": "Path(`/`)"},
    )

    async def ask(url: str, connector: aiohttp.BaseConnector | None = None) -> int:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url) as response,
        ):
            return response.status

    async with asyncio.timeout(5):
        while True:
            try:
                assert await ask(f"http://127.0.0.1:{old}/") == 200
                assert await ask("http://u/", aiohttp.UnixConnector(path)) == 200
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    await world.put(
        "listeners/l",
        {"Protocol": "http", "Address": {"Network": "tcp", "Address": f"127.0.0.1:{new}"}},
    )
    async with asyncio.timeout(5):
        while True:
            try:
                assert await ask(f"http://127.0.0.1:{new}/") == 200
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(f"http://127.0.0.1:{old}/")


async def test_vctl_changes_what_the_next_request_sees(world: World) -> None:
    web = await world.web("s")
    vctl = world.lb.vctl
    assert await vctl("status") == (0, "OK: status: ok\n")
    assert await vctl("backend", "upsert", "-id", "b1") == (0, "OK: Backend(id=b1) upserted\n")
    assert await vctl(
        "server", "upsert", "-id", "s1", "-b", "b1", "-url", web.url, "-ttl", "1h"
    ) == (0, "OK: server upserted\n")
    assert (await vctl("frontend", "upsert", "-id", "f1", "-b", "b1", "-route", "Path(`/`)"))[
        0
    ] == 0
    assert await world.get("/") == (
        200,
        "s",
    )  # at once: the API answers when the plane has followed
    kv = await world.store.get(b"/vulcand/backends/b1/servers/s1")
    assert kv is not None
    assert kv.lease
    assert json.loads(kv.value)["URL"] == web.url
    assert "Path(`/`)     b1          http" in (await vctl("frontend", "ls"))[1]
    assert (await vctl("backend", "rm", "-id", "b1"))[0] == 1  # in use
    assert (await vctl("frontend", "upsert", "-id", "f1", "-b", "zap", "-route", "Path(`/`)")) == (
        1,
        "ERROR: Key not found: backend 'zap'\n",
    )
    assert (
        "route should be a valid"
        in (await vctl("frontend", "upsert", "-id", "f", "-b", "b1", "-route", "zap"))[1]
    )
    assert await vctl("server", "rm", "-id", "s1", "-b", "b1") == (0, "OK: Server s1 deleted\n")
    assert await world.get("/") == (503, "Service Unavailable")
    await world.put(
        "frontends/f10/frontend", {"Type": "http", "BackendId": "b1", "Route": "Path(`/10`)"}
    )
    await world.until("/10", (503, "Service Unavailable"))
    assert (await vctl("frontend", "rm", "-id", "f1"))[0] == 0
    assert await world.store.get(b"/vulcand/frontends/f10/frontend") is not None  # V2


API = (
    ("GET", "/v2/status", None, 200, '{"Status":"ok"}'),
    ("GET", "/v1/backends", None, 200, '{"Backends":[]}'),
    ("GET", "/v2/backends/x", None, 404, '{"message":"Key not found"}'),
    ("GET", "/v2/backends/x/servers", None, 404, "Key not found: backend 'x'"),
    ("PATCH", "/v2/backends", None, 404, '{"message":"Object not found"}'),
    ("GET", "/zap", None, 404, '{"message":"Object not found"}'),
    ("POST", "/v2/backends", "{", 400, "malformed JSON"),
    ("POST", "/v2/backends", "{}", 400, '{"message":"Missing mandatory parameter: Backend"}'),
    ("POST", "/v2/backends", '{"Backend":{"Type":"http"}}', 400, "backend id can not be empty"),
    ("POST", "/v2/backends", '{"Backend":{"Id":"a/b","Type":"http"}}', 400, "no / may be in it"),
    ("POST", "/v2/backends", '{"backend":{"id":"b<","type":"http"}}', 200, '{"Id":"b\\u003c","Type":"http"'),
    ("POST", "/v2/frontends", '{"Frontend":{"Id":"f","Type":"http","BackendId":"zap","Route":"Path(`/`)"}}', 404, "Key not found"),
    ("PUT", "/v2/log/severity", "severity=DEBUG", 200, '{"message":"Severity has been updated to debug"}'),
    ("PUT", "/v2/log/severity", "severity=loud", 400, "not a valid logrus Level"),
    ("DELETE", "/v2/frontends/x", None, 404, '{"message":"object not found"}'),
)  # fmt: skip


async def test_api(world: World) -> None:  # §10
    for method, path, body, status, words in API:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        url = world.lb.api + path
        async with world.session.request(method, url, data=body, headers=headers) as response:
            assert response.status == status, path
            assert response.headers["Content-Type"] == "application/json; charset=utf-8"
            assert words in await response.text()


async def test_servers_that_cannot_be_reached(world: World) -> None:  # §9
    for name, url in (
        ("dots", "http://a..b:80"),
        ("unknown", "http://no-such-host.invalid"),
        ("refused", "http://127.0.0.1:1"),
    ):
        await world.put(f"backends/{name}/servers/s", {"URL": url})
        await world.put(
            f"frontends/{name}/frontend",
            {"Type": "http", "BackendId": name, "Route": f"Path(`/{name}`)"},
        )
        await world.until(f"/{name}", (502, "Bad Gateway"))

    async def banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    speaks_first = await asyncio.start_server(banner, "127.0.0.1", 0)
    port = speaks_first.sockets[0].getsockname()[1]
    await world.put("backends/ssh/servers/s", {"URL": f"http://127.0.0.1:{port}"})
    await world.put(
        "frontends/ssh/frontend", {"Type": "http", "BackendId": "ssh", "Route": "Path(`/ssh`)"}
    )
    await world.until("/ssh", (502, "Bad Gateway"))
    speaks_first.close()


async def test_a_head_byte_by_byte(world: World) -> None:
    web = await world.web("s")
    await world.service("b", web)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.lb.port)
    for byte in b"\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.001)
    async with asyncio.timeout(5):
        assert (await reader.read()).endswith(b"\r\n\r\ns")
    writer.close()


async def test_websocket_becomes_a_tunnel(world: World) -> None:  # §8.1
    from aiohttp import web

    async def echo(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data + request.headers["X-Forwarded-Proto"])
        return socket

    app = web.Application()
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    await world.put("backends/w/servers/s", {"URL": f"http://{host}:{port}"})
    await world.put(
        "frontends/w/frontend", {"Type": "http", "BackendId": "w", "Route": "Path(`/ws`)"}
    )
    async with asyncio.timeout(5):
        while (await world.get("/ws"))[0] == 404:
            await asyncio.sleep(0.02)
    async with world.session.ws_connect(f"{world.lb.url}/ws") as socket:
        for word in ("a", "b"):
            await socket.send_str(word)
            assert (await socket.receive_str()) == word + "ws"
        # §12.1: without a -drain-timeout nobody waits for what may never end
        assert await world.lb.stop() == 0
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    await runner.cleanup()


async def test_big_bodies_stream_in_bounded_memory(world: World) -> None:
    from aiohttp import web

    size = 64 << 20

    async def count(request: web.Request) -> web.Response:
        total = 0
        async for piece in request.content.iter_chunked(1 << 16):
            total += len(piece)
        return web.Response(body=b"x" * size, headers={"X-Got": str(total)})

    app = web.Application(client_max_size=1 << 40)
    app.router.add_post("/big", count)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    await world.put("backends/w/servers/s", {"URL": f"http://{host}:{port}"})
    await world.put(
        "frontends/w/frontend", {"Type": "http", "BackendId": "w", "Route": "Path(`/big`)"}
    )
    async with asyncio.timeout(5):
        while (await world.get("/big"))[0] == 404:
            await asyncio.sleep(0.02)
    assert world.lb.process is not None
    peak = asyncio.create_task(_peak(world.lb.process.pid))
    for body in (io.BytesIO(b"y" * size), _pieces(size)):  # the second by way of a file
        async with world.session.post(f"{world.lb.url}/big", data=body) as response:
            assert response.headers["X-Got"] == str(size)
            await asyncio.sleep(0.3)  # the client reads nothing for a while
            assert len(await response.read()) == size
    peak.cancel()
    assert 10_000 < await peak < 100_000  # KiB; the bodies are 64 MiB
    await runner.cleanup()


async def _peak(pid: int) -> int:
    """Return the most KiB of its own that a process had until this was cancelled.

    Not VmHWM: what is mapped of a file counts there, and the kernel takes that back when it likes.
    """
    most = 0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            status = Path(f"/proc/{pid}/status").read_text()
            most = max(most, int(re.findall(r"RssAnon:\s+(\d+)", status)[0]))
            await asyncio.sleep(0.01)
    return most


async def _pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size >> 16):
        yield b"y" * (1 << 16)


async def test_usr2_hands_the_sockets_over_without_a_failed_request(
    world: World, tmp_path: Path
) -> None:
    web = await world.web("one")
    await world.service("a", web)
    parent = world.lb.process
    assert parent is not None
    async with Load(world) as load:
        await load.more(200)
        parent.send_signal(signal.SIGUSR2)
        child = 0
        async with asyncio.timeout(20):
            while not child:  # the copy is ready when its own admin socket says so
                await asyncio.sleep(0.1)
                for path in tmp_path.glob("vulcand-*.sock"):
                    connector = aiohttp.UnixConnector(str(path))
                    async with aiohttp.ClientSession(connector=connector) as session:
                        with contextlib.suppress(aiohttp.ClientError):
                            async with session.get("http://vulcand/readyz") as answer:
                                if answer.status == 200:
                                    child = int(path.stem.rpartition("-")[2])
        try:
            await load.more(500)
            parent.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                assert await parent.wait() == 0
            await load.more(500)
            status = await vctl_status(world)
            assert status == (0, "ok")
        finally:
            os.kill(child, signal.SIGKILL)
            load.stop()
    assert load.bad == []


async def vctl_status(world: World) -> tuple[int, str]:
    """Ask the API, whoever serves it now."""
    async with world.session.get(f"{world.lb.api}/v2/status") as answer:
        return 0, (await answer.json())["Status"]
