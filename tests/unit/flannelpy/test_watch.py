"""What is marked when the kernel tells of a change."""

from ipaddress import IPv4Interface, ip_address, ip_network

from flannelpy import rtlink, rtnetlink
from flannelpy.state import Address, Kind, Route
from tests.unit.flannelpy.parts import lease, parts

ROUTE = Route(ip_network("10.5.2.0/24"), ip_address("10.5.2.0"), "flannel.1", onlink=True)


async def standing(it):
    """Bring kernel and wishes together; return the node."""
    node = it.assemble()
    await it.put("subnets/10.5.2.0-24", lease(12))
    await node.loop.once(
        frozenset(key for key in node.overlay.within(None) if key.kind != Kind.FILE)
    )
    node.loop.dirty.take()
    return node


async def test_a_strangers_change_marks_its_key_and_our_own_none():
    async with parts() as it:
        node = await standing(it)
        index = it.kernel.index_of("flannel.1")
        with it.watch.listening():
            await it.kernel.do(rtnetlink.put_route(ROUTE, index))
            assert not node.loop.dirty
            await it.hand.do(rtnetlink.delete_route(ROUTE, index))
            assert node.loop.dirty.take() == {ROUTE.key}
            await it.hand.do(rtnetlink.put_route(ROUTE, index))  # put back as it should be
            assert not node.loop.dirty


async def test_a_device_that_goes_or_is_down_marks_everything():
    async with parts() as it:
        node = await standing(it)
        index = it.kernel.index_of("flannel.1")
        with it.watch.listening():
            await it.hand.do(rtlink.change_link(index, mtu=1000))
            assert node.loop.dirty.take() is None
            await it.hand.do(rtlink.change_link(index, up=False))
            assert node.loop.dirty.take() is None
            await it.hand.do(rtlink.delete_link(index))
            assert node.loop.dirty.take() is None


async def test_a_strangers_own_things_mark_nothing():
    async with parts() as it:
        node = await standing(it)
        eth0 = it.kernel.index_of("eth0")
        with it.watch.listening():
            foreign = Route(ip_network("203.0.113.0/24"), ip_address("192.0.2.1"), "eth0")
            await it.hand.do(rtnetlink.put_route(foreign, eth0))
            assert not node.loop.dirty


async def test_lost_notifications_mark_everything():
    async with parts() as it:
        node = await standing(it)
        it.kernel.deaf = True
        with it.watch.listening():
            await it.hand.do(rtnetlink.delete_route(ROUTE, it.kernel.index_of("flannel.1")))
            assert node.loop.dirty.take() is None


async def test_an_address_that_goes_takes_etcds_connections_from_it_along():
    async with parts() as it:
        await standing(it)
        gone = []
        it.store.address_gone = gone.append
        with it.watch.listening():
            old = Address("eth0", IPv4Interface("192.0.2.11/24"))
            await it.hand.do(rtnetlink.delete_address(old, it.kernel.index_of("eth0")))
        assert gone == ["192.0.2.11"]
