"""The CNI plugin's own part: what it reads, what it hands on (specs/flannel.md §14)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flannelpy.cni import config as cni
from flannelpy.cni.config import CniError, Host
from flannelpy.cni.main import run
from flannelpy.cni.plugin import Attachment

V4 = """\
FLANNEL_NETWORK=10.7.0.0/16
FLANNEL_SUBNET=10.7.21.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false
"""
V6 = "FLANNEL_IPV6_NETWORK=fd00:7::/48\nFLANNEL_IPV6_SUBNET=fd00:7:0:21::1/64\n"


def made(config: dict[str, Any], text: str = V4) -> str:
    return json.dumps(
        cni.delegate(config, cni.read_host(text, "subnet.env")),
        sort_keys=True,
        separators=(",", ":"),
    )


def test_the_specs_example_byte_for_byte() -> None:
    config = cni.read_config('{"name":"net7","type":"flannel","cniVersion":"0.4.0"}')
    assert made(config) == (
        '{"cniVersion":"0.4.0","ipMasq":true,"ipam":{"ranges":[[{"subnet":"10.7.21.0/24"}]],'
        '"routes":[{"dst":"10.7.0.0/16"}],"type":"host-local"},"isGateway":true,"mtu":1450,'
        '"name":"net7","type":"bridge"}'
    )


def test_dual_stack_gives_a_range_and_a_route_each() -> None:
    ipam = json.loads(made({"name": "n"}, V4 + V6))["ipam"]
    assert ipam["ranges"] == [[{"subnet": "10.7.21.0/24"}], [{"subnet": "fd00:7:0:21::/64"}]]
    assert ipam["routes"] == [{"dst": "10.7.0.0/16"}, {"dst": "fd00:7::/48"}]


def test_a_list_of_networks_gives_a_route_each_once() -> None:
    text = V4.replace("10.7.0.0/16", "10.7.0.0/16,10.8.0.0/16,10.7.0.0/16")
    routes = json.loads(made({"name": "n"}, text))["ipam"]["routes"]
    assert routes == [{"dst": "10.7.0.0/16"}, {"dst": "10.8.0.0/16"}]


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        pytest.param({}, "ipMasq", True, id="the inverse of flanneld's own"),
        pytest.param({"delegate": {"ipMasq": False}}, "ipMasq", False, id="as given"),
        pytest.param({"delegate": {"mtu": 1400}}, "mtu", 1400, id="mtu as given"),
        pytest.param({"delegate": {"type": "macvlan"}}, "isGateway", None, id="bridge only"),
        pytest.param({"delegate": {"isGateway": False}}, "isGateway", False, id="kept"),
        pytest.param({"runtimeConfig": {"x": 1}}, "runtimeConfig", {"x": 1}, id="runtimeConfig"),
        pytest.param(
            {"ipam": {"type": "dhcp", "routes": [{"dst": "0.0.0.0/0"}], "ranges": 1}},
            "ipam",
            {
                "type": "dhcp",
                "ranges": [[{"subnet": "10.7.21.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.7.0.0/16"}],
            },
            id="ipam: ranges overwritten, routes added to",
        ),
    ],
)
def test_defaults_and_what_is_given(given: dict[str, Any], field: str, value: Any) -> None:
    assert json.loads(made({"name": "n", **given})).get(field) == value


def test_only_the_exact_word_true_is_true() -> None:
    assert not cni.read_host(V4.replace("false", "True"), "f").ipmasq
    assert cni.read_host(V4.replace("false", "true"), "f").ipmasq


def test_what_is_missing_is_named_by_both_alternatives_in_order() -> None:
    with pytest.raises(CniError) as raised:
        cni.read_host("", "/run/flannel/subnet.env")
    names = str(raised.value).partition("missing ")[2]
    assert names == (
        "FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, "
        "FLANNEL_MTU, FLANNEL_IPMASQ"
    )
    assert cni.read_host(V6 + V4.partition("1/24\n")[2], "f") == Host(
        ("fd00:7::/48",), ("fd00:7:0:21::/64",), 1450, False
    )


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"delegate": {"name": "x"}}, '"name"'),
        ({"delegate": {"ipam": {}}}, 'write "ipam" beside "delegate"'),
        ({"delegate": {"type": 7}}, "delegate.type"),
        ({"delegate": {"type": "../bin/sh"}}, "delegate.type"),
        ({"delegate": [1]}, '"delegate" must be an object'),
        ({"ipam": "x"}, '"ipam" must be an object'),
        ({"ipam": {"routes": 3}}, '"ipam.routes" must be a list'),
    ],
)
def test_a_bad_delegate_is_refused_by_field(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(CniError, match=reason):
        made({"name": "n", **config})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", cni.NOT_DECODED),
        ("[]", cni.NOT_DECODED),
        ('{"type":"flannel"}', cni.BAD_CONFIGURATION),
        ('{"name":"n","cniVersion":"9.9.9"}', 1),
        ('{"name":"n","dataDir":4}', cni.BAD_CONFIGURATION),
    ],
)
def test_a_bad_configuration_has_the_specifications_code(text: str, code: int) -> None:
    with pytest.raises(CniError) as raised:
        cni.read_config(text)
    assert raised.value.code == code


@pytest.mark.parametrize("container", ["", "../x", "a/b", ".hidden", "a\n"])
def test_a_container_id_cannot_name_another_folder(container: str) -> None:
    with pytest.raises(CniError, match="CNI_CONTAINERID"):
        Attachment({"CNI_CONTAINERID": container, "CNI_IFNAME": "eth0"}, {"name": "n"}, print)


def test_version_tells_what_we_speak() -> None:
    answer = json.loads(run({"CNI_COMMAND": "VERSION"}, ""))
    assert answer["supportedVersions"] == list(cni.VERSIONS)


@pytest.mark.parametrize("command", ["", "PURGE"])
def test_other_commands_are_refused_by_name(command: str) -> None:
    with pytest.raises(CniError, match=f'"{command}" is not ADD, DEL, CHECK, STATUS, GC or'):
        run({"CNI_COMMAND": command}, "{}")
