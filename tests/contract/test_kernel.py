"""The contract of `flannelpy.kernel.Kernel`: a namespace in memory and a real one (root)."""

import asyncio
import ctypes
import os
import subprocess
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest
from msgspec import structs

from fairlead.demo import hosts
from flannelpy import kernel, rtlink, rtnetlink
from flannelpy.netlink import KernelError
from flannelpy.state import Address, Fdb, Link, Neighbour, Route, Vxlan
from flannelpy.testing import FakeKernel, Namespace

MAC, THEIRS = "2e:00:00:00:00:01", "2e:00:00:00:00:02"
LINK = Link("flannel.1", Vxlan(1, "eth0", IPv4Address("192.0.2.1")), 1450, MAC)
OWN = Address("flannel.1", IPv4Interface("10.5.1.0/32"))
OWN6 = Address("flannel.1", IPv6Interface("fd00:5::/128"))
ROUTE = Route(ip_network("10.5.2.0/24"), ip_address("10.5.2.0"), "flannel.1", onlink=True)
ROUTE6 = Route(ip_network("fd00:5:0:2::/64"), ip_address("fd00:5:0:2::"), "flannel.1", onlink=True)
NEIGHBOUR = Neighbour("flannel.1", ip_address("10.5.2.0"), THEIRS)
FDB = Fdb("flannel.1", THEIRS, ip_address("192.0.2.2"))
DIRECT = Route(ip_network("10.5.3.0/24"), ip_address("192.0.2.3"), "eth0")


@asynccontextmanager
async def in_memory():
    namespace = Namespace()
    namespace.add("eth0", "192.0.2.1/24")
    yield FakeKernel(namespace), FakeKernel(namespace)


UPLINK = """\
link set lo up
link add eth0 address 02:00:00:00:00:01 type veth peer name far
link set eth0 up
link set far up
addr add 192.0.2.1/24 dev eth0
"""


@asynccontextmanager
async def real():
    async with kernel.connect() as one, kernel.connect() as other:
        yield one, other


@pytest.fixture(params=["fake", "real"])
def on(request):
    """Return a function that runs `main(kernel, another program's kernel)`."""
    if request.param == "real" and (reason := hosts.unavailable()) is not None:
        pytest.skip(reason)

    def run(main):
        outcome = []

        async def body():
            async with in_memory() if request.param == "fake" else real() as both:
                await asyncio.wait_for(main(*both), 10)

        def thread():
            machine = os.stat("/proc/self/ns/net").st_ino
            try:
                if request.param == "real":
                    assert not ctypes.CDLL(None).unshare(0x40000000)  # CLONE_NEWNET
                    assert os.stat("/proc/thread-self/ns/net").st_ino != machine
                    subprocess.run(["ip", "-batch", "-"], input=UPLINK, text=True, check=True)
                asyncio.run(body())
            except BaseException as error:  # noqa: BLE001  (handed to the test)
                outcome.append(error)

        it = threading.Thread(target=thread)
        it.start()
        it.join()
        if outcome:
            raise outcome[0]

    return run


def put(thing, index):
    table = {
        Address: rtnetlink.put_address,
        Neighbour: rtnetlink.put_neighbour,
        Fdb: rtnetlink.put_fdb,
        Route: rtnetlink.put_route,
    }
    return table[type(thing)](thing, index)


async def overlay(host, *things):
    """Make the device, up, with its addresses and `things` on it; return its index."""
    await host.create(LINK)
    made = await host.interface("flannel.1")
    await host.change(LINK, made.link)
    requests = [put(it, made.index) for it in (OWN, OWN6, *things)]
    assert await host.batch(requests) == [None] * len(requests)
    return made.index


def test_a_device_is_made_as_asked_and_read_back(on):
    async def main(host, _):
        await host.create(replace(LINK, mtu=9000))
        made = await host.interface("flannel.1")
        assert made.link == replace(
            LINK, mtu=1450, up=False, tunnel=replace(LINK.tunnel, port=8472)
        )  # the MTU as the lower device allows
        assert (host.index_of("flannel.1"), host.name_of(made.index)) == (made.index, "flannel.1")
        with pytest.raises(KernelError, match="File exists"):
            await host.create(LINK)
        assert await host.interface("flannel.2") is None
        with pytest.raises(KernelError) as caught:
            host.index_of("flannel.2")
        assert caught.value.absent
        assert {it.name for it in await host.interfaces()} >= {"eth0", "flannel.1"}

    on(main)


def test_what_can_change_in_place_does_and_the_rest_is_refused(on):
    async def main(host, _):
        index = await overlay(host, ROUTE, NEIGHBOUR, FDB)
        moved = replace(LINK.tunnel, local=IPv4Address("192.0.2.9"))
        other = replace(LINK, mtu=1400, mac=THEIRS, learning=True, tunnel=moved)
        await host.change(other, (await host.interface("flannel.1")).link)
        found = (await host.interface("flannel.1")).link
        assert found == replace(other, tunnel=replace(moved, port=8472))
        assert len(await host.routes(4, index=index)) == 1
        assert len(await host.neighbours(0, index)) >= 1
        with pytest.raises(KernelError):
            await host.change(replace(other, mtu=9000), found)
        with pytest.raises(KernelError):
            await host.change(replace(other, tunnel=replace(moved, vni=7)), found)

    on(main)


