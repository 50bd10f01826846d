# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Network, ip_interface

from flannelpy.bridges import stale
from flannelpy.keys import Subnets
from flannelpy.records import parse_config

CONFIG = parse_config(b'{"Network":"10.5.0.0/16"}')
HELD = Subnets(IPv4Network("10.5.7.0/24"))


def test_trap_t24_a_former_subnets_gateway_is_told_from_ours_and_from_strangers():
    has = [ip_interface(it) for it in ("10.5.3.1/24", "10.5.7.1/24", "192.0.2.1/24", "fe80::1/64")]
    assert [str(it.address) for it in stale(CONFIG, HELD, "cni0", has)] == ["10.5.3.1/24"]
