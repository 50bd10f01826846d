# SPDX-License-Identifier: Apache-2.0
"""All four daemons under churn, for as long as asked: `python bench/soak.py [--seconds 300]`.

A real etcd, flanneld in a network namespace, skydns, confd and vulcand. A writer changes 100 keys
a second of every kind, malformed ones among them, compacts, and now and then ends etcd for two
seconds; readers ask for names and pages meanwhile. Every half minute the writer rests, and what
*is* has to become what the keys say *should be*: the answers of skydns, the file of confd, the
servers and answers of vulcand, the kernel's routes. Then memory and descriptors are shown.

Bars: at every rest all of it is equal within 10 s; no question and no request fails meanwhile;
memory and descriptors level (the last half's mean within 5 % and 10 MiB of the first's).
"""

import argparse
import asyncio
import json
import os
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.idle import Estate, pss, start  # noqa: E402
from fairlead.demo import hosts  # noqa: E402
from fairlead.etcd.client import connect  # noqa: E402
from fairlead.etcd.errors import StoreError  # noqa: E402
from fairlead.etcd.options import Options  # noqa: E402
from fairlead.etcd.store import Store  # noqa: E402
from fairlead.etcd.types import KeyRange  # noqa: E402

EVERY = 30.0  # seconds between two rests
CHANGES = 100  # a second
REMOVALS = 0.06  # of them; more would be held back as an accident (promise 8 of the reconciler)
WITHIN = 10.0
NAMES, HOSTS, SITES, SERVICES = 300, 60, 40, 100
KEEP_HOST = {"PassHostHeader": True}
MALFORMED = (b"", b"{", b"[]", b'{"host":7}', b"\xff\xfe", b'"x"')


class Model:
    """What the keys say: which of each kind stand, with what; all sites are served by `origin`."""

    def __init__(self, rng: random.Random, origin: str) -> None:
        self.rng = rng
        self.origin = origin
        self.names: dict[int, str] = {}  # number → address
        self.leases: dict[int, str] = {}  # third octet → public address
        self.sites: dict[int, str] = {}  # number → path prefix the server is asked with
        self.services: dict[int, str] = {}

    async def change(self, store: Store) -> None:
        """Change one key, in etcd and then here."""
        rng = self.rng
        gone = rng.random() < REMOVALS
        match rng.randrange(5):
            case 0:
                number, value = rng.randrange(NAMES), f"192.0.2.{rng.randrange(1, 255)}"
                text = json.dumps({"host": value})
                await _set(store, f"/skydns/org/example/c/n{number}/x", None if gone else text)
                _note(self.names, number, None if gone else value)
            case 1:
                number, value = rng.randrange(2, 2 + HOSTS), f"10.9.0.{rng.randrange(2, 255)}"
                mac = f"02:00:00:00:00:{number:02x}"
                text = json.dumps(
                    {"PublicIP": value, "BackendType": "vxlan", "BackendData": {"VNI": 1, "VtepMAC": mac}}
                )  # fmt: skip
                key = f"/coreos.com/network/subnets/10.5.{100 + number}.0-24"
                await _set(store, key, None if gone else text)
                _note(self.leases, number, None if gone else value)
            case 2:
                await self._site(store, rng.randrange(SITES), gone=gone)
            case 3:
                number, value = rng.randrange(SERVICES), f"192.0.2.7:{rng.randrange(1, 65536)}"
                await _set(store, f"/services/web/{number:03}", None if gone else value)
                _note(self.services, number, None if gone else value)
            case _:
                place = rng.choice(("/skydns/org/example/bad", "/vulcand/backends/bad{}/backend",
                                    "/vulcand/frontends/bad{}/frontend"))  # fmt: skip
                key = (
                    place.format(rng.randrange(20))
                    if "{}" in place
                    else f"{place}/{rng.randrange(20)}"
                )
                bad = rng.choice(MALFORMED).decode("latin-1")
                await _set(store, key, None if gone else bad)

    async def _site(self, store: Store, number: int, *, gone: bool) -> None:
        """Put or remove a frontend, its backend and its server."""
        base, name = "/vulcand/backends", f"s{number}"
        if gone:
            self.sites.pop(number, None)
            await _set(store, f"/vulcand/frontends/{name}/frontend", None)
            await _set(store, f"{base}/{name}/servers/srv", None)
            await _set(store, f"{base}/{name}/backend", None)
            return
        route = f'Host("{name}.example.org")'
        front = json.dumps(
            {"Type": "http", "BackendId": name, "Route": route, "Settings": KEEP_HOST}
        )
        await _set(store, f"{base}/{name}/backend", '{"Type":"http"}')
        await _set(store, f"{base}/{name}/servers/srv", json.dumps({"URL": self.origin}))
        await _set(store, f"/vulcand/frontends/{name}/frontend", front)
        self.sites[number] = name


