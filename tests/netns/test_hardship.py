# SPDX-License-Identifier: Apache-2.0
"""What a network meets in its life: crashes at every step, an etcd that is gone, races, moves."""

import asyncio
import json

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

STEPS = ("interface chosen", "Allocated lease", "Wrote subnet file")


async def killed_at(it, name, line):
    """Start flanneld and kill it as soon as `line` is in its log, or after a second."""
    daemon = await it.start(name)
    before = daemon.tail(2000).count(line)
    async with asyncio.timeout(5):
        for _ in range(1000):
            if daemon.tail(2000).count(line) > before:
                break
            await asyncio.sleep(0.001)
    daemon.kill()
    await daemon.process.wait()


async def test_kill_9_at_every_step_of_the_start():
    """At three steps with real processes; tests/integration/flannelpy/test_in_memory.py: at every one."""
    async with overlay("a", "b") as it:
        await it.start("b")
        b = await it.container("b")
        for line in STEPS:
            await killed_at(it, "a", line)
        await it.start("a")
        a = await it.container("a")
        await it.reaches(a, b.address)
        assert len(await it.keys()) == 2
        left = await it.site["a"].run("sh", "-c", "ls -A /run/flannel")
        assert left.split() == ["subnet.env"]

        async def nothing_left_to_do():
            return json.loads(await admin(it, "a", "plan")) == {"overlay": []}

        await until(nothing_left_to_do)


async def admin(it, name, page):
    text = await it.site[name].run(
        "curl",
        "-s",
        "--unix-socket",
        "/run/fairlead/flanneld.sock",
        f"http://x/{page}",
        check=False,
    )
    return text or "{}"


async def test_five_hosts_carry_tcp_udp_and_packets_of_full_size():
    async with overlay(*"abcde") as it:
        for name in "abcde":
            await it.start(name)
        boxes = [await it.container(name) for name in "abcde"]
        for one in boxes:
            for other in boxes:
                await it.reaches(one, other.address)
        a, e = boxes[0], boxes[-1]
        mtu = int(
            subnet_env.values(await it.site["a"].run("cat", "/run/flannel/subnet.env"))[
                "FLANNEL_MTU"
            ]
        )
        whole = await a.run(
            "ping", "-M", "do", "-c3", "-i0.2", "-s", str(mtu - 28), str(e.address), check=False
        )
        over = await a.run(
            "ping", "-M", "do", "-c1", "-W1", "-s", str(mtu - 27), str(e.address), check=False
        )
        assert " 0% packet loss" in whole
        assert " 0% packet loss" not in over
        await e.start("iperf3", "-s", name="iperf3")
        await asyncio.sleep(0.5)
        for words in ((), ("-u", "-b", "50M")):
            out = json.loads(await a.run("iperf3", "-J", "-t", "1", *words, "-c", str(e.address)))
            assert (out["end"].get("sum_received") or out["end"]["sum"])["bits_per_second"] > 1e7
        assert (
            json.loads(
                await a.run("iperf3", "-J", "-u", "-b", "2M", "-t", "1", "-c", str(e.address))
            )["end"]["sum"]["lost_percent"]
            < 5
        )


AWAY = [6, pytest.param(120, marks=pytest.mark.long)]  # seconds


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", AWAY)
async def test_etcd_gone_for_a_while_costs_no_packet(seconds):
    async with overlay("a", "b", "c") as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        await asyncio.sleep(1.5)
        count = str(seconds * 5)
        ping = asyncio.create_task(
            a.run("ping", "-i", "0.2", "-c", count, "-W1", str(b.address), check=False, timeout=seconds + 20)
        )  # fmt: skip
        it.etcd.kill()
        await it.daemons["b"].stop()
        await it.start("b")  # a restart in the middle of it
        await it.site["a"].ip(f"route del {(await it.subnet('b')).network}")  # and drift
        out = await ping
        sent, received = (
            int(out.split(words)[0].split()[-1]) for words in (" packets tr", " received")
        )
        assert sent - received <= 3, out  # those while the route was away
        await it.start_etcd()
        await it.start("c")
        c = await it.container("c")
        await it.reaches(a, c.address, 15)
        await it.reaches(c, b.address)
        assert len(await it.keys()) == 3


