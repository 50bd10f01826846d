# SPDX-License-Identifier: Apache-2.0
"""Our messages as pyroute2 reads them: an oracle that shares no code with ours."""

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from flannelpy import rtnetlink
from flannelpy.state import PROTO_OURS, Address, Fdb, Ipip, Link, Neighbour, Route, Vxlan, mac_text

MAC = "2e:6f:0b:91:c4:07"


def oracle(kind, data):
    read = kind(data)
    read.decode()
    return read


def reply(data):
    (it,) = rtnetlink.replies(data)
    return it


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (
            Route(IPv4Network("10.5.2.0/24"), IPv4Address("10.5.2.0"), "flannel.1", onlink=True),
            ("10.5.2.0", 24, "10.5.2.0", 7, 4, 3, 0),
        ),
        (
            Route(IPv4Network("10.5.2.0/24"), IPv4Address("192.0.2.2"), "eth0", proto=PROTO_OURS),
            ("10.5.2.0", 24, "192.0.2.2", 7, 0, 102, 0),
        ),
        (
            Route(IPv6Network("fd00::/64"), IPv6Address("fd00::"), "flannel-v6.1", onlink=True),
            ("fd00::", 64, "fd00::", 7, 4, 3, 0),
        ),
        (
            Route(IPv4Network("10.5.0.0/16"), None, "flannel-wg"),
            ("10.5.0.0", 16, None, 7, 0, 3, 253),
        ),
    ],
)
def test_route(route, expected):
    data = rtnetlink.put_route(route, 7)
    it = oracle(rtmsg, data)
    assert it["header"]["type"] == rtnetlink.NEWROUTE
    assert it["header"]["flags"] == 0x501  # request, replace, create
    assert (it["table"], it["type"]) == (254, 1)
    got = (
        it.get("dst"),
        it["dst_len"],
        it.get("gateway"),
        it.get("oif"),
        it["flags"],
        it["proto"],
        it["scope"],
    )
    assert got == expected
    back = rtnetlink.parse_route(reply(data))
    assert (back.dst, back.via, back.ifindex, back.onlink, back.proto) == (
        route.dst,
        route.via,
        7,
        route.onlink,
        route.proto,
    )


def test_neighbour_and_fdb():
    it = oracle(ndmsg, rtnetlink.put_neighbour(Neighbour("x", IPv4Address("10.5.2.0"), MAC), 7))
    assert (it["family"], it["ifindex"], it["state"], it["flags"]) == (2, 7, 0x80, 0)
    assert (it.get("dst"), it.get("lladdr")) == ("10.5.2.0", MAC)
    it = oracle(ndmsg, rtnetlink.put_fdb(Fdb("x", MAC, IPv4Address("192.0.2.2")), 7))
    assert (it["family"], it["ifindex"], it["state"], it["flags"]) == (7, 7, 0x80, 2)
    assert it.get("lladdr") == MAC


@pytest.mark.parametrize("ip", ["10.5.2.0", "fd00:2::"])
def test_deletion_names_the_whole_entry(ip):
    address = ip_address(ip)
    it = oracle(ndmsg, rtnetlink.delete_neighbour(Neighbour("x", address, MAC), 7))
    assert (it["header"]["type"], it["header"]["flags"]) == (rtnetlink.DELNEIGH, 1)
    assert (it["ifindex"], it.get("dst"), it.get("lladdr")) == (7, ip, MAC)
    it = oracle(ndmsg, rtnetlink.delete_fdb(Fdb("x", MAC, address), 7))
    assert (it["header"]["type"], it["family"], it["flags"]) == (rtnetlink.DELNEIGH, 7, 2)
    assert it.get("lladdr") == MAC
    back = rtnetlink.parse_neighbour(reply(rtnetlink.put_fdb(Fdb("x", MAC, address), 7)))
    assert (back.is_fdb, back.dst, back.lladdr) == (True, address, MAC)


