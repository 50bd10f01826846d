"""Which rules a host should have, by flags, network and what Docker did."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from fairlead.etcd.types import KeyValue, LeaseID, Revision
from flannelpy.firewall.docker import Docker
from flannelpy.firewall.wanted import Firewall, Policy, all_keys, suffix
from flannelpy.keys import parse_lease
from flannelpy.records import decode_lease, parse_config

DUAL = parse_config(
    b'{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan"}}'
)
OWN = parse_lease(b"10.5.1.0-24&fd00:5:0:1::-64")
PORTS = {4: 8472, 6: 8472}


def wanted(policy: Policy, *, nft: bool, docker: Docker | None = None) -> list[str]:
    seen = {} if docker is None else {4: docker}
    firewall = Firewall(policy, DUAL, nft, "eth0", PORTS, "", seen)
    rules = firewall.rules(OWN)
    assert rules.keys() <= all_keys("")
    return sorted(map(str, rules.values()))


@pytest.mark.parametrize(
    ("policy", "nft", "docker", "expected"),
    [
        pytest.param(
            Policy(guard=False, forward=False), True, None, [], id="nothing asked for: no table"
        ),
        pytest.param(
            Policy(masquerade=True),
            True,
            None,
            [
                "table ip flannel-ipv4 (forward guard postrtg; 9 rules)",
                "table ip6 flannel-ipv6 (forward guard postrtg; 9 rules)",
            ],
            id="nftables",
        ),
        pytest.param(
            Policy(masquerade=True),
            False,
            None,
            [
                "ip6tables filter FLANNEL-FWD (2 rules)",
                "ip6tables nat FLANNEL-POSTRTG (6 rules)",
                "iptables filter FLANNEL-FWD (2 rules)",
                "iptables nat FLANNEL-POSTRTG (6 rules)",
                "table ip flannel-ipv4 (guard; 1 rules)",
                "table ip6 flannel-ipv6 (guard; 1 rules)",
            ],
            id="iptables: the guard is nftables' all the same",
        ),
        pytest.param(
            Policy(guard=False),
            True,
            Docker(drops=True),
            [
                "iptables filter FLANNEL-FWD (2 rules)",
                "table ip flannel-ipv4 (forward; 2 rules)",
                "table ip6 flannel-ipv6 (forward; 2 rules)",
            ],
            id="Docker drops: an accept of our own table does not help",
        ),
    ],
)
def test_rules(policy: Policy, nft: bool, docker: Docker | None, expected: list[str]) -> None:
    assert wanted(policy, nft=nft, docker=docker) == expected


def test_trap_t27_another_network_has_names_of_its_own() -> None:
    assert suffix("/coreos.com/network") == suffix("coreos.com/network/") == ""
    assert suffix("/blue") != suffix("/green")
    assert not all_keys(suffix("/blue")) & all_keys(suffix("/green")) - all_keys("")


def test_a_lease_lets_in_its_public_addresses() -> None:
    value = b'{"PublicIP":"192.0.2.2","PublicIPv6":"2001:db8::2"}'
    key = b"/x/subnets/10.5.2.0-24&fd00:5:0:2::-64"
    lease = decode_lease(KeyValue(key, value, Revision(1), Revision(1), 1, LeaseID(0)))
    firewall = Firewall(Policy(), DUAL, True, "eth0", {4: 8472})
    assert [it.address for it in firewall.peer(lease)] == [IPv4Address("192.0.2.2")]
    firewall.ports = PORTS
    assert len(firewall.peer(lease)) == 2
    firewall.policy = Policy(guard=False)
    assert firewall.peer(lease) == []
