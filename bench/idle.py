# SPDX-License-Identifier: Apache-2.0
"""What our programs cost when they do nothing, and how long they take to say something.

    bench/idle.py [--seconds 10]

* PSS of the four daemons together, idle on a real etcd with a few records each (bar: 160 MiB),
  beside a bare `python -c 'time.sleep'` of the same interpreter; and their CPU time meanwhile.
* `fairlead --help` (bar: 200 ms) and `-check-config` of each daemon (bar: 300 ms), beside
  `python -c pass`: the least of some runs, because only that is theirs and not the machine's.

flanneld needs root: it runs in a network namespace of its own; left out otherwise.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from fairlead.ask import ask
from fairlead.demo import hosts
from fairlead.testing.etcd import Cluster, free_ports, real_etcd

BIN = Path(sys.executable).parent
BARS = {"PSS, MiB": 160.0, "fairlead --help": 0.2, "-check-config": 0.3}
RUNS = 7
NETWORK = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
PROGRAMS = ("skydns", "confd", "vulcand", "flanneld")


def pss(pid: int) -> float:
    """Return a process's proportional set size in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("Pss:")]
    return int(line.split()[1]) / 1024


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def least(*argv: str) -> float:
    """Return the seconds of the fastest of some runs."""
    seconds = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        seconds.append(time.perf_counter() - begun)
        if done.returncode:
            raise SystemExit(f"{' '.join(argv)}: {done.stderr.decode()}")
    return min(seconds)


@dataclass(frozen=True)
class Estate:
    """An etcd and the daemons on it; `host` is where flanneld runs, None without root.

    Attributes:
        dns, http, api: ports on 127.0.0.1.
        home: has the admin sockets, the logs, confd's output `w`.
    """

    pids: dict[str, int]
    cluster: Cluster
    host: hosts.Host | None
    dns: int
    http: int
    api: int
    home: Path


async def start(stack: AsyncExitStack, home: Path) -> Estate:
    """Start etcd and the daemons; return when all are ready."""
    host = None
    if hosts.unavailable() is None:
        site = await stack.enter_async_context(hosts.Site("a"))
        host = site["a"]
    cluster = await stack.enter_async_context(real_etcd())
    etcd = cluster.endpoints[0]
    await cluster.etcdctl("put", "/coreos.com/network/config", NETWORK)
    await cluster.etcdctl("put", "/skydns/org/example/web/1", '{"host":"192.0.2.1"}')
    await cluster.etcdctl("put", "/vulcand/backends/b/backend", '{"Type":"http"}')
    await cluster.etcdctl("put", "/services/web/1", "192.0.2.1:80")
    confdir = home / "confd"
    for part in ("conf.d", "templates"):
        (confdir / part).mkdir(parents=True)
    (confdir / "templates/w.tmpl").write_text('{{range getvs "/services/web/*"}}{{.}}\n{{end}}')
    (confdir / "conf.d/w.toml").write_text(
        f'[template]\nsrc = "w.tmpl"\ndest = "{home}/w"\nkeys = ["/services/web"]\n'
    )
    dns, http, api = free_ports(3)
    flags = {
        "skydns": (f"-machines={etcd}", f"-addr=127.0.0.1:{dns}", "-no-rec",
                   "-domain=example.org."),
        "confd": ("-backend=etcdv3", f"-node={etcd}", f"-confdir={confdir}", "-watch"),
        "vulcand": (f"-etcd={etcd}", "-interface=127.0.0.1", f"-port={http}", f"-apiPort={api}",
                    "-apiInterface=127.0.0.1"),
    }  # fmt: skip
    if host is not None:
        relay = home / "etcd.sock"
        await stack.enter_async_context(await _relay(relay, etcd))
        flags["flanneld"] = (f"-etcd-endpoints=unix://{relay}", "-iface=eth0",
                             f"-subnet-file={home}/subnet.env")  # fmt: skip
    pids = {}
    for name, words in flags.items():
        argv = [
            str(BIN / name),
            f"-admin-socket={home}/{name}.sock",
            f"-state-dir={home}/state",
            *words,
        ]
        if name == "flanneld" and host is not None:
            argv = list(host.enter(*argv))
        with (home / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=log)
        stack.push_async_callback(_end, process)
        pids[name] = process.pid
    async with asyncio.timeout(30):
        while any(ask(home / f"{name}.sock", "/readyz").status != 200 for name in pids):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return Estate(pids, cluster, host, dns, http, api, home)


async def _relay(path: Path, endpoint: str) -> asyncio.Server:
    """Lead a unix socket to etcd: namespaces share the file system, not the loopback."""
    host, _, port = endpoint.removeprefix("http://").rpartition(":")

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    async def serve(near: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            far, ask = await asyncio.open_connection(host, int(port))
        except OSError:  # etcd is away: so is the relay
            answer.close()
            return
        await asyncio.gather(pump(near, ask), pump(far, answer), return_exceptions=True)

    return await asyncio.start_unix_server(serve, str(path))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def idle(seconds: float) -> float:
    """Print what the daemons cost and return their PSS together."""
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-idle-")))
        bare = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import time; time.sleep(99)"
        )
        stack.push_async_callback(_end, bare)
        pids = (await start(stack, home)).pids
        before = {name: cpu(pid) for name, pid in pids.items()}
        await asyncio.sleep(seconds)
        print(f"{'':12}{'PSS, MiB':>10}{'CPU, ms/s idle':>16}")
        total = 0.0
        for name, pid in pids.items():
            each, used = pss(pid), (cpu(pid) - before[name]) / seconds * 1000
            total += each
            print(f"{name:12}{each:10.1f}{used:16.1f}")
        print(f"{'together':12}{total:10.1f}   (bar {BARS['PSS, MiB']:.0f})")
        print(f"{'bare python':12}{pss(bare.pid):10.1f}")
        for name in PROGRAMS:
            if name not in pids:
                print(f"{name} left out: {hosts.unavailable()}")
    return total


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    missed = []
    total = asyncio.run(idle(seconds))
    if total > BARS["PSS, MiB"]:
        missed.append(f"PSS together {total:.1f} MiB")
    bare = least(sys.executable, "-c", "pass")
    print(f"{'start and end, least of ' + str(RUNS) + ' runs':36}{'ms':>8}{'× python -c pass':>18}")
    runs = {"fairlead --help": ("fairlead", "--help")}
    runs |= {f"{name} -check-config": (name, "-check-config") for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / "conf.d").mkdir()
        for name, (program, *words) in runs.items():
            more = (f"-confdir={empty}",) if program == "confd" else ()
            took = least(str(BIN / program), *more, *words)
            print(f"{name:36}{took * 1000:8.0f}{took / bare:18.1f}")
            if took > BARS["fairlead --help" if program == "fairlead" else "-check-config"]:
                missed.append(f"{name} took {took * 1000:.0f} ms")
    print(f"{'python -c pass':36}{bare * 1000:8.0f}{1.0:18.1f}")
    for line in missed:
        print(f"BAR MISSED: {line}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