def test_a_batch_is_numbered_and_only_its_last_asks_for_an_answer():
    entry = Neighbour("x", IPv4Address("10.5.2.0"), MAC)
    route = Route(IPv6Network("fd00::/64"), IPv6Address("fd00::"), "x", onlink=True)
    requests = [
        rtnetlink.put_neighbour(entry, 7),
        rtnetlink.put_route(route, 7),
        rtnetlink.dump_links(),
    ]
    read = [*rtnetlink.replies(bytes(rtnetlink.batch(requests, 41)))]
    assert [(it.type, it.sequence, it.flags & rtnetlink.F_ACK) for it in read] == [
        (rtnetlink.NEWNEIGH, 41, 0),
        (rtnetlink.NEWROUTE, 42, 0),
        (rtnetlink.GETLINK, 43, rtnetlink.F_ACK),
    ]
    assert [bytes(it.body) for it in read] == [it[rtnetlink.HEADER_SIZE :] for it in requests]


def test_address():
    it = oracle(ifaddrmsg, rtnetlink.put_address(Address("x", IPv4Interface("10.5.1.0/32")), 7))
    assert (it["prefixlen"], it["index"], it.get("local")) == (32, 7, "10.5.1.0")


@pytest.mark.parametrize(
    ("local", "field"), [("192.0.2.1", "vxlan_local"), ("2001:db8::1", "vxlan_local6")]
)
def test_vxlan_device(local, field):
    address = IPv4Address(local) if "." in local else IPv6Address(local)
    tunnel = Vxlan(5, "eth0", address, 4789, gbp=True)
    data = rtnetlink.create_vxlan(Link("flannel.5", tunnel, 1450, MAC, learning=True), tunnel, 2)
    it = oracle(ifinfmsg, data)
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
    back = rtnetlink.parse_link(reply(data))
    assert back.vxlan == rtnetlink.RawVxlan(5, 2, address, 4789, learning=True, gbp=True)


def test_ipip_device_is_made_and_changed_with_all_its_parameters():
    tunnel = Ipip(IPv4Address("192.0.2.1"))
    made = oracle(ifinfmsg, rtnetlink.create_ipip(Link("flannel.ipip", tunnel, 1480), tunnel))
    changed = oracle(ifinfmsg, rtnetlink.change_ipip(7, tunnel))
    assert (made.get("ifname"), made.get("mtu"), changed["index"]) == ("flannel.ipip", 1480, 7)
    for it in (made, changed):
        info = it.get("linkinfo")
        assert info.get("kind") == "ipip"
        assert info.get("data").get("ipip_local") == "192.0.2.1"
        assert info.get("data").get("ipip_pmtudisc") == 0


def test_refusal_with_the_kernels_words():
    request = rtnetlink.numbered(rtnetlink.dump_links(), 9)
    words = rtnetlink.attribute(1, b"No such device\0")
    body = (-19).to_bytes(4, "little", signed=True) + request[:16] + words
    head = (
        (16 + len(body)).to_bytes(4, "little")
        + (2).to_bytes(2, "little")
        + (0x300).to_bytes(2, "little")
    )
    data = head + (9).to_bytes(4, "little") + bytes(4) + body
    assert rtnetlink.refusal(reply(data)) == (19, "No such device")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(data):
    for it in rtnetlink.replies(data):
        rtnetlink.refusal(it)


@given(st.integers(1, 2**48 - 1), st.integers(0, 2**32 - 1), st.integers(1, 2**31 - 1))
def test_entries_read_back(mac, ip, index):
    entry = Neighbour("x", IPv4Address(ip), mac_text(mac))
    back = rtnetlink.parse_neighbour(reply(rtnetlink.put_neighbour(entry, index)))
    assert (back.ifindex, back.is_fdb, back.dst, back.lladdr, back.state) == (
        index,
        False,
        entry.ip,
        entry.lladdr,
        0x80,
    )
