"""flanneld's rules on real hosts: written, repaired, the other flavour's gone, strangers kept out."""

import asyncio
import json
import os
import sys

import pytest

from fairlead.demo.hosts import which
from tests.netns.overlay import PREFIX, VXLAN, overlay, until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(which("etcd") is None, reason="etcd is not installed"),
    pytest.mark.skipif(which("nft") is None, reason="nft is not installed"),
]
NFT = {**VXLAN, "EnableNFTables": True}
FRAMES = int(os.environ.get("FRAMES", "1000"))
SEND = """\
import socket, struct, sys
to, inner, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
mac = bytes.fromhex(sys.argv[4].replace(":", ""))
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, socket.inet_aton("10.5.250.9"), socket.inet_aton(inner))
total = sum(struct.unpack("!10H", ip)); total = (total & 0xffff) + (total >> 16); total = (total & 0xffff) + (total >> 16)
ip = ip[:10] + struct.pack("!H", ~total & 0xffff) + ip[12:]
frame = struct.pack("!II", 0x08000000, 1 << 8) + mac + bytes.fromhex("0a0000000009") + b"\\x08\\x00" + ip + struct.pack("!HHHH", 9, 9, 8, 0)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(count):
    udp.sendto(frame, (to, 8472))
"""


async def rules(host):
    return await host.run("nft", "list", "ruleset")


async def received(host):
    (link,) = json.loads(await host.run("ip", "-j", "-s", "link", "show", "flannel.1"))
    return link["stats64"]["rx"]["packets"]


async def test_nftables_rules_stand_and_come_back_when_flushed():
    async with overlay("a", config=NFT) as it:
        await it.start("a", "-ip-masq", "-masq-exclude=192.0.2.0/24")
        await it.subnet("a")
        host = it.site["a"]
        before = await rules(host)
        assert "masquerade fully-random" in before
        assert "ip saddr 10.5.0.0/16 ip daddr 192.0.2.0/24 return" in before
        assert "udp dport 8472 ip saddr != @peers drop" in before
        assert "FLANNEL" not in before
        for harm in (
            "flush ruleset",
            "flush chain ip flannel-ipv4 postrtg",
            "delete chain ip flannel-ipv4 guard",
            "add rule ip flannel-ipv4 forward drop",
        ):
            await host.run("nft", harm)

            async def repaired(harm=harm):
                # a chain made anew stands last
                assert sorted((await rules(host)).splitlines()) == sorted(before.splitlines()), harm
                return True

            await until(repaired, 2)


@pytest.mark.parametrize("kind", ["nft", "legacy"])
async def test_iptables_rules_stand_and_the_other_flavours_and_old_ones_go(kind, tmp_path):
    for name in ("iptables", "iptables-save", "iptables-restore"):
        for six in ("", "6"):
            program = name.replace("iptables", f"ip{six}tables-{kind}")
            if (there := which(program)) is None:
                pytest.skip(f"{program} is not installed")
            (tmp_path / name.replace("ip", f"ip{six}", 1)).symlink_to(there)
    by = ("env", f"PATH={tmp_path}:{os.environ['PATH']}:/usr/sbin:/sbin")
    async with overlay("a", "b") as it:
        host = it.site["a"]
        await host.run("nft", "-f", "-", stdin="add table ip flannel-ipv4\nadd chain ip flannel-ipv4 postrtg { type nat hook postrouting priority srcnat; }\nadd rule ip flannel-ipv4 postrtg ip saddr 10.5.0.0/16 masquerade\n")  # fmt: skip
        for words in (
            "-t nat -A POSTROUTING -s 10.5.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE",
            "-A FORWARD -s 10.5.0.0/16 -j ACCEPT",
        ):
            await host.run(*by, "iptables", *words.split())
        await it.start("a", "-ip-masq", "-iptables-resync=1", by=by)
        await it.subnet("a")

        async def nat():
            return await host.run(*by, "iptables", "-t", "nat", "-S")

        async def cleaned():
            assert "-A POSTROUTING -s 10.5.0.0/16" not in await nat()
            assert "-A FORWARD -s 10.5.0.0/16" not in await host.run(*by, "iptables", "-S")
            assert "chain postrtg" not in await rules(host)
            return True

        await until(cleaned, 2)
        assert "flannel-ipv4" in await rules(host)  # the guard
        before = await nat()
        assert before.count("FLANNEL-POSTRTG") == 8
        await host.run(*by, "iptables", "-t", "nat", "-F")  # the old ones notify nobody

        async def repaired():
            return await nat() == before

        await until(repaired, 2)