def _note(kind: dict[int, str], number: int, value: str | None) -> None:
    if value is None:
        kind.pop(number, None)
    else:
        kind[number] = value


async def _set(store: Store, key: str, value: str | None) -> None:
    """Put or delete one key, again until etcd has taken it."""
    while True:
        try:
            if value is None:
                await store.delete(KeyRange(key.encode()))
            else:
                await store.put(key.encode(), value.encode("latin-1"), repeatable=True)
        except StoreError:
            await asyncio.sleep(0.1)
        else:
            return


# ---------------------------------------------------------------------- asking


async def resolve(port: int, name: str) -> tuple[int, set[str]]:
    """Return rcode and addresses of a name; rcode -1: no answer within 2 s."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    class Ask(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            if not answer.done():
                answer.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Ask, remote_addr=("127.0.0.1", port))
    try:
        labels = b"".join(bytes((len(each),)) + each.encode() for each in name.split("."))
        transport.sendto(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1")
        async with asyncio.timeout(2):
            data = await answer
    except TimeoutError:
        return -1, set()
    finally:
        transport.close()
    count, at = struct.unpack_from("!H", data, 6)[0], 12 + len(labels) + 5
    found = set()
    for _ in range(count):
        at += 2 if data[at] >= 0xC0 else data.index(0, at) + 1 - at
        kind, _, _, length = struct.unpack_from("!HHIH", data, at)
        if kind == 1:
            found.add(".".join(map(str, data[at + 10 : at + 14])))
        at += 10 + length
    return data[3] & 15, found


async def fetch(port: int, host: str) -> str:
    """Return the status and the body of GET / as one line; "no answer" where there is none."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            data = await reader.read()
            writer.close()
    except (TimeoutError, OSError) as error:
        return f"no answer: {error!r}"
    head, _, body = data.decode("latin-1").partition("\r\n\r\n")
    return f"{head.split(' ')[1]} {body}" if " " in head else f"no answer: {head!r}"


