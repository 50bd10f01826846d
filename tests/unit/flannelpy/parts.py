"""What the daemon's parts stand on, in memory and at rest: no file, no socket, no loop that runs."""

from contextlib import asynccontextmanager
from ipaddress import IPv4Interface

from fairlead import log
from fairlead.etcd.types import KeyRange, LeaseID, Range, Revision
from fairlead.program import load
from fairlead.runtime import Runtime
from fairlead.tasks import Tasks
from fairlead.testing.clock import ManualClock
from fairlead.testing.etcd import fake_etcd
from flannelpy import keys
from flannelpy.backends import Host, Uplink
from flannelpy.cli import PROGRAM
from flannelpy.lease import Held
from flannelpy.memory import Memory
from flannelpy.node import Node
from flannelpy.records import parse_config
from flannelpy.relocation import Relocation
from flannelpy.sources import Sources
from flannelpy.tenure import Tenure
from flannelpy.testing import FakeKernel, Namespace
from flannelpy.watch import Watch

PREFIX = "/n"
VXLAN = b'{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
ETH0 = IPv4Interface("192.0.2.11/24")
UPLINK = Uplink("eth0", 1, 1500, ETH0, None, ETH0.ip)
MAC = "2e:00:00:00:00:01"


class NoRules:
    """No firewall."""

    def firewall(self, host, ports):
        return None


class Parts:
    """A daemon taken apart: `sources`, `node`, `tenure`, `watch` on one store and one kernel."""

    def __init__(self, store, clock, tasks, *flags):
        argv = ("-etcd-prefix=/n", "-iface=eth0", "-state-dir=", *flags)
        values = load(PROGRAM.settings, argv, {})
        self.config = PROGRAM.configure(values)
        self.lines = []
        logger = log.Log(log.Sink(write=self.lines.append, clock=clock))
        self.runtime = Runtime(PROGRAM, values, logger, {}, clock)
        self.runtime.store, self.runtime.tasks = store, tasks
        self.store, self.clock = store, clock
        self.sources = Sources(self.runtime, PREFIX)
        self.namespace = Namespace()
        self.namespace.add("eth0", str(ETH0))
        self.kernel, self.hand = FakeKernel(self.namespace), FakeKernel(self.namespace)
        self.memory = Memory.of(self.runtime, PREFIX, "02:00:00:00:00:01")
        self.tenure = Tenure(self.config, self.runtime, self.sources, self.memory)

    def assemble(self, held="10.5.1.0-24", config=VXLAN):
        """Make node and watch, with a lease as if it had been acquired."""
        key = keys.lease(PREFIX, keys.parse_lease(held.encode()))
        lease = Held(key, keys.parse_lease(held.encode()), b"", LeaseID(7), Revision(1), 86400.0)
        host = Host(parse_config(config), UPLINK, fresh_mac=MAC)
        self.node = Node(
            self.config, self.runtime, self.kernel, NoRules(), self.sources, host, lease
        )
        both = (self.config, self.runtime, self.kernel, self.node, self.tenure)
        self.relocation = Relocation(*both)
        self.watch = Watch(*both, self.relocation)
        self.node.loop.dirty.take()
        return self.node

    async def put(self, leaf, value):
        await self.store.put(f"{PREFIX}/{leaf}".encode(), value)
        await self.clock.settle()

    async def delete(self, leaf):
        await self.store.delete(KeyRange(f"{PREFIX}/{leaf}".encode()))
        await self.clock.settle()

    async def leases(self):
        found = await self.store.range(Range(KeyRange.prefix(b"/n/subnets/")))
        return [kv.key.decode().rpartition("/")[2] for kv in found.kvs]

    def logged(self, text):
        return any(text in line for line in self.lines)


@asynccontextmanager
async def parts(*flags):
    clock = ManualClock()
    async with fake_etcd(clock) as store, Tasks() as tasks:
        it = Parts(store, clock, tasks, *flags)
        await clock.settle()
        yield it
        tasks.cancel()


def lease(number, mac="2e:00:00:00:00:02"):
    data = f'"BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}'
    return f'{{"PublicIP":"192.0.2.{number}","BackendType":"vxlan",{data}}}'.encode()
