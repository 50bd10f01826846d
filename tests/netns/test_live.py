# SPDX-License-Identifier: Apache-2.0
"""What changes under a running flanneld: addresses, configuration, settings, other leases."""

import asyncio
import json
import os
import re
import signal
import sys

import pytest

from fairlead.demo.hosts import which
from tests.netns.overlay import PREFIX, VXLAN, overlay, until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(which("etcd") is None, reason="etcd is not installed"),
]


async def pair(it, *flags):
    for name in "ab":
        await it.start(name, *flags)
    a, b = [await it.container(name) for name in "ab"]
    await it.reaches(a, b.address)
    return a, b


async def fdb(it, name):
    return await it.site[name].run("bridge", "fdb", "show", "dev", "flannel.1")


async def address_of(it, name):
    found = json.loads(await it.site[name].run("ip", "-j", "-4", "addr", "show", "eth0"))
    return found[0]["addr_info"][0]["local"]


async def linked(it, name):
    """Return index and source address of a host's overlay device."""
    (found,) = json.loads(await it.site[name].run("ip", "-j", "-d", "link", "show", "flannel.1"))
    return found["ifindex"], found["linkinfo"]["info_data"]["local"]


def lost(text):
    sent, came = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", text).groups())
    return sent - came


async def test_another_address_of_the_uplink_is_followed_by_lease_device_and_peers():
    async with overlay("a", "b") as it:
        a, b = await pair(it)
        keys, mac, old = await it.keys(), await it.mac("b"), await address_of(it, "b")
        index, _ = await linked(it, "b")
        host = it.site["b"]
        await host.ip(f"addr del {old}/24 dev eth0", "addr add 192.0.2.99/24 dev eth0")

        async def moved():
            return "192.0.2.99" in await fdb(it, "a") and old not in await fdb(it, "a")

        await until(moved, 6)
        await it.reaches(a, b.address, 4)
        assert await it.keys() == keys
        assert await it.mac("b") == mac
        assert await linked(it, "b") == (index, "192.0.2.99")  # the device is the same one
        (key,) = [key for key in keys if str((await it.subnet("b")).network.network_address) in key]
        assert '"PublicIP":"192.0.2.99"' in await it.value(key)
        assert (await it.status("b"))["address"] == "192.0.2.99/24"


