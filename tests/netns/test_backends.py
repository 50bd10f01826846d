"""The tunnels besides VXLAN and host-gw, on two hosts: ping, full-size packets, restart, leaving."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from fairlead.demo.hosts import which
from tests.netns.overlay import PREFIX, overlay, until
from tests.netns.test_interop import go, start_go

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(which("etcd") is None, reason="etcd is not installed"),
]
NET = {"Network": "10.5.0.0/16"}
PSK = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE="


def needs_wireguard():
    if which("wireguard-go") is None:
        pytest.skip("wireguard-go is not installed, and is what this kernel needs")


@asynccontextmanager
async def two(config):
    async with overlay("a", "b", config=config) as it:
        try:
            for name in "ab":
                await it.start(name)
            yield it
        finally:
            for name in "ab":  # wireguard-go lives as long as its device, which flanneld mends
                await it.daemons[name].stop()
                for dev in ("flannel-wg", "flannel-wg-v6"):
                    await it.site[name].run("ip", "link", "del", dev, check=False)


async def full_size(box, other):
    (link,) = json.loads(await box.run("ip", "-j", "link", "show", "eth0"))
    size = link["mtu"] - 28
    await box.run("ping", "-c1", "-W2", "-Mdo", "-s", str(size), str(other.address))


@pytest.mark.parametrize(
    ("backend", "mtu"),
    [
        ({"Type": "udp", "Port": 8300}, 1472),
        ({"Type": "wireguard"}, 1420),
        ({"Type": "wireguard", "PSK": PSK, "ListenPort": 51900, "Mode": "auto"}, 1420),
    ],
    ids=["udp-port", "wireguard", "wireguard-psk-auto"],
)
async def test_two_hosts_ping_with_full_size_packets_and_forget_one_another(backend, mtu):
    if backend["Type"] == "wireguard":
        needs_wireguard()
    async with two({**NET, "Backend": backend}) as it:
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        (link,) = json.loads(await a.run("ip", "-j", "link", "show", "eth0"))
        assert link["mtu"] == mtu
        await full_size(a, b)
        # the daemon comes back
        await it.daemons["a"].stop()
        await it.start("a")
        await it.reaches(a, b.address)
        await it.reaches(b, a.address)
        # its device is taken away
        dev = "flannel0" if backend["Type"] == "udp" else "flannel-wg"
        await it.site["a"].run("ip", "link", "del", dev)
        await it.reaches(a, b.address, 5)
        # b leaves
        gone = str((await it.subnet("b")).network).replace("/", "-")
        await it.daemons["b"].stop()
        await it.ctl("del", f"{PREFIX}/subnets/{gone}")

        async def lost():
            out = await a.run("ping", "-c1", "-W1", str(b.address), check=False)
            return "100% packet loss" in out or "nreachable" in out

        await until(lost)


async def test_wireguard_keeps_its_device_and_traffic_over_a_restart():
    needs_wireguard()
    async with two({**NET, "Backend": {"Type": "wireguard"}}) as it:
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        host = it.site["a"]
        before = await host.run("wg", "show", "flannel-wg", "dump")
        index = json.loads(await host.run("ip", "-j", "link", "show", "flannel-wg"))[0]["ifindex"]
        ping = asyncio.create_task(
            a.run("ping", "-i", "0.05", "-c", "80", "-W1", str(b.address), check=False)
        )
        await asyncio.sleep(0.5)
        it.daemons["a"].signal(9)
        await asyncio.sleep(0.3)
        await it.start("a")
        await it.logged("a", "msg=ready")
        assert " 0% packet loss" in await ping
        after = json.loads(await host.run("ip", "-j", "link", "show", "flannel-wg"))[0]["ifindex"]
        assert after == index
        assert (await host.run("wg", "show", "flannel-wg", "dump")).splitlines()[0] == (
            before.splitlines()[0]
        )
        # a peer put there by hand goes, one removed comes back
        other = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
        await host.run("wg", "set", "flannel-wg", "peer", other, "allowed-ips", "10.5.99.0/24")
        await host.run(
            "wg", "set", "flannel-wg", "peer", before.splitlines()[1].split()[0], "remove"
        )
        await it.daemons["a"].stop()
        await it.start("a")
        await it.reaches(a, b.address)
        assert other not in await host.run("wg", "show", "flannel-wg", "dump")


async def test_wireguard_dual_stack_with_a_device_for_each_family():
    needs_wireguard()
    config = {**NET, "EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
    async with two({**config, "Backend": {"Type": "wireguard"}}) as it:
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        keys = await it.keys()
        values = [json.loads(await it.value(key)) for key in keys]
        assert {it["BackendData"]["Port"] for it in values} == {51820}
        assert {it["BackendV6Data"]["Port"] for it in values} == {51821}
        for name, other in ("ab", "ba"):
            (key,) = [key for key in keys if str((await it.subnet(other)).network[0]) in key]
            base6 = key.split("&")[1].rpartition("-")[0]
            await it.reaches(it.site[name], base6)


@pytest.mark.skipif(go() is None, reason="no flanneld-go: set FAIRLEAD_PEERS")
@pytest.mark.parametrize(
    "backend",
    [
        {"Type": "udp"},
        {
            "Type": "extension",
            "PreStartupCommand": "echo hello",
            "SubnetAddCommand": "ip route replace $SUBNET via $PUBLIC_IP",
            "SubnetRemoveCommand": "ip route del $SUBNET",
        },
    ],
    ids=["udp", "extension"],
)
async def test_ours_and_go_share_one_network(backend):
    async with overlay("a", "b", config={**NET, "EnableNFTables": True, "Backend": backend}) as it:
        await it.start("a")
        await start_go(it, "b")
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        await it.reaches(b, a.address)
        await full_size(a, b)
        values = [json.loads(await it.value(key)) for key in await it.keys()]
        for each in values:
            del each["PublicIP"]
        assert values[0] == values[1]
        assert list(values[0]) == list(values[1])
        subnet = str((await it.subnet("b")).network)
        await it.daemons["b"].stop()
        await it.ctl("del", f"{PREFIX}/subnets/{subnet.replace('/', '-')}")

        async def withdrawn():
            return subnet not in await it.site["a"].run("ip", "route")

        await until(withdrawn)
