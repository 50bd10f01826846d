# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address

import pytest

from fairlead.errors import ConfigErrors
from fairlead.flags import UsageError
from fairlead.program import load
from flannelpy.cli import main
from flannelpy.config import configure
from flannelpy.settings import SETTINGS


def parse(*argv, **environ):
    return configure(SETTINGS.parse(argv, environ))


def test_defaults_are_the_originals():
    config = parse()
    assert config.etcd.endpoints == ("http://127.0.0.1:4001", "http://127.0.0.1:2379")
    assert (config.prefix, config.subnet_file, config.margin) == (
        "/coreos.com/network",
        "/run/flannel/subnet.env",
        3600.0,
    )
    assert config.reacquire
    assert config.wait


def test_go_syntax_environment_and_commas():
    config = parse(
        "--iface=eth0",
        "-iface",
        "eth1",
        "-public-ip=198.51.100.7",
        FLANNELD_ETCD_PREFIX="/x",
        FLANNELD_HEALTHZ_PORT="0x1f90",
    )
    assert (config.iface, config.prefix, config.healthz_port) == (("eth0", "eth1"), "/x", 8080)
    assert config.public_ip == IPv4Address("198.51.100.7")
    assert parse(FLANNELD_IFACE="eth0,eth1").iface == ("eth0", "eth1")


def test_command_line_wins_over_environment():
    assert parse("-etcd-prefix=/a", FLANNELD_ETCD_PREFIX="/b").prefix == "/a"


def test_all_faults_at_once():
    argv = (
        "-subnet-lease-renew-margin=1440",
        "-public-ip=x",
        "-etcd-certfile=c",
        "-iface-regex=(",
        "-healthz-port=-1",
    )
    with pytest.raises(ConfigErrors) as caught:
        parse(*argv)
    assert {error.setting for error in caught.value.errors} == {
        "-subnet-lease-renew-margin", "-public-ip", "-etcd-certfile", "-iface-regex", "-healthz-port",
    }  # fmt: skip


def test_kube_and_networks_are_refused_by_name():
    for flag in ("-kube-api-url=x", "-networks=a,b"):
        with pytest.raises(UsageError, match=flag.split("=")[0]):
            parse(flag)


def test_firewall_flags_make_a_policy():
    policy = parse("-ip-masq", "-masq-exclude=192.0.2.0/24,2001:db8::/32", "-vxlan-guard=false")
    found = policy.firewall
    assert (found.masquerade, found.random, found.forward, found.guard) == (True, True, True, False)
    assert [str(it) for it in found.exclude] == ["192.0.2.0/24", "2001:db8::/32"]
    assert parse("-iptables-resync=7").rules_resync == 7.0
    for flag in ("-masq-exclude=192.0.2.1/24", "-iptables-resync=0"):
        with pytest.raises(ConfigErrors, match=flag.split("=")[0]):
            parse(flag)


@pytest.mark.parametrize(
    "flag", ["-listen=x", "-remote=x", "-subnet-dir=x", "-use-multi-cluster-cidr", "-vmodule=x"]
)
def test_historic_flags_are_taken_with_a_warning(flag):
    values = SETTINGS.parse([flag], {})
    assert "has no effect" in values.warnings[0]


def test_a_word_that_ends_the_flags_is_told():
    (warning,) = load(SETTINGS, ["-ip-masq", "true", "-iface=eth0"], {}).warnings
    assert warning.startswith("command line: words without effect: true")
    assert load(SETTINGS, ["-ip-masq=true", "-iface=eth0"], {}).warnings == ()


def test_trap_t12_ca_counts_without_a_client_certificate():
    with pytest.raises(ConfigErrors, match='-etcd-cafile "/none": cannot be used: no such file'):
        parse("-etcd-cafile=/none")


def test_trap_t21_a_bad_flag_exits_2_and_the_password_is_masked(capsys):
    assert main(["-no-such-flag"]) == 2
    assert main(["-etcd-username=u", "-etcd-password=hunter2", "-print-config"]) == 0
    assert "hunter2" not in "".join(capsys.readouterr())


def test_version_goes_to_stderr(capsys):
    assert main(["-version"]) == 0
    out, err = capsys.readouterr()
    assert (out, err.startswith("flanneld")) == ("", True)


def test_check_config(capsys):
    assert main(["-check-config"]) == 0
    assert main(["-check-config", "-healthz-port=99999"]) == 1
    assert "-healthz-port" in capsys.readouterr().err
