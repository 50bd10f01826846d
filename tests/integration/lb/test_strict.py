# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC220  (small files of this test's own)
"""Strict HTTP/1.1: the table of raw requests, and the same in front of four servers that are not ours.

Behind the proxy no server may see another number of requests than were forwarded: that is what
request smuggling would change.
"""

from __future__ import annotations

import asyncio
import http.server
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from aiohttp import web

from fairlead.testing.etcd import free_ports
from lb.state import Frontend

from .conftest import Rig, pool_of
from .requests import CASES, Case

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ANY = Frontend("f", "PathRegexp(`.*`)", "b")
_QUIET = 0.6  # seconds without a byte after which a connection has said all


async def statuses(port: int, raw: bytes) -> tuple[int, ...]:
    """Send bytes; return the statuses of the responses, interim ones left out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    out = b""
    try:
        writer.write(raw)
        while True:
            async with asyncio.timeout(_QUIET):
                piece = await reader.read(1 << 16)
            if not piece:
                break
            out += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return tuple(int(code) for code in re.findall(rb"(?:^|\n?)HTTP/1\.1 ([2-5]\d\d) ", out))


# refused while their head is with the server already: it may or may not see that
BROKEN_OFF = [case for case in CASES if case[0].startswith("bad chunks")]
WHOLE = [case for case in CASES if case not in BROKEN_OFF]


async def run_table(rig: Rig, cases: Sequence[Case]) -> dict[str, tuple[int, ...]]:
    got: dict[str, tuple[int, ...]] = {}
    limit = asyncio.Semaphore(40)

    async def one(name: str, raw: bytes) -> None:
        async with limit:
            got[name] = await statuses(rig.port, raw)

    await asyncio.gather(*(one(name, raw) for name, raw, _ in cases))
    return got


def forwarded(rig: Rig) -> int:
    return sum(server.requests for server in rig.plane.pools["b"].servers.values())


def test_the_table_is_large_enough() -> None:
    assert len(CASES) >= 200
    assert len({name for name, _, _ in CASES}) == len(CASES)


async def test_every_case_ends_as_written(rig: Rig) -> None:
    count = 0

    async def careful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            framings = [
                line
                for line in lines
                if line.startswith((b"content-length:", b"transfer-encoding:"))
            ]
            assert len(framings) <= 1, head
            if framings and framings[0].startswith(b"content-length:"):
                await reader.readexactly(int(framings[0][15:]))
            elif framings:
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    await reader.readexactly(size + 2)
                while await reader.readuntil(b"\r\n") != b"\r\n":
                    pass
            count += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    await rig.apply([ANY], [pool_of(await rig.server(careful))])
    got = await run_table(rig, WHOLE)
    assert count == forwarded(rig) == sum(wanted.count(200) for _, _, wanted in WHOLE)
    got |= await run_table(rig, BROKEN_OFF)
    wrong = {name: (got[name], wanted) for name, _, wanted in CASES if got[name] != wanted}
    assert not wrong


# servers of others: (start → port, seen → how many requests it saw, stop)
Foreign = tuple[int, Callable[[], int], Callable[[], None]]


async def nginx(where: Path) -> Foreign:
    port = free_ports(1)[0]
    log = where / "access.log"
    temp = "".join(
        f"{kind}_temp_path {where}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (where / "nginx.conf").write_text(
        f"pid {where}/pid; error_log /dev/null; daemon off; master_process off; events {{}}\n"
        f"http {{ access_log {log}; {temp} large_client_header_buffers 4 64k; keepalive_requests 100000;\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }} }}\n"
    )
    process = subprocess.Popen(
        ["nginx", "-p", str(where), "-c", str(where / "nginx.conf")], stderr=subprocess.DEVNULL
    )
    return port, lambda: log.read_text().count("\n") if log.exists() else 0, lambda: stop(process)


async def haproxy(where: Path) -> Foreign:
    port = free_ports(1)[0]
    log = (where / "log").open("wb")
    (where / "cfg").write_text(
        "global\n  log stdout format raw local0\n"
        "defaults\n  mode http\n  log global\n  option httplog\n  option dontlognull\n  timeout client 30s\n  timeout server 30s\n  timeout connect 5s\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  http-request return status 200 content-type text/plain string ok\n"
    )
    process = subprocess.Popen(
        ["haproxy", "-f", str(where / "cfg")], stdout=log, stderr=subprocess.DEVNULL
    )
    log.close()
    return port, lambda: (where / "log").read_text().count(" f/<NOSRV> "), lambda: stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(5)


async def python_http_server(where: Path) -> Foreign:
    seen = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            nonlocal seen
            seen += 1
            return super().parse_request()

        def __getattr__(self, name: str) -> object:
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def answer(self) -> None:
            if self.headers.get("Transfer-Encoding"):
                while size := int(self.rfile.readline(), 16):
                    self.rfile.read(size + 2)
                while self.rfile.readline() != b"\r\n":
                    pass
            else:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return server.server_address[1], lambda: seen, end


async def test_aiohttp_sees_what_was_forwarded(rig: Rig) -> None:
    seen = 0

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        await request.read()
        return web.Response(text="ok")

    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        await rig.apply([ANY], [pool_of(runner.addresses[0][1])])
        await run_table(rig, WHOLE)
        # it refuses by itself what it does not like, e.g. methods; those were forwarded but never handled
        refused = seen - forwarded(rig)
        assert refused <= 0
        assert -refused <= 4
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("start", [nginx, haproxy, python_http_server], ids=lambda s: s.__name__)
async def test_no_server_sees_another_number_of_requests(
    rig: Rig, tmp_path: Path, start: Callable[[Path], object]
) -> None:
    if start in (nginx, haproxy) and not shutil.which(start.__name__):
        pytest.skip(f"{start.__name__} is not installed")
    port, seen, end = await start(tmp_path)  # type: ignore[misc]
    try:
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        before = seen()
        await rig.apply([ANY], [pool_of(port)])
        await run_table(rig, WHOLE)
        await asyncio.sleep(0.3)
        assert seen() - before == forwarded(rig)
        before = seen()
        await run_table(rig, BROKEN_OFF)
        await asyncio.sleep(0.3)
        assert seen() - before <= len(BROKEN_OFF)
    finally:
        end()


async def test_h1spec(rig: Rig) -> None:
    spec = shutil.which("h1spec", path=os.environ.get("FAIRLEAD_PEERS", ""))
    if not spec:
        pytest.skip("h1spec is not in $FAIRLEAD_PEERS")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            sized = re.search(rb"\r\ncontent-length: (\d+)", head)
            body = await reader.readexactly(int(sized[1])) if sized else b""
            if b"\r\ntransfer-encoding: chunked" in head:
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    body += (await reader.readexactly(size + 2))[:-2]
                await reader.readuntil(b"\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    await rig.apply([ANY], [pool_of(await rig.server(echo))])
    asked = await asyncio.create_subprocess_exec(
        spec, "127.0.0.1", str(rig.port), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out = (await asked.communicate())[0].decode()
    passed = re.search(r"(\d+) out of (\d+) tests passed", out)
    assert passed, out
    assert passed[1] == passed[2], out