async def test_what_a_compaction_hides_is_seen_all_the_same():
    async with overlay("a", "b") as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        key = f"{PREFIX}/subnets/10.5.200.0-24"
        value = '{"PublicIP":"192.0.2.%d","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"2e:00:00:00:00:%02x"}}'
        await it.ctl("put", key, value % (201, 1))
        await it.ctl("put", key.replace("200", "201"), value % (202, 2))
        it.etcd.kill()
        await it.etcd.process.wait()
        # elsewhere for a moment: changes and a compaction that no daemon sees happen
        there = "http://127.0.0.1:12379"
        other = await it.site.root.start(
            "etcd", "--data-dir", str(it.site.logs / "etcd"), "--listen-client-urls", there, "--log-level=error",
            "--advertise-client-urls", there, "--listen-peer-urls", "http://127.0.0.1:0", "--logger=zap",
        )  # fmt: skip

        async def ctl(*words):
            return await it.site.root.run(
                "etcdctl", "--endpoints", there, *words, env={"ETCDCTL_API": "3"}, check=False
            )

        async def changed():
            return "OK" in await ctl("put", key, value % (203, 3))

        await until(changed)
        await ctl("del", key.replace("200", "201"))
        for _ in range(5):
            await ctl("put", "/other", "x")
        revision = json.loads(await ctl("get", "/other", "-w", "json"))["header"]["revision"]
        assert "compacted" in await ctl("compact", str(revision))
        other.kill()
        await other.process.wait()
        await it.start_etcd()

        async def seen():
            fdb = await it.site["a"].run("bridge", "fdb", "show", "dev", "flannel.1")
            routes = await it.site["a"].run("ip", "route")
            return "192.0.2.203" in fdb and "192.0.2.201" not in fdb and "10.5.201.0" not in routes

        await until(seen, 15)
        await it.reaches(a, b.address)


async def test_trap_t3_hosts_that_start_in_step_on_a_network_just_large_enough():
    config = {**VXLAN, "SubnetMin": "10.5.1.0", "SubnetMax": "10.5.5.0"}
    async with overlay(*"abcde", config=config) as it:
        await asyncio.gather(*(it.start(name) for name in "abcde"))
        got = {str((await it.subnet(name)).network) for name in "abcde"}
        assert len(got) == len(await it.keys()) == 5


async def test_a_revoked_etcd_lease_is_replaced_and_the_subnet_kept():
    async with overlay("a", "b") as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        subnet, keys = await it.subnet("a"), await it.keys()
        for lease in (await it.ctl("lease", "list")).split()[3:]:
            await it.ctl("lease", "revoke", lease)

        async def back():
            return await it.keys() == keys

        await until(back)
        assert await it.subnet("a") == subnet
        await it.reaches(a, b.address)


async def test_a_network_of_ipv6_alone():
    config = {
        "EnableIPv4": False,
        "EnableIPv6": True,
        "IPv6Network": "fd00:5::/48",
        "Backend": {"Type": "vxlan"},
    }
    async with overlay("a", "b", config=config) as it:
        for n, name in enumerate("ab", 1):
            await it.site[name].run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
            await it.site[name].ip(f"addr add 2001:db8::{n}/64 dev eth0 nodad")
            await it.start(name, "-iface=eth0")

        async def subnets():
            return [key for key in await it.keys() if "/0.0.0.0-0&fd00:5:0:" in key]

        async def both():
            return len(await subnets()) == 2

        async def written():  # a moment after the lease
            file = "/run/flannel/subnet.env"
            return "FLANNEL_MTU" in await it.site["b"].run("cat", file, check=False)

        await until(both)
        await until(written)
        env = await it.site["b"].run("cat", "/run/flannel/subnet.env")
        assert "FLANNEL_SUBNET" not in env
        six = subnet_env.values(env)["FLANNEL_IPV6_SUBNET"].partition("/")[0]
        base = six.removesuffix("1")
        await it.reaches(it.site["a"], base)


