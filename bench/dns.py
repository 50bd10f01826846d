# SPDX-License-Identifier: Apache-2.0
"""skydns beside its peers: answers per second of the server's own CPU time, as ratios.

    python bench/dns.py [--names 10000 …] [--rounds 5] [--seconds 2] [--case hit nx stray case] [--no-scale]

dnsperf asks over UDP on loopback, the same queries of every server in turn; what counts is replies ÷
CPU seconds that the server's processes took meanwhile, as the scheduler counts them (nanoseconds). Cases and servers take turns
within each round, and a ratio is the median over the rounds of what two of them gave in one round:
a slow minute of the machine hits both alike.

Servers: `skydns` is the program on a real etcd, one process; `workers` the same with `-workers 2`
(three processes' CPU time); `bare` a Python loop of `recvfrom` and `sendto` around one dictionary of
ready replies; `nsd` and `knot` (one worker each) and `coredns` (etcd plugin and `cache`, on the same
etcd, GOMAXPROCS=1; found by $FAIRLEAD_PEERS or PATH) where they are installed. Up to 10,000 names
CoreDNS's cache has room for all, above it is as it comes (9984 replies).
Cases: `hit` existing names; `nx` names that do not exist, a different one each time, as long as those
that do; `stray` the same of all lengths from 4 to 15; `case` hits with mixed-case
names (0x20).

Scale, on 100,000 records: seconds from the start of the process to ready; KiB of memory a record
when every name was asked for; then, under 20,000 queries/s for names that were all asked for before,
milliseconds from a put until an answer shows it, beside a bare put → watch event of the same run, and
how long after both the put's answer and that event.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import standstill

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fairlead.etcd.store import Store
    from fairlead.testing.etcd import Cluster

ZONE = "skydns.test"


def bare(port: int, names: int) -> None:
    """Reply from a dictionary of ready replies, all of one shape."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind(("127.0.0.1", port))
    ready = {}
    for at in range(names):
        question = (
            b"".join(bytes((len(x),)) + x for x in (b"n%d" % at, *ZONE.encode().split(b".")))
            + b"\0\0\1\0\1"
        )
        ready[b"\x01\0\0\1\0\0\0\0\0\0" + question] = (
            b"\x85\0\0\1\0\1\0\0\0\0" + question + b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\x0a\0\0\1"
        )
    get, receive, send = ready.get, sock.recvfrom, sock.sendto
    while True:
        data, peer = receive(4096)
        reply = get(data[2:])
        if reply is not None:
            send(data[:2] + reply, peer)


def skydns(port: int, etcd: str, folder: Path, name: str = "skydns") -> list[str]:
    """Return the command of the program itself."""
    return [
        sys.executable, "-m", "skydns", "-addr", f"127.0.0.1:{port}", "-machines", etcd, "-domain", ZONE,
        "-no-rec", "-state-dir", str(folder / f"{name}.state"), "-admin-socket", str(folder / f"{name}.sock"),
    ]  # fmt: skip


def coredns(port: int, names: int, etcd: str, folder: Path) -> list[str] | None:
    """Write CoreDNS's file; return its command, None when it is not there."""
    path = os.environ.get("FAIRLEAD_PEERS", "") + os.pathsep + os.environ["PATH"]
    program = shutil.which("coredns", path=path)
    if program is None:
        return None
    room = f" {{\n  success {4 * names}\n }}" if names <= 10_000 else ""
    (folder / "Corefile").write_text(
        f"{ZONE}:{port} {{\n bind 127.0.0.1\n cache 3600{room}\n etcd {ZONE} {{\n  path /skydns\n  endpoint {etcd}\n }}\n}}\n"
    )
    return ["env", "GOMAXPROCS=1", program, "-conf", str(folder / "Corefile")]


