# SPDX-License-Identifier: Apache-2.0
"""Stores for tests.

`fake_etcd`: the embedded store in memory, with faults to plant: for unit tests.
`real_etcd`: processes of a real etcd, one node or three, that can be killed, frozen and restored.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import platform
import random
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.clock import SYSTEM, Clock
from fairlead.embedded.mvcc import Mvcc
from fairlead.embedded.store import EmbeddedStore
from fairlead.errors import FairleadError, StoreError
from fairlead.etcd.errors import Unavailable
from fairlead.etcd.types import Event, KeyValue, LeaseID, Revision

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)
_draw = random.SystemRandom().randrange  # no test's seed makes two processes draw alike


@dataclass(slots=True)
class Saved:
    """A snapshot taken by `Faults.snapshot`, for `Faults.restore`."""

    revision: Revision
    pairs: tuple[KeyValue, ...]
    leases: tuple[tuple[LeaseID, int], ...]


@dataclass(slots=True)
class Faults:
    """What goes wrong now; set the fields, call the methods.

    Attributes:
        refuse: every call fails with this error; None: they work.
        refuse_calls: refuse only these ("range", "put", "watch", "grant" …); empty: all.
        delay: seconds, on the store's clock, before a call is carried out.
        lose: events for which it says true are never delivered to watches (§6.9).
        calls: how often each call was made.
    """

    _store: FakeEtcd
    refuse: StoreError | None = None
    refuse_calls: frozenset[str] = frozenset()
    delay: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)
    _frozen: asyncio.Event | None = None

    def drop_watches(self, error: StoreError | None = None) -> None:
        """End every open watch, by default as a broken connection does."""
        self._store.drop_watches(error or Unavailable("etcd: connection lost"))

    def go_down(self) -> None:
        """Refuse everything and end the watches, as a server that stopped."""
        self.refuse, self.refuse_calls = Unavailable("etcd: connection refused"), frozenset()
        self.drop_watches()

    def come_back(self) -> None:
        """Serve again."""
        self.refuse = None
        self.thaw()

    def freeze(self) -> None:
        """Answer no call until `thaw`, and tell watches nothing, as a stopped process."""
        if self._frozen is None:
            self._frozen = asyncio.Event()

    def thaw(self) -> None:
        """Go on after `freeze`."""
        if self._frozen is not None:
            self._frozen.set()
            self._frozen = None

    def lose_events(self, lose: Callable[[Event], bool] | None) -> None:
        """Never deliver the events for which `lose` says true (None: lose none)."""
        self._store.hub.lost = lose

    async def compact(self) -> Revision:
        """Compact all history up to the present revision."""
        revision = self._store.core.revision
        await self._store.compact(revision)
        return revision

    def snapshot(self) -> Saved:
        """Save the state, as `etcdctl snapshot save`."""
        core = self._store.core
        leases = tuple((lease.id, lease.ttl) for lease in core.leases.values())
        return Saved(core.revision, tuple(core.live.values()), leases)

    def restore(self, saved: Saved, *, new_cluster: bool = False) -> None:
        """Go back to `saved`: the revision runs backwards, the watches end."""
        store, old = self._store, self._store.core
        store.core = Mvcc(
            cluster_id=old.cluster_id + new_cluster,
            member_id=old.member_id,
            revision=saved.revision,
            pairs=saved.pairs,
            leases=saved.leases,
            now=store.clock.monotonic(),
            bounds=old.bounds,
        )
        store.hub.replace(store.core)
        store.expiry_changed()
        self.drop_watches()

    async def gate(self, call: str) -> None:
        """Carry the faults out before `call`."""
        self.calls[call] = self.calls.get(call, 0) + 1
        while self._frozen is not None:
            await self._frozen.wait()
        if call == "deliver":
            return
        if self.delay > 0:
            await self._store.clock.sleep(self.delay)
        if self.refuse is not None and (not self.refuse_calls or call in self.refuse_calls):
            raise type(self.refuse)(*self.refuse.args)


class FakeEtcd(EmbeddedStore):
    """The embedded store in memory; `faults` plans what goes wrong."""

    faults: Faults

    async def _enter(self, call: str) -> None:
        await self.faults.gate(call)
        await EmbeddedStore._enter(self, call)

    async def _deliver(self) -> None:
        await self.faults.gate("deliver")


@asynccontextmanager
async def fake_etcd(clock: Clock = SYSTEM) -> AsyncIterator[FakeEtcd]:
    """Run an empty etcd in memory; leases run on `clock`."""
    store = await FakeEtcd.open(None, clock=clock)
    store.faults = Faults(store)
    try:
        yield store
    finally:
        await store.aclose()


class Node:
    """One member of a real etcd cluster, as a child process."""

    def __init__(self, name: str, directory: Path, client: int, peer: int, cluster: str) -> None:
        self.name = name
        self.directory = directory
        self.endpoint = f"http://127.0.0.1:{client}"
        self._peer = f"http://127.0.0.1:{peer}"
        self._cluster = cluster
        self._process: asyncio.subprocess.Process | None = None
        self.arguments: tuple[str, ...] = ()

    @property
    def pid(self) -> int:
        """The process's id; the node must run."""
        assert self._process is not None  # noqa: S101
        return self._process.pid

    async def start(self) -> None:
        """Start it (again, on its data); does not wait until it serves."""
        log = (self.directory.parent / f"{self.name}.log").open("ab")
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "ETCD_UNSUPPORTED_ARCH": platform.machine()},
                preexec_fn=_die_with_parent,
            )
        finally:
            log.close()

    def _command(self) -> tuple[str, ...]:
        return (
            "etcd",
            f"--name={self.name}",
            f"--data-dir={self.directory}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self._peer}",
            f"--initial-advertise-peer-urls={self._peer}",
            f"--initial-cluster={self._cluster}",
            "--initial-cluster-state=new",
            "--unsafe-no-fsync",  # tests want speed; no power is cut here
            *self.arguments,
        )

    async def healthy(self, *, seconds: float = 20.0) -> None:
        """Return when it answers that it is healthy."""
        async with asyncio.timeout(seconds):
            while not await _answers(self.endpoint):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it with SIGKILL; its data stay."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it with SIGTERM."""
        await self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP): connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        """Let a frozen node go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


class OurNode(Node):
    """A `fairlead etcd` process; the same handles as a real node's."""

    def _command(self) -> tuple[str, ...]:
        return (
            sys.executable,
            "-c",
            "import sys; from fairlead.embedded.cli import run; sys.exit(run(sys.argv[1:]))",
            f"-listen-client-urls={self.endpoint}",
            f"-data-dir={self.directory}",
            *self.arguments,
        )


