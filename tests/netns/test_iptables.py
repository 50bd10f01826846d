"""What we give iptables-restore is what iptables-save tells; strangers' changes show."""

from __future__ import annotations

import shutil
from ipaddress import ip_network

import pytest

from fairlead.demo.hosts import Host, Site
from flannelpy.firewall import iptables, rules

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(shutil.which("iptables") is None, reason="iptables is not installed"),
]
RANGES = {
    "iptables": (ip_network("10.5.0.0/16"), ip_network("10.5.1.0/24")),
    "ip6tables": (ip_network("fd00:5::/48"), ip_network("fd00:5:0:1::/64")),
}


async def restore(host: Host, program: str, text: str) -> None:
    await host.run(f"{program}-restore", "--noflush", stdin=text)


@pytest.mark.parametrize("kind", ["", "-legacy"], ids=["nft", "legacy"])
@pytest.mark.parametrize("program", RANGES)
async def test_rules_read_back_equal_and_drift_shows(program: str, kind: str) -> None:
    network, subnet = RANGES[program]
    program += kind
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    masq, forward = iptables.places()
    wanted = [
        iptables.Rules(masq, rules.masquerade(network, subnet, random=True)),
        iptables.Rules(forward, rules.forward(network)),
    ]

    async def read(host: Host) -> list[iptables.Rules | None]:
        saved = await host.run(f"{program}-save")
        return [iptables.parse(saved, place) for place in (masq, forward)]

    async with Site("a") as site:
        a = site["a"]
        await a.run(program, "-A", "FORWARD", "-i", "docker0", "-j", "DROP")
        assert await read(a) == [None, None]
        for one in wanted:
            await restore(a, program, iptables.render(one, None))
        assert await read(a) == wanted

        for harm in (
            f"-t nat -F {masq.chain}",
            f"-t nat -D {masq.chain} 2",
            f"-t nat -F {masq.parent}",
            f"-I {forward.chain} -s {network} -j DROP",
            f"-A {forward.parent} -m comment --comment {{}} -j {forward.chain}",
        ):
            await a.run(program, *(word.format(forward.comment) for word in harm.split()))
            harmed = await read(a)
            assert harmed != wanted, harm
            for one, there in zip(wanted, harmed, strict=True):
                await restore(a, program, iptables.render(one, there))
            assert await read(a) == wanted, harm

        for one in wanted:
            await restore(a, program, iptables.remove(one))
        assert await read(a) == [None, None]
        assert "docker0" in await a.run(f"{program}-save")