def zone_file(names: int, folder: Path) -> None:
    """Write the zone as a master file."""
    zone = [
        f"$ORIGIN {ZONE}.",
        "$TTL 300",
        "@ SOA ns.dns hostmaster 1 7200 1800 86400 30",
        "@ NS ns.dns",
        "ns.dns A 127.0.0.1",
    ]
    zone += [f"n{at} A 10.0.{at >> 8 & 255}.{at & 255}" for at in range(names)]
    (folder / "zone").write_text("\n".join(zone) + "\n")


def nsd(port: int, folder: Path) -> list[str]:
    """Write NSD's file; return its command."""
    (folder / "nsd.conf").write_text(
        f'server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: ""\n zonesdir: "{folder}"\n'
        f' pidfile: "{folder}/nsd.pid"\n database: ""\n xfrdfile: "{folder}/xfrd"\n zonelistfile: "{folder}/list"\n logfile: "{folder}/log"\n'
        f" rrl-ratelimit: 0\nremote-control:\n control-enable: no\nzone:\n name: {ZONE}\n zonefile: zone\n"
    )
    return [
        _sbin("nsd") or "nsd",
        "-d",
        "-c",
        str(folder / "nsd.conf"),
    ]


def knot(port: int, folder: Path) -> list[str]:
    """Write Knot's file; return its command."""
    (folder / "knot").mkdir(exist_ok=True)
    (folder / "knot.conf").write_text(
        f'server:\n  rundir: "{folder}/knot"\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n'
        f'database:\n  storage: "{folder}/knot"\nlog:\n  - target: stderr\n    any: error\n'
        f'zone:\n  - domain: {ZONE}\n    file: "{folder}/zone"\n    zonefile-sync: -1\n    journal-content: none\n'
    )
    return [_sbin("knotd") or "knotd", "-c", str(folder / "knot.conf")]


def _sbin(program: str) -> str | None:
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")


def queries(case: str, names: int, folder: Path) -> Path:
    """Write dnsperf's input."""
    random.seed(1)
    lines = []
    for at in range(max(names, 50_000 if case in {"nx", "stray"} else names)):
        name = f"n{at}"
        if case == "nx":
            digits = len(str(at % names))
            name = f"x{random.randrange(16**digits):0{digits}x}"
        elif case == "stray":
            name = "x" + "".join(random.choices("0123456789abcdef", k=random.randint(3, 14)))
        text = f"{name}.{ZONE}"
        if case == "case":
            text = "".join(random.choice((c.upper(), c)) for c in text)
        lines.append(f"{text} A")
    random.shuffle(lines)
    path = folder / f"queries.{case}"
    path.write_text("\n".join(lines) + "\n")
    return path


def cpu(pid: int) -> float:
    """CPU seconds of a process and all below it."""
    total = 0.0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if pid in {int(entry.name), parent} or _grandparent(parent) == pid:
                    total += sum(map(_ran, (entry / "task").iterdir()))
            except OSError:
                continue
    return total


def _ran(task: Path) -> float:
    """Seconds that a thread ran."""
    return int((task / "schedstat").read_text().split()[0]) / 1e9


def _grandparent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def measure(port: int, pid: int, file: Path, seconds: float) -> tuple[float, float]:
    """Return replies per CPU second of the server, and per second."""
    before = cpu(pid)
    out = subprocess.run(
        ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(file), "-l", str(seconds), "-c", "4", "-q", "200", "-t", "1"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    took = cpu(pid) - before
    replies = int(re.search(r"Queries completed:\s+(\d+)", out)[1])  # type: ignore[index]
    lost = int(re.search(r"Queries lost:\s+(\d+)", out)[1])  # type: ignore[index]
    if lost:
        print(f"  port {port}: {lost} queries lost", file=sys.stderr)
    return replies / max(took, 0.01), replies / seconds


def warm(port: int, file: Path) -> None:
    """Ask for every name, so that whoever keeps answers has them all."""
    subprocess.run(
        ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(file), "-n", "1", "-l", "60", "-c", "4", "-q", "50"],
        capture_output=True, check=True,
    )  # fmt: skip


