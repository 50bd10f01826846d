# SPDX-License-Identifier: Apache-2.0
"""What doctor says of chains that drop by policy."""

import pytest

from flannelpy.nouns.dropping import judge

ROW = {
    "interface": "eth0",
    "ports": [8472],
    "networks": ["10.5.0.0/16", "fd00:5::/48"],
    "devices": ["flannel.1"],
}


def chain(hook, *, table="mine", family="inet", policy="drop"):
    it = {"family": family, "table": table, "name": hook, "hook": hook, "policy": policy}
    return {"chain": it}


def accept(field, right, chain="containers"):
    match = {"match": {"op": "==", "left": {"payload": {"field": field}}, "right": right}}
    it = {"family": "inet", "table": "mine", "chain": chain, "expr": [match, {"accept": None}]}
    return {"rule": it}


def prefix(addr, length):
    return {"prefix": {"addr": addr, "len": length}}


@pytest.mark.parametrize(
    "ruleset",
    [
        [],
        [chain("forward", policy="accept")],
        [chain("forward", table="flannel-ipv4", family="ip")],
        [chain("forward", table="firewalld")],
        [chain("forward", table="filter", family="ip")],  # iptables': our rules stand in it
        [chain("output")],
        [chain("input"), accept("dport", 8472)],
        [chain("forward"), accept("iifname", "flannel.1")],
        [
            chain("forward"),
            accept("saddr", {"set": [prefix("10.0.0.0", 8), prefix("fd00::", 8)]}),
        ],
    ],
)
def test_what_lets_the_overlay_through_is_passed_over(ruleset):
    assert list(judge(ROW, ruleset)) == []


def test_a_chain_that_drops_the_overlay_is_named_with_the_rules_it_lacks():
    others = [
        accept("saddr", prefix("10.6.0.0", 16)),
        accept("saddr", prefix("10.0.0.0", 8), chain="input"),  # of another hook
    ]
    found = list(judge(ROW, [chain("forward"), chain("input"), *others]))
    assert [it.level for it in found] == ["warning", "warning"]
    assert "inet mine forward drops by policy" in found[0].text
    assert found[0].fix == (
        "nft insert rule inet mine forward ip saddr 10.5.0.0/16 accept; "
        "nft insert rule inet mine forward ip daddr 10.5.0.0/16 accept; "
        "nft insert rule inet mine forward ip6 saddr fd00:5::/48 accept; "
        "nft insert rule inet mine forward ip6 daddr fd00:5::/48 accept"
    )
    assert found[1].fix == "nft insert rule inet mine input udp dport 8472 accept"
