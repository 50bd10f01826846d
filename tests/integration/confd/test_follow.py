# SPDX-License-Identifier: Apache-2.0
"""A real nginx and a real haproxy follow changes under load: no request fails.

Each request is a new connection. 60 changes here; `FAIRLEAD_CHANGES=500` is the long run, whose
figures stand in docs/performance.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.testing.etcd import free_ports, real_etcd
from tests.integration.confd.conftest import Confd, eventually

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

CHANGES = int(os.environ.get("FAIRLEAD_CHANGES", "60"))

NGINX = """pid ROOT/nginx.pid; error_log ROOT/nginx.err; worker_processes 2; events {}
http { access_log off; client_body_temp_path ROOT/b; proxy_temp_path ROOT/p;
 fastcgi_temp_path ROOT/f; uwsgi_temp_path ROOT/u; scgi_temp_path ROOT/s;
 upstream web {
{{range gets "/web/*"}}  server {{.Value}};
{{end}} }
 server { listen 127.0.0.1:PORT; location / { proxy_pass http://web; add_header X-Version {{getv "/version"}}; } }
}
"""
HAPROXY = """global
 stats socket ROOT/haproxy.sock mode 600 level admin expose-fd listeners
defaults
 mode http
 timeout connect 2s
 timeout client 5s
 timeout server 5s
frontend web
 bind 127.0.0.1:PORT
 http-response set-header X-Version {{getv "/version"}}
 default_backend web
backend web
{{range $i, $v := getvs "/web/*"}} server s{{$i}} {{$v}}
{{end}}
"""


class Load:
    """Clients that connect anew for each request, and what became of them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.good = 0
        self.failed: list[str] = []
        self.versions: set[bytes] = set()

    async def one(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
        head = answer.partition(b"\r\n\r\n")[0]
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")) or not answer.endswith(b"hello"):
            raise OSError(f"answer {answer[:80]!r}")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"x-version:"):
                self.versions.add(line.partition(b":")[2].strip())
        self.good += 1

    async def client(self) -> None:
        while True:
            try:
                async with asyncio.timeout(10):
                    await self.one()
            except (OSError, TimeoutError) as error:
                self.failed.append(repr(error))
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def servers(count: int) -> AsyncIterator[list[str]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            await writer.drain()
        writer.close()

    made = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(count)]
    try:
        yield [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in made]
    finally:
        for server in made:
            server.close()


@pytest.mark.parametrize("program", ["nginx", "haproxy"])
async def test_follows_changes_without_a_failed_request(confd: Confd, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (port,) = free_ports(1)
    root = str(confd.root)
    if program == "nginx":
        check = f"nginx -t -q -p {root} -c {{{{.src}}}}"
        reload = f"nginx -p {root} -c {{{{.dest}}}} -s reload"
        template = NGINX
    else:
        check = "haproxy -c -q -f {{.src}}"
        reload = f"kill -USR2 $(cat {root}/master.pid)"
        template = HAPROXY
    reloads = confd.root / "reloads"
    reload += f" && echo >> {reloads}"
    template = template.replace("ROOT", root).replace("PORT", str(port))
    dest = confd.resource(
        program, template, ["/web", "/version"], check_cmd=check, reload_cmd=reload
    )
    async with (
        servers(4) as backends,
        real_etcd() as etcd,
        connect(Options(endpoints=etcd.endpoints)) as store,
    ):
        await store.put(b"/version", b"v0")
        for number, backend in enumerate(backends):
            await store.put(b"/web/%d" % number, backend.encode())
        assert await confd.run(etcd.endpoints, "-onetime", "-sync-only") == 0
        words = (["nginx", "-p", root, "-c", str(dest), "-g", "daemon off;"] if program == "nginx"
                 else ["haproxy", "-W", "-p", f"{root}/haproxy.pid", "-f", str(dest)])  # fmt: skip
        server = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
        (confd.root / "master.pid").write_text(str(server.pid))
        load = Load(port)
        try:
            await eventually(lambda: Path(f"/proc/{server.pid}").exists())
            for _ in range(100):
                with contextlib.suppress(OSError):
                    await load.one()
                    break
                await asyncio.sleep(0.05)
            clients = [asyncio.create_task(load.client()) for _ in range(4)]
            async with confd.running(etcd.endpoints, "-watch"):
                for number in range(1, CHANGES + 1):
                    await store.put(b"/version", b"v%d" % number)
                    await store.put(b"/web/%d" % (number % 4), backends[(number * 7) % 4].encode())
                    await asyncio.sleep(0.1)
                last = b"v%d" % CHANGES
                await eventually(lambda: last in dest.read_bytes())
                updates = confd.log.read_text().count("has been updated") - 1  # without -onetime's
                await eventually(lambda: len(reloads.read_text().splitlines()) >= updates)
                try:
                    await eventually(lambda: last in load.versions, 10)
                except TimeoutError:
                    # all was done that confd can do; haproxy's master, which executes itself anew at
                    # each reload, has been seen to miss a signal on a machine under load
                    server.send_signal(signal.SIGUSR2 if program == "haproxy" else signal.SIGHUP)
                    await eventually(lambda: last in load.versions)
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
        finally:
            server.terminate()
            await server.wait()
    print(f"{program}: {CHANGES} changes, {load.good} requests, {len(load.failed)} failed, "
          f"{len(load.versions)} versions seen")  # fmt: skip
    assert load.failed == []
    assert load.good > CHANGES
    assert len(load.versions) > 2, "it followed while the load went on"
