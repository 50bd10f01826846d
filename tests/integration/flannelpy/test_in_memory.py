"""flanneld whole, in memory: killed at every single step, and what changes under its feet."""

import asyncio
import json
from ipaddress import IPv4Interface, ip_address
from itertools import count

import pytest

from fairlead.etcd.errors import Unavailable
from fairlead.etcd.types import KeyRange
from fairlead.testing.etcd import fake_etcd
from flannelpy import nlmsg, rtlink, rtnetlink
from flannelpy.netlink import KernelError
from flannelpy.state import Address, Fdb, Neighbour, Route
from flannelpy.testing import FakeKernel
from tests.integration.flannelpy.in_memory import (
    PREFIX,
    VXLAN,
    Host,
    at_each_call,
    configure,
    in_memory,
    leases,
)

__all__ = ["in_memory"]
pytestmark = pytest.mark.usefixtures("in_memory")


class Killed(BaseException):
    """kill -9: nothing is done after it."""


class Mortal(FakeKernel):
    """A kernel whose caller dies at its request number `at`, and makes no other after that."""

    def __init__(self, namespace, life):
        super().__init__(namespace)
        self.life = life

    async def batch(self, requests):
        found = []
        for request in requests:  # one by one: between two of a batch there is a moment too
            self.life.step()
            found += await super().batch([request])
        return found

    async def ask(self, requests):
        self.life.step()
        return await super().ask(requests)

    async def dump(self, request):
        self.life.step()
        return await super().dump(request)


class Life:
    def __init__(self, at):
        self.at, self.steps, self.armed = at, 0, True

    def step(self):
        self.steps += 1
        if self.armed and self.steps > self.at:
            raise Killed

    async def call(self, name):
        if name != "deliver":
            self.step()


def killed(error):
    if isinstance(error, BaseExceptionGroup):
        return any(map(killed, error.exceptions))
    return isinstance(error, Killed)


async def test_kill_9_at_every_single_step_of_the_start(tmp_path):
    """Each request to the kernel and each call to etcd is once the last one of a first life."""
    async with fake_etcd() as store:
        await configure(store, VXLAN)
        peer = Host(store, tmp_path, 12)
        async with peer.daemon():
            await peer.until(lambda: peer.logged("msg=ready"))
        for at in count():
            host = Host(store, tmp_path / str(at), 11)
            if await dies(host, peer, at):
                async with host.daemon():
                    await host.until(lambda: host.file.exists() and host.has_peers(peer))  # noqa: B023
            devices, _, entries, addresses = host.tables
            assert devices["flannel.1"][::3] == (1450, "vxlan"), at
            assert len(entries) == 2, at
            assert addresses == {"192.0.2.11/24", f"{host.subnet.network_address}/32"}, at
            assert {it.name for it in host.disk.iterdir()} == {"subnet.env", "state"}, at
            assert len(await leases(store)) == 2, at
            if not host.killed:
                break
            name = f"{host.subnet.network_address}-24"
            await store.delete(KeyRange(PREFIX + b"/subnets/" + name.encode()))
        assert at > 20


async def dies(host, peer, at):
    """Run flanneld until its step number `at`, where it is killed; say whether it came so far."""
    life = Life(at)
    host.killed = False
    try:
        with at_each_call(host.store, life.call):
            async with host.daemon(kernel=Mortal(host.namespace, life)):
                await host.until(lambda: host.file.exists() and host.has_peers(peer))
                life.armed = False
    except BaseExceptionGroup as group:
        if not killed(group):
            raise
        host.killed = True
    return host.killed


async def two(store, tmp_path):
    await configure(store, VXLAN)
    return Host(store, tmp_path, 11), Host(store, tmp_path, 12)


async def test_everything_that_a_stranger_spoils_is_mended(tmp_path):
    async with fake_etcd() as store:
        a, b = await two(store, tmp_path)
        async with a.daemon(), b.daemon():
            await a.until(lambda: a.file.exists() and b.file.exists() and a.has_peers(b))
            whole = a.tables
            index = a.hand.index_of("flannel.1")
            base, mac = b.subnet.network_address, whole_mac(b)
            own = IPv4Interface(f"{a.subnet.network_address}/32")
            for request in (
                rtnetlink.delete_route(Route(b.subnet, base, "flannel.1", onlink=True), index),
                rtnetlink.delete_neighbour(Neighbour("flannel.1", base, mac), index),
                rtnetlink.delete_fdb(Fdb("flannel.1", mac, ip_address("192.0.2.12")), index),
                rtnetlink.put_fdb(Fdb("flannel.1", mac, ip_address("192.0.2.99")), index),
                rtnetlink.delete_address(Address("flannel.1", own), index),
                rtlink.change_link(index, mtu=1000),
                rtlink.change_link(index, mac="02:00:00:00:00:77"),
                rtlink.change_link(index, up=False),
                rtnetlink.put_route(
                    Route(b.subnet, ip_address("192.0.2.1"), "eth0"), a.hand.index_of("eth0")
                ),
                rtlink.delete_link(index),
            ):
                await a.hand.do(request)
                await a.until(lambda: a.tables == whole)


