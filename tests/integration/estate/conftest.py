# SPDX-License-Identifier: Apache-2.0

"""An estate: all four daemons as real processes on one real etcd, and what a user sees of them.

::

    etcd (127.0.0.1, one node or three) ◄── skydns, confd, vulcand on loopback
        ▲
        └── relay on a unix socket ◄── flanneld in a network namespace of its own (root only)

`seen` is what the estate does for its users: answers, pages, a file, routes. `told` is what
the daemons say about themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
import pytest

from fairlead.ask import ask
from fairlead.demo import hosts
from fairlead.testing.etcd import Cluster, etcdctl, free_ports, real_etcd

NETWORK = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
TEMPLATE = '{{range gets "/services/web/*"}}{{base .Key}} {{.Value}}\n{{end}}'
STRICT = '{{$it := json (getv "/services/strict")}}{{$it.name}}\n'


def peer(number: int) -> dict[str, Any]:
    """Return a lease as another host's flanneld writes it."""
    data = {"VNI": 1, "VtepMAC": f"0a:00:00:00:00:{number:02x}"}
    return {"PublicIP": f"192.0.2.{number}", "BackendType": "vxlan", "BackendData": data}


class Relay:
    """A unix socket that leads to a TCP port of this machine: namespaces share the file system."""

    def __init__(self, path: Path, endpoint: str) -> None:
        self.path = path
        self._host, _, port = endpoint.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def _serve(self, near: asyncio.StreamReader, near_w: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far, far_w = await asyncio.open_connection(self._host, self._port)
        except OSError:
            near_w.transport.abort()
            return
        try:
            pumps = [
                asyncio.create_task(self._pump(near, far_w)),
                asyncio.create_task(self._pump(far, near_w)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        except asyncio.CancelledError:
            return  # aclose; nobody awaits this task's outcome but asyncio's own callback
        finally:
            near_w.transport.abort()
            far_w.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Daemon:
    """One of the four: how it is started, and its process."""

    def __init__(self, name: str, home: Path, argv: Sequence[str]) -> None:
        self.name = name
        self.socket = home / "run" / f"{name}.sock"
        self.state = home / "state" / name
        self.log_file = home / f"{name}.log"
        own = (f"-admin-socket={self.socket}", f"-state-dir={self.state}")
        self.argv = (*argv, *own)
        self.process: asyncio.subprocess.Process | None = None
        self.inside: hosts.Namespace | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        argv = self.argv if self.inside is None else self.inside.enter(*self.argv)
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=hosts.environment(),
            )

    async def end(self, how: int = signal.SIGKILL) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(how)
        async with asyncio.timeout(15):
            return await self.process.wait()

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def page(self, path: str) -> Any:
        reply = ask(self.socket, path)
        assert not reply.error, f"{self.name}: {reply.error}\n{self.log[-2000:]}"
        return reply.json() if reply.body.startswith((b"{", b"[")) else reply.body.decode()

    def metric(self, name: str) -> float:
        """Return a metric's sum over its labels."""
        lines = str(self.page("/metrics")).splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        assert found, f"{self.name} has no metric {name}"
        return sum(float(line.rpartition(" ")[2]) for line in found)

    @property
    def lives(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def ready(self) -> bool:
        return self.lives and ask(self.socket, "/readyz").status == 200


class Estate:
    """The four daemons, etcd, and a user."""

    def __init__(self, home: Path, cluster: Cluster, user: Callable[[str], Sequence[str]]) -> None:
        self.home = home
        self.cluster = cluster
        self.dns_port, self.http_port, self.api_port, self.web_port = free_ports(4)
        self.daemons: dict[str, Daemon] = {}
        self.host: hosts.Host | None = None
        self.site: hosts.Site | None = None
        self._relays: list[Relay] = []
        self._web: asyncio.Server | None = None
        self.dest = home / "web.list"
        self.strict = home / "strict"
        self.reloads = home / "reloads"
        self.user = user
        (home / "run").mkdir()
        self._confdir()
        endpoints = ",".join(cluster.endpoints)
        python = (sys.executable, "-m")
        nodes = [f"-node={endpoint}" for endpoint in cluster.endpoints]
        where = f"127.0.0.1:{self.dns_port}"
        ports = (f"-port={self.http_port}", f"-apiPort={self.api_port}")
        self._add("skydns", *python, "skydns", f"-machines={endpoints}", f"-addr={where}",
                  "-domain=example.org.", "-no-rec", *user("skydns"))  # fmt: skip
        self._add("confd", *python, "confd", "-backend=etcdv3", *nodes, f"-confdir={home}/confd",
                  "-watch", *user("confd"))  # fmt: skip
        self._add("vulcand", *python, "lb", f"-etcd={endpoints}", "-etcdKey=/vulcand",
                  "-interface=127.0.0.1", "-apiInterface=127.0.0.1", *ports, *user("vulcand"))  # fmt: skip

    def _add(self, name: str, *argv: str) -> Daemon:
        self.daemons[name] = Daemon(name, self.home, argv)
        return self.daemons[name]

    def _confdir(self) -> None:
        for part in ("conf.d", "templates"):
            (self.home / "confd" / part).mkdir(parents=True)
        for name, dest, template, keys in (
            ("web", self.dest, TEMPLATE, "/services/web"),
            ("strict", self.strict, STRICT, "/services/strict"),
        ):
            (self.home / f"confd/templates/{name}.tmpl").write_text(template)
            reload = f"cat {dest} >>{self.reloads}-{name}; echo -- >>{self.reloads}-{name}"
            (self.home / f"confd/conf.d/{name}.toml").write_text(
                f'[template]\nsrc = "{name}.tmpl"\ndest = "{dest}"\nkeys = ["{keys}"]\n'
                f'reload_cmd = "{reload}"\n'
            )

    async def open(self, stack: contextlib.AsyncExitStack) -> None:
        """Make the web server and, as root, the host that flanneld runs on."""
        self._web = await asyncio.start_server(_answer, "127.0.0.1", self.web_port)
        stack.callback(self._web.close)
        if hosts.unavailable() is not None:
            return
        self.site = await stack.enter_async_context(hosts.Site("a"))
        self.host = self.site["a"]
        for number, node in enumerate(self.cluster.nodes):
            relay = Relay(self.home / "run" / f"etcd{number}", node.endpoint)
            await relay.start()
            stack.push_async_callback(relay.aclose)
            self._relays.append(relay)
        endpoints = ",".join(f"unix://{relay.path}" for relay in self._relays)
        flanneld = self._add(
            "flanneld", sys.executable, "-m", "flannelpy", f"-etcd-endpoints={endpoints}",
            "-iface=eth0", f"-subnet-file={self.home}/subnet.env", *self.user("flanneld"),
        )  # fmt: skip
        flanneld.inside = self.host

    # what stands in etcd

    async def put(self, key: str, value: object, *words: str) -> None:
        """Put until it is surely done."""
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.ctl("put", "--", key, text, *words)
                except Exception:  # noqa: BLE001  (etcd is away: that is what is tested)
                    await asyncio.sleep(0.2)
                else:
                    return

    async def ctl(self, *words: str) -> str:
        endpoints = ",".join(n.endpoint for n in self.cluster.nodes if n._process is not None)
        return await etcdctl(endpoints, *self.user("etcdctl"), *words)

    async def fill(self) -> None:
        """Write what an operator would."""
        await self.put("/coreos.com/network/config", NETWORK)
        await self.put("/vulcand/listeners/none", {"Protocol": "http"} | self._spare())
        for number in (1, 2, 3):
            await self.write(number)
        await self.put("/services/strict", {"name": "strict"})

    def _spare(self) -> dict[str, Any]:
        (port,) = free_ports(1)
        return {"Address": {"Network": "tcp", "Address": f"127.0.0.1:{port}"}}

    async def write(self, number: int) -> None:
        """Write one record of each kind; `number` shows in all that is seen of it."""
        name = f"w{number}"
        await self.put(f"/skydns/org/example/{name}/1", {"host": f"10.1.1.{number}", "ttl": 60})
        await self.put(f"/services/web/{name}", f"10.1.1.{number}:80")
        server = {"URL": f"http://127.0.0.1:{self.web_port}"}
        front = {"Type": "http", "BackendId": name, "Route": f"Path(`/{name}`)"}
        await self.put(f"/vulcand/backends/{name}/backend", {"Type": "http"})
        await self.put(f"/vulcand/backends/{name}/servers/s", server)
        await self.put(f"/vulcand/frontends/{name}/frontend", front)
        await self.put(f"/coreos.com/network/subnets/10.5.{number}.0-24", peer(number))

    async def erase(self, number: int) -> None:
        """Delete what `write` wrote."""
        name = f"w{number}"
        for key in (
            f"/skydns/org/example/{name}/1",
            f"/services/web/{name}",
            f"/vulcand/frontends/{name}/frontend",
            f"/vulcand/backends/{name}/servers/s",
            f"/vulcand/backends/{name}/backend",
            f"/coreos.com/network/subnets/10.5.{number}.0-24",
        ):
            await self.ctl("del", key)

    # what is seen

    def wanted(self, *numbers: int) -> dict[str, Any]:
        """Return what should be seen when just these records are there."""
        found: dict[str, Any] = {
            "dns": {n: [f"10.1.1.{n}"] if n in numbers else [] for n in range(1, 10)},
            "http": {n: 200 if n in numbers else 404 for n in range(1, 10)},
            "file": "".join(f"w{n} 10.1.1.{n}:80\n" for n in sorted(numbers)),
        }
        if self.host is not None:
            found["routes"] = [f"10.5.{n}.0/24" for n in sorted(numbers)]
            found["fdb"] = [f"0a:00:00:00:00:{n:02x}" for n in sorted(numbers)]
            found["env"] = True
        return found

    async def seen(self) -> dict[str, Any]:
        """Return what the daemons do for their users now."""
        numbers = range(1, 10)
        answers = await asyncio.gather(*map(self._resolve, numbers))
        pages = await asyncio.gather(*map(self._fetch, numbers))
        found: dict[str, Any] = {
            "dns": dict(zip(numbers, answers, strict=True)),
            "http": dict(zip(numbers, pages, strict=True)),
            "file": self.dest.read_text() if self.dest.exists() else None,
        }
        if self.host is not None:
            routes = json.loads(await self.host.run("ip", "-j", "route", "show", "dev", "flannel.1", check=False) or "[]")  # fmt: skip
            fdb = json.loads(await self.host.run("bridge", "-j", "fdb", "show", "dev", "flannel.1", check=False) or "[]")  # fmt: skip
            found["routes"] = sorted(r["dst"] for r in routes if "gateway" in r)
            found["fdb"] = sorted(f["mac"] for f in fdb if "dst" in f)
            found["env"] = "FLANNEL_SUBNET" in _text(self.home / "subnet.env")
        return found

    async def _resolve(self, number: int) -> list[str] | str:
        query = dns.message.make_query(f"w{number}.example.org", "A")
        try:
            reply = await dns.asyncquery.udp(query, "127.0.0.1", port=self.dns_port, timeout=1)
        except (OSError, dns.exception.DNSException) as error:
            return repr(error)
        return sorted(rr.to_text() for rrset in reply.answer for rr in rrset)

    async def _fetch(self, number: int) -> int | str:
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.http_port)
                try:
                    head = f"GET /w{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                    writer.write(head.encode())
                    return int((await reader.readline()).split()[1])
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError, IndexError) as error:
            return repr(error)

    async def until(self, wanted: dict[str, Any], seconds: float = 30.0) -> float:
        """Return after how many seconds just this was seen."""
        begun = time.monotonic()
        while True:
            found = await self.seen()
            took = time.monotonic() - begun
            if found == wanted:
                return took
            self.all_live()
            differs = {k: (found[k], wanted[k]) for k in wanted if found[k] != wanted[k]}
            assert took < seconds, (
                f"not within {seconds} s (seen, wanted): {differs}\n{self.logs()}"
            )
            await asyncio.sleep(0.05)

    # what the daemons say

    async def start(self) -> None:
        for daemon in self.daemons.values():
            await daemon.start()

    async def ready(self, seconds: float = 20.0) -> None:
        await self.claim(lambda: all(d.ready() for d in self.daemons.values()), seconds)

    async def kill(self) -> None:
        for daemon in self.daemons.values():
            await daemon.end(signal.SIGKILL)

    def all_live(self) -> None:
        ended = [d.name for d in self.daemons.values() if not d.lives]
        assert not ended, f"{ended} ended\n{self.logs()}"

    async def claim(self, holds: Callable[[], object], seconds: float = 30.0) -> float:
        begun = time.monotonic()
        while not holds():
            self.all_live()
            took = time.monotonic() - begun
            assert took < seconds, f"not within {seconds} s\n{self.logs()}"
            await asyncio.sleep(0.05)
        return time.monotonic() - begun

    def logs(self) -> str:
        return "\n".join(f"--- {d.name}\n{d.log[-3000:]}" for d in self.daemons.values())

    async def fairlead(self, *words: str) -> tuple[int, str]:
        """Run the command `fairlead` on the sockets of this estate."""
        sockets = [w for d in self.daemons.values() for w in ("--socket", str(d.socket))]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fairlead", *words, *sockets, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def aclose(self) -> None:
        for daemon in self.daemons.values():
            if daemon.lives:
                await daemon.end(signal.SIGKILL)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _nobody(program: str) -> Sequence[str]:
    return ()


@asynccontextmanager
async def _estate(
    home: Path,
    nodes: int = 1,
    user: Callable[[str], Sequence[str]] = _nobody,
    prepare: Callable[[Estate], Any] | None = None,
) -> AsyncIterator[Estate]:
    async with real_etcd(nodes) as cluster, contextlib.AsyncExitStack() as stack:
        it = Estate(home, cluster, user)
        await it.open(stack)
        stack.push_async_callback(it.aclose)
        if prepare is not None:
            await prepare(it)
        await it.fill()
        await it.start()
        await it.ready()
        await it.until(it.wanted(1, 2, 3))
        yield it


@pytest.fixture
def make_estate(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that runs an estate in `async with`."""
    home = tmp_path / "estate"
    home.mkdir()

    def make(**how: Any) -> Any:
        return _estate(home, **how)

    return make
