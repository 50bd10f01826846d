# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import RecordError
from flannelpy import keys
from flannelpy.keys import Subnets

PREFIX = "/coreos.com/network"


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("/coreos.com/network", b"/coreos.com/network/config"),
        ("/coreos.com/network/", b"/coreos.com/network/config"),
        ("//a//b/", b"/a/b/config"),
        ("a/b", b"a/b/config"),
        ("/", b"/config"),
        ("", b"config"),
        ("/a/../b", b"/b/config"),
    ],
)
def test_prefix_is_joined_with_path_cleaning(prefix, key):
    assert keys.config(prefix) == key


def test_subnets_range_excludes_siblings():
    held = keys.subnets(PREFIX)
    assert held.holds(b"/coreos.com/network/subnets/10.5.1.0-24")
    assert not held.holds(b"/coreos.com/network/subnets-old/10.5.1.0-24")


@pytest.mark.parametrize(
    ("leaf", "v4", "v6"),
    [
        ("10.12.13.0-24", "10.12.13.0/24", None),
        ("10.12.13.0-24&fd00:12:13::-56", "10.12.13.0/24", "fd00:12:13::/56"),
        ("0.0.0.0-0&fd00:5:34::-64", None, "fd00:5:34::/64"),
        ("10.0.0.0-31", "10.0.0.0/31", None),
    ],
)
def test_lease_key_parses_and_is_built_back(leaf, v4, v6):
    key = f"{PREFIX}/subnets/{leaf}".encode()
    subnets = keys.parse_lease(key)
    assert subnets == Subnets(v4 and IPv4Network(v4), v6 and IPv6Network(v6))
    assert keys.lease(PREFIX, subnets) == key


@pytest.mark.parametrize(
    "leaf",
    [
        "10",
        "10.12.13.0",
        "10.12.13-24",
        "10.12.13.300-24",
        "10.12.13.0-24hi",
        "&2001::-56",
        "10.12.13.0-24&:12:13:-56",
        "10.12.13.0-24&20011::-56",
        "10.12.13.0-24&2001-56",
        "10.12.13.0-24&2001::",
        "10.12.13.0-24&2001::-56hi",
        "10.12.13.0-24&FD00::-56",
        "10.12.13.0-24&::ffff:1.2.3.4-56",
        "10.12.13.7-24",
        "10.12.13.0-24\n",
        "٣.12.13.0-24",
        "0.0.0.0-0",
        "",
    ],
)
def test_lease_key_is_refused_by_name(leaf):
    key = f"{PREFIX}/subnets/{leaf}".encode()
    with pytest.raises(RecordError) as caught:
        keys.parse_lease(key)
    assert caught.value.key == key


def test_trap_t19_lengths_the_original_cannot_read():
    for leaf in ("10.1.2.3-32", "10.1.2.0-24&fd00::1-128"):
        with pytest.raises(RecordError, match="is over"):
            keys.parse_lease(b"/p/subnets/" + leaf.encode())


@given(
    st.integers(0, 2**31 - 1),
    st.integers(1, 31),
    st.none() | st.tuples(st.integers(0, 2**127), st.integers(1, 127)),
)
def test_decode_undoes_encode(number, length, six):
    v4 = IPv4Network((number >> (32 - length) << (32 - length), length))
    v6 = six and IPv6Network((six[0] >> (128 - six[1]) << (128 - six[1]), six[1]))
    assert keys.parse_lease(keys.lease(PREFIX, Subnets(v4, v6))) == Subnets(v4, v6)
