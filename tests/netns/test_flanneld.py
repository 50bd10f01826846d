# SPDX-License-Identifier: Apache-2.0
"""flanneld on several hosts with a real etcd: pings over real VXLAN and host-gw."""

import asyncio
import json
import re
import signal
import sys
from pathlib import Path

import pytest

from fairlead.demo.hosts import which
from flannelpy import subnet_env
from tests.netns.overlay import ENDPOINT, PREFIX, VXLAN, overlay, until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(which("etcd") is None, reason="etcd is not installed"),
]


@pytest.mark.parametrize(
    "backend",
    [{"Type": "vxlan"}, {"Type": "vxlan", "DirectRouting": True}, {"Type": "host-gw"}],
    ids=str,
)
async def test_containers_reach_one_another_and_a_gone_host_is_forgotten(backend):
    async with overlay("a", "b", "c", config={**VXLAN, "Backend": backend}) as it:
        for name in "abc":
            await it.start(name)
        boxes = {name: await it.container(name) for name in "abc"}
        for one in "abc":
            for other in "abc":
                await it.reaches(boxes[one], boxes[other].address)
        value = await it.ctl("get", "--prefix", f"{PREFIX}/subnets/", "--print-value-only")
        for line in filter(None, value.splitlines()):
            assert json.dumps(json.loads(line), separators=(",", ":")) == line
        # a host is taken away: its lease is deleted as an operator would
        gone = str((await it.subnet("c")).network)
        assert gone in await it.site["a"].run("ip", "route")
        await it.daemons["c"].stop()
        await it.ctl("del", f"{PREFIX}/subnets/{gone.replace('/', '-')}")

        async def forgotten():
            seen = "".join(
                [
                    await it.site["a"].run(*words)
                    for words in (("ip", "route"), ("ip", "neigh"), ("bridge", "fdb"))
                ]
            )
            return gone.split("/")[0] not in seen

        await until(forgotten)
        await it.reaches(boxes["a"], boxes["b"].address)


async def test_kill_9_and_restart_keep_traffic_and_subnet():
    async with overlay("a", "b") as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        before, keys = await it.subnet("a"), await it.keys()
        link = await it.mac("a")
        ping = asyncio.create_task(
            a.run("ping", "-i", "0.05", "-c", "60", "-W1", str(b.address), check=False)
        )
        await asyncio.sleep(0.5)
        it.daemons["a"].kill()
        await asyncio.sleep(0.3)
        daemon = await it.start("a")

        async def ready():
            return "msg=ready" in daemon.tail(100)

        await until(ready)
        assert " 0% packet loss" in await ping
        assert await it.subnet("a") == before
        assert await it.keys() == keys
        assert await it.mac("a") == link
        assert (await it.ctl("get", keys[0], "-w", "fields")).count(
            '"Version" : 1'
        ) == 1  # nothing was written


async def test_etcd_away_routes_stay_and_a_start_serves_from_the_file():
    async with overlay("a", "b") as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        await asyncio.sleep(1.5)  # the last-known-good file is at most 1 s behind
        it.etcd.kill()
        await it.reaches(a, b.address)
        before = await it.subnet("a")
        await it.daemons["a"].stop()
        for line in ("link del flannel.1",):  # as after a reboot: nothing is left in the kernel
            await it.site["a"].ip(line)
        await it.site["a"].run("rm", "/run/flannel/subnet.env")
        daemon = await it.start("a")
        await it.reaches(a, b.address, 8)
        assert await it.subnet("a") == before
        assert daemon.status is None


async def test_revoked_lease_is_regained_or_ends_the_daemon():
    async with overlay("a", "b") as it:
        await it.start("a")
        stops = await it.start("b", "-on-revoke=exit")
        subnets = {name: await it.subnet(name) for name in "ab"}
        for name in "ab":
            await it.ctl("del", f"{PREFIX}/subnets/{str(subnets[name].network).replace('/', '-')}")

        async def regained():
            return await it.keys() == [
                f"{PREFIX}/subnets/{str(subnets['a'].network).replace('/', '-')}"
            ]

        await until(regained)
        async with asyncio.timeout(5):
            assert await stops.process.wait() == 0


async def test_bad_config_is_waited_out_and_malformed_foreign_keys_cost_only_themselves():
    async with overlay("a", "b", config='{"Network":"10.5.0.0/16","SubnetLen":"24"}') as it:
        daemon = await it.start("a")

        async def told():
            return "SubnetLen" in daemon.tail(100)

        await until(told)
        await it.config(VXLAN)
        await it.start("b")
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        for key in ("hello", "10.5.77.0-24", "10.5.78.0-99", "10.5.79.0-24&zz"):
            await it.ctl("put", f"{PREFIX}/subnets/{key}", "{not json")

        async def named():
            return daemon.tail(200).count("record rejected") >= 4

        await until(named)
        await it.reaches(a, b.address)


async def test_drift_is_repaired_and_a_deleted_device_comes_back_with_its_mac():
    async with overlay("a", "b") as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        host, peer = it.site["a"], str((await it.subnet("b")).network)
        mac = await it.mac("a")
        await host.ip(f"route del {peer}")
        await it.reaches(a, b.address, 2)
        await host.ip("link del flannel.1")
        await it.reaches(a, b.address, 2)
        assert await it.mac("a") == mac