def start(command: list[str], port: int) -> subprocess.Popen[bytes]:
    """Start a server and wait until it answers with a name of ours."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"NOTIFY_SOCKET": ""}
    )  # fmt: skip
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probe.settimeout(0.2)
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0\2n0\6skydns\4test\0\0\1\0\1"
    begun = time.monotonic()
    while time.monotonic() - begun < 60 and process.poll() is None:
        try:
            probe.sendto(query, ("127.0.0.1", port))
            if probe.recv(512)[7]:
                return process
        except OSError:
            pass
        time.sleep(0.02)
    process.kill()
    raise SystemExit(f"does not answer: {command}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait()


def free_port() -> int:
    """A port that nobody has, UDP and TCP."""
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        return int(tcp.getsockname()[1])


async def fill(client: Store, names: int) -> None:
    """Write a record for each name."""
    from fairlead.etcd.types import Put

    for begin in range(0, names, 5000):
        await asyncio.gather(
            *(
                client.txn(
                    success=[
                        Put(
                            b"/skydns/test/skydns/n%d" % n,
                            b'{"host":"10.0.%d.%d"}' % (n >> 8 & 255, n & 255),
                        )
                        for n in range(at, min(at + 100, names))
                    ],
                    repeatable=True,
                )
                for at in range(begin, min(begin + 5000, names), 100)
            )
        )


Rates = dict[tuple[str, str], list[tuple[float, float]]]
"""By server and case, for each round: replies per CPU second, and per second."""


def compare(args: argparse.Namespace, names: int, etcd: str, folder: Path) -> None:
    """Print the ratios for one number of names."""
    ports = {
        server: free_port() for server in ("skydns", "workers", "coredns", "nsd", "knot", "bare")
    }
    commands = {"skydns": skydns(ports["skydns"], etcd, folder)}
    if names <= 10_000:  # each worker makes every answer once; that takes too long for more
        two = ["-workers", "2"]
        commands["workers"] = [*skydns(ports["workers"], etcd, folder, "workers"), *two]
    if corefile := coredns(ports["coredns"], names, etcd, folder):
        commands["coredns"] = corefile
    else:
        print("coredns is not installed: no ratio to it")
    zone_file(names, folder)
    for peer, make in (("nsd", nsd), ("knot", knot)):
        if _sbin("knotd" if peer == "knot" else peer):
            commands[peer] = make(ports[peer], folder)
        else:
            print(f"{peer} is not installed: no ratio to it (make peers)")
    me = [sys.executable, __file__, "--names", str(names)]
    commands["bare"] = [*me, "--serve", "--port", str(ports["bare"])]
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for server, command in commands.items():
            running[server] = start(command, ports[server])
        print(f"ports: {ports}", file=sys.stderr)
        files = {case: queries(case, names, folder) for case in args.case}
        turns = [
            (server, case)
            for case in args.case
            for server in running
            if case == "hit" or server in {"skydns", "nsd", "knot"}
        ]
        for server, case in turns:
            for _ in range(6 if server == "workers" else 1):  # each time from other ports
                warm(ports[server], files[case])
        found: Rates = {turn: [] for turn in turns}
        for _ in range(args.rounds):
            for server, case in random.sample(turns, len(turns)):
                pid = running[server].pid
                found[server, case].append(measure(ports[server], pid, files[case], args.seconds))
        report(found, names, args.rounds)
    finally:
        for process in running.values():
            stop(process)


def ratio(found: Rates, one: tuple[str, str], other: tuple[str, str]) -> float:
    """Return how many times as many answers `one` gives for a CPU second, round by round."""
    return statistics.median(a / b for (a, _), (b, _) in zip(found[one], found[other], strict=True))


MEANING = {
    "hit": "names that exist, asked as they are written",
    "nx": "names that do not exist, each another one, as long as those that do",
    "stray": "names that do not exist, their labels of 4 to 15 octets",
    "case": "names that exist, in mixed case (0x20)",
}


def report(found: Rates, names: int, rounds: int) -> None:
    """Print what was found, and whether the bars are met."""
    bars = {("nsd", False): 0.7, ("coredns", False): 1.5, ("coredns", True): 4.0}
    for case in dict.fromkeys(case for _, case in found):
        print(f"{case}: {MEANING[case]}; {names} names, A over UDP, medians of {rounds} rounds")
        for server in (server for server, other in found if other == case):
            per_cpu = statistics.median(cpu for cpu, _ in found[server, case])
            rate = statistics.median(rate for _, rate in found[server, case])
            line = f"  {server:8} {1e6 / per_cpu:6.2f} µs of a core an answer ({rate:,.0f}/s)"
            if server != "skydns":
                times = ratio(found, ("skydns", case), (server, case))
                line += f"  skydns answers {times:5.2f} × as many"
                bar = bars.get((server, names >= 100_000)) if case == "hit" else None
                line += f"; bar {bar}: {'met' if times >= bar else 'MISSED'}" if bar else ""
            print(line)
        if case != "hit" and ("skydns", "hit") in found:
            cost = ratio(found, ("skydns", "hit"), ("skydns", case))
            bar = f"; bar 1.0: {'met' if cost <= 1.0 else 'MISSED'}" if case == "nx" else ""
            print(f"  one of these costs {cost:.2f} × a hit{bar}")


def memory(pid: int) -> float:
    """KiB that only this process holds, and its share of the rest."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return float(re.search(r"Pss:\s+(\d+)", text)[1])  # type: ignore[index]


