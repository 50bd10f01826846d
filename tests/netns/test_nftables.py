"""What we write is what the kernel keeps and nft reads back; strangers' changes show."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from fairlead.demo.hosts import CommandFailed, Host, Site
from flannelpy.firewall import nftables, rules
from flannelpy.firewall.nftables import Guard, Table

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.usefixtures("namespaces")]

C, P = ip_network("10.5.0.0/16"), ip_network("10.5.1.0/24")
C6, P6 = ip_network("fd00:5::/48"), ip_network("fd00:5:0:1::/64")


async def read(host: Host, family: int) -> tuple[Table | None, frozenset[str]]:
    return nftables.parse(json.loads(await host.run("nft", "-j", "list", "ruleset")), family)


async def test_rules_read_back_equal_and_drift_shows() -> None:
    v4 = nftables.table(
        4,
        postrtg=rules.masquerade(C, P, random=True, exclude=[ip_network("192.0.2.9/32")]),
        forward=rules.forward(C),
        guard=Guard("eth0", 8472),
    )
    v6 = nftables.table(6, postrtg=rules.masquerade(C6, P6, random=False))
    async with Site("a") as site:
        a = site["a"]
        await a.run("nft", "-f", "-", stdin=nftables.render(v4, None) + nftables.render(v6, None))
        await a.run("nft", "-f", "-", stdin=nftables.element("add", 4, "192.0.2.12"))
        assert await read(a, 4) == (v4, {"192.0.2.12"})
        assert await read(a, 6) == (v6, set())

        for harm in (
            "flush chain ip flannel-ipv4 forward",
            "delete chain ip flannel-ipv4 guard",
            "insert rule ip flannel-ipv4 forward ip saddr 10.5.0.0/16 drop",
            "add rule ip flannel-ipv4 postrtg counter return",
            "add chain ip flannel-ipv4 strange",
        ):
            await a.run("nft", harm)
            harmed, peers = await read(a, 4)
            assert harmed != v4, harm
            await a.run("nft", "-f", "-", stdin=nftables.render(v4, harmed))
            assert await read(a, 4) == (v4, peers), harm  # repaired, and the set was left alone

        await a.run("nft", "-f", "-", stdin=nftables.element("delete", 4, "192.0.2.12"))
        assert (await read(a, 4))[1] == frozenset()
        await a.run("nft", "-f", "-", stdin=nftables.remove(4) + nftables.remove(6))
        assert await read(a, 4) == (None, frozenset())
        await a.run("nft", "-f", "-", stdin=nftables.remove(4))


async def test_the_guard_keeps_strangers_out_and_lets_peers_in() -> None:
    async with Site("a", "b", "c") as site:
        a, b, c = site["a"], site["b"], site["c"]
        guard = nftables.table(4, guard=Guard("eth0", 8472))
        await a.run("nft", "-f", "-", stdin=nftables.render(guard, None))
        await a.run("nft", "-f", "-", stdin=nftables.element("add", 4, str(b.address)))
        vxlan = "link add v type vxlan id 1 dev eth0 dstport 8472 local {} remote {}"
        await a.ip(
            vxlan.format(a.address, b.address),
            "addr add 10.9.0.1/24 dev v",
            "link set v up",
        )
        for host, number in ((b, 2), (c, 3)):
            await host.ip(
                vxlan.format(host.address, a.address),
                f"addr add 10.9.0.{number}/24 dev v",
                "link set v up",
            )
        await b.run("ping", "-c1", "-W5", "10.9.0.1")
        with pytest.raises(CommandFailed):
            await c.run("ping", "-c3", "-i0.2", "-W1", "10.9.0.1")
        (stranger,) = json.loads(await c.run("ip", "-j", "link", "show", "v"))
        assert stranger["address"] not in await a.run("bridge", "fdb", "show", "dev", "v")
        await a.run("nft", "-f", "-", stdin=nftables.element("add", 4, str(c.address)))
        await c.run("ping", "-c1", "-W5", "10.9.0.1")
        assert stranger["address"] in await a.run("bridge", "fdb", "show", "dev", "v")