class Cluster:
    """A real etcd of one node or three; see `real_etcd`."""

    def __init__(self, directory: Path, nodes: int) -> None:
        ports = free_ports(2 * nodes)
        names = [f"n{number}" for number in range(nodes)]
        peers = ports[nodes:]
        cluster = ",".join(
            f"{name}=http://127.0.0.1:{peer}" for name, peer in zip(names, peers, strict=True)
        )
        self.directory = directory
        self.nodes = [
            Node(name, directory / name, ports[number], peers[number], cluster)
            for number, name in enumerate(names)
        ]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where the nodes listen."""
        return tuple(node.endpoint for node in self.nodes)

    async def start(self, *, seconds: float = 20.0) -> None:
        """Start every node and wait until the cluster answers."""
        for node in self.nodes:
            await node.start()
        await self.healthy(seconds=seconds)

    async def healthy(self, *, seconds: float = 20.0) -> None:
        """Return when every running node takes part in a cluster with a leader."""
        for node in self.nodes:
            if node._process is not None:
                await node.healthy(seconds=seconds)

    async def etcdctl(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run `etcdctl` on the first endpoint and return what it prints.

        Raises:
            EtcdctlFailed: with what it said.
        """
        return await etcdctl(self.endpoints[0], *arguments, stdin=stdin)

    async def snapshot(self, file: Path) -> None:
        """Save a snapshot of the first node."""
        await self.etcdctl("snapshot", "save", str(file))

    async def restore(self, file: Path) -> None:
        """Stop all nodes and start them from `file`: another cluster, an older revision."""
        for node in self.nodes:
            await node.kill()
            shutil.rmtree(node.directory)
            await etcdctl(
                node.endpoint,
                "snapshot",
                "restore",
                str(file),
                f"--name={node.name}",
                f"--data-dir={node.directory}",
                f"--initial-cluster={node._cluster}",
                f"--initial-advertise-peer-urls={node._peer}",
            )
        await self.start()

    async def leader(self) -> Node:
        """Return the node that leads."""
        for node in self.nodes:
            if node._process is None:
                continue
            text = await etcdctl(node.endpoint, "endpoint", "status", "--write-out=json")
            (answer,) = json.loads(text)
            status = answer["Status"]
            if status["leader"] == status["header"]["member_id"]:
                return node
        raise EtcdctlFailed("no node leads")

    async def aclose(self) -> None:
        """Kill every node."""
        await asyncio.gather(*(node.kill() for node in self.nodes))


