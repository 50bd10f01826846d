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
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from flannelpy import nlmsg, rtnetlink
from flannelpy.state import PROTO_OURS, Address, Fdb, Neighbour, Route, mac_text

MAC = "2e:6f:0b:91:c4:07"


def oracle(kind, data):
    read = kind(data)
    read.decode()
    return read


def reply(data):
    (it,) = nlmsg.replies(data)
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


def test_address():
    it = oracle(ifaddrmsg, rtnetlink.put_address(Address("x", IPv4Interface("10.5.1.0/32")), 7))
    assert (it["prefixlen"], it["index"], it.get("local")) == (32, 7, "10.5.1.0")


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
