"""What doctor says of firewalld."""

from flannelpy.nouns.firewalld import judge

ROW = {"interface": "eth0", "ports": [8472], "networks": ["10.5.0.0/16", "fd00:5::/48"]}


def answers(*yes, zone=None):
    def ask(*words):
        if words[0].startswith("--get-zone"):
            return zone
        if words == ("--get-default-zone",):
            return "public"
        return "yes" if words in yes else None

    return ask


def test_what_is_closed_is_named_with_every_command():
    (found,) = judge(ROW, answers(("--zone=trusted", "--query-source=fd00:5::/48")))
    assert found.level == "error"
    assert found.text == (
        "port 8472/udp is not in zone public, source 10.5.0.0/16 is not in zone trusted"
    )
    assert found.fix == (
        "firewall-cmd --permanent --zone=public --add-port=8472/udp; "
        "firewall-cmd --permanent --zone=trusted --add-source=10.5.0.0/16; firewall-cmd --reload"
    )


def test_the_uplinks_own_zone_counts():
    (found,) = judge(
        {**ROW, "networks": []}, answers(("--zone=home", "--query-port=8472/udp"), zone="home")
    )
    assert found.level == "ok"


def test_a_trusted_uplink_needs_no_port():
    sources = [("--zone=trusted", f"--query-source={it}") for it in ROW["networks"]]
    assert [it.level for it in judge(ROW, answers(*sources, zone="trusted"))] == ["ok"]
