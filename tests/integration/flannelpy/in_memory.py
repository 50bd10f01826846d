"""Whole flanneld daemons on namespaces in memory and one etcd in memory: no root, no processes."""

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar

import pytest

from fairlead import log
from fairlead.program import load
from fairlead.runtime import Runtime
from fairlead.tasks import Tasks
from fairlead.testing.etcd import Faults
from flannelpy import nlmsg, rtnetlink
from flannelpy.cli import PROGRAM
from flannelpy.daemon import serve
from flannelpy.state import IPNetwork
from flannelpy.testing import FakeKernel, Namespace

PREFIX = b"/coreos.com/network"
VXLAN = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
_HERE: ContextVar[FakeKernel] = ContextVar("kernel")


class NoRules:
    """In place of the firewall, whose programs a namespace in memory has not."""

    kinds = frozenset()

    def firewall(self, host, ports):
        return None

    async def observe(self, keys):
        return ()

    async def watch(self, every, mark, clock):
        await asyncio.Event().wait()

    def listening(self, mark, lost):
        return nullcontext()


@pytest.fixture
def in_memory(monkeypatch):
    """Have flanneld find the kernel of the host that it is started on."""

    @asynccontextmanager
    async def connect():
        yield _HERE.get()

    async def rules(config, network, logger):
        return nullcontext(NoRules())

    monkeypatch.setattr("flannelpy.kernel.connect", connect)
    monkeypatch.setattr("flannelpy.firewall.host.connect", rules)


class Host:
    """A host with a namespace and a disk; `daemon` runs flanneld on it."""

    def __init__(self, store, disk, number):
        self.store, self.number = store, number
        self.namespace = Namespace()
        self.namespace.add("eth0", f"192.0.2.{number}/24", mac=f"02:00:00:00:00:{number:02x}")
        self.hand = FakeKernel(self.namespace)
        self.disk = disk / str(number)
        self.lines = []
        self.runtime = None

    @property
    def file(self):
        return self.disk / "subnet.env"

    @contextmanager
    def _log(self):
        sink = log.Sink(write=self.lines.append)
        yield log.Log(sink)

    @asynccontextmanager
    async def daemon(self, *flags, kernel=None):
        """Run flanneld while the block runs; its failure is the block's."""
        argv = (
            "-iface=eth0", f"-subnet-file={self.file}", f"-state-dir={self.disk / 'state'}",
            "-admin-socket=", "-resync=0", *flags,
        )  # fmt: skip
        values = load(PROGRAM.settings, argv, {})
        with self._log() as logger:
            self.runtime = runtime = Runtime(PROGRAM, values, logger, {})
            runtime.store = self.store
            kernel = kernel or FakeKernel(self.namespace)
            token = _HERE.set(kernel)
            async with Tasks() as tasks:
                runtime.tasks = tasks
                tasks.once("serve", serve(PROGRAM.configure(values), runtime))
                _HERE.reset(token)
                yield runtime
                tasks.cancel()

    async def until(self, check):
        """Turn the loop until `check` says something true."""
        async with asyncio.timeout(10):
            while not (found := check()):  # noqa: ASYNC110  (what is waited for is in many places)
                await asyncio.sleep(0.001)
        return found

    def logged(self, text):
        return any(text in line for line in self.lines)

    @property
    def routes(self):
        """Destination → gateway and device."""
        found = {}
        for body in self.namespace.routes.values():
            it = rtnetlink.parse_route(nlmsg.Reply(0, 0, 0, 0, memoryview(body)))
            if it is not None:
                found[it.dst] = (it.via, self.hand.name_of(it.ifindex))
        return found

    def has_peers(self, *others):
        """Say whether just these hosts are programmed."""
        wanted = {other.subnet for other in others}
        return {dst for dst, (_, dev) in self.routes.items() if dev == "flannel.1"} == wanted

    @property
    def subnet(self):
        from ipaddress import ip_interface

        text = self.file.read_text().split("FLANNEL_SUBNET=")[1].split()[0]
        network: IPNetwork = ip_interface(text).network
        return network

    @property
    def tables(self):
        """All that the kernel has but indexes, to compare two runs."""
        devices = {
            it.raw.name: (it.raw.mtu, it.raw.up, it.raw.mac, it.raw.kind)
            for it in self.namespace.devices.values()
        }
        entries = {(family, key) for family, _, key in self.namespace.entries}
        return devices, self.routes, entries, {str(it) for _, it in self.namespace.addresses}


class Watched(Faults):
    """Calls `before` with the name of each call to etcd."""

    async def gate(self, call):
        await self.before(call)
        await super().gate(call)


@contextmanager
def at_each_call(store, before):
    """Have `before` called with the name of each call to etcd, while the block runs."""
    usual, store.faults = store.faults, Watched(store)
    store.faults.before = before
    try:
        yield
    finally:
        store.faults = usual


async def configure(store, value):
    await store.put(PREFIX + b"/config", json.dumps(value).encode())


async def leases(store):
    from fairlead.etcd.types import KeyRange, Range

    found = await store.range(Range(KeyRange.prefix(PREFIX + b"/subnets/")))
    return {kv.key.decode().rpartition("/")[2]: kv for kv in found.kvs}
