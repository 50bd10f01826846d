# SPDX-License-Identifier: Apache-2.0
"""Faults under load, for as long as asked: `python bench/lb_soak.py [--seconds 600] [--workers 2]`.

The real program with workers on a real etcd, 100 changes a second, 32 clients that ask about 300
times a second for something that only they get; meanwhile, one after the other, again and again:

etcd killed and back │ a server killed, frozen, mute (accepts and says nothing), slow, resetting
in the middle of bodies │ a worker killed │ clients that vanish in the middle of large bodies

Shown each minute: memory and descriptors of all processes, requests and what came of them. Bars:
no wrong answer; none lost that could be retried (a GET whose answer had not begun); a connection
may break only where its worker was killed; memory and descriptors level.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]

from fairlead.etcd.client import connect  # noqa: E402
from fairlead.etcd.options import Options  # noqa: E402
from fairlead.etcd.store import Store  # noqa: E402
from fairlead.testing.etcd import Cluster, free_ports, real_etcd  # noqa: E402

CLIENTS, EACH = 32, 0.1  # seconds between two requests of one client
LARGE = 4 << 20


class Server(asyncio.Protocol):
    """Answers with the target it was asked for; USR1 turns the mode that its file names on."""

    mode = ""
    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.seen = b""

    def data_received(self, data: bytes) -> None:
        self.seen += data
        while b"\r\n\r\n" in self.seen and Server.mode != "mute":
            head, _, self.seen = self.seen.partition(b"\r\n\r\n")
            delay = 0.4 if Server.mode == "slow" else 0.0
            asyncio.get_running_loop().call_later(delay, self._answer, head.split(b" ")[1])

    def _answer(self, target: bytes) -> None:
        body = bytes(LARGE) if target.startswith(b"/large") else target
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        Server.count += 1
        if target.startswith(b"/cut") and Server.count % 3 == 0:
            self.transport.write(head + body[: len(body) // 2])
            asyncio.get_running_loop().call_later(0.02, self.transport.abort)
            return
        self.transport.write(head + body)


async def serve(port: int, file: str) -> None:
    loop = asyncio.get_running_loop()

    def read() -> None:
        Server.mode = Path(file).read_text()

    read()
    loop.add_signal_handler(signal.SIGUSR1, read)
    server = await loop.create_server(Server, "127.0.0.1", port)
    await server.serve_forever()


class Origin:
    """A server's process."""

    def __init__(self, where: Path, port: int) -> None:
        self.port = port
        self.file = where / f"mode-{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, mode: str = "") -> None:
        self.file.write_text(mode)
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", f"{self.port}:{self.file}"]
        )

    def become(self, mode: str) -> None:
        self.file.write_text(mode)
        self.send(signal.SIGUSR1)

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Soak:
    """The run: what asks, what breaks, what is counted."""

    def __init__(self, port: int, pid: int, store: Store, cluster: Cluster, bad: Origin) -> None:
        self.port, self.pid, self.store, self.cluster, self.bad = port, pid, store, cluster, bad
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.changes = 0
        self.killing = 0.0  # until when a broken connection is explained

    async def client(self, number: int) -> None:
        """Ask, and look at what comes."""
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        turn = 0
        while True:
            await asyncio.sleep(EACH)
            turn += 1
            target = f"/{'cut' if turn % 10 == 0 else 'a'}/{number}/{turn}"
            fresh = writer is None
            try:
                async with asyncio.timeout(30):
                    if reader is None or writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"ontent-[Ll]ength: (\d+)", head)
                    body = await reader.readexactly(int(length[1])) if length else b""
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self._broken(target, error, fresh=fresh)
                if writer is not None:
                    writer.transport.abort()
                reader = writer = None
                continue
            status = head[9:12].decode()
            self.counts[status] += 1
            if status != "200":
                self.wrong.append(f"{target}: {status}")
            elif body != target.encode():
                self.wrong.append(f"{target}: another's answer, {body[:60]!r}")

    def _broken(self, target: str, error: Exception, *, fresh: bool) -> None:
        if target.startswith("/cut"):
            self.counts["cut short, and seen as that"] += 1
        elif time.monotonic() < self.killing:
            self.counts["broken with its worker"] += 1
        else:
            self.wrong.append(f"{target}: {type(error).__name__} (new connection: {fresh})")

    async def vanish(self) -> None:
        """Ask for large bodies and go away in the middle."""
        while True:
            await asyncio.sleep(0.5)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(10):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
                    await reader.read(200_000)
                    writer.transport.abort()
                    self.counts["vanished"] += 1

    async def change(self) -> None:
        """100 changes a second: routes that come, change and go."""
        due = time.monotonic()
        while True:
            due = max(due + 0.01, time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            n = self.changes % 500
            key = f"/vulcand/frontends/c{n}/frontend".encode()
            route = (
                f'{{"Type":"http","BackendId":"b","Route":"Host(`h{self.changes}.example.org`)"}}'
            )
            with contextlib.suppress(Exception):  # etcd is down now and then: that is the point
                async with asyncio.timeout(1):
                    await self.store.put(key, route.encode())
                    self.changes += 1

    def workers(self) -> list[int]:
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(word) for word in text.split()]

    async def faults(self) -> None:
        """One after the other."""
        node = self.cluster.nodes[0]

        async def etcd() -> None:
            await node.kill()
            await asyncio.sleep(4)
            await node.start()
            await node.healthy()

        async def killed() -> None:
            self.bad.stop()
            await asyncio.sleep(4)
            self.bad.start()

        async def frozen() -> None:
            self.bad.send(signal.SIGSTOP)
            await asyncio.sleep(5)
            self.bad.send(signal.SIGCONT)

        def mode(name: str) -> Callable[[], Awaitable[None]]:
            async def run() -> None:
                self.bad.become(name)
                await asyncio.sleep(5)
                self.bad.become("")

            return run

        async def worker() -> None:
            self.killing = time.monotonic() + 6
            os.kill(self.workers()[0], signal.SIGKILL)
            await asyncio.sleep(4)

        while True:
            for name, fault in (
                ("etcd", etcd), ("server killed", killed), ("server frozen", frozen), ("server mute", mode("mute")),
                ("server slow", mode("slow")), ("worker killed", worker),
            ):  # fmt: skip
                await fault()
                self.counts[f"fault: {name}"] += 1
                await asyncio.sleep(2)

    def size(self) -> tuple[float, int]:
        """Return MiB and descriptors of all processes."""
        memory, descriptors = 0.0, 0
        for pid in (self.pid, *self.workers()):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                memory += sum(map(int, re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE))) / 1024
                descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        return memory, descriptors