async def test_trap_t8_nftables_takes_over_from_iptables_with_its_jumps():
    async with overlay("a", config=NFT) as it:
        first = await it.start("a", "-ip-masq", "-firewall=iptables")
        await it.subnet("a")
        host = it.site["a"]
        assert "FLANNEL-FWD" in await host.run("iptables", "-S")
        await first.stop()
        await it.start("a", "-ip-masq")

        async def gone():
            both = await host.run("iptables", "-S") + await host.run("iptables", "-t", "nat", "-S")
            return "FLANNEL" not in both and "postrtg" in await rules(host)

        await until(gone)


@pytest.mark.parametrize("config", [VXLAN, NFT], ids=["iptables", "nftables"])
async def test_docker_that_drops_what_is_forwarded_does_not_stop_the_overlay(config):
    async with overlay("a", "b", config=config) as it:
        for name in "ab":  # as Docker does it
            docker = """*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
:DOCKER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER
-A DOCKER-USER -s 10.5.250.0/24 -j DROP
-A DOCKER-USER -j RETURN
-A DOCKER -o cbr0 ! -i cbr0 -j DROP
COMMIT
"""
            await it.site[name].run("iptables-restore", stdin=docker)
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        user = (await it.site["a"].run("iptables", "-S", "DOCKER-USER")).splitlines()
        assert user[1].endswith("-s 10.5.250.0/24 -j DROP")  # the operator's own still counts
        assert user[2].endswith("-j FLANNEL-FWD")
        assert user[3].endswith("-j RETURN")


async def test_a_strangers_frames_do_not_arrive_and_peers_lose_nothing():
    async with overlay("a", "b", "c") as it:
        await it.start("a")
        subnet = await it.subnet("a")
        host = it.site["a"]
        ours = await it.mac("a")
        frames = (sys.executable, "-c", SEND, str(host.address), str(subnet.ip), str(FRAMES), ours)
        await asyncio.sleep(0.2)
        before = await received(host)
        await it.site["c"].run(*frames, timeout=60)
        await asyncio.sleep(0.2)
        assert await received(host) == before
        # a peer's arrive from the moment its lease is there
        await it.start("b")
        await it.subnet("b")
        await it.reaches(host, (await it.subnet("b")).network.network_address)
        before = await received(host)
        await it.site["b"].run(*frames, timeout=60)

        async def arrived():
            return await received(host) - before >= FRAMES

        await until(arrived, 2)
        # a changed address: the new one at once, the old one for a while yet
        (key,) = [key for key in await it.keys() if str((await it.subnet("b")).network[0]) in key]
        value = await it.ctl("get", key, "--print-value-only")
        await it.daemons["b"].stop()
        await it.ctl("put", key, value.strip().replace(str(it.site["b"].address), "192.0.2.77"))

        async def moved():
            return "192.0.2.77" in await rules(host)

        await until(moved)
        assert f"{it.site['b'].address} timeout 30s" in await rules(host)
        await it.ctl("del", key)

        async def lingers():
            return "192.0.2.77 timeout 30s" in await rules(host)

        await until(lingers)


async def test_the_guard_can_be_off_and_a_blackhole_on():
    async with overlay("a", config=NFT) as it:
        await it.start("a", "-vxlan-guard=false", "-ip-blackhole-route")
        subnet = (await it.subnet("a")).network
        host = it.site["a"]
        assert "peers drop" not in await rules(host)
        assert f"blackhole {subnet} proto 102 metric 4294967295" in await host.run("ip", "route")
        box = await it.container("a")
        await it.reaches(host, box.address)


async def test_trap_t27_networks_have_tables_of_their_own():
    async with overlay("a", config=NFT) as it:
        await it.ctl("put", "/blue/config", json.dumps({**NFT, "Network": "10.6.0.0/16", "Backend": {"Type": "vxlan", "VNI": 6, "Port": 8476}}))  # fmt: skip
        await it.start("a", "-ip-masq")
        await it.subnet("a")
        host = it.site["a"]
        before = await rules(host)
        blue = ("-etcd-prefix=/blue", "-subnet-file=/run/flannel/blue.env", "-ip-masq")
        await it.start("a", *blue)

        async def both():
            text = await rules(host)
            return "udp dport 8476" in text and before.strip() in text

        await until(both)
        assert PREFIX not in await host.run("cat", "/run/flannel/blue.env")
