# SPDX-License-Identifier: Apache-2.0
"""The load balancer's other bars beside nginx and who else is found: `python bench/lb_bars.py [bar …]`.

body       GB moved per CPU second in bodies of 1 MiB
tunnel     the same through an upgraded connection, in messages of 64 KiB; and messages of 1 KiB
p99        the slowest hundredth of answers at half of the best rate that both reach (bench/lb_pace.py)
frontends  requests per CPU second with 10,000 frontends, by one; time from a change to its effect;
           failed requests and p99.9 under 100 changes a second
idle       memory for 10,000 idle keep-alive clients

Faults under load, for ten minutes: bench/lb_soak.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.util
import os
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


lb = _beside("lb")
pace = _beside("lb_pace")
standstill = _beside("standstill")
ROUNDS = 5


def bar(what: str, value: float, wanted: float, *, most: bool = False, unit: str = "") -> None:
    good = value <= wanted if most else value >= wanted
    print(
        f"{'' if good else 'BAR MISSED: '}{what}: {value:.2f}{unit} (wanted {'≤' if most else '≥'} {wanted:g}{unit})"
    )


@contextlib.contextmanager
def fleet(origin_port: int, names: str = "nginx,haproxy,caddy") -> Iterator[list[Any]]:
    """Our data plane and its peers, each alone before one origin."""
    running: list[Any] = []
    with tempfile.TemporaryDirectory() as text:
        where = Path(text)
        try:
            port = lb.free_port()
            running.append(
                lb.start(
                    "lb",
                    [sys.executable, str(HERE / "lb.py"), "--serve", f"{port}:{origin_port}"],
                    port,
                )
            )
            running.append(nginx(where, origin_port, upgrade="tunnel" in names))
            for name, template, command in (
                ("haproxy", lb.HAPROXY, ["haproxy", "-q", "-f"]),
                ("caddy", lb.CADDY, ["caddy", "run", "--adapter", "caddyfile", "--config"]),
            ):
                if name in names and lb.shutil.which(name):
                    port = lb.free_port()
                    file = where / f"{name}.cfg"
                    file.write_text(
                        template.format(port=port, origin=origin_port).replace(
                            "timeout server 60s", "timeout server 60s\n  timeout tunnel 60s"
                        )
                    )
                    running.append(
                        lb.start(
                            name, [*command, str(file)], port, {"GOMAXPROCS": "1", "HOME": text}
                        )
                    )
            yield running
        finally:
            end(running)


def nginx(where: Path, origin_port: int, *, upgrade: bool = False) -> Any:
    """Start nginx as a proxy."""
    port = lb.free_port()
    body = lb.PASS
    if upgrade:
        body = body.replace(
            'Connection "";',
            "Connection $http_connection; proxy_set_header Upgrade $http_upgrade; proxy_buffering on;",
        )
    (where / "n.conf").write_text(
        lb.NGINX.format(dir=where, port=port, origin=origin_port, body=body)
    )
    return lb.start("nginx", ["nginx", "-p", str(where), "-c", str(where / "n.conf")], port)


def end(running: list[Any]) -> None:
    for proxy in running:
        proxy.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            proxy.process.wait(3)
        proxy.process.kill()


@contextlib.contextmanager
def web_origin(where: Path) -> Iterator[Any]:
    port = lb.free_port()
    (where / "a").mkdir(exist_ok=True)
    (where / "a" / "large").write_bytes(os.urandom(1 << 20))
    body = f'location = /a/large {{ root {where}; }} location / {{ return 200 "hello world\\n"; }}'
    (where / "o.conf").write_text(lb.NGINX.format(dir=where, port=port, origin=1, body=body))
    origin = lb.start("origin", ["nginx", "-p", str(where), "-c", str(where / "o.conf")], port)
    try:
        yield origin
    finally:
        end([origin])


def wrk(port: int, path: str, connections: int, seconds: int) -> tuple[float, int]:
    """Return requests a second, and how many there were."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}"]
    for name, value in lb.HEADERS.items():
        command += ["-H", f"{name}: {value}"]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    rate, found = re.search(r"Requests/sec:\s+([\d.]+)", out), re.search(r"(\d+) requests in ", out)
    assert rate is not None
    assert found is not None
    return float(rate[1]), int(found[1])