def whole_mac(host):
    return host.namespace.named("flannel.1").raw.mac


async def test_what_the_kernel_could_not_tell_is_looked_for(tmp_path):
    async with fake_etcd() as store:
        a, b = await two(store, tmp_path)
        kernel = FakeKernel(a.namespace)
        async with a.daemon(kernel=kernel), b.daemon():
            await a.until(lambda: b.file.exists() and a.has_peers(b))
            kernel.deaf = True  # its buffer is full: it says only that something was lost
            index, base = a.hand.index_of("flannel.1"), b.subnet.network_address
            await a.hand.do(
                rtnetlink.delete_route(Route(b.subnet, base, "flannel.1", onlink=True), index)
            )
            await a.until(lambda: a.has_peers(b))


async def test_an_address_that_changes_is_told_first_and_set_in_place(tmp_path):
    async with fake_etcd() as store:
        a, b = await two(store, tmp_path)
        order = []

        async def told(call):
            if call == "txn":
                order.append("lease")

        kernel = FakeKernel(b.namespace)

        def note(kind, body):
            link = rtlink.parse_link(nlmsg.Reply(kind, 0, 0, 0, memoryview(body)))
            if kind == rtlink.NEWLINK and link.vxlan is not None:
                order.append(f"device from {link.vxlan.local}")

        async with a.daemon(), b.daemon(kernel=kernel):
            await a.until(lambda: b.file.exists() and a.has_peers(b) and b.has_peers(a))
            kernel.refuse = note
            before, index, eth0 = b.tables, b.hand.index_of("flannel.1"), b.hand.index_of("eth0")
            with at_each_call(store, told):
                for request in (
                    rtnetlink.put_address(Address("eth0", IPv4Interface("192.0.2.99/24")), eth0),
                    rtnetlink.delete_address(Address("eth0", IPv4Interface("192.0.2.12/24")), eth0),
                ):
                    await b.hand.do(request)
                await b.until(lambda: len(order) > 1)
            assert order == ["lease", "device from 192.0.2.99"]
            assert b.hand.index_of("flannel.1") == index
            assert b.tables[1:3] == before[1:3]  # the peers' routes and entries
            fdb = Fdb("flannel.1", whole_mac(b), ip_address("192.0.2.99"))
            key = (
                rtnetlink.BRIDGE,
                a.hand.index_of("flannel.1"),
                bytes.fromhex(fdb.lladdr.replace(":", "")),
            )
            await a.until(lambda: fdb.dst.packed in a.namespace.entries[key])
            assert len(await leases(store)) == 2


async def test_a_kernel_that_changes_no_device_in_place_gets_a_new_one(tmp_path):
    async with fake_etcd() as store:
        a, b = await two(store, tmp_path)
        kernel = FakeKernel(b.namespace)

        def old(kind, body):
            link = rtlink.parse_link(nlmsg.Reply(kind, 0, 0, 0, memoryview(body)))
            if kind == rtlink.NEWLINK and link.ifindex and link.vxlan is not None:
                return KernelError(95)  # EOPNOTSUPP
            return None

        async with a.daemon(), b.daemon(kernel=kernel):
            await a.until(lambda: b.file.exists() and a.has_peers(b) and b.has_peers(a))
            kernel.refuse = old
            before, eth0 = b.tables, b.hand.index_of("eth0")
            for request in (
                rtnetlink.put_address(Address("eth0", IPv4Interface("192.0.2.99/24")), eth0),
                rtnetlink.delete_address(Address("eth0", IPv4Interface("192.0.2.12/24")), eth0),
            ):
                await b.hand.do(request)

            def again():
                device = b.namespace.named("flannel.1")
                local = device and str(device.raw.vxlan.local)
                return local == "192.0.2.99" and b.tables[:3] == before[:3]

            await b.until(again)