async def serve_origin(stack: AsyncExitStack) -> str:
    """Start the server behind the load balancer: it answers with the host it was asked for."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            host = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"host:"))
            body = host.partition(b":")[2].strip()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(quiet, "127.0.0.1", 0)
    stack.callback(server.close)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


# ---------------------------------------------------------------------- what differs


async def differences(estate: Estate, model: Model) -> list[str]:
    """Return what is not as the keys say it should be."""
    found = []
    for number in range(NAMES):
        want = {model.names[number]} if number in model.names else set()
        code, have = await resolve(estate.dns, f"n{number}.c.example.org")
        if have != want or code not in (0, 3):
            found.append(f"skydns: n{number}: {have or code}, not {want}")
    values = sorted(["192.0.2.1:80", *model.services.values()])  # as getvs gives them
    if (estate.home / "w").read_text().split() != values:
        found.append("confd: the file differs")
    for number in range(SITES):
        host = f"s{number}.example.org"
        want_page = f"200 {host}" if number in model.sites else "404"
        page = await fetch(estate.http, host)
        if not page.startswith(want_page):
            found.append(f"vulcand: {host}: {page[:60]}, not {want_page}")
    if estate.host is not None:
        routes = json.loads(await estate.host.run("ip", "-j", "route", "show", "dev", "flannel.1"))
        have = {route["dst"] for route in routes}
        want = {f"10.5.{100 + number}.0/24" for number in model.leases}
        if have != want:
            found.append(
                f"flanneld: routes too many: {sorted(have - want)}, missing {sorted(want - have)}"
            )
        entries = json.loads(
            await estate.host.run("bridge", "-j", "fdb", "show", "dev", "flannel.1")
        )
        have = {f"{e['mac']} {e['dst']}" for e in entries if e["mac"].startswith("02:00:00:00:00:")}
        want = {f"02:00:00:00:00:{n:02x} {ip}" for n, ip in model.leases.items()}
        if have != want:
            found.append(f"flanneld: entries {sorted(have ^ want)[:4]}")
    return found


async def until_equal(estate: Estate, model: Model) -> tuple[float, list[str]]:
    """Return the seconds until nothing differs, and what still does after `WITHIN`."""
    begun = time.monotonic()
    while True:
        left = await differences(estate, model)
        took = time.monotonic() - begun
        if not left or took > WITHIN:
            return took, left
        await asyncio.sleep(0.1)


# ---------------------------------------------------------------------- the run


async def write(estate: Estate, model: Model, store: Store, seconds: float) -> int:
    """Change keys for a while; return how many were changed. One etcd outage in between."""
    node = estate.cluster.nodes[0]
    end, done = time.monotonic() + seconds, 0

    async def outage() -> None:
        await asyncio.sleep(seconds * model.rng.uniform(0.2, 0.6))
        await node.kill()
        await asyncio.sleep(2)
        await node.start()
        await node.healthy()

    ending = asyncio.create_task(outage())
    while time.monotonic() < end:
        await model.change(store)
        done += 1
        await asyncio.sleep(1 / CHANGES)
    await ending
    revision = (await store.put(b"/soak/rest", b"")).header.revision
    await store.compact(revision)
    return done


async def ask(estate: Estate, counts: Counter[str]) -> None:
    """Ask what always stands, ten times a second each, and count what came."""
    while True:
        code, addresses = await resolve(estate.dns, "web.example.org")
        counts["questions"] += 1
        counts["questions failed"] += (code, addresses) != (0, {"192.0.2.1"})
        page = await fetch(estate.http, "always.example.org")
        counts["requests"] += 1
        counts["requests failed"] += page != "200 always.example.org"
        await asyncio.sleep(0.1)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def level(row: list[tuple[float, int]]) -> bool:
    """Say whether memory and descriptors of the second half are those of the first."""
    half = len(row) // 2
    first, last = row[:half] or row, row[half:]

    def mean(part: list[tuple[float, int]], at: int) -> float:
        return sum(each[at] for each in part) / len(part)

    grown = mean(last, 0) - mean(first, 0)
    return grown < max(10, 0.05 * mean(first, 0)) and mean(last, 1) - mean(first, 1) < 10


async def soak(seconds: float, seed: int) -> int:
    missed: list[str] = []
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-soak-")))
        estate = await start(stack, home)
        options = Options(endpoints=estate.cluster.endpoints)
        store = await stack.enter_async_context(connect(options))
        model = Model(random.Random(seed), await serve_origin(stack))
        await _set(store, "/vulcand/backends/always/backend", '{"Type":"http"}')
        server = json.dumps({"URL": model.origin})
        await _set(store, "/vulcand/backends/always/servers/srv", server)
        front = {
            "Type": "http",
            "BackendId": "always",
            "Route": 'Host("always.example.org")',
            "Settings": KEEP_HOST,
        }
        await _set(store, "/vulcand/frontends/always/frontend", json.dumps(front))
        async with asyncio.timeout(WITHIN):
            while await fetch(estate.http, "always.example.org") != "200 always.example.org":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        counts: Counter[str] = Counter()
        asking = asyncio.create_task(ask(estate, counts))
        rows: dict[str, list[tuple[float, int]]] = {name: [] for name in estate.pids}
        print(f"seed {seed}; MiB (PSS) and descriptors of each at every rest")
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            changes = await write(estate, model, store, min(EVERY, seconds))
            took, left = await until_equal(estate, model)
            for name, pid in estate.pids.items():
                rows[name].append((pss(pid), descriptors(pid)))
            shown = "  ".join(f"{name} {row[-1][0]:.1f} {row[-1][1]}" for name, row in rows.items())
            print(
                f"{time.monotonic() - begun:6.0f} s {changes:5} changes, equal after {took:4.1f} s  {shown}",
                flush=True,
            )
            missed += left[:5]
        asking.cancel()
        print("  ".join(f"{name}: {number}" for name, number in sorted(counts.items())))
        missed += [
            f"{name}: {counts[name]}" for name in counts if "failed" in name and counts[name]
        ]
        missed += [f"{name} grew: {row}" for name, row in rows.items() if not level(row)]
    for line in missed:
        print(f"BAR MISSED: {line}")
    if estate.host is None:
        print(f"flanneld left out: {hosts.unavailable()}")
    return bool(missed)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    return asyncio.run(soak(arguments.seconds, arguments.seed))


if __name__ == "__main__":
    sys.exit(main())
