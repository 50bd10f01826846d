"""What we write is what the kernel keeps and nft reads back; strangers' changes show."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest

from fairlead.demo.hosts import CommandFailed, Host, Site
from flannelpy import netlink
from flannelpy.firewall import elements, nftables, rules
from flannelpy.firewall.elements import Element
from flannelpy.firewall.nftables import Guard, Table

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.usefixtures("namespaces")]

C, P = ip_network("10.5.0.0/16"), ip_network("10.5.1.0/24")
C6, P6 = ip_network("fd00:5::/48"), ip_network("fd00:5:0:1::/64")


def element(verb: str, address: object) -> str:
    return f"{verb} element ip flannel-ipv4 {nftables.PEERS} {{ {address} }}"


async def read(host: Host, family: int) -> Table | None:
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
        await a.run("nft", element("add", "192.0.2.12"))
        assert await read(a, 4) == v4
        assert await read(a, 6) == v6

        for harm in (
            "flush chain ip flannel-ipv4 forward",
            "delete chain ip flannel-ipv4 guard",
            "insert rule ip flannel-ipv4 forward ip saddr 10.5.0.0/16 drop",
            "add rule ip flannel-ipv4 postrtg counter return",
            "add chain ip flannel-ipv4 strange",
        ):
            await a.run("nft", harm)
            harmed = await read(a, 4)
            assert harmed != v4, harm
            await a.run("nft", "-f", "-", stdin=nftables.render(v4, harmed))
            assert await read(a, 4) == v4, harm
            assert "192.0.2.12" in await a.run("nft", "list", "ruleset"), harm

        await a.run("nft", "-f", "-", stdin=nftables.remove(4) + nftables.remove(6))
        assert await read(a, 4) is None
        await a.run("nft", "-f", "-", stdin=nftables.remove(4))


async def test_the_guard_keeps_strangers_out_and_lets_peers_in() -> None:
    async with Site("a", "b", "c") as site:
        a, b, c = site["a"], site["b"], site["c"]
        guard = nftables.table(4, guard=Guard("eth0", 8472))
        await a.run("nft", "-f", "-", stdin=nftables.render(guard, None))
        await a.run("nft", element("add", b.address))
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
        await a.run("nft", element("add", c.address))
        await c.run("ping", "-c1", "-W5", "10.9.0.1")
        assert stranger["address"] in await a.run("bridge", "fdb", "show", "dev", "v")


def test_elements_come_and_go_by_netlink_in_one_transaction(in_namespace) -> None:
    async def main() -> None:
        with netlink.opened(netlink.NETFILTER) as requests:
            requests.bind((0, 0))
            kernel = netlink.Netlink(requests)

            def change(wanted: list[bytes]) -> None:
                kernel.transaction(elements.begin(), wanted, elements.end())

            async def there(version: int) -> set[Element]:
                replies = await kernel.dump(elements.dump(f"flannel-ipv{version}", version))
                return {it for reply in replies for it in elements.parse(reply, "")}

            many = [Element(ip_address(f"10.1.{n >> 8}.{n & 255}")) for n in range(300)]
            six = [Element(ip_address("2001:db8::12"))]
            for them in (many, six):
                made = elements.make_set(them[0].table, them[0].address.version)
                change(made + elements.put(them))
                change(made + elements.put(them))  # again: nothing is wrong with it
                assert await there(them[0].address.version) == set(them)
            (one,) = await kernel.ask([elements.get(many[7])])
            assert one is not None
            assert elements.parse(one, "") == [many[7]]
            change(elements.delete(many[:7]))  # they linger, and count as gone
            assert await there(4) == set(many[7:])
            (one,) = await kernel.ask([elements.get(many[0])])
            assert one is None or elements.parse(one, "") == []
            change(elements.put(many[:1]))
            assert await there(4) == {many[0], *many[7:]}
            with pytest.raises(netlink.KernelError) as refused:
                change(elements.delete([Element(ip_address("10.1.0.1"), "-none")]))
            assert refused.value.absent

    in_namespace(main)
