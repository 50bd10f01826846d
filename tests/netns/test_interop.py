# SPDX-License-Identifier: Apache-2.0
"""Ours and a Go flanneld in one network; each takes over the other's lease (specs/flannel.md §23)."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from fairlead.demo.hosts import which
from tests.netns.overlay import ENDPOINT, PREFIX, VXLAN, overlay, until


def go():
    """Return the Go flanneld: $FAIRLEAD_PEERS/flanneld-go, or on PATH."""
    beside = Path(os.environ.get("FAIRLEAD_PEERS", "/nonexistent"), "flanneld-go")
    return str(beside) if beside.exists() else which("flanneld-go")


pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(which("etcd") is None, reason="etcd is not installed"),
    pytest.mark.skipif(go() is None, reason="no flanneld-go: set FAIRLEAD_PEERS"),
]

# the original needs br_netfilter or nft rules of its own
NFT = {**VXLAN, "EnableNFTables": True}


async def start_go(it, name):
    argv = (go(), "-etcd-endpoints", ENDPOINT, "-iptables-forward-rules=false", "-iface=eth0")
    it.daemons[name] = await it.site[name].start(*argv, name="flanneld-go")
    return it.daemons[name]


async def each_way(it, boxes):
    for one in boxes:
        for other in boxes:
            if one is not other:
                await it.reaches(one, other.address)


@pytest.mark.parametrize(
    "backend",
    [{"Type": "vxlan"}, {"Type": "vxlan", "DirectRouting": True}, {"Type": "host-gw"}],
    ids=str,
)
async def test_ours_and_go_share_one_network(backend):
    async with overlay("a", "b", "c", "d", config={**NFT, "Backend": backend}) as it:
        await it.start("a")
        await start_go(it, "b")
        await it.start("c")
        await start_go(it, "d")
        boxes = [await it.container(name) for name in "abcd"]
        await each_way(it, boxes)
        values = (
            await it.ctl("get", "--prefix", f"{PREFIX}/subnets/", "--print-value-only")
        ).split()
        shapes = {tuple(json.loads(value)) for value in values}
        assert len(values) == 4
        assert len(shapes) == 1  # the same fields in the same order


async def test_dual_stack_with_go():
    config = {**NFT, "EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
    async with overlay("a", "b", config=config) as it:
        await it.site["a"].run("true")
        await it.start("a")
        a = await it.container("a")
        daemon = await start_go(it, "b")
        b = await it.container("b")
        await each_way(it, [a, b])
        (key,) = [key for key in await it.keys() if str(b.address).rsplit(".", 1)[0] in key]
        six = key.rpartition("&")[2].rpartition("-")[0]
        await it.reaches(it.site["a"], six)
        assert daemon.status is None


@pytest.mark.parametrize("backend", [{"Type": "vxlan"}, {"Type": "host-gw"}], ids=str)
async def test_each_takes_over_the_others_host(backend):
    async with overlay("a", "b", config={**NFT, "Backend": backend}) as it:
        await start_go(it, "a")
        await it.start("b")
        a, b = [await it.container(name) for name in "ab"]
        await each_way(it, [a, b])
        keys, subnet = await it.keys(), await it.subnet("a")
        mac = await it.mac("a") if backend["Type"] == "vxlan" else None
        for start in (it.start, start_go, it.start):
            await it.daemons["a"].stop()
            ping = asyncio.create_task(
                a.run("ping", "-i", "0.05", "-c", "60", "-W1", str(b.address), check=False)
            )
            await start(it, "a") if start is start_go else await start("a", "-iface=eth0")
            assert " 0% packet loss" in await ping
            assert await it.keys() == keys
            assert await it.subnet("a") == subnet
            assert mac is None or await it.mac("a") == mac
        await each_way(it, [a, b])


async def test_trap_t1_a_go_peer_keeps_its_routes_whatever_ours_does():
    """We never write anything under `subnets*` but our own lease, so a Go peer loses nothing."""
    async with overlay("a", "b", "c", config=NFT) as it:
        await start_go(it, "a")
        await it.start("b")
        await it.start("c")
        a, b, _ = [await it.container(name) for name in "abc"]
        await it.reaches(a, b.address)
        ping = asyncio.create_task(
            a.run("ping", "-i", "0.05", "-c", "120", "-W1", str(b.address), check=False)
        )
        gone = str((await it.subnet("c")).network).replace("/", "-")
        await it.ctl("del", f"{PREFIX}/subnets/{gone}")  # regained at once
        await it.site["c"].ip("link del flannel.1")
        it.daemons["c"].signal(signal.SIGHUP)
        await it.config({**NFT, "Backend": {"Type": "vxlan", "MTU": 1480}})
        await asyncio.sleep(1)
        await it.daemons["c"].stop()
        await it.start("c")
        assert " 0% packet loss" in await ping
        everything = (await it.ctl("get", "--prefix", PREFIX, "--keys-only")).split()
        other = [key for key in everything if "/subnets/" not in key]
        assert other == [f"{PREFIX}/config"]

        async def three():
            return len(await it.keys()) == 3

        await until(three)
