# SPDX-License-Identifier: Apache-2.0
"""Our messages about links as pyroute2 reads them."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from flannelpy import nlmsg, rtlink
from flannelpy.state import Ipip, Link, Vxlan

MAC = "2e:6f:0b:91:c4:07"


def oracle(data):
    read = ifinfmsg(data)
    read.decode()
    return read


@pytest.mark.parametrize(
    ("local", "field"), [("192.0.2.1", "vxlan_local"), ("2001:db8::1", "vxlan_local6")]
)
def test_vxlan_device(local, field):
    address = IPv4Address(local) if "." in local else IPv6Address(local)
    tunnel = Vxlan(5, "eth0", address, 4789, gbp=True)
    data = rtlink.create_vxlan(Link("flannel.5", tunnel, 1450, MAC, learning=True), tunnel, 2)
    it = oracle(data)
    assert (it.get("ifname"), it.get("mtu"), it.get("address")) == ("flannel.5", 1450, MAC)
    info = it.get("linkinfo")
    assert info.get("kind") == "vxlan"
    has = info.get("data")
    wanted = {
        "vxlan_id": 5,
        "vxlan_link": 2,
        field: local,
        "vxlan_port": 4789,
        "vxlan_learning": 1,
        "vxlan_l2miss": 0,
        "vxlan_ttl": 0,
    }
    assert {name: has.get(name) for name in wanted} == wanted
    back = rtlink.parse_link(next(nlmsg.replies(data)))
    assert back.vxlan == rtlink.RawVxlan(5, 2, address, 4789, learning=True, gbp=True)


def test_ipip_device_is_made_and_changed_with_all_its_parameters():
    tunnel = Ipip(IPv4Address("192.0.2.1"))
    made = oracle(rtlink.create_ipip(Link("flannel.ipip", tunnel, 1480), tunnel))
    changed = oracle(rtlink.change_ipip(7, tunnel))
    assert (made.get("ifname"), made.get("mtu"), changed["index"]) == ("flannel.ipip", 1480, 7)
    for it in (made, changed):
        info = it.get("linkinfo")
        assert info.get("kind") == "ipip"
        assert info.get("data").get("ipip_local") == "192.0.2.1"
        assert info.get("data").get("ipip_pmtudisc") == 0