async def test_a_deleted_lease_is_taken_again_or_ends_the_daemon(tmp_path):
    async with fake_etcd() as store:
        a, _ = await two(store, tmp_path)
        async with a.daemon():
            await a.until(lambda: a.logged("msg=ready"))
            (name,) = await leases(store)
            await store.delete(KeyRange(PREFIX + b"/subnets/" + name.encode()))
            await a.until(lambda: a.logged("Lease has been revoked"))
            await a.until(lambda: sum("Allocated lease" in line for line in a.lines) == 2)
            assert list(await leases(store)) == [name]
        async with a.daemon("-on-revoke=exit") as runtime:
            await a.until(lambda: sum("msg=ready" in line for line in a.lines) == 2)
            (serving,) = [it for it in runtime.tasks._running if it.get_name() == "serve"]
            await store.delete(KeyRange(PREFIX + b"/subnets/" + name.encode()))
            assert await serving == 0
            await asyncio.sleep(0)


async def test_trap_t6_etcd_that_fails_at_any_call_costs_a_retry(tmp_path):
    """The first call of each kind fails; the daemon starts, follows and keeps its lease all the same."""
    async with fake_etcd() as store:
        a, b = await two(store, tmp_path)
        failed = {}

        async def shaky(call):
            failed[call] = failed.get(call, 0) + 1
            if call != "deliver" and failed[call] == 1:
                raise Unavailable("shaky")

        with at_each_call(store, shaky):
            async with a.daemon(), b.daemon():
                await a.until(lambda: a.file.exists() and b.file.exists() and a.has_peers(b))
        assert len(failed) > 2


async def test_configuration_safe_or_not(tmp_path):
    async with fake_etcd() as store:
        a, b = await two(store, tmp_path)
        async with a.daemon() as runtime, b.daemon():
            await a.until(lambda: b.file.exists() and a.has_peers(b))
            await configure(store, {**VXLAN, "Backend": {"Type": "vxlan", "MTU": 1400}})
            await a.until(lambda: "FLANNEL_MTU=1350" in a.file.read_text())
            await a.until(lambda: a.namespace.named("flannel.1").raw.mtu == 1350)
            await configure(store, {**VXLAN, "Backend": {"Type": "vxlan", "VNI": 7}})
            await a.until(lambda: a.logged("change refused"))
            condition = runtime.health.conditions["network-config"]
            assert "VNI" in condition.why or "vni" in condition.why
            assert a.namespace.named("flannel.7") is None
            await configure(store, {**VXLAN, "Backend": {"Type": "vxlan", "MTU": 1400}})
            await a.until(lambda: runtime.health.conditions["network-config"].holds)


async def test_traps_t1_and_t25_foreign_leases_cost_only_themselves(tmp_path):
    async with fake_etcd() as store:
        a, b = await two(store, tmp_path)
        async with a.daemon(), b.daemon():
            await a.until(lambda: b.file.exists() and a.has_peers(b))
            other = {"PublicIP": "192.0.2.50", "BackendType": "host-gw"}
            for name, value in (
                ("10.5.200.0-24", json.dumps(other)),
                ("10.5.201.0-24", "{"),
                ("not-a-subnet", "{}"),
                ("10.9.1.0-24", json.dumps({**other, "BackendType": "vxlan"})),
            ):
                await store.put(PREFIX + b"/subnets/" + name.encode(), value.encode())
            await a.until(lambda: a.logged("is not in Network") and a.logged("is not ours"))
            assert a.has_peers(b)


async def test_plan_is_what_a_start_would_do_and_nothing_is_written(tmp_path, capsys):
    from fairlead.runtime import Planned

    async with fake_etcd() as store:
        a, b = await two(store, tmp_path)
        async with b.daemon():
            await b.until(lambda: b.logged("msg=ready"))
        before = a.tables
        with pytest.raises(BaseExceptionGroup) as caught:
            async with a.daemon("-plan") as runtime:
                await asyncio.wait(set(runtime.tasks._running))
        assert caught.value.subgroup(Planned) is not None
        out = capsys.readouterr().out.splitlines()
        assert [line.split()[1:3] for line in out] == [
            ["put", "link"], ["put", "address"], ["put", "neigh"], ["put", "fdb"], ["put", str(b.subnet)], ["put", "file"],
        ]  # fmt: skip
        assert a.tables == before
        assert not a.disk.exists()
        assert len(await leases(store)) == 1