class Delay(NamedTuple):
    """Seconds from the begin of a put.

    Attributes:
        begun: when that was, on the monotonic clock.
        shown: until an answer showed it.
        watched: until a bare watch did.
        stored: until etcd had stored it, and said so.
    """

    begun: float
    shown: float
    watched: float
    stored: float

    @property
    def end(self) -> float:
        return self.begun + max(self.shown, self.watched)


async def delays(client: Store, port: int, names: int, puts: int) -> list[Delay]:
    """Return how long each of some changes takes, one after another."""
    from fairlead.etcd.types import KeyRange, WatchRequest

    found = []
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect(("127.0.0.1", port))
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[float] = asyncio.Queue()

    async def watch() -> None:
        keys = KeyRange.prefix(b"/skydns/test/skydns/")
        async with client.watch(WatchRequest(keys)) as answers:
            async for answer in answers:
                if answer.events:
                    arrived.put_nowait(time.monotonic())

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.5)
    for count in range(puts):
        at = random.randrange(names)
        value = b"\x0b\x0b" + (count % 65536).to_bytes(2, "big")
        label = b"n%d" % at
        query = b"\0\1\1\0\0\1\0\0\0\0\0\0" + bytes((len(label),)) + label + b"\6skydns\4test\0\0\1\0\1"  # fmt: skip
        begun = time.monotonic()
        text = ".".join(map(str, value)).encode()
        await client.put(b"/skydns/test/skydns/" + label, b'{"host":"%s"}' % text)
        stored = time.monotonic() - begun
        while True:
            await loop.sock_sendall(sock, query)
            reply = b""
            try:
                async with asyncio.timeout(1.0):
                    reply = await loop.sock_recv(sock, 512)
            except TimeoutError:
                print("  a probe was lost", file=sys.stderr)
            if reply.endswith(value):
                break
            await asyncio.sleep(0.0005)
        shown = time.monotonic() - begun
        found.append(Delay(begun, shown, await arrived.get() - begun, stored))
        await asyncio.sleep(0.02)
    watching.cancel()
    sock.close()
    return found


def ranks(seconds: list[float]) -> str:
    """Median, p99 and most, in milliseconds."""
    ordered = sorted(seconds)
    return " / ".join(f"{1000 * ordered[int(share * (len(ordered) - 1))]:.1f}" for share in (0.5, 0.99, 1))  # fmt: skip