def bodies() -> None:
    with (
        tempfile.TemporaryDirectory() as text,
        web_origin(Path(text)) as origin,
        fleet(origin.port) as proxies,
    ):
        cost: dict[str, list[float]] = {p.name: [] for p in proxies}
        for _ in range(ROUNDS):
            for proxy in proxies:
                before = proxy.cpu()
                _, count = wrk(proxy.port, "/a/large", 8, 2)
                cost[proxy.name].append(count * (1 << 20) / 1e9 / max(0.01, proxy.cpu() - before))
    middle = {name: statistics.median(values) for name, values in cost.items()}
    print(
        "1 MiB bodies, GB per CPU second: " + ", ".join(f"{n} {v:.2f}" for n, v in middle.items())
    )
    bar("1 MiB bodies by nginx", middle["lb"] / middle["nginx"], 1.8)


async def _pump(port: int, size: int, seconds: float, in_flight: int) -> int:
    """Send messages through an upgraded connection that echoes; return the bytes that came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(
        b"GET /a/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head, head
    moved = 0
    writer.write(bytes(size) * in_flight)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        piece = await reader.read(1 << 20)
        assert piece
        moved += len(piece)
        writer.write(piece)
        await writer.drain()
    writer.transport.abort()
    return moved


ECHO = """
import asyncio, sys, uvloop
class Echo(asyncio.Protocol):
    def connection_made(self, t): self.t, self.up = t, False
    def data_received(self, data):
        if self.up: self.t.write(data)
        else:
            self.up = True
            self.t.write(b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n")
async def main():
    s = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", int(sys.argv[1]))
    await s.serve_forever()
uvloop.run(main())
"""


def tunnels() -> None:
    port = lb.free_port()
    origin = lb.start("echo", [sys.executable, "-c", ECHO, str(port)], port)
    try:
        with fleet(port, "nginx,tunnel") as proxies:
            for size, in_flight, what in ((1 << 16, 16, "bulk"), (1 << 10, 1, "messages of 1 KiB")):
                cost: dict[str, list[float]] = {p.name: [] for p in proxies}
                for _ in range(ROUNDS):
                    for proxy in proxies:
                        before = proxy.cpu()
                        moved = asyncio.run(_pump(proxy.port, size, 1.5, in_flight))
                        cost[proxy.name].append(moved / 1e9 / max(0.01, proxy.cpu() - before))
                middle = {name: statistics.median(values) for name, values in cost.items()}
                print(
                    f"tunnel, {what}, GB per CPU second each way: "
                    + ", ".join(f"{n} {v:.3f}" for n, v in middle.items())
                )
                if what == "bulk":
                    bar("websocket relay by nginx", middle["lb"] / middle["nginx"], 2.0)
                else:
                    print(f"messages of 1 KiB by nginx: {middle['lb'] / middle['nginx']:.2f}")
    finally:
        end([origin])


@contextlib.contextmanager
def apart(proxies: list[Any], origin: Any) -> Iterator[None]:
    """Give the proxies one core and all else another, before whatever else runs here, if we may."""
    cores = sorted(os.sched_getaffinity(0))
    pids = [pid for proxy in (*proxies, origin) for pid in lb.family(proxy.process.pid)]
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), cores[-1:] if pid == origin.process.pid else cores[:1])
    with contextlib.suppress(PermissionError):
        for pid in (*pids, 0):
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    try:
        os.sched_setaffinity(0, cores[-1:])
        yield
    finally:
        os.sched_setaffinity(0, cores)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def half_load() -> None:
    """Compare the program itself, with its statistics, and nginx: one rate for both."""
    with tempfile.TemporaryDirectory() as text, web_origin(Path(text)) as origin:
        ours = [sys.executable, "-m", "lb", "-admin-socket=", f"-state-dir={text}"]
        proxies = [lb.vulcand("lb", ours, origin.port), nginx(Path(text), origin.port)]
        try:
            best = min(wrk(proxy.port, "/a/x", 32, 2)[0] for proxy in proxies)
            late = paced(Path(text), {p.name: p for p in proxies}, origin, best / 2)
        finally:
            end(proxies)
    if late:
        bar("p99 at half load by nginx", late["lb"][1] / late["nginx"][1], 2.0, most=True)


def paced(where: Path, proxies: dict[str, Any], origin: Any, rate: float) -> dict[str, list[float]]:
    """Offer each proxy in turns the same requests a second; return p50, p99 and p99.9 in ms.

    They are medians over the rounds, of the time when the machine was sound (bench/standstill.py).
    Nothing is returned, with the reason printed, where there is no C compiler.
    """
    fields = "".join(f"{n}: {v}\r\n" for n, v in lb.HEADERS.items())
    request = f"GET /a/x HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode()
    rounds: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in proxies}
    generator = pace.build(where)
    if generator is None:
        print("tails: skipped: the generator needs a C compiler")
        return {}
    with standstill.watched() as slow, apart([*proxies.values()], origin):
        for _ in range(2 * ROUNDS):
            for name, proxy in proxies.items():
                rounds[name].append(pace.late(generator, proxy.port, request, rate, 64, 2.0))
    print(f"{rate:.0f} requests a second, half of the best:")
    middle = {}
    for name, rows in rounds.items():
        sound = [[ms for at, ms in row if not slow.at(at)] for row in rows]
        whole = [[ms for _, ms in row] for row in rows]
        middle[name] = _percentiles(sound)
        share = sum(map(len, sound)) / sum(map(len, whole))
        print(
            f"  {name}: p50, p99, p99.9 in ms, medians of {len(rows)} rounds: {_told(middle[name])}"
            f" in the {100 * share:.0f} % of the time when the machine was sound;"
            f" in all of it {_told(_percentiles(whole))}"
        )
    return middle


def _percentiles(rounds: list[list[float]]) -> list[float]:
    """The median over the rounds of each one's p50, p99 and p99.9."""
    rows = [sorted(row) for row in rounds if row]
    return [
        statistics.median(row[int(len(row) * share)] for row in rows)
        for share in (0.5, 0.99, 0.999)
    ]


def _told(figures: list[float]) -> str:
    return ", ".join(f"{figure:.2f}" for figure in figures)


def serve_many(port: int, origin: int, count: int, churn: int) -> None:
    """Run the data plane with many frontends; report the time a change takes on stdout."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    from fairlead.clock import SYSTEM
    from lb import apply, observe, plan
    from lb.certificates import Certificates
    from lb.keys import Kind, Ref
    from lb.plane import Plane
    from lb.state import Frontend, Listener, Pool, Server, Traffic

    server = Server("s", "127.0.0.1", origin, f"127.0.0.1:{origin}")
    pools = {"b": Pool("b", (server,), 60.0, 5.0, 15.0, 64)}
    listeners = {"l": Listener("l", "tcp", f"127.0.0.1:{port}")}
    frontends = {
        f"f{i}": Frontend(f"f{i}", f"Host(`h{i}.example.org`) && Path(`/a/<path:rest>`)", "b")
        for i in range(count - 1)
    }
    frontends["f"] = Frontend("f", "Path(`/a/<path:rest>`)", "b")

    async def change(plane: Plane, hosts: Certificates, n: int) -> float:
        """One change as a pass of the loop makes it: within its scope."""
        begun = time.perf_counter()
        name = f"f{n % 1000}" if count > 1 else "g"
        frontends[name] = Frontend(name, f"Host(`new{n}.example.org`) && Path(`/`)", "b")
        scope = frozenset({Ref(Kind.FRONTEND, name)})
        want = Traffic({}, {name: frontends[name]}, {})
        for action in plan.traffic(want, await observe.traffic(plane, hosts, scope)):
            await apply.carry_out(plane, hosts, action)
        return time.perf_counter() - begun

    async def run() -> None:
        plane, hosts = Plane(), Certificates(SYSTEM)
        for action in plan.traffic(
            Traffic(listeners, frontends, pools), await observe.traffic(plane, hosts)
        ):
            await apply.carry_out(plane, hosts, action)
        gc.collect()
        gc.freeze()
        sweep = asyncio.create_task(plane.run())
        took = []
        n = 0
        while churn:
            took.append(await change(plane, hosts, n))
            n += 1
            if n % 100 == 0:
                print(f"{max(took) * 1000:.3f}", flush=True)
            await asyncio.sleep(1 / churn)
        await sweep

    import uvloop

    uvloop.run(run())


def many(port: int, origin: int, count: int, churn: int = 0) -> Any:
    process = subprocess.Popen(
        [sys.executable, __file__, "--many", f"{port}:{origin}:{count}:{churn}"],
        stdout=subprocess.PIPE,
    )
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            break
        time.sleep(0.05)
    return lb.Proxy(str(count), process, port)


def frontends() -> None:
    with tempfile.TemporaryDirectory() as text, web_origin(Path(text)) as origin:
        proxies = [many(lb.free_port(), origin.port, 1), many(lb.free_port(), origin.port, 10000)]
        changing = many(lb.free_port(), origin.port, 10000, 100)
        try:
            cost: dict[str, list[float]] = {p.name: [] for p in proxies}
            best = []
            for _ in range(ROUNDS):
                for proxy in proxies:
                    before = proxy.cpu()
                    rate, count = wrk(proxy.port, "/a/x", 16, 2)
                    cost[proxy.name].append(count / max(0.01, proxy.cpu() - before))
                    best.append(rate)
            still = {"still": proxies[1], "changing": changing}
            late = paced(Path(text), still, origin, statistics.median(best) / 2)
            end([changing])
            took = [float(line) for line in changing.process.stdout.read().split()]
        finally:
            end([*proxies, changing])
    one, lots = (statistics.median(cost[name]) for name in ("1", "10000"))
    print(f"requests per CPU second: {one:.0f} with one frontend, {lots:.0f} with 10,000")
    bar("10,000 frontends by one", lots / one, 0.9)
    bar(
        "slowest of the changes at 10,000 frontends under load, plan to live",
        max(took),
        50,
        most=True,
        unit=" ms",
    )
    if late:
        bar(
            "p99.9 under 100 changes a second by without; no request failed",
            late["changing"][2] / late["still"][2],
            2.0,
            most=True,
        )


def memory(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def idle() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < 11000:
        print(f"idle: not measured: {most} descriptors are allowed")
        return
    with (
        tempfile.TemporaryDirectory() as text,
        web_origin(Path(text)) as origin,
        fleet(origin.port, "") as proxies,
    ):
        request = (
            b"GET /a/x HTTP/1.1\r\nHost: a\r\n"
            + b"".join(f"{n}: {v}\r\n".encode() for n, v in lb.HEADERS.items())
            + b"\r\n"
        )
        before = {p.name: memory(p.process.pid) for p in proxies[:1]}
        open_ = []
        for _ in range(10000):
            sock = socket.create_connection(("127.0.0.1", proxies[0].port))
            sock.sendall(request)
            sock.recv(4096)
            open_.append(sock)
        time.sleep(4)
        after = memory(proxies[0].process.pid)
        print(f"10,000 idle clients: {before['lb']:.0f} MiB before, {after:.0f} MiB with them")
        bar("memory with 10,000 idle clients", after, 150, most=True, unit=" MiB")
        for sock in open_:
            sock.close()


BARS = {"body": bodies, "tunnel": tunnels, "p99": half_load, "frontends": frontends, "idle": idle}


def main() -> None:
    args = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    args.add_argument("bar", nargs="*", help="of: " + ", ".join(BARS))
    args.add_argument("--many", help=argparse.SUPPRESS)
    given = args.parse_args()
    if given.many:
        serve_many(*map(int, given.many.split(":")))
        return
    if not lb.shutil.which("wrk") or not lb.shutil.which("nginx"):
        print("skipped: wrk and nginx are needed: make peers")
        return
    for name in given.bar or BARS:
        BARS[name]()


if __name__ == "__main__":
    main()
