"""The rules of specs/flannel.md §11, and that nft keeps what we write."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from flannelpy.firewall import iptables, legacy, nftables, rules
from flannelpy.firewall.nftables import Guard, Hook

C, P = ip_network("10.5.0.0/16"), ip_network("10.5.1.0/24")
C6, P6 = ip_network("fd00:5::/48"), ip_network("fd00:5:0:1::/64")


def lines(text: str, chain: str) -> list[str]:
    mark = f"{chain} "
    return [
        line.partition(mark)[2]
        for line in text.splitlines()
        if line.startswith("add rule") and mark in line
    ]


def test_masquerade_rules_in_the_originals_order() -> None:
    made = nftables.table(4, postrtg=rules.masquerade(C, P, random=True))
    assert lines(nftables.render(made, None), "postrtg") == [
        "meta mark & 0x4000 == 0x4000 return",
        "ip saddr 10.5.1.0/24 ip daddr 10.5.0.0/16 return",
        "ip saddr 10.5.0.0/16 ip daddr 10.5.1.0/24 return",
        "ip saddr != 10.5.0.0/16 ip daddr 10.5.1.0/24 return",
        "ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random",
        "ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random",
    ]


def test_t8_what_comes_from_outside_for_a_remote_container_is_masqueraded() -> None:
    *_, into, last = rules.masquerade(C, P, random=False)
    assert into.dst == rules.Match(ip_network("224.0.0.0/4"), negate=True)
    assert (last.src, last.dst) == (rules.Match(C, negate=True), rules.Match(C))
    returns = [rule for rule in rules.masquerade(C, P, random=False) if rule.src == last.src]
    assert [rule.dst for rule in returns] == [rules.Match(P), rules.Match(C)]


def test_ipv6_has_the_same_rules_with_its_own_multicast() -> None:
    made = nftables.table(6, postrtg=rules.masquerade(C6, P6, random=False))
    assert lines(nftables.render(made, None), "postrtg")[4] == (
        "ip6 saddr fd00:5::/48 ip6 daddr != ff00::/8 masquerade"
    )


def test_excluded_destinations_see_container_addresses() -> None:
    exclude = [ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")]
    found = rules.masquerade(C, P, random=False, exclude=exclude)
    assert found[4] == rules.Rule(rules.Verdict.RETURN, rules.Match(C), rules.Match(exclude[0]))
    assert len(found) == 7  # the other family's is passed over


def test_forward_lets_the_overlay_through_both_ways() -> None:
    made = nftables.table(4, forward=rules.forward(C))
    assert lines(nftables.render(made, None), "forward") == [
        "ip saddr 10.5.0.0/16 accept",
        "ip daddr 10.5.0.0/16 accept",
    ]


def test_a_chain_without_rules_is_left_out_and_one_that_stands_is_deleted() -> None:
    full = nftables.table(4, forward=rules.forward(C), guard=Guard("eth0", 8472))
    slim = nftables.table(4, guard=Guard("eth0", 8472))
    assert [chain.name for chain in slim.chains] == ["guard"]
    assert "delete chain ip flannel-ipv4 forward\n" in nftables.render(slim, full)


def test_a_chain_hung_in_elsewhere_is_made_anew() -> None:
    wanted = nftables.table(4, forward=rules.forward(C))
    moved = nftables.Table(4, (nftables.Chain("forward", Hook("filter", "input", 0), ()),))
    assert "delete chain ip flannel-ipv4 forward\n" in nftables.render(wanted, moved)


@pytest.mark.parametrize("family", [4, 6])
def test_a_table_that_is_not_there_reads_as_none(family: int) -> None:
    assert nftables.parse({"nftables": [{"metainfo": {}}]}, family) is None


# ---------------------------------------------------------------------------- iptables

MASQ, FORWARD = iptables.places()


def test_iptables_masquerade_rules_are_the_originals() -> None:
    wanted = iptables.Rules(MASQ, rules.masquerade(C, P, random=True))
    note = '-m comment --comment "flanneld masq" -j'
    assert iptables.render(wanted, None).splitlines() == [
        "*nat",
        ":FLANNEL-POSTRTG - [0:0]",
        f"-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {note} RETURN",
        f"-A FLANNEL-POSTRTG -s 10.5.1.0/24 -d 10.5.0.0/16 {note} RETURN",
        f"-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 10.5.1.0/24 {note} RETURN",
        f"-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.1.0/24 {note} RETURN",
        f"-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 {note} MASQUERADE --random-fully",
        f"-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.0.0/16 {note} MASQUERADE --random-fully",
        f"-A POSTROUTING {note} FLANNEL-POSTRTG",
        "COMMIT",
    ]


def test_iptables_jumps_too_many_are_deleted_and_one_that_stands_stays() -> None:
    wanted = iptables.Rules(FORWARD, rules.forward(C))
    jump = 'FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD'
    again = iptables.render(wanted, iptables.Rules(FORWARD, (), jumps=3))
    assert again.count(f"-D {jump}") == 2
    assert f"-A {jump}" not in again


def test_t27_another_network_has_chains_of_its_own() -> None:
    assert [place.chain for place in iptables.places("-3f2a")] == [
        "FLANNEL-POSTRTG-3f2a",
        "FLANNEL-FWD-3f2a",
    ]


def test_what_daemons_before_0_20_left_is_found_and_nothing_else() -> None:
    saved = """\
*nat
-A POSTROUTING -s 10.5.0.0/16 -d 10.5.0.0/16 -j RETURN
-A POSTROUTING -s 10.5.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE
-A POSTROUTING ! -s 10.5.0.0/16 -d 10.5.1.0/24 -j RETURN
-A POSTROUTING ! -s 10.5.0.0/16 -d 172.17.0.0/16 -j RETURN
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
*filter
-A FORWARD -s 10.5.0.0/16 -j ACCEPT
-A FORWARD -s 10.6.0.0/16 -j ACCEPT
COMMIT
"""
    assert legacy.inputs(saved, C) == (
        "*nat\n"
        "-D POSTROUTING -s 10.5.0.0/16 -d 10.5.0.0/16 -j RETURN\n"
        "-D POSTROUTING -s 10.5.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE\n"
        "-D POSTROUTING ! -s 10.5.0.0/16 -d 10.5.1.0/24 -j RETURN\nCOMMIT\n",
        "*filter\n-D FORWARD -s 10.5.0.0/16 -j ACCEPT\nCOMMIT\n",
    )
    assert legacy.inputs("*nat\nCOMMIT\n", C) == ()