def test_entries_are_put_replaced_found_and_deleted(on):
    async def main(host, _):
        index = await overlay(host, ROUTE, ROUTE6, NEIGHBOUR, FDB)
        for _ in range(2):  # putting what is there already is no error
            assert (
                await host.batch([put(it, index) for it in (ROUTE, NEIGHBOUR, FDB)]) == [None] * 3
            )
        (route,) = await host.routes(4, index=index)
        assert (route.dst, route.via, route.onlink, route.plain) == (
            ROUTE.dst,
            ROUTE.via,
            True,
            True,
        )
        six = [it for it in await host.routes(6, index=index) if it.dst == ROUTE6.dst]
        assert [(it.via, it.plain) for it in six] == [(ROUTE6.via, True)]
        moved = structs.replace(FDB, dst=ip_address("192.0.2.77"))
        assert await host.batch([put(moved, index)]) == [None]
        entries = [it for it in await host.neighbours(0, index) if it.lladdr == THEIRS]
        assert [it.dst for it in entries] == [moved.dst]
        mine = [it for it in await host.neighbours(4, index) if it.dst == NEIGHBOUR.ip]
        assert [it.lladdr for it in mine] == [THEIRS]
        requests = [
            rtnetlink.get_route(ROUTE.dst),
            rtnetlink.get_neighbour(NEIGHBOUR.ip, index),
            rtnetlink.get_fdb(THEIRS, index),
            rtnetlink.get_neighbour(ip_address("10.5.9.0"), index),
            rtnetlink.get_fdb("2e:00:00:00:00:09", index),
        ]
        there = await host.ask(requests)
        assert [it is not None for it in there] == [True, True, True, False, False]
        assert rtnetlink.parse_route(there[0]).dst == ROUTE.dst
        gone = [
            rtnetlink.delete_route(structs.replace(ROUTE, via=ip_address("10.5.9.9")), index),
            rtnetlink.delete_route(ROUTE, index),
            rtnetlink.delete_fdb(moved, index),
            rtnetlink.delete_neighbour(NEIGHBOUR, index),
            rtnetlink.delete_route(ROUTE, index),
            rtnetlink.delete_fdb(moved, index),
        ]
        results = await host.batch(gone)
        assert [it is not None and it.absent for it in results] == [
            True,
            False,
            False,
            False,
            True,
            True,
        ]
        assert await host.routes(4, index=index) == []

    on(main)


def test_a_gateway_has_to_be_reached_and_one_refusal_stops_nothing(on):
    async def main(host, _):
        index = host.index_of("eth0")
        bad = structs.replace(DIRECT, via=ip_address("203.0.113.1"))
        results = await host.batch([put(bad, index), put(DIRECT, index)])
        assert "invalid gateway" in str(results[0])
        assert results[1] is None
        (found,) = [it for it in await host.routes(4, index=index) if it.dst == DIRECT.dst]
        assert found.via == DIRECT.via

    on(main)


def test_routes_go_with_a_devices_state_and_last_address_and_all_with_the_device(on):
    async def main(host, hand):
        index = await overlay(host, ROUTE, NEIGHBOUR, FDB)
        await hand.do(rtlink.change_link(index, up=False))
        assert await host.routes(4, index=index) == []
        results = await host.batch([put(ROUTE, index)])
        assert "not up" in str(results[0]) or results[0].errno
        await hand.do(rtlink.change_link(index, up=True))
        assert await host.batch([put(ROUTE, index)]) == [None]
        await hand.do(rtnetlink.delete_address(OWN, index))
        assert await host.routes(4, index=index) == []
        await hand.delete("flannel.1")
        await hand.delete("flannel.1")  # already gone: done
        assert await host.interface("flannel.1") is None
        assert [it for it in await host.addresses() if it.ifindex == index] == []
        assert (await host.batch([put(FDB, index)]))[0].absent

    on(main)


def test_the_lower_device_takes_the_overlays_along(on):
    async def main(host, hand):
        await overlay(host)
        await hand.delete("eth0")
        assert await host.interface("flannel.1") is None

    on(main)


def test_the_way_to_a_host_has_device_and_source(on):
    async def main(host, _):
        assert await host.route_to(ip_address("192.0.2.77")) == ("eth0", ip_address("192.0.2.1"))
        with pytest.raises(KernelError):
            await host.route_to(ip_address("203.0.113.1"))

    on(main)


def test_changes_are_heard_with_the_port_of_who_made_them(on):
    async def main(host, hand):
        heard, woken = [], asyncio.Event()

        def hear(replies):
            heard.extend(replies)
            woken.set()

        async def told(kind, port):
            while not any((it.type, it.port) == (kind, port) for it in heard):
                woken.clear()
                await woken.wait()
            heard.clear()

        with host.changes(hear, lambda: None):
            index = await overlay(host, NEIGHBOUR, FDB)
            await host.batch([put(ROUTE, index)])
            await told(rtnetlink.NEWROUTE, host.port)
            await hand.batch([rtnetlink.delete_route(ROUTE, index)])
            await told(rtnetlink.DELROUTE, hand.port)
            await hand.batch([rtnetlink.delete_fdb(FDB, index)])
            await told(rtnetlink.DELNEIGH, 0)  # of entries that go it tells in nobody's name
            await hand.batch([rtnetlink.delete_neighbour(NEIGHBOUR, index)])
            await told(rtnetlink.DELNEIGH, 0)
            await hand.batch([rtnetlink.delete_address(OWN, index)])
            await told(rtnetlink.DELADDR, hand.port)
            await hand.batch([rtlink.change_link(index, mtu=1300)])
            await hand.delete("flannel.1")
            while not any(it.type == rtlink.DELLINK for it in heard):
                woken.clear()
                await woken.wait()

    on(main)
