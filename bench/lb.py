# SPDX-License-Identifier: Apache-2.0
"""Requests per CPU second beside the peers found: `python bench/lb.py [--rounds 5] [--seconds 3]`.

Every proxy stands alone with one worker in front of the same nginx origin; wrk sends 12 usual
fields over keep-alive connections and gets 12 bytes back. Rounds are interleaved, medians are
shown. What counts is CPU µs a request: user and system time of all of a proxy's processes.

vulcand's Go original is measured where $FAIRLEAD_PEERS or PATH has it, an aiohttp proxy always.
The other bars are in bench/lb_bars.py; `make bench-lb` runs both.

Heads come in three kinds: `same`, all alike; `vary`, path, Cookie, Referer and an id new in each;
`mixed`, besides, other hosts, clients and fields from one request to the next (bench/lb_vary.lua).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Referer": "https://www.example.org/a/page",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark",
    "Cache-Control": "max-age=0",
    "DNT": "1",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "X-Request-Id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
}  # and Host


BARS = {
    "nginx": 0.7,
    "haproxy": 0.6,
    "caddy": 2.5,
    "vulcand": 2.5,
    "aiohttp": 8.0,
    "aiohttp-uv": 8.0,
}
"""Requests per CPU second as a multiple of each peer's."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Proxy:
    name: str
    process: subprocess.Popen[bytes]
    port: int

    def cpu(self) -> float:
        """CPU seconds of the process and its children so far."""
        tick = os.sysconf("SC_CLK_TCK")
        total = 0.0
        for pid in family(self.process.pid):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / tick
        return total


