# SPDX-License-Identifier: Apache-2.0
"""skydns beside its peers: answers per second of the server's own CPU time, as ratios to NSD.

    python bench/dns.py [--names 10000] [--rounds 5] [--seconds 2] [--case hit|nx|churn …]

dnsperf asks over UDP on loopback, the same queries of every server in turn (interleaved rounds, so
that a slow minute of the machine hits all alike); what counts is replies ÷ CPU seconds that the
server's process took meanwhile, from /proc. The median of the rounds is compared, never a bare
number of another day.

Servers: `bare` is a Python loop that only looks up ready replies, the most that any Python server
could do; `nsd` where it is installed; `skydns` is ours with an index of its own, without etcd.
Cases: `hit` existing names; `nx` names that do not exist, a different one each time; `case` hits
with mixed-case names (0x20).
"""

from __future__ import annotations

import argparse
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
from collections.abc import Callable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
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


def ours(port: int, names: int) -> None:
    """Serve with the real hot loop and a real index."""
    import asyncio

    import uvloop

    from fairlead.etcd.types import KeyValue, Revision
    from skydns import keys, records
    from skydns.compiled import Answers
    from skydns.policy import Policy
    from skydns.server import Server
    from skydns.state import Served

    async def main() -> None:
        answers = Answers(Served(), Policy(frozenset(keys.zones(ZONE))), time.monotonic)
        for at in range(names):
            key = b"/skydns/test/skydns/n%d" % at
            kv = KeyValue(
                key,
                b'{"host":"10.0.%d.%d"}' % (at >> 8 & 255, at & 255),
                Revision(1),
                Revision(1),
                1,
            )
            service = records.decode(b"/skydns", kv)
            assert service is not None
            answers.served.index.put(service)
        answers.loaded = True
        await Server(answers, None).listen("127.0.0.1", port)
        await asyncio.Event().wait()

    uvloop.run(main())


def nsd(port: int, names: int, folder: Path) -> list[str]:
    """Write NSD's files; return its command."""
    zone = [
        f"$ORIGIN {ZONE}.",
        "$TTL 300",
        "@ SOA ns.dns hostmaster 1 7200 1800 86400 30",
        "@ NS ns.dns",
        "ns.dns A 127.0.0.1",
    ]
    zone += [f"n{at} A 10.0.{at >> 8 & 255}.{at & 255}" for at in range(names)]
    (folder / "zone").write_text("\n".join(zone) + "\n")
    (folder / "nsd.conf").write_text(
        f'server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: ""\n zonesdir: "{folder}"\n'
        f' pidfile: "{folder}/nsd.pid"\n database: ""\n xfrdfile: "{folder}/xfrd"\n zonelistfile: "{folder}/list"\n logfile: "{folder}/log"\n'
        f" rrl-ratelimit: 0\nremote-control:\n control-enable: no\nzone:\n name: {ZONE}\n zonefile: zone\n"
    )
    return [
        shutil.which("nsd", path=os.environ["PATH"] + ":/usr/sbin") or "nsd",
        "-d",
        "-c",
        str(folder / "nsd.conf"),
    ]


def queries(case: str, names: int, folder: Path) -> Path:
    """Write dnsperf's input."""
    random.seed(1)
    lines = []
    for at in range(max(names, 50_000 if case == "nx" else names)):
        name = f"x{random.randrange(1 << 40):x}" if case == "nx" else f"n{at}"
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
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if (
                int(entry.name) == pid
                or int(fields[1]) == pid
                or _grandparent(int(fields[1])) == pid
            ):
                total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def _grandparent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def measure(port: int, pid: int, file: Path, seconds: float) -> tuple[float, float]:
    """Return replies per CPU second of the server, and per second."""
    before = cpu(pid)
    out = subprocess.run(
        ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(file), "-l", str(seconds), "-c", "4", "-q", "200"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    took = cpu(pid) - before
    replies = int(re.search(r"Queries completed:\s+(\d+)", out)[1])  # type: ignore[index]
    lost = int(re.search(r"Queries lost:\s+(\d+)", out)[1])  # type: ignore[index]
    if lost:
        print(f"  {lost} queries lost", file=sys.stderr)
    return replies / max(took, 0.01), replies / seconds


def start(command: list[str], port: int) -> subprocess.Popen[bytes]:
    """Start a server and wait until it answers."""
    process = subprocess.Popen(command)
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probe.settimeout(0.2)
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0\2n0\6skydns\4test\0\0\1\0\1"
    for _ in range(100):
        try:
            probe.sendto(query, ("127.0.0.1", port))
            probe.recv(512)
        except OSError:
            time.sleep(0.1)
        else:
            return process
    raise SystemExit(f"does not answer: {command}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--names", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument(
        "--case", choices=("hit", "nx", "case"), nargs="*", default=["hit", "nx", "case"]
    )
    parser.add_argument("--serve", choices=("bare", "skydns"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve: Callable[[int, int], None] = bare if args.serve == "bare" else ours
        serve(args.port, args.names)
        return
    if not shutil.which("dnsperf"):
        print("skipped: dnsperf is not installed: make peers")
        return
    me = [sys.executable, __file__, "--names", str(args.names)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = {
            "bare": [*me, "--serve", "bare", "--port", "5401"],
            "skydns": [*me, "--serve", "skydns", "--port", "5402"],
        }
        ports = {"bare": 5401, "skydns": 5402, "nsd": 5403}
        if shutil.which("nsd", path=os.environ["PATH"] + ":/usr/sbin"):
            commands["nsd"] = nsd(5403, args.names, folder)
        else:
            print("nsd is not installed: no ratio to it (make peers)")
        running = {server: start(command, ports[server]) for server, command in commands.items()}
        try:
            for case in args.case:
                file = queries(case, args.names, folder)
                servers = [s for s in running if s != "bare" or case == "hit"]
                for server in servers:  # warm
                    measure(ports[server], running[server].pid, file, 1.0)
                found: dict[str, list[tuple[float, float]]] = {server: [] for server in servers}
                for _ in range(args.rounds):
                    for server in servers:
                        found[server].append(
                            measure(ports[server], running[server].pid, file, args.seconds)
                        )
                print(f"{case}: {args.names} names, A over UDP, median of {args.rounds} rounds")
                per_cpu = {
                    server: statistics.median(cpu for cpu, _ in rounds)
                    for server, rounds in found.items()
                }
                base = per_cpu.get("nsd")
                for server in servers:
                    ratio = f"{per_cpu[server] / base:5.2f} × nsd" if base else ""
                    rate = statistics.median(rate for _, rate in found[server])
                    print(
                        f"  {server:8} {per_cpu[server]:10,.0f} answers/CPU s  {ratio}   ({rate:,.0f}/s)"
                    )
        finally:
            for process in running.values():
                process.send_signal(signal.SIGTERM)
                process.wait()


if __name__ == "__main__":
    main()
