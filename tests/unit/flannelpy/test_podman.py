"""Which way podman's containers get onto the overlay, and netavark's protocol."""

from __future__ import annotations

import json

import pytest

from flannelpy import netavark
from flannelpy.cni.config import CniError
from flannelpy.keys import parse_lease
from flannelpy.podman import Found, Leased, PodmanError, choose, plan, read_info

DEBIAN_12 = read_info(
    {"host": {"networkBackend": "netavark"}, "version": {"Version": "4.3.1"}},
    "netavark 1.4.0",
    "/usr/lib/cni",
)
FIVE = {
    "host": {"networkBackendInfo": {"backend": "netavark", "version": "netavark 1.14.1"}},
    "version": {"Version": "5.5.2"},
}
NEWER = read_info(FIVE, "", "/usr/lib/cni")
BARE = read_info(FIVE, "", "")


def test_debian_12_has_cni_and_the_reason_is_told() -> None:
    assert Found((4, 3, 1), (1, 4, 0), "/usr/lib/cni") == DEBIAN_12
    choice = choose(DEBIAN_12)
    assert choice.way == "cni"
    assert "1.4.0 takes no plugin" in choice.why
    made = plan(choice, DEBIAN_12, "/opt/fairlead/bin", "flannel", "/run/flannel/subnet.env", None)
    conflist = json.loads(made.files["/etc/cni/net.d/50-flannel.conflist"])
    assert conflist["plugins"][0]["delegate"]["ipMasq"] is False
    drop_in = made.files["/etc/containers/containers.conf.d/50-flannel.conf"]
    assert 'network_backend = "cni"' in drop_in
    assert "/opt/fairlead/bin" in drop_in
    assert made.command == ()


def test_a_newer_netavark_gets_our_driver() -> None:
    choice = choose(NEWER)
    assert choice.way == "netavark"
    made = plan(choice, NEWER, "/opt/fairlead/bin", "blue", "/run/flannel/blue.env", None)
    assert made.command[:5] == ("podman", "network", "create", "--driver", "flannel-netavark")
    assert "netavark_plugin_dirs" in made.files["/etc/containers/containers.conf.d/50-flannel.conf"]


def test_without_cnis_plugins_flanneld_keeps_the_bridge() -> None:
    choice = choose(BARE)
    assert choice.way == "bridge"
    leased = Leased(parse_lease(b"10.5.7.0-24&fd00:5:0:7::-64"), 1430)
    made = plan(choice, BARE, "/opt/fairlead/bin", "flannel", "/run/flannel/subnet.env", leased)
    assert " ".join(made.command) == (
        "podman network create --driver bridge --interface-name cni-flannel0 --disable-dns "
        "--opt mode=unmanaged --opt mtu=1430 --ipv6 --subnet 10.5.7.0/24 --gateway 10.5.7.1 "
        "--subnet fd00:5:0:7::/64 --gateway fd00:5:0:7::1 flannel"
    )
    assert "flanneld has to run with -bridge cni-flannel0" in made.advice
    with pytest.raises(PodmanError, match="start flanneld -bridge"):
        plan(choice, BARE, "/opt/fairlead/bin", "flannel", "/run/flannel/subnet.env", None)


@pytest.mark.parametrize(
    ("found", "way", "reason"),
    [
        (Found((5, 0, 0), (1, 5, 0)), "auto", "no CNI"),
        (Found((4, 3, 1), (1, 4, 0)), "auto", "containernetworking-plugins"),
        (Found((5, 0, 0), (1, 10, 0)), "netavark", "containernetworking-plugins"),
        (Found((5, 0, 0), (1, 10, 0)), "bridge", "from 1.14.0 on"),
        (DEBIAN_12, "netavark", "from 1.6.0 on"),
        (NEWER, "cni", "has no CNI"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_install(found, way, reason) -> None:
    with pytest.raises(PodmanError, match=reason):
        choose(found, way)


ASKED = {
    "container_id": "752947ff91f9",
    "container_name": "web",
    "port_mappings": [],
    "network": {"name": "flannel", "driver": "flannel-netavark", "options": {"subnet_file": "/x"}},
    "network_options": {"interface_name": "eth0"},
}


def test_netavark_asks_and_cni_answers() -> None:
    made = netavark.configuration(ASKED)
    assert (made["type"], made["subnetFile"], made["delegate"]["ipMasq"]) == (
        "flannel",
        "/x",
        False,
    )
    result = {
        "interfaces": [{"name": "veth1", "mac": "0a:1"}, {"name": "eth0", "mac": "0a:2", "sandbox": "/n"}],
        "ips": [{"address": "10.5.1.2/24", "gateway": "10.5.1.1"}],
    }  # fmt: skip
    assert netavark.status(result, "eth0") == {
        "dns_search_domains": [],
        "dns_server_ips": [],
        "interfaces": {
            "eth0": {
                "mac_address": "0a:2",
                "subnets": [{"ipnet": "10.5.1.2/24", "gateway": "10.5.1.1"}],
            }
        },
    }


def test_a_network_is_completed_and_what_flanneld_decides_is_refused() -> None:
    made = netavark.create({"name": "flannel", "id": "2f", "driver": "flannel-netavark"})
    assert made["ipam_options"] == {"driver": "none"}
    with pytest.raises(CniError, match="--subnet"):
        netavark.create({"subnets": [{"subnet": "10.0.0.0/16"}]})
    with pytest.raises(CniError, match="--ip"):
        netavark.configuration({**ASKED, "network_options": {"static_ips": ["10.5.1.9"]}})


def test_published_ports_are_portmaps() -> None:
    assert netavark.published(ASKED, {}) is None
    one = {"host_ip": "192.0.2.1", "host_port": 8080, "container_port": 80, "protocol": "tcp,udp", "range": 1}  # fmt: skip
    two = {"host_port": 9000, "container_port": 9000, "protocol": "tcp", "range": 2}
    made = netavark.published({**ASKED, "port_mappings": [one, two]}, {"ips": []})
    assert (made["type"], made["prevResult"]) == ("portmap", {"ips": []})
    assert [tuple(it.values()) for it in made["runtimeConfig"]["portMappings"]] == [
        (8080, 80, "tcp", "192.0.2.1"), (8080, 80, "udp", "192.0.2.1"), (9000, 9000, "tcp", ""), (9001, 9001, "tcp", ""),
    ]  # fmt: skip
    assert "prevResult" not in netavark.published({**ASKED, "port_mappings": [two]}, None)
