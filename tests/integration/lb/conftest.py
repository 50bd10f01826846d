# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ASYNC110  (what is waited for happens in another process)
"""The real program on a real etcd, in front of web servers that count what they get."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fairlead.clock import SYSTEM
from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.etcd.store import Store
from fairlead.testing.etcd import Cluster, free_ports, real_etcd
from lb import apply, observe, plan, server
from lb.certificates import Certificates
from lb.live import Limits
from lb.plane import Plane
from lb.policy import BACKEND, SERVER, BackendPolicy, ServerPolicy
from lb.state import Frontend, Listener, Pool, Server, Traffic
from lb.vctl import main as vctl


class Web:
    """A web server: answers with its name; `delay` seconds late; can be made to fail."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.delay = 0.0
        self.status = 200
        self.count = 0
        self.busy = 0
        self.most = 0  # requests at once that it has seen
        self.requests: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = b""
                if found := re.search(rb"Content-Length: (\d+)", head):
                    body = await reader.readexactly(int(found[1]))
                elif b"Transfer-Encoding: chunked" in head:
                    body = await reader.readuntil(b"0\r\n\r\n")
                self.count += 1
                self.requests.append(head + body)
                self.busy += 1
                self.most = max(self.most, self.busy)
                try:
                    if self.delay:
                        await asyncio.sleep(self.delay)
                finally:
                    self.busy -= 1
                answer = self.name.encode()
                writer.write(
                    b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b"
                    % (self.status, len(answer), answer)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def kill(self) -> None:
        """Stop listening and reset every connection."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)


class Balancer:
    """A running vulcand."""

    def __init__(self, where: Path, endpoints: Sequence[str], *arguments: str) -> None:
        self.port, self.api_port = free_ports(2)
        self.socket = where / "vulcand.sock"
        self.log = where / "vulcand.log"
        self.command = [
            sys.executable, "-m", "lb", "-etcd", ",".join(endpoints), "-interface", "127.0.0.1",
            "-apiInterface", "127.0.0.1", "-port", str(self.port), "-apiPort", str(self.api_port),
            "-state-dir", str(where / "state"), "-admin-socket", str(self.socket),
            "-logSeverity", "info", *arguments,
        ]  # fmt: skip
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    async def start(self, patience: float = 15.0) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdout=log, stderr=log
            )
        async with asyncio.timeout(patience):
            while not await self.ready():
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.05)

    async def admin(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.socket))) as session,
            session.get(f"http://vulcand{path}") as response,
        ):
            return response.status, await response.text()

    async def ready(self) -> bool:
        try:
            return (await self.admin("/readyz"))[0] == 200
        except aiohttp.ClientError:
            return False

    async def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(15):
            return await self.process.wait()

    async def vctl(self, *words: str) -> tuple[int, str]:
        """Run vctl; in this process, for one of its own takes a third of a second to start."""
        said = io.StringIO()

        def run() -> int:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                return vctl.main(["--vulcan", self.api, *words])

        return await asyncio.to_thread(run), said.getvalue()


class World:
    """etcd, a vulcand, web servers, a client."""

    def __init__(self, cluster: Cluster, store: Store, lb: Balancer) -> None:
        self.cluster = cluster
        self.store = store
        self.lb = lb
        self.session = aiohttp.ClientSession()
        self.webs: list[Web] = []

    async def web(self, name: str) -> Web:
        web = Web(name)
        await web.start()
        self.webs.append(web)
        return web

    async def put(self, key: str, value: object) -> None:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        await self.store.put(f"/vulcand/{key}".encode(), raw)

    async def get(self, path: str = "/", **options: Any) -> tuple[int, str]:
        async with self.session.get(self.lb.url + path, **options) as response:
            return response.status, await response.text()

    async def until(self, path: str, wanted: tuple[int, str], seconds: float = 30.0) -> None:
        seen = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while seen != wanted:
                    seen = await self.get(path)
                    await asyncio.sleep(0.01)
        assert seen == wanted, self.lb.log.read_text()

    async def service(self, name: str, *webs: Web, path: str = "/", **settings: object) -> None:
        await self.put(f"backends/{name}/backend", {"Type": "http"})
        for web in webs:
            await self.put(f"backends/{name}/servers/{web.name}", {"URL": web.url})
        frontend = {
            "Type": "http",
            "BackendId": name,
            "Route": f"Path(`{path}`)",
            "Settings": settings,
        }
        await self.put(f"frontends/{name}/frontend", frontend)
        async with asyncio.timeout(10):
            while (await self.get(path))[0] != 200:
                await asyncio.sleep(0.02)


class Load:
    """Clients that ask without pause and keep every answer that was not a 200."""

    def __init__(self, world: World, path: str = "/", clients: int = 8) -> None:
        self._world = world
        self._path = path
        self._clients = clients
        self._stop = False
        self._tasks: list[asyncio.Task[None]] = []
        self.done = 0
        self.bad: list[object] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def more(self, count: int = 200) -> None:
        """Return when `count` more requests were answered."""
        wanted = self.done + count
        async with asyncio.timeout(30):
            while self.done < wanted:
                await asyncio.sleep(0.01)

    def stop(self) -> None:
        """Ask no more from now on; what fails after this is not counted."""
        self._stop = True

    async def _ask(self) -> None:
        while not self._stop:
            try:
                answer = await self._world.get(self._path)
                if answer[0] != 200 and not self._stop:
                    self.bad.append(answer)
            except aiohttp.ClientError as error:
                if not self._stop:
                    self.bad.append(error)
            self.done += 1


class Rig:
    """The data plane alone, in this process: one listener, what a test puts, raw bytes in and out."""

    def __init__(self, plane: Plane, port: int, other: int) -> None:
        self.plane = plane
        self.certificates = Certificates(SYSTEM, lambda *_: None)
        self.port = port
        self.other = other  # for a second listener
        self.closers: list[asyncio.Server] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def apply(
        self, frontends: Sequence[Frontend], pools: Sequence[Pool], *more: Listener
    ) -> None:
        listeners = (Listener("l", "tcp", f"127.0.0.1:{self.port}"), *more)
        want = Traffic(
            {one.id: one for one in listeners},
            {f.id: f for f in frontends},
            {p.id: p for p in pools},
        )
        for action in plan.traffic(want, await observe.traffic(self.plane, self.certificates)):
            await apply.carry_out(self.plane, self.certificates, action)

    async def server(
        self, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> int:
        """Start a server of a test's own; return its port."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writers.append(writer)
            try:
                await answer(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 22)
        self.closers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def ask(self, raw: bytes, port: int = 0) -> bytes:
        """Send bytes on a new connection; return all that comes until the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
        try:
            writer.write(raw)
            async with asyncio.timeout(20):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def get(self, path: str = "/", *fields: str) -> bytes:
        lines = "".join(f"{field}\r\n" for field in fields)
        return await self.ask(
            f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n".encode()
        )


def named(
    name: bytes, status: bytes = b"200 OK"
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return a server that answers every request with its name."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(name), name))
            await writer.drain()

    return answer


def pool_of(
    ports: Mapping[str, int] | int, policy: BackendPolicy = BACKEND, **servers: ServerPolicy
) -> Pool:
    """Return a pool `b` of servers on this host; `weight_<id>` is not needed: all weigh 1."""
    places = {"s": ports} if isinstance(ports, int) else ports
    return Pool("b", tuple(
        Server(name, "127.0.0.1", port, f"127.0.0.1:{port}", policy=servers.get(name, SERVER))
        for name, port in places.items()
    ), 5.0, 2.0, 15.0, 8, policy=policy)  # fmt: skip


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    plane = Plane(Limits(read_timeout=5.0, write_timeout=5.0))
    sweep = asyncio.create_task(plane.run())
    rig = Rig(plane, *free_ports(2))
    try:
        yield rig
    finally:
        sweep.cancel()
        for live in tuple(plane.listeners.values()):
            server.close(plane, live)
        for listener in tuple(plane.retired):
            for client in tuple(listener.clients):
                client.abort()
        for pool in plane.pools.values():
            for one_server in pool.servers.values():
                if one_server.mux is not None:
                    one_server.mux.transport.abort()
        for upstream in tuple(plane.upstreams):
            upstream.close()
        for one in rig.closers:
            one.close()
        for writer in rig.writers:
            writer.transport.abort()
        await asyncio.sleep(0.02)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with (
        real_etcd() as cluster,
        connect(Options(endpoints=tuple(cluster.endpoints))) as store,
    ):
        lb = Balancer(tmp_path, cluster.endpoints)
        world = World(cluster, store, lb)
        try:
            await lb.start(30.0)
            yield world
        finally:
            await world.session.close()
            await lb.stop(signal.SIGKILL)
            for web in world.webs:
                await web.kill()