class EtcdctlFailed(FairleadError):
    """`etcdctl` ended with an error; the message is what it said."""


async def etcdctl(endpoint: str, *arguments: str, stdin: bytes = b"") -> str:
    """Run Debian's `etcdctl` (API v3) and return its standard output.

    Raises:
        EtcdctlFailed: it ended with an error, or did not end in 15 s.
    """
    process = await asyncio.create_subprocess_exec(
        "etcdctl",
        f"--endpoints={endpoint}",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "ETCDCTL_API": "3"},
    )
    try:
        async with asyncio.timeout(15):
            out, err = await process.communicate(stdin)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise EtcdctlFailed(f"etcdctl {' '.join(arguments)}: no end in 15 s") from None
    if process.returncode:
        raise EtcdctlFailed(f"etcdctl {' '.join(arguments)}: {(err or out).decode().strip()}")
    return out.decode()


@asynccontextmanager
async def real_etcd(
    nodes: int = 1, *, arguments: tuple[str, ...] = (), directory: Path | None = None
) -> AsyncIterator[Cluster]:
    """Run a real etcd on free ports of 127.0.0.1; skips the test when there is none on PATH.

    Args:
        arguments: further flags for every node.
        directory: for the data; default a temporary one that is removed.
    """
    if shutil.which("etcd") is None or shutil.which("etcdctl") is None:
        import pytest

        pytest.skip("etcd or etcdctl is not on PATH (Debian: etcd-server, etcd-client)")
    with tempfile.TemporaryDirectory(prefix="fairlead-etcd-") as temporary:
        cluster = Cluster(directory or Path(temporary), nodes)
        for node in cluster.nodes:
            node.arguments = arguments
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.aclose()


@asynccontextmanager
async def fairlead_etcd(
    directory: Path, *, arguments: tuple[str, ...] = ()
) -> AsyncIterator[OurNode]:
    """Run `fairlead etcd` as a process of its own, on a free port of 127.0.0.1."""
    (port,) = free_ports(1)
    node = OurNode("fairlead", directory, port, 0, "")
    node.arguments = arguments
    try:
        await node.start()
        await node.healthy()
        yield node
    finally:
        await node.kill()


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on now.

    Drawn from below those that the kernel gives to connections (ip(7), ip_local_port_range):
    one of those may be taken by any client before its listener is up.
    """
    found: list[int] = []
    while len(found) < count:
        port = _draw(12_000, 32_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


async def _answers(endpoint: str) -> bool:
    """Say whether the node at `endpoint` is healthy by its own word."""
    host, _, port = endpoint.removeprefix("http://").rpartition(":")
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
                return b'"health":"true"' in (await reader.read()).replace(b" ", b"")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _die_with_parent() -> None:
    """Have the kernel kill this child when its parent dies, so that no test leaves an etcd."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