def apart(servers: Iterable[int], load: Iterable[int]) -> None:
    """Give the servers one core, and what asks them the other, as if it were another host."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for pids, some in ((servers, cores[:1]), (load, cores[1:])):
            for pid in pids:
                for task in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(task), some)


async def scale(client: Store, names: int, cluster: Cluster, folder: Path, puts: int) -> None:
    """Print start, memory and delay for many records."""
    etcd = cluster.endpoints[0]
    port = free_port()
    empty = start_empty(etcd, folder)
    base = memory(empty.pid)
    stop(empty)
    begun = time.monotonic()
    process = start(skydns(port, etcd, folder, "scale"), port)
    ready = time.monotonic() - begun
    try:
        loaded = memory(process.pid)
        file = queries("hit", names, folder)
        warm(port, file)
        asked = memory(process.pid)
        print(f"scale: {names} records")
        print(f"  start to ready          {ready:6.2f} s      bar 8: {'met' if ready < 8 else 'MISSED'}")  # fmt: skip
        each = (asked - base) / names
        print(f"  memory a record         {each:6.2f} KiB    bar 1.5: {'met' if each <= 1.5 else 'MISSED'} ({(loaded - base) / names:.2f} before the first query)")  # fmt: skip
        with standstill.watched() as slow:
            load = await asyncio.create_subprocess_exec(  # nice: it shares a core with who watches
                "nice", "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(file), "-l", "600", "-Q", "20000",
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            apart((process.pid, cluster.nodes[0].pid), (load.pid, os.getpid()))
            gc.collect()
            gc.freeze()  # what filled the store: to look through it again takes this process 20 ms
            try:
                await asyncio.sleep(1.0)
                found = await delays(client, port, names, puts)
            finally:
                load.terminate()
                await load.wait()
        sound = [each for each in found if not slow.at(each.begun, each.end)]
        shown = sorted(each.shown for each in sound)
        verdict = "met" if shown[int(0.99 * (len(shown) - 1))] < 0.02 else "MISSED"
        print(f"  put → shown, 20k q/s    {ranks(shown)} ms (median / p99 / most)  bar p99 20: {verdict}")  # fmt: skip
        print(f"    of the {len(sound)} of {puts} while the machine was sound (bench/standstill.py); of all {ranks([each.shown for each in found])}")  # fmt: skip
        after = [each.shown - max(each.watched, each.stored) for each in sound]
        print(f"  put → bare watch event  {ranks([each.watched for each in sound])} ms")
        print(f"  put → stored in etcd    {ranks([each.stored for each in sound])} ms")
        print(f"  shown after both        {ranks(after)} ms")
    finally:
        stop(process)


def start_empty(etcd: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the program on a prefix without records."""
    command = [*skydns(free_port(), etcd, folder, "empty"), "-path-prefix", "nothing"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(3.0)
    return process


async def run(args: argparse.Namespace) -> None:
    from fairlead.etcd.client import connect
    from fairlead.etcd.options import Options
    from fairlead.testing.etcd import real_etcd

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with real_etcd() as cluster:
            etcd = cluster.endpoints[0]
            async with connect(Options(endpoints=(etcd,))) as client:
                for names in sorted(args.names):
                    await fill(client, names)
                    await asyncio.to_thread(compare, args, names, etcd, folder)
                if not args.no_scale:
                    await fill(client, 100_000)
                    await scale(client, 100_000, cluster, folder, args.puts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--names", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--puts", type=int, default=500)
    parser.add_argument("--no-scale", action="store_true")
    parser.add_argument("--case", choices=tuple(MEANING), nargs="*", default=list(MEANING))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        bare(args.port, args.names[0])
        return
    if not shutil.which("dnsperf"):
        raise SystemExit("dnsperf is not installed: make peers")
    asyncio.run(run(args))


if __name__ == "__main__":
    main()
