"""The containers' bridge, on a namespace in memory."""

from ipaddress import IPv4Interface, IPv6Interface, ip_network

import pytest

from flannelpy import apply, gateway, observe, plan, rtlink, rtnetlink
from flannelpy.gateway import Gateways
from flannelpy.keys import Subnets
from flannelpy.state import Address, Kind, Territory
from flannelpy.testing import FakeKernel, Namespace

NETS = (ip_network("10.5.0.0/16"), ip_network("fd00:5::/48"))
HELD = Subnets(ip_network("10.5.7.0/24"), ip_network("fd00:5:0:7::/64"))
WANTED = gateway.wanted("br0", HELD, 1450)


@pytest.fixture
def host():
    namespace = Namespace()
    namespace.add("eth0", "192.0.2.1/24")
    kernel = FakeKernel(namespace)
    kernel.parts = (Gateways(kernel, "br0", NETS),)
    return kernel


async def reconcile(host, *wanted):
    actual = await observe.host_state(host, Territory((), NETS), None)
    actions = plan.host_state({it.key: it for it in wanted}, actual)
    return [str(it) for it in actions], await apply.carry_out(host, actions)


async def addresses(host):
    index = host.index_of("br0")
    return {str(it.address) for it in await host.addresses(index)}


async def test_it_is_made_with_mtu_and_gateways_and_then_left_alone(host):
    assert await reconcile(host, WANTED) == (
        ["put bridge br0 mtu 1450 10.5.7.1/24 fd00:5:0:7::1/64"],
        [],
    )
    made = await host.interface("br0")
    assert (made.kind, made.mtu, made.up) == ("bridge", 1450, True)
    assert await addresses(host) == {"10.5.7.1/24", "fd00:5:0:7::1/64"}
    assert await reconcile(host, WANTED) == ([], [])
    host.parts = (Gateways(host, "", NETS),)
    assert await reconcile(host) == ([], [])  # not asked for any more: it stays


async def test_drift_and_a_former_subnets_gateway_go_and_strangers_addresses_stay(host):
    await reconcile(host, WANTED)
    index = host.index_of("br0")
    for request in (
        rtlink.change_link(index, mtu=1500, up=False),
        rtnetlink.put_address(Address("br0", IPv4Interface("10.5.9.1/24")), index),
        rtnetlink.put_address(Address("br0", IPv4Interface("192.0.2.200/24")), index),
        rtnetlink.delete_address(Address("br0", IPv6Interface("fd00:5:0:7::1/64")), index),
    ):
        await host.do(request)
    assert (await reconcile(host, WANTED))[1] == []
    assert await addresses(host) == {"10.5.7.1/24", "fd00:5:0:7::1/64", "192.0.2.200/24"}
    assert (await host.interface("br0")).mtu == 1450


async def test_a_device_that_is_no_bridge_is_not_touched(host):
    host.namespace.add("br0", "198.51.100.1/24")
    _, (refused,) = await reconcile(host, WANTED)
    assert "br0 is veth, no bridge" in str(refused)
    assert not refused.transient
    assert await addresses(host) == {"198.51.100.1/24"}


def test_it_is_put_before_the_subnet_file_lets_containers_start():
    assert Kind.BRIDGE < Kind.FILE
