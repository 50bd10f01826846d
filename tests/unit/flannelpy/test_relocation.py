"""What a changed uplink sets off: when lease and device follow it."""

from ipaddress import IPv4Interface

import pytest

from flannelpy import nlmsg, rtnetlink
from flannelpy.state import Address
from tests.unit.flannelpy.parts import parts
from tests.unit.flannelpy.test_watch import standing


async def test_a_changed_uplink_is_followed_at_once_and_a_lost_one_waited_out():
    async with parts() as it:
        node = await standing(it)
        task = it.runtime.tasks.start("uplink", it.relocation.run())
        eth0 = it.kernel.index_of("eth0")
        old, new = IPv4Interface("192.0.2.11/24"), IPv4Interface("192.0.2.99/24")
        with it.watch.listening():
            await it.hand.do(rtnetlink.delete_address(Address("eth0", old), eth0))
            await it.clock.settle()
            assert it.logged("uplink not usable; keeping its last addresses")
            assert node.host.uplink.v4 == old
            await it.hand.do(rtnetlink.put_address(Address("eth0", new), eth0))
            await it.clock.settle()
            assert node.host.uplink.v4 == new
            assert it.logged("uplink changed; lease and peers follow")
        task.cancel()


@pytest.mark.parametrize("taken_away", [False, True])
async def test_while_the_former_address_stands_the_device_waits_for_the_peers(taken_away):
    async with parts() as it:
        node = await standing(it)
        task = it.runtime.tasks.start("uplink", it.relocation.run())
        eth0 = it.kernel.index_of("eth0")
        old, new = IPv4Interface("192.0.2.11/24"), IPv4Interface("192.0.2.99/24")
        deprecated = bytearray(rtnetlink.put_address(Address("eth0", old), eth0))
        deprecated[nlmsg.HEADER_SIZE + 2] = 0x20  # IFA_F_DEPRECATED
        with it.watch.listening():
            await it.hand.do(rtnetlink.put_address(Address("eth0", new), eth0))
            await it.hand.do(bytes(deprecated))
            await it.clock.settle()
            assert node.host.uplink.v4 == old
            if taken_away:  # no longer good to send from: nothing to wait for
                await it.hand.do(rtnetlink.delete_address(Address("eth0", old), eth0))
                await it.clock.settle()
            else:
                await it.clock.advance(1.0)
            assert node.host.uplink.v4 == new
        task.cancel()