async def test_sigterm_ends_it_and_leaves_the_overlay():
    async with overlay("a", "b") as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        it.daemons["a"].signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await it.daemons["a"].process.wait() == 0
        await it.reaches(a, b.address)
        assert len(await it.keys()) == 2


async def test_plan_shows_and_changes_nothing():
    async with overlay("a", "b") as it:
        await it.start("a")
        await it.subnet("a")
        host = it.site["b"]
        out = await host.run(
            sys.executable, "-m", "flannelpy", "-etcd-endpoints", ENDPOINT, "-plan"
        )
        assert "overlay: put link flannel.1 mtu 1450" in out
        assert "overlay: put file /run/flannel/subnet.env" in out
        assert len(await it.keys()) == 1
        assert "flannel.1" not in await host.run("ip", "link")


async def test_dual_stack_reaches_over_both_families():
    config = {**VXLAN, "EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
    async with overlay("a", "b", config=config) as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        env = subnet_env.values(await it.site["b"].run("cat", "/run/flannel/subnet.env"))
        assert env["FLANNEL_MTU"] == "1430"
        found, _ = subnet_env.previous(await it.site["b"].run("cat", "/run/flannel/subnet.env"))
        await it.reaches(it.site["a"], found.v6.network_address)
        (key,) = [key for key in await it.keys() if str(found.v4.network_address) in key]
        assert (
            key == f"{PREFIX}/subnets/{found.v4.network_address}-24&{found.v6.network_address}-64"
        )


async def test_health_server_and_admin_socket():
    async with overlay("a") as it:
        await it.start("a", "-healthz-port=8090")
        await it.subnet("a")
        host = it.site["a"]

        async def answers():
            return (
                await host.run("curl", "-s", "http://127.0.0.1:8090/readyz", check=False)
                == "flanneld is ready"
            )

        await until(answers)
        assert (
            await host.run("curl", "-s", "http://127.0.0.1:8090/healthz") == "flanneld is running"
        )
        state = await host.run(
            "curl", "-s", "--unix-socket", "/run/fairlead/flanneld.sock", "http://x/debug/state"
        )
        assert '"peers": 0' in state
        metrics = await host.run(
            "curl", "-s", "--unix-socket", "/run/fairlead/flanneld.sock", "http://x/metrics"
        )
        assert "flannelpy_peers 0.0" in metrics
        page = (Path(__file__).parents[2] / "docs" / "flannelpy.md").read_text()
        for name in re.findall(r"`(flannelpy_\w+)`", page):
            assert f"\n{name} " in metrics


async def test_trap_t27_two_daemons_on_one_host_for_two_networks():
    async with overlay("a", "b") as it:
        nets = {"blue": ("10.6.0.0/16", 6), "green": ("10.7.0.0/16", 7)}
        for net, (network, vni) in nets.items():
            text = json.dumps(
                {"Network": network, "Backend": {"Type": "vxlan", "VNI": vni, "Port": 8470 + vni}}
            )
            await it.ctl("put", f"/{net}/config", text)
        for name in "ab":
            for net in nets:
                await it.start(
                    name, "-etcd-prefix", f"/{net}", "-subnet-file", f"/run/flannel/{net}.env"
                )
        for net, (_, vni) in nets.items():

            async def base(net=net):
                text = await it.site["b"].run("cat", f"/run/flannel/{net}.env", check=False)
                return subnet_env.previous(text)[0]

            await it.reaches(it.site["a"], (await until(base)).v4.network_address)
            assert f"flannel.{vni}" in await it.site["a"].run("ip", "link")


async def test_cap_net_admin_is_enough_and_without_it_nothing_is_begun():
    only = ("setpriv", "--bounding-set", "-all,+net_admin", "--inh-caps", "-all,+net_admin")
    async with overlay("a", "b") as it:
        without = (word.replace("-all,+", "-") for word in only)
        daemon = await it.start("a", by=without)
        assert await daemon.process.wait() == 1
        assert "CAP_NET_ADMIN is missing" in it.tails()
        assert await it.keys() == []
        for name in "ab":
            await it.start(name, by=only)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        assert it.tails().count("level=warning") == 0


async def test_an_ordinary_user_with_cap_net_admin_is_enough():
    one = "-all,+net_admin"
    user = (
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--bounding-set={one}",
        f"--inh-caps={one}", f"--ambient-caps={one}",
    )  # fmt: skip
    async with overlay("a", "b") as it:
        for name in "ab":
            await it.site[name].run(
                "sh",
                "-c",
                "mkdir -p /run/flannel /run/fairlead; chown 65534 /run/flannel /run/fairlead",
            )
            await it.start(
                name,
                "-state-dir=/run/fairlead",
                "-admin-socket=/run/fairlead/flanneld.sock",
                by=user,
            )
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        assert it.tails().count("level=warning") == it.tails().count("level=error") == 0


async def test_a_signal_ends_it_at_any_moment_of_the_start():
    async with overlay("a", config="{}") as it:
        for pause in (0.0, 0.3, 0.6, 0.9, 1.2):
            daemon = await it.start("a")
            await asyncio.sleep(pause)
            daemon.signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                status = await daemon.process.wait()
            assert status in (0, -signal.SIGTERM), (pause, daemon.tail())
