# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address, IPv4Network

import pytest

from fairlead.etcd.types import LeaseID, Revision
from flannelpy import keys
from flannelpy.keys import Subnets
from flannelpy.nouns import daemons, diagnosis
from flannelpy.nouns.leases import Seen, unfit, useless
from flannelpy.records import Attributes, Lease, parse_config

CONFIG = parse_config(b'{"Network":"10.5.0.0/16"}')


def lease(v4, public, revision=1, etcd_lease=1):
    subnets = Subnets(IPv4Network(v4))
    attributes = Attributes(IPv4Address(public))
    key = keys.lease("/n", subnets)
    return Lease(key, subnets, attributes, LeaseID(etcd_lease), Revision(revision))


@pytest.mark.parametrize(
    ("wanted", "host", "reason"),
    [
        ("10.5.44.0/24", "192.0.2.20", ""),
        ("10.5.7.0/24", "192.0.2.7", ""),
        ("10.5.7.0/24", "192.0.2.20", "held by 192.0.2.7"),
        ("10.5.44.0/25", "192.0.2.20", "not a subnet of the configured range"),
        ("10.9.44.0/24", "192.0.2.20", "not a subnet of the configured range"),
    ],
)
def test_reserve_takes_what_is_free_or_the_hosts_own(wanted, host, reason):
    seen = Seen(CONFIG, (lease("10.5.7.0/24", "192.0.2.7"),), ())
    got = unfit(seen, Subnets(IPv4Network(wanted)), IPv4Address(host))
    assert (reason in got) if reason else (got == "")


def test_reserve_needs_a_configuration():
    assert "no good network configuration" in unfit(
        Seen(None, (), ()), Subnets(IPv4Network("10.5.1.0/24")), IPv4Address("192.0.2.1")
    )


def test_gc_names_what_nobody_can_use_and_spares_reservations():
    standing = [
        lease("10.5.1.0/24", "192.0.2.1", revision=3),
        lease("10.5.2.0/24", "192.0.2.1", revision=9),
        lease("10.5.3.0/24", "192.0.2.1", revision=4, etcd_lease=0),
        lease("10.9.4.0/24", "192.0.2.4"),
        lease("10.5.5.0/24", "192.0.2.5"),
    ]
    got = [f"{it.subnets}: {reason}" for it, reason in useless(CONFIG, standing)]
    assert got == [
        "10.5.1.0/24: left behind: 192.0.2.1 has 10.5.2.0/24 since",
        "10.9.4.0/24: not of the configured range",
    ]


@pytest.mark.parametrize("limit", [0, 84, 576, 1399, 1400, 1449, 1450])
def test_mtu_search_finds_the_limit_within_four_bytes_and_few_probes(limit):
    asked = []

    def answered(size):
        asked.append(size)
        return size <= limit

    got = diagnosis.search(answered, 1450)
    assert limit - 4 < got <= limit or got == limit == 0
    assert len(asked) <= 12


@pytest.mark.parametrize(
    ("largest", "udp", "expected"),
    [
        (1450, True, ["ok reach"]),
        (0, False, ["error reach"]),
        (1390, True, ["error mtu"]),
        (1450, False, ["ok reach", "warning checksum"]),
    ],
)
def test_probes_are_judged_each_with_its_fix(largest, udp, expected):
    probed = diagnosis.Probed("10.5.35.0/24", "192.0.2.12", largest, udp)
    got = list(diagnosis.judge(probed, 1450, "vxlan", ["flannel.1"]))
    assert [f"{it.level} {it.about}" for it in got] == expected
    assert all(it.fix for it in got if it.level != "ok")
    if largest == 1390:
        assert '"MTU": 1440' in got[0].fix


def test_sysctls_are_judged_with_the_fix_to_type(tmp_path):
    (tmp_path / "ipv4/conf/all").mkdir(parents=True)
    (tmp_path / "ipv4/conf/eth0").mkdir()
    (tmp_path / "ipv4/ip_forward").write_text("0\n")
    (tmp_path / "ipv4/conf/all/rp_filter").write_text("0\n")
    (tmp_path / "ipv4/conf/eth0/rp_filter").write_text("1\n")
    (forward,) = diagnosis.forwarding(False, tmp_path)
    assert forward.fix.startswith("sysctl -w net.ipv4.ip_forward=1")
    (strict,) = diagnosis.rp_filter("eth0", tmp_path)
    assert strict.fix == "sysctl -w net.ipv4.conf.eth0.rp_filter=2"
    (tmp_path / "ipv4/conf/all/rp_filter").write_text("2\n")
    assert [it.level for it in diagnosis.rp_filter("eth0", tmp_path)] == ["ok"]


def test_wrong_checksums_and_duplicates_are_told():
    (bad,) = diagnosis.checksums(7, ["flannel.1"])
    assert "ethtool -K flannel.1 tx-checksum-ip-generic off" in bad.fix
    assert [it.level for it in diagnosis.checksums(0, [])] == ["ok"]
    assert not list(diagnosis.checksums(None, []))
    (twin,) = diagnosis.duplicates({"/n/subnets/10.5.1.0-24": "192.0.2.1"})
    assert (twin.level, bool(twin.fix)) == ("error", True)


def test_status_lines_of_a_daemon_that_waits_and_of_one_that_is_not_there():
    waiting = {"conditions": {"first-sync": "etcd does not answer"}, "ready": False}
    assert daemons.lines(waiting) == [("waiting", "first-sync: etcd does not answer")]
    assert daemons.lines({"error": "not running"}) == [("error", "not running")]


def test_counters_are_read_from_the_table_of_our_own_namespace(tmp_path):
    table = tmp_path / "dev"
    table.write_text(
        "Inter-|   Receive |  Transmit\n face |bytes packets\n"
        "flannel.1: 100 2 0 3 0 0 0 0 400 5 6 0 0 0 0 0\n"
    )
    assert daemons.counters("flannel.1", table) == {
        "rx_packets": 2, "rx_bytes": 100, "rx_dropped": 3, "tx_packets": 5, "tx_bytes": 400, "tx_errors": 6,
    }  # fmt: skip
    assert daemons.counters("flannel.2", table) == {}
