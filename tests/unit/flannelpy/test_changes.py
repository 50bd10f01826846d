# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Network

import pytest

from flannelpy.backends import live_options
from flannelpy.changes import refusals
from flannelpy.keys import Subnets
from flannelpy.records import parse_config

NOW = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":1}}'
HELD = Subnets(IPv4Network("10.5.7.0/24"))


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        pytest.param(NOW, None, id="the same"),
        pytest.param(
            '{"Network":"10.5.0.0/16","SubnetMax":"10.5.9.0","Backend":{"Type":"vxlan","VNI":1}}',
            None,
            id="a smaller range that ours is in",
        ),
        pytest.param(
            '{"Network":"10.5.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan","VNI":1,"MTU":1400,"DirectRouting":true}}',
            None,
            id="MTU, direct routing, rules",
        ),
        pytest.param(
            '{"Network":"10.5.0.0/16","SubnetMin":"10.5.8.0","Backend":{"Type":"vxlan","VNI":1}}',
            "our subnet 10.5.7.0/24 is not of the new range 10.5.8.0–10.5.255.0 /24",
            id="our subnet falls out",
        ),
        pytest.param(
            '{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan","VNI":1}}',
            "Network: 10.5.0.0/16 → 10.0.0.0/8",
            id="network",
        ),
        pytest.param(
            '{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}',
            'Backend.Type: "vxlan" → "host-gw"',
            id="backend",
        ),
        pytest.param(
            '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":2}}',
            'Backend option "vni"',
            id="VNI",
        ),
        pytest.param(
            '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan","VNI":1}}',
            "EnableIPv6: a family comes or goes",
            id="a family comes",
        ),
    ],
)
def test_safe_changes_pass_and_unsafe_ones_are_refused_with_the_reason(wanted, reason):
    before, after = parse_config(NOW.encode()), parse_config(wanted.encode())
    got = refusals(before, after, HELD, live_options(after.backend.type))
    if reason is None:
        assert got == ()
    else:
        (text,) = got
        assert text.startswith(reason)


def test_a_backend_without_live_options_has_none():
    assert (
        live_options("host-gw") == live_options("nonsense") == live_options("../x") == frozenset()
    )
