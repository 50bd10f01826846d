# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Network, IPv6Network

from flannelpy.keys import Subnets
from flannelpy.subnet_env import SubnetEnv, previous, values

TEXT = """\
FLANNEL_NETWORK=10.7.0.0/16
FLANNEL_SUBNET=10.7.21.1/24
FLANNEL_IPV6_NETWORK=fd00:7::/48
FLANNEL_IPV6_SUBNET=fd00:7:0:21::1/64
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false
"""
V4, V6 = IPv4Network("10.7.21.0/24"), IPv6Network("fd00:7:0:21::/64")


def test_trap_t13_values_unquoted_and_subnet_is_base_plus_one():
    env = SubnetEnv(IPv4Network("10.7.0.0/16"), V4, IPv6Network("fd00:7::/48"), V6, 1450, False)
    assert env.render() == TEXT


def test_only_the_families_in_use():
    env = SubnetEnv(IPv4Network("10.7.0.0/16"), V4, None, None, 1450, True)
    lines = env.render().splitlines()
    assert lines == [
        "FLANNEL_NETWORK=10.7.0.0/16",
        "FLANNEL_SUBNET=10.7.21.1/24",
        "FLANNEL_MTU=1450",
        "FLANNEL_IPMASQ=true",
    ]


def test_previous_reads_back():
    assert previous(TEXT) == (Subnets(V4, V6), ())


def test_previous_accepts_shell_habits():
    text = "# mine\r\nexport FLANNEL_SUBNET='10.7.21.1/24' # here\r\nX\n#FLANNEL_IPV6_SUBNET=fd00::1/64\n"
    assert previous(text) == (Subnets(V4), ())


def test_previous_lists_of_kube_versions():
    assert previous("FLANNEL_SUBNET=nonsense,10.7.21.1/24\n")[0] == Subnets(V4)
    found, problems = previous("FLANNEL_SUBNET=10.7.21.1/24,10.7.22.1/24\n")
    assert found is None
    assert problems == ("FLANNEL_SUBNET: 2 subnets; expected one",)


def test_previous_of_nothing():
    assert previous("") == (None, ())
    assert values('A="unfinished\n') == {"A": '"unfinished'}
