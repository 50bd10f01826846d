# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Network

import pytest

from flannelpy import docker_opts
from flannelpy.docker_opts import BadOption, Refused, Request, gateway_route, main, parse, render

FLANNEL = {"FLANNEL_SUBNET": "10.7.21.1/24", "FLANNEL_MTU": "1450", "FLANNEL_IPMASQ": "false"}
BOTH = Request(single=True, combined=True)


def test_as_the_spec_shows_it():
    assert render(BOTH, FLANNEL, {}) == (
        'DOCKER_OPT_BIP="--bip=10.7.21.1/24"\n'
        'DOCKER_OPT_IPMASQ="--ip-masq=true"\n'
        'DOCKER_OPT_MTU="--mtu=1450"\n'
        'DOCKER_OPTS=" --bip=10.7.21.1/24 --ip-masq=true --mtu=1450"\n'
    )


@pytest.mark.parametrize(
    ("argv", "request_"),
    [
        ([], Request(single=True, combined=True)),
        (["-i"], Request(single=True)),
        (["-c", "-k", "X"], Request(combined=True, key="X")),
        (["-imd/run/d.env"], Request(single=True, ipmasq=False, docker_file="/run/d.env")),
        (["-f", "a", "-d", "b", "word", "-i"], Request("a", "b", True, True)),
    ],
)
def test_options(argv, request_):
    assert parse(argv) == request_


@pytest.mark.parametrize("argv", [["-h"], ["-?"], ["-x"], ["-k"], ["--help"]])
def test_help_and_bad_options_print_the_usage_and_fail(argv, capsys):
    with pytest.raises(BadOption):
        parse(argv)
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "COMBINED-KEY" in err


def test_ip_masq_is_the_inverse_and_checked():
    assert "--ip-masq=false" in render(BOTH, {"FLANNEL_IPMASQ": "true"}, {})
    assert render(Request(single=True), {"FLANNEL_IPMASQ": ""}, {}) == ""
    assert render(Request(single=True, ipmasq=False), {"FLANNEL_IPMASQ": "maybe"}, {}) == ""
    with pytest.raises(Refused, match="maybe"):
        render(BOTH, {"FLANNEL_IPMASQ": "maybe"}, {})


def test_environment_adds_options_and_goes_in_front():
    environ = {"DOCKER_OPT_A": "--a", "DOCKER_OPTS": "-D", "OTHER": "x"}
    text = render(BOTH, {"FLANNEL_MTU": "1400"}, environ)
    assert (
        text == 'DOCKER_OPT_A="--a"\nDOCKER_OPT_MTU="--mtu=1400"\nDOCKER_OPTS="-D --a --mtu=1400"\n'
    )


ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
flannel.1	0015070A	0015070A	0003	0	0	0	00FFFFFF	0	0	0
eth0	0016070A	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


def test_a_gateway_route_to_exactly_our_subnet_is_found():
    assert gateway_route(IPv4Network("10.7.21.0/24"), ROUTES)
    assert not gateway_route(IPv4Network("10.7.22.0/24"), ROUTES)
    assert not gateway_route(IPv4Network("10.7.0.0/16"), ROUTES)


def test_run_writes_and_then_refuses(tmp_path, monkeypatch, capsys):
    flannel, docker = tmp_path / "subnet.env", tmp_path / "docker.env"
    flannel.write_text("FLANNEL_SUBNET=10.7.21.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n")
    argv = ["-f", str(flannel), "-d", str(docker), "-c"]
    assert main(argv) == 0
    assert docker.read_text() == 'DOCKER_OPTS=" --bip=10.7.21.1/24 --ip-masq=true --mtu=1450"\n'
    docker.unlink()
    monkeypatch.setattr(docker_opts, "gateway_route", lambda subnet, table: True)
    assert main(argv) == 1
    assert docker.exists()
    assert "10.7.21.0/24" in capsys.readouterr().err


def test_a_missing_subnet_file_is_no_error(tmp_path, monkeypatch):
    monkeypatch.delenv("DOCKER_OPTS", raising=False)
    docker = tmp_path / "docker.env"
    assert main(["-f", str(tmp_path / "none"), "-d", str(docker)]) == 0
    assert docker.read_text() == 'DOCKER_OPTS=""\n'


def test_an_output_that_cannot_be_written_is_said(tmp_path, capsys):
    assert main(["-d", str(tmp_path / "no" / "file")]) == 1
    assert "No such file" in capsys.readouterr().err