def family(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += family(int(child))
    return found


NGINX = """
worker_processes 1; pid {dir}/{port}.pid; error_log /dev/null; daemon off; master_process off;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600;
  client_body_temp_path {dir}/a{port}; proxy_temp_path {dir}/b{port}; fastcgi_temp_path {dir}/c{port};
  uwsgi_temp_path {dir}/d{port}; scgi_temp_path {dir}/e{port};
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; {body} }} }}
"""
ORIGIN = 'location / { return 200 "hello world\\n"; }'
PASS = """location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host; }"""
HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  http-reuse always
  server s 127.0.0.1:{origin}
"""
CADDY = """{{
  admin off
  auto_https off
}}
http://:{port} {{
  reverse_proxy 127.0.0.1:{origin} {{
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
"""


def start(name: str, command: list[str], port: int, env: dict[str, str] | None = None) -> Proxy:
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return Proxy(name, process, port)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit(f"{name} does not start: {' '.join(command)}")


@contextlib.contextmanager
def everything(chosen: set[str]) -> Iterator[list[Proxy]]:
    running: list[Proxy] = []
    with tempfile.TemporaryDirectory() as text:
        where = Path(text)

        def nginx(name: str, body: str, origin: int) -> Proxy:
            port = free_port()
            file = where / f"{name}.conf"
            file.write_text(NGINX.format(dir=text, port=port, origin=origin, body=body))
            return start(name, ["nginx", "-p", text, "-c", str(file)], port)

        try:
            origin = nginx("origin", ORIGIN, 1)
            running.append(origin)
            port = free_port()
            running.append(
                start("lb", [sys.executable, __file__, "--serve", f"{port}:{origin.port}"], port)
            )
            if "nginx" in chosen:
                running.append(nginx("nginx", PASS, origin.port))
            for name, text_of, command in (
                ("haproxy", HAPROXY, ["haproxy", "-q", "-f"]),
                ("caddy", CADDY, ["caddy", "run", "--adapter", "caddyfile", "--config"]),
            ):
                if name in chosen and shutil.which(name):
                    port = free_port()
                    file = where / f"{name}.cfg"
                    file.write_text(text_of.format(port=port, origin=origin.port))
                    running.append(
                        start(name, [*command, str(file)], port, {"GOMAXPROCS": "1", "HOME": text})
                    )
            for name in ("aiohttp", "aiohttp-uv"):
                if name in chosen:
                    port = free_port()
                    where_to = f"{port}:{origin.port}:{name}"
                    command = [sys.executable, __file__, "--serve-aiohttp", where_to]
                    running.append(start(name, command, port))
            original = shutil.which("vulcand", path=os.environ.get("FAIRLEAD_PEERS", ""))
            if "vulcand" in chosen and original:
                running.append(vulcand("vulcand", [original], origin.port))
            yield running[1:]
        finally:
            for proxy in running:
                proxy.process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    proxy.process.wait(3)
                proxy.process.kill()


def vulcand(name: str, command: list[str], origin: int) -> Proxy:
    """Start vulcand, the original or ours, with its engine in memory; streaming."""
    port, api = free_port(), free_port()
    arguments = ["-engine=memng", f"-port={port}", f"-apiPort={api}", "-interface=127.0.0.1", "-apiInterface=127.0.0.1", "-logSeverity=ERROR"]  # fmt: skip
    proxy = start(name, [*command, *arguments], port, {"GOMAXPROCS": "1"})
    settings = {"KeepAlive": {"MaxIdleConnsPerHost": 256}}
    for path, value in (
        ("backends", {"Backend": {"Id": "b", "Type": "http", "Settings": settings}}),
        ("backends/b/servers", {"Server": {"Id": "s", "URL": f"http://127.0.0.1:{origin}"}}),
        ("frontends", {"Frontend": {"Id": "f", "Type": "http", "BackendId": "b", "Route": 'Path("/a/<path:rest>")', "Settings": {"Stream": True}}}),
    ):  # fmt: skip
        request = urllib.request.Request(
            f"http://127.0.0.1:{api}/v2/{path}",
            json.dumps(value).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=5).close()
    return proxy


def serve_aiohttp(port: int, origin: int, *, uv: bool) -> None:
    """Run the proxy that everybody writes with aiohttp; `uv`: on uvloop."""
    from aiohttp import ClientSession, TCPConnector, web

    hop = {
        "connection",
        "host",
        "keep-alive",
        "transfer-encoding",
        "content-length",
        "date",
        "server",
    }

    async def handle(request: web.Request) -> web.StreamResponse:
        fields = {n: v for n, v in request.headers.items() if n.lower() not in hop}
        fields["X-Forwarded-For"] = request.remote or ""
        async with request.app["session"].request(
            request.method,
            f"http://127.0.0.1:{origin}{request.path_qs}",
            headers=fields,
            data=request.content if request.can_read_body else None,
        ) as answer:
            sent = {n: v for n, v in answer.headers.items() if n.lower() not in hop}
            return web.Response(body=await answer.read(), status=answer.status, headers=sent)

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with ClientSession(connector=TCPConnector(limit=256), auto_decompress=False) as one:
            app["session"] = one
            yield

    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{rest:.*}", handle)
    loop = asyncio.new_event_loop()
    if uv:
        import uvloop

        loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, loop=loop)


def round_of(
    proxy: Proxy, seconds: int, connections: int, heads: str
) -> tuple[float, float, float]:
    """Return requests a second, CPU µs a request, and p99 in ms."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency"]
    script = str(Path(__file__).with_name("lb_vary.lua"))
    if heads != "same":
        command += ["-s", script]
    for name, value in HEADERS.items():
        command += ["-H", f"{name}: {value}"]
    before = proxy.cpu()
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{proxy.port}/a/path?q=1", "--", heads],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    used = proxy.cpu() - before
    found = re.search(r"(\d+) requests in ", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", out)
    if not found or not rate or not p99 or "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"{proxy.name}: {out}")
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]
    return float(rate[1]), used / int(found[1]) * 1e6, float(p99[1]) * scale


def main() -> None:
    args = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--seconds", type=int, default=3)
    args.add_argument("--connections", type=int, default=32)
    args.add_argument("--heads", default="same,vary,mixed")
    args.add_argument("--peers", default="nginx,haproxy,caddy,vulcand,aiohttp,aiohttp-uv")
    args.add_argument("--serve-aiohttp", help=argparse.SUPPRESS)
    args.add_argument("--serve", help=argparse.SUPPRESS)
    given = args.parse_args()
    if given.serve:
        port, origin = map(int, given.serve.split(":"))
        serve(port, origin)
        return
    if given.serve_aiohttp:
        port, origin, name = given.serve_aiohttp.split(":")
        serve_aiohttp(int(port), int(origin), uv=name == "aiohttp-uv")
        return
    if not shutil.which("wrk") or not shutil.which("nginx"):
        print("skipped: wrk and nginx are needed: make peers")
        return
    with everything(set(given.peers.split(","))) as proxies:
        for heads in given.heads.split(","):
            # the slow ones are measured once; what varies is compared with those that splice heads too
            chosen = [
                p
                for p in proxies
                if heads == "same" or not p.name.startswith(("aiohttp", "vulcand"))
            ]
            measure(heads, chosen, given.rounds, given.seconds, given.connections)


def measure(heads: str, proxies: list[Proxy], rounds: int, seconds: int, connections: int) -> None:
    """Print a table of one kind of heads, and the bars that were missed."""
    results: dict[str, list[tuple[float, float, float]]] = {proxy.name: [] for proxy in proxies}
    for proxy in proxies:
        round_of(proxy, 1, connections, heads)  # warm
    for _ in range(rounds):
        for proxy in proxies:
            results[proxy.name].append(round_of(proxy, seconds, connections, heads))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in results.items()
    }
    ours = medians["lb"][1]
    print(f"heads: {heads}")
    print(f"{'':10}{'rps':>10}{'CPU µs/req':>12}{'p99 ms':>9}{'lb per CPU s ÷ its':>20}{'bar':>6}")
    for name, (rate, cost, p99) in medians.items():
        bar = BARS.get(name, 0.0)
        told = f"{bar:6}{'' if cost / ours >= bar else '  MISSED'}" if bar else ""
        print(f"{name:10}{rate:10.0f}{cost:12.1f}{p99:9.2f}{cost / ours:20.2f}{told}", flush=True)


def serve(port: int, origin: int) -> None:
    """Run our data plane by itself: one listener, one route, one server."""
    sys.path[:] = [
        entry for entry in sys.path if Path(entry) != Path(__file__).parent
    ]  # this is lb too
    from fairlead.clock import SYSTEM
    from lb import apply, observe, plan
    from lb.certificates import Certificates
    from lb.plane import Plane
    from lb.state import Frontend, Listener, Pool, Server, Traffic

    want = Traffic(
        {"l": Listener("l", "tcp", f"127.0.0.1:{port}")},
        {"f": Frontend("f", 'Path("/a/<path:rest>")', "b", pass_host=False)},
        {
            "b": Pool(
                "b", (Server("s", "127.0.0.1", origin, f"127.0.0.1:{origin}"),), 60.0, 5.0, 15.0, 2
            )
        },
    )

    async def run() -> None:
        plane = Plane()
        hosts = Certificates(SYSTEM, lambda *_: None)
        for action in plan.traffic(want, await observe.traffic(plane, hosts)):
            await apply.carry_out(plane, hosts, action)
        await plane.run()

    profile = os.environ.get("LB_PROFILE")
    import uvloop

    if profile:
        import cProfile

        profiler = cProfile.Profile()
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            profiler.runcall(uvloop.run, run())
        profiler.dump_stats(profile)
        return
    uvloop.run(run())


if __name__ == "__main__":
    main()
