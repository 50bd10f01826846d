# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

import pytest

from flannelpy.uplink import Facts, Nic, OwnAddress, Request, UplinkError, again, choose, usable

PERMANENT, TEMPORARY, DEPRECATED = 0x80, 0x01, 0x20


def nic(name, index, *addresses, mtu=1500):
    own = tuple(OwnAddress(ip_interface(text), flags) for text, flags in addresses)
    return Nic(name, index, mtu, own)


LO = nic("lo", 1, ("127.0.0.1/8", PERMANENT), mtu=65536)
ETH0 = nic(
    "eth0", 2, ("192.0.2.1/24", PERMANENT), ("2001:db8::1/64", PERMANENT), ("fe80::1/64", PERMANENT)
)
ETH1 = nic("eth1", 3, ("198.51.100.1/24", PERMANENT), ("fe80::2/64", PERMANENT))
BARE = nic("bare", 4)
FACTS = Facts((LO, ETH0, ETH1, BARE), "eth0", "eth0", ("eth1", IPv4Address("198.51.100.1")))


def shown(found):
    return f"{found.name} {found.v4} {found.ext_v4} {found.v6} {found.ext_v6}"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param({}, "eth0 192.0.2.1/24 192.0.2.1 None None", id="default route"),
        pytest.param(
            {"iface": ("eth1",)}, "eth1 198.51.100.1/24 198.51.100.1 None None", id="by name"
        ),
        pytest.param(
            {"iface": ("198.51.100.1",)},
            "eth1 198.51.100.1/24 198.51.100.1 None None",
            id="by address",
        ),
        pytest.param(
            {"iface": ("nope", "eth1")},
            "eth1 198.51.100.1/24 198.51.100.1 None None",
            id="in order",
        ),
        pytest.param(
            {"iface": ("nope",), "iface_regex": (r"^198\.",)},
            "eth1 198.51.100.1/24 198.51.100.1 None None",
            id="regex on address, after names",
        ),
        pytest.param(
            {"iface_regex": ("th1$",)},
            "eth1 198.51.100.1/24 198.51.100.1 None None",
            id="regex on name",
        ),
        pytest.param(
            {"can_reach": ip_address("203.0.113.9")},
            "eth1 198.51.100.1/24 198.51.100.1 None None",
            id="can-reach",
        ),
        pytest.param(
            {"public_ip": IPv4Address("198.51.100.1")},
            "eth1 198.51.100.1/24 198.51.100.1 None None",
            id="trap T11: public-ip selects",
        ),
        pytest.param(
            {"iface": ("eth1",), "public_ip": IPv4Address("203.0.113.1")},
            "eth1 198.51.100.1/24 203.0.113.1 None None",
            id="public-ip behind NAT",
        ),
        pytest.param(
            {"v6": True}, "eth0 192.0.2.1/24 192.0.2.1 2001:db8::1/64 2001:db8::1", id="dual stack"
        ),
        pytest.param(
            {"v4": False, "v6": True, "public_ipv6": IPv6Address("2001:db8::1")},
            "eth0 None None 2001:db8::1/64 2001:db8::1",
            id="IPv6 only",
        ),
        pytest.param(
            {"v6": True, "iface_regex": ("2",)},
            "eth0 192.0.2.1/24 192.0.2.1 2001:db8::1/64 2001:db8::1",
            id="dual-stack regex matches both families",
        ),
    ],
)
def test_choice(request_, expected):
    assert shown(choose(Request(**request_), FACTS)) == expected


@pytest.mark.parametrize(
    ("request_", "facts", "reason"),
    [
        (
            {"iface": ("nope", "192.0.2.99")},
            FACTS,
            '-iface "nope": no such interface; -iface "192.0.2.99": no interface has',
        ),
        ({"iface": ("bare",)}, FACTS, "bare has no usable IPv4 address"),
        ({"iface_regex": ("zzz",)}, FACTS, "matches none of lo .127.0.0.1., eth0"),
        ({"public_ip": IPv4Address("203.0.113.1")}, FACTS, "behind NAT name the interface too"),
        ({}, Facts((ETH0,)), "no IPv4 default route"),
        ({}, Facts((ETH0,), ""), "several hops"),
        ({"v6": True}, Facts((ETH0, ETH1), "eth0", "eth1"), "different interfaces"),
        ({"can_reach": ip_address("203.0.113.9")}, Facts((ETH0,)), "knows no way"),
        (
            {"iface": ("dead",)},
            Facts((nic("dead", 9, ("192.0.2.1/24", PERMANENT), mtu=0),)),
            "has no MTU",
        ),
    ],
)
def test_refusals_name_the_selector(request_, facts, reason):
    with pytest.raises(UplinkError, match=reason):
        choose(Request(**request_), facts)


def test_order_of_addresses():
    it = nic(
        "eth0", 2,
        ("fe80::1/64", PERMANENT), ("2001:db8::dead/64", DEPRECATED | PERMANENT), ("2001:db8::7/64", TEMPORARY),
        ("2001:db8::6/64", 0), ("2001:db8::5/64", PERMANENT),
    )  # fmt: skip
    assert [str(a.ip) for a in usable(it, 6)] == [
        "2001:db8::5",
        "2001:db8::6",
        "2001:db8::7",
        "fe80::1",
    ]


def test_followed_uplink_keeps_its_address_while_that_stands_and_takes_the_best_after():
    now = choose(Request(iface=("eth0",)), FACTS)
    more = nic("eth0", 2, ("192.0.2.77/24", PERMANENT), ("192.0.2.1/24", PERMANENT), mtu=1400)
    kept = again(Request(), Facts((LO, more)), now)
    assert (shown(kept), kept.mtu) == ("eth0 192.0.2.1/24 192.0.2.1 None None", 1400)
    moved = nic("eth0", 9, ("192.0.2.77/24", PERMANENT))
    found = again(Request(iface=("192.0.2.1",)), Facts((moved,)), now)
    assert (shown(found), found.index) == ("eth0 192.0.2.77/24 192.0.2.77 None None", 9)


@pytest.mark.parametrize("nics", [(LO,), (LO, nic("eth0", 2))], ids=["gone", "no address"])
def test_followed_uplink_that_is_not_usable_raises(nics):
    now = choose(Request(iface=("eth0",)), FACTS)
    with pytest.raises(UplinkError, match="eth0"):
        again(Request(), Facts(nics), now)