async def test_trap_t20_from_ipv4_to_dual_stack_one_host_after_the_other():
    dual = {**VXLAN, "EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
    async with overlay("a", "b") as it:
        for n, name in enumerate("ab", 1):
            await it.site[name].run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
            await it.site[name].run(
                "sh",
                "-c",
                f"ip addr show dev eth0 | grep -q 2001:db8 || ip addr add 2001:db8::{n}/64 dev eth0 nodad",
            )
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        before = {name: (await it.subnet(name)).network for name in "ab"}
        await it.config(dual)
        await it.logged("a", "a family comes or goes at a restart")
        for name in "ab":
            await it.daemons[name].stop()
            await it.start(name)

            async def dual_stack(name=name):
                own = f"{before[name].network_address}-24&fd00:5:"
                return any(own in key for key in await it.keys())

            await until(dual_stack)
            await it.reaches(a, b.address)  # mixed in between
        assert len(await it.keys()) == 2


async def facts(host):
    """Return what ip and bridge show of the overlay, names, handles and MACs apart."""
    link = json.loads(await host.run("ip", "-j", "-d", "link", "show", "flannel.1"))
    addr = json.loads(await host.run("ip", "-j", "addr", "show", "flannel.1"))
    neigh = json.loads(await host.run("ip", "-j", "neigh", "show", "dev", "flannel.1"))
    route = json.loads(await host.run("ip", "-j", "route", "show", "dev", "flannel.1"))
    fdb = json.loads(await host.run("bridge", "-j", "fdb", "show", "dev", "flannel.1"))
    for row in (*link, *addr):
        for name in ("ifindex", "address", "link_index", "stats", "stats64"):
            row.pop(name, None)
        row.pop("inet6_addr_gen_mode", None)
    addr[0]["addr_info"] = [row for row in addr[0]["addr_info"] if row["scope"] != "link"]
    for rows in (neigh, fdb):
        for row in rows:
            row.pop("lladdr", None)
            row.pop("mac", None)
    return {"link": link, "addr": addr, "neigh": neigh, "route": route, "fdb": fdb}


async def test_ip_and_bridge_show_what_a_hand_would_have_configured():
    config = {**VXLAN, "SubnetMin": "10.5.1.0", "SubnetMax": "10.5.2.0"}
    async with overlay("a", "b", config=config) as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        ours = await facts(it.site["a"])
        mac, theirs = await it.mac("a"), await it.mac("b")
        own, peer = [(await it.subnet(name)).network.network_address for name in "ab"]
        await it.daemons["a"].stop()
        host = it.site["a"]
        await host.ip(
            "link del flannel.1",
            f"link add flannel.1 address {mac} mtu 1450 type vxlan id 1 dev eth0 local 192.0.2.11 nolearning",
            f"addr add {own}/32 dev flannel.1",
            "link set flannel.1 up",
            f"neigh add {peer} lladdr {theirs} dev flannel.1 nud permanent",
            f"route add {peer}/24 via {peer} dev flannel.1 onlink",
        )
        await host.run(
            "bridge", "fdb", "add", theirs, "dev", "flannel.1", "dst", "192.0.2.12", "self", "permanent"
        )  # fmt: skip
        assert ours == await facts(host)
        assert ENDPOINT not in json.dumps(ours)


async def test_what_a_crashed_predecessor_left_goes_and_what_is_not_ours_stays():
    async with overlay("a", "b") as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        it.daemons["a"].kill()
        await it.daemons["a"].process.wait()
        host, stale = it.site["a"], "10.5.222.0"
        await host.ip(
            f"neigh add {stale} lladdr 2e:00:00:00:00:99 dev flannel.1 nud permanent",
            f"route add {stale}/24 via {stale} dev flannel.1 onlink",
            f"route add 10.5.223.0/24 via {it.site['b'].address} dev eth0",  # an operator's own
            "route add 203.0.113.0/24 dev eth0",
            "neigh add 192.0.2.222 lladdr 2e:00:00:00:00:98 dev eth0 nud permanent",
        )
        await host.run(
            "bridge", "fdb", "add", "2e:00:00:00:00:99", "dev", "flannel.1", "dst", "192.0.2.222", "self", "permanent"
        )  # fmt: skip
        await it.start("a")

        async def swept():
            seen = [
                await host.run(*it) for it in (("ip", "route"), ("ip", "neigh"), ("bridge", "fdb"))
            ]
            assert "10.5.223.0/24" in seen[0]
            assert "203.0.113.0/24" in seen[0]
            assert "2e:00:00:00:00:98" in seen[1]
            return stale not in seen[0] and "2e:00:00:00:00:99" not in "".join(seen)

        await until(swept)
        await it.reaches(a, b.address)
