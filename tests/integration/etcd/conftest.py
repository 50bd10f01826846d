# SPDX-License-Identifier: Apache-2.0
"""Real etcd on free ports: one node or three, to be killed, frozen and restored."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Node:
    """One etcd process."""

    def __init__(self, name: str, base: Path, ports: tuple[int, int], extra: Sequence[str]) -> None:
        self.name = name
        self.dir = base / name
        self.client, self.peer = ports
        self.extra = list(extra)
        self.scheme = "https" if "--cert-file" in extra else "http"
        self.url = f"{self.scheme}://127.0.0.1:{self.client}"
        self.peer_url = f"http://127.0.0.1:{self.peer}"
        self.cluster = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["etcd", "--name", self.name, "--data-dir", str(self.dir)]
        arguments += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        arguments += ["--listen-peer-urls", self.peer_url]
        arguments += ["--initial-advertise-peer-urls", self.peer_url]
        arguments += ["--initial-cluster", self.cluster, "--log-level", "error", *self.extra]
        with self.dir.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number in {signal.SIGKILL, signal.SIGTERM}:
            self.process.wait(20)
            self.process = None

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)


class Cluster:
    """The nodes, and etcdctl for what our client does not do."""

    def __init__(self, nodes: list[Node], base: Path) -> None:
        self.nodes = nodes
        self.base = base
        self.flags: list[str] = []
        members = ",".join(f"{node.name}={node.peer_url}" for node in nodes)
        for node in nodes:
            node.cluster = members

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(node.url for node in self.nodes)

    def ctl(self, *arguments: str, node: Node | None = None) -> str:
        urls = node.url if node else ",".join(self.endpoints)
        command = ["etcdctl", "--endpoints", urls, *self.flags, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, env={"ETCDCTL_API": "3"}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def start(self) -> None:
        for node in self.nodes:
            if node.process is None:
                node.start()
        await self.works()

    async def works(self) -> None:
        async with asyncio.timeout(30):
            while True:
                try:
                    await asyncio.to_thread(self.ctl, "put", "/works", "1")
                except AssertionError:
                    await asyncio.sleep(0.2)
                else:
                    return

    def leader(self) -> Node:
        for node in self.nodes:
            status = self.ctl("endpoint", "status", node=node).split(", ")
            if status[4] == "true":
                return node
        raise AssertionError("no leader")

    def stop(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.thaw()
                node.kill()


MakeCluster = Callable[..., Cluster]


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """A function of (nodes, *flags of etcd) that returns a cluster not yet started."""
    if not shutil.which("etcd") or not shutil.which("etcdctl"):
        pytest.skip("etcd and etcdctl are not installed (make setup, as root)")
    made: list[Cluster] = []

    def make(count: int = 1, *extra: str) -> Cluster:
        ports = free_ports(2 * count)
        nodes = [
            Node(f"n{i}", tmp_path, (ports[2 * i], ports[2 * i + 1]), extra) for i in range(count)
        ]
        made.append(Cluster(nodes, tmp_path))
        return made[-1]

    yield make
    for cluster in made:
        cluster.stop()