async def test_a_host_is_renumbered_without_a_packet_lost():
    async with overlay("a", "b") as it:
        a, b = await pair(it)
        host, old = it.site["b"], await address_of(it, "b")
        await host.run("sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
        ping = await a.start("ping", "-i", "0.01", "-W1", str(b.address), name="ping")
        await host.ip(
            "addr add 192.0.2.99/24 dev eth0", f"addr change {old}/24 dev eth0 preferred_lft 0"
        )

        async def moved():
            link, entries = await linked(it, "b"), await fdb(it, "a")
            return link[1] == "192.0.2.99" and "192.0.2.99" in entries and old not in entries

        await until(moved)
        await host.ip(f"addr del {old}/24 dev eth0")
        await it.logged("b", f"this host has {old} no longer")  # etcd's connection is left at once
        await asyncio.sleep(0.2)
        ping.signal(signal.SIGINT)
        await ping.process.wait()
        assert lost(ping.tail(10)) == 0


async def test_another_mtu_of_the_uplink_is_followed_by_device_and_subnet_file():
    async with overlay("a", "b") as it:
        a, b = await pair(it)
        await it.site["b"].ip("link set eth0 mtu 1400")

        async def smaller():
            env = await it.site["b"].run("cat", "/run/flannel/subnet.env")
            link = await it.site["b"].run("ip", "link", "show", "flannel.1")
            return "FLANNEL_MTU=1350" in env and "mtu 1350" in link

        await until(smaller, 5)
        await it.reaches(a, b.address)


async def test_a_host_whose_address_changed_while_it_was_down_keeps_its_subnet():
    async with overlay("a", "b") as it:
        a, b = await pair(it, "-iface=eth0")
        keys, subnet, old = await it.keys(), await it.subnet("b"), await address_of(it, "b")
        await it.daemons["b"].stop()
        host = it.site["b"]
        await host.ip(f"addr del {old}/24 dev eth0", "addr add 192.0.2.99/24 dev eth0")
        await it.start("b", "-iface=eth0")
        await it.reaches(a, b.address)
        assert await it.keys() == keys
        assert await it.subnet("b") == subnet


async def test_safe_configuration_is_applied_and_unsafe_refused_with_the_reason():
    async with overlay("a", "b") as it:
        a, b = await pair(it)
        await it.config({**VXLAN, "Backend": {"Type": "vxlan", "MTU": 1400}})

        async def smaller():
            return "mtu 1350" in await it.site["a"].run("ip", "link", "show", "flannel.1")

        await until(smaller, 5)
        await it.config({**VXLAN, "Backend": {"Type": "vxlan", "MTU": 1400, "DirectRouting": True}})
        peer = str((await it.subnet("b")).network)

        async def direct():
            return f"{peer} via 192.0.2." in await it.site["a"].run("ip", "route")

        await until(direct, 5)
        await it.reaches(a, b.address)
        await it.config({**VXLAN, "Network": "10.0.0.0/8"})
        await it.logged("a", "change refused")
        assert "Network: 10.5.0.0/16 → 10.0.0.0/8" in it.daemons["a"].tail(50)
        await it.reaches(a, b.address)


async def test_a_second_lease_with_our_address_is_shouted_about():
    async with overlay("a") as it:
        await it.start("a")
        await it.subnet("a")
        mine = await address_of(it, "a")
        await it.ctl("put", f"{PREFIX}/subnets/10.5.200.0-24", json.dumps({"PublicIP": mine}))
        await it.logged("a", "another lease has our public address")
        assert (await it.status("a"))["duplicates"] == {f"{PREFIX}/subnets/10.5.200.0-24": mine}


async def test_sighup_chooses_the_interface_anew():
    async with overlay("a") as it:
        daemon = await it.start("a")
        await it.subnet("a")
        await it.logged("a", "msg=ready")
        assert (await it.status("a"))["interface"] == "eth0"
        await it.site["a"].ip(
            "link add x0 type veth peer name x1",
            "link set x1 up",
            "link set x0 up",
            "addr add 198.51.100.1/24 dev x0",
            "route replace default dev x0",
        )
        await asyncio.sleep(0.5)
        assert (await it.status("a"))["interface"] == "eth0"  # not by itself: routes come and go
        daemon.signal(signal.SIGHUP)

        async def moved():
            return (await it.status("a"))["interface"] == "x0"

        await until(moved, 5)
        (key,) = await it.keys()

        async def told():
            return '"PublicIP":"198.51.100.1"' in await it.value(key)

        await until(told, 5)


IMPORT = "from flannelpy import checksum as it; "
OFFLOAD = (sys.executable, "-c", IMPORT + "it._ethtool('flannel.1', it._SET, 1)")
OFFLOADED = (sys.executable, "-c", IMPORT + "print(it.offloaded('flannel.1'))")


async def test_rewritten_mac_route_neighbour_fdb_and_checksums_are_repaired_within_2_s():
    async with overlay("a", "b") as it:
        a, b = await pair(it, "-vxlan-checksum=off")
        host, mac = it.site["a"], await it.mac("a")
        peer, theirs = (await it.subnet("b")).network, await it.mac("b")
        base = peer.network_address
        for spoil in (
            ("ip", "link", "set", "flannel.1", "address", "02:00:00:00:00:77"),
            ("ip", "route", "del", str(peer)),
            ("ip", "neigh", "del", str(base), "dev", "flannel.1"),
            ("bridge", "fdb", "del", theirs, "dev", "flannel.1"),
            ("ip", "addr", "flush", "dev", "flannel.1"),
            ("ip", "link", "set", "flannel.1", "down"),
            ("ip", "link", "set", "flannel.1", "mtu", "1000"),
            OFFLOAD,
            ("ip", "link", "del", "flannel.1"),
        ):
            await host.run(*spoil)

            async def whole():
                route = await host.run("ip", "route")
                link = await host.run("ip", "link", "show", "flannel.1", check=False)
                return (
                    link
                    and await it.mac("a") == mac
                    and f"{peer} via {base} dev flannel.1 onlink" in route
                    and theirs in await host.run("ip", "neigh", "show", "dev", "flannel.1")
                    and theirs in await fdb(it, "a")
                    and "/32" in await host.run("ip", "addr", "show", "flannel.1")
                    and "UP" in link
                    and "mtu 1450" in link
                    and "False" in await host.run(*OFFLOADED)
                )

            await until(whole, 2)
            print("mended", spoil)
        await it.reaches(a, b.address, 2)


async def test_a_mass_withdrawal_is_held_back():
    async with overlay("a") as it:
        await it.start("a")
        await it.subnet("a")
        body = '{"PublicIP":"192.0.2.%d","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"2e:00:00:00:00:%02x"}}'
        for n in range(40):
            await it.ctl("put", f"{PREFIX}/subnets/10.5.{100 + n}.0-24", body % (100 + n, n))

        async def count():
            return (await it.site["a"].run("ip", "route")).count(" onlink")

        async def all_there():
            return await count() == 40

        await until(all_there)
        await it.ctl("del", "--prefix", f"{PREFIX}/subnets/10.5.1")
        await it.logged("a", "removals held back")
        assert await count() >= 20


async def test_trap_t24_the_former_subnets_bridge_address_is_named_and_taken_off():
    async with overlay("a") as it:
        host = it.site["a"]
        await host.ip("link add cni0 type bridge", "addr add 10.5.250.1/24 dev cni0")
        await it.ctl("put", f"{PREFIX}/subnets/10.5.9.0-24", '{"PublicIP":"192.0.2.11"}')
        daemon = await it.start("a")
        await it.subnet("a")
        await it.logged("a", "address of a former subnet")
        assert "10.5.250.1" in await host.run("ip", "addr", "show", "cni0")
        await daemon.stop()
        await it.start("a", "-takeover-bridge=cni0")
        await it.logged("a", "took a former subnet's address off")
        assert "10.5.250.1" not in await host.run("ip", "addr", "show", "cni0")


async def test_forwarding_is_warned_about_and_switched_on_when_asked():
    async with overlay("a") as it:
        host = it.site["a"]
        await host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        daemon = await it.start("a")
        await it.logged("a", "this host does not forward")
        await daemon.stop()
        await it.start("a", "-set-forwarding")
        await it.logged("a", "forwarding switched on")
        assert (await host.run("sysctl", "-n", "net.ipv4.ip_forward")).strip() == "1"


async def test_a_host_reboots_while_etcd_is_gone_and_has_its_overlay_back():
    async with overlay("a", "b") as it:
        await it.start("a")
        disk = it.site.logs / "disk-of-b"  # what survives; the rest goes with the namespace
        await it.start("b", f"-state-dir={disk}")
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        before, mac = await it.subnet("b"), await it.mac("b")
        await asyncio.sleep(1.5)  # the last-known-good file is at most 1 s behind
        it.etcd.kill()
        it.daemons["b"].kill()
        await it.daemons["b"].process.wait()
        gone = it.site.hosts.pop("b")
        for pid in (b.pid, gone.pid):
            os.kill(pid, signal.SIGKILL)

        async def unplugged():
            return "to-b" not in await it.site.root.run("ip", "link")

        await until(unplugged)
        again = await it.site.add("b")
        assert again.address == gone.address
        assert "flannel.1" not in await again.run("ip", "link")
        await it.start("b", f"-state-dir={disk}")
        b = await it.container("b")
        await it.reaches(a, b.address, 8)
        assert await it.subnet("b") == before
        assert await it.mac("b") == mac