async def run(seconds: int, workers: int) -> bool:
    with tempfile.TemporaryDirectory() as text:
        where = Path(text)
        ports = free_ports(5)
        origins = [Origin(where, port) for port in ports[:3]]
        for origin in origins:
            origin.start()
        async with real_etcd() as cluster, connect(Options(endpoints=cluster.endpoints)) as store:
            settings = {"HealthCheck": {"Type": "http", "Path": "/up", "Interval": "200ms", "Timeout": "500ms", "Fall": 2, "Rise": 1}, "Timeouts": {"Read": "2s", "Dial": "1s"}}  # fmt: skip
            values = {"backends/b/backend": {"Type": "http", "Settings": settings}}
            for i, origin in enumerate(origins):
                values[f"backends/b/servers/s{i}"] = {"URL": f"http://127.0.0.1:{origin.port}"}
            values["frontends/f/frontend"] = {"Type": "http", "BackendId": "b", "Route": "Path(`/<path:rest>`)"}  # fmt: skip
            for key, value in values.items():
                await store.put(f"/vulcand/{key}".encode(), json(value))
            command = [
                sys.executable, "-m", "lb", "-etcd", ",".join(cluster.endpoints), "-interface", "127.0.0.1",
                "-port", str(ports[3]), "-apiInterface", "127.0.0.1", "-apiPort", str(ports[4]),
                "-state-dir", str(where / "state"), "-admin-socket", "", "-workers", str(workers),
            ]  # fmt: skip
            log = (where / "log").open("wb")
            lb = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
            try:
                soak = Soak(ports[3], lb.pid, store, cluster, origins[2])
                await _up(ports[3])
                return await _watch(soak, seconds)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    lb.terminate()
                await lb.wait()
                for origin in origins:
                    with contextlib.suppress(ProcessLookupError):
                        origin.send(signal.SIGCONT)
                    origin.stop()


def json(value: object) -> bytes:
    import msgspec

    return msgspec.json.encode(value)


async def _up(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                writer.close()
                if b" 200 " in head:
                    return
            await asyncio.sleep(0.2)


async def _watch(soak: Soak, seconds: int) -> bool:
    tasks = [asyncio.create_task(soak.client(i)) for i in range(CLIENTS)]
    tasks += [asyncio.create_task(work()) for work in (soak.vanish, soak.change, soak.faults)]
    rows: list[tuple[float, int]] = []
    until = time.monotonic() + seconds
    step = max(10, seconds // 10)
    try:
        while time.monotonic() < until:
            done, _ = await asyncio.wait(tasks, timeout=step, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            rows.append(soak.size())
            memory, descriptors = rows[-1]
            asked = soak.counts["200"]
            print(f"{memory:6.0f} MiB {descriptors:5} descriptors {asked:8} answered {soak.changes:7} changes {len(soak.wrong)} wrong", flush=True)  # fmt: skip
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    print(", ".join(f"{name}: {count}" for name, count in sorted(soak.counts.items())))
    for line in soak.wrong[:10]:
        print("WRONG", line)
    # the first row is of a program that has just begun: what it keeps for 500 routes comes later
    grown = rows[-1][0] / rows[min(2, len(rows) - 1)][0]
    print(f"memory at the end by the third look: {grown:.2f} (bar 1.15)")
    return not soak.wrong and grown <= 1.15


def main() -> int:
    args = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    args.add_argument("--seconds", type=int, default=600)
    args.add_argument("--workers", type=int, default=2)
    args.add_argument("--serve", help=argparse.SUPPRESS)
    given = args.parse_args()
    if given.serve:
        port, _, file = given.serve.partition(":")
        asyncio.run(serve(int(port), file))
        return 0
    return 0 if asyncio.run(run(given.seconds, given.workers)) else 1


if __name__ == "__main__":
    sys.exit(main())
