# SPDX-License-Identifier: Apache-2.0
"""`fairlead net …` on hosts with an overlay, and on hosts where something is wrong."""

import json
import sys

import pytest

from fairlead.demo.hosts import PRIVATE, which
from tests.netns.overlay import ENDPOINT, PREFIX, overlay, until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(which("etcd") is None, reason="etcd is not installed"),
]


async def net(it, name, *words, check=True):
    where = it.site[name] if name else it.site.root
    return await where.run(
        sys.executable, "-m", "fairlead", "net", *words, check=check,
        env={"ETCDCTL_ENDPOINTS": ENDPOINT},
    )  # fmt: skip


async def test_status_peers_and_a_doctor_with_nothing_to_say():
    async with overlay("a", "b") as it:
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        out = await net(it, "a", "status")
        assert "runs out in 23 h 59 min" in out
        assert "peers      1, 0 leases ignored" in out
        assert "drift      none" in out
        (told,) = json.loads(await net(it, "a", "status", "-o", "json"))
        assert told["counters"]["flannel.1"]["tx_packets"] > 0
        table = await net(it, "a", "peers")
        assert str((await it.subnet("b")).network) in table
        (told,) = json.loads(await net(it, "b", "peers", "-o", "json"))
        assert [peer["public_ip"] for peer in told["peers"]] == ["192.0.2.11"]
        found = json.loads(await net(it, "a", "doctor", "-o", "json"))
        assert [row for row in found if row["level"] == "error"] == []
        assert "answers packets of 1450 bytes" in json.dumps(found)
        # somebody's own table that drops by policy: the fix gets the overlay through
        host = it.site["a"]
        for hook in ("input", "forward"):
            chain = f"{{ type filter hook {hook} priority 0; policy drop; }}"
            await host.run("nft", f"add table inet mine; add chain inet mine {hook} {chain}")
        # etcd's answers and echoes between hosts are not the overlay's: the operator's business
        await host.run("nft", "add rule inet mine input ip saddr { 192.0.2.1, 10.5.0.0/16 } accept")
        assert "0 received" in await a.run(
            "ping", "-c1", "-W1", str(b.address), check=False, timeout=5
        )
        found = json.loads(await net(it, "a", "doctor", "--no-probes", "-o", "json"))
        fixes = [row["fix"] for row in found if row["about"] == "nftables"]
        assert len(fixes) == 2, found
        for fix in fixes:
            await host.run("sh", "-ec", fix)
        await it.reaches(a, b.address)
        assert "nftables" not in await net(it, "a", "doctor", "--no-probes")


async def test_doctor_names_a_closed_port_a_small_mtu_and_forwarding_with_the_fix():
    async with overlay("a", "b", "c") as it:
        for name in "abc":
            await it.start(name)
        a, b, c = [await it.container(name) for name in "abc"]
        await it.reaches(a, b.address)
        await it.reaches(a, c.address)
        host = it.site["a"]
        await host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        rules = "add table ip t; add chain ip t in { type filter hook input priority -200; }; "
        await it.site["b"].run("nft", rules + "add rule ip t in udp dport 8472 drop")
        await it.site["c"].run(
            "nft", rules + "add rule ip t in udp dport 8472 meta length > 1400 drop"
        )
        out = await net(it, "a", "doctor", check=False)
        assert "net.ipv4.ip_forward is 0" in out
        assert "fix: sysctl -w net.ipv4.ip_forward=1" in out
        assert f"{(await it.subnet('b')).network} at 192.0.2.12 does not answer" in out
        assert "packets over 13" in out
        assert 'set "MTU": 1' in out


@pytest.mark.long
@pytest.mark.skipif(which("firewalld") is None, reason="firewalld is not installed")
@pytest.mark.skipif(which("dbus-daemon") is None, reason="dbus-daemon is not installed")
async def test_doctors_fix_gets_the_overlay_through_firewalld():
    async with overlay("a", "b", private=(*PRIVATE, "/etc/firewalld")) as it:
        host = it.site["a"]
        await host.run("mkdir", "-p", "/run/dbus")
        await host.start("dbus-daemon", "--system", "--nofork", "--nopidfile", name="dbus")
        await host.start("firewalld", "--nofork", "--nopid", name="firewalld")
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]

        async def runs():
            return await host.run("firewall-cmd", "--state", check=False) == "running\n"

        await until(runs, 20)
        out = await net(it, "a", "doctor", "--no-probes", check=False)
        assert "port 8472/udp is not in zone public" in out
        (fix,) = [line for line in out.splitlines() if "fix: firewall-cmd" in line]
        await host.run("sh", "-ec", fix.partition("fix: ")[2])
        await it.reaches(b, a.address)
        assert "lets the overlay through" in await net(it, "a", "doctor", check=False)
        await host.run("firewall-cmd", "--complete-reload")
        await it.reaches(b, a.address)


async def test_reservations_end_to_end():
    async with overlay("a", "b") as it:
        out = await net(it, None, "leases", "reserve", "10.5.44.0/24", "--public-ip", "192.0.2.11")
        assert "10.5.44.0/24 is reserved for 192.0.2.11" in out
        assert await it.value(f"{PREFIX}/subnets/10.5.44.0-24") == '{"PublicIP":"192.0.2.11"}\n'
        for name in "ab":
            await it.start(name)
        a, b = [await it.container(name) for name in "ab"]
        await it.reaches(a, b.address)
        assert str((await it.subnet("a")).network) == "10.5.44.0/24"
        listed = json.loads(await net(it, None, "leases", "list", "-o", "json"))["leases"]
        ttl = {row["subnet"]: row["ttl_seconds"] for row in listed}
        assert ttl["10.5.44.0/24"] is None
        other = str((await it.subnet("b")).network)
        assert 86000 < ttl[other] <= 86400
        # the other host's lease becomes a reservation, and a lease again, while it runs
        await net(it, None, "leases", "reserve", other, "--public-ip", "192.0.2.12")
        assert "reservation" in await net(it, None, "leases", "list")

        async def is_reservation():
            return (await it.status("b"))["reservation"]

        await until(is_reservation)
        refused = await net(
            it, None, "leases", "reserve", other, "--public-ip", "192.0.2.99", check=False
        )
        assert "is reserved for" not in refused
        await net(it, None, "leases", "release", other)

        async def is_lease():
            return not (await it.status("b"))["reservation"]

        await until(is_lease)
        await it.reaches(a, b.address)
        # what a host left behind
        await it.ctl(
            "put", f"{PREFIX}/subnets/10.9.3.0-24", '{"PublicIP":"192.0.2.77"}', "--lease=0"
        )
        lease = (await it.ctl("lease", "grant", "600")).split()[1]
        await it.ctl("put", f"{PREFIX}/subnets/10.9.4.0-24", '{"PublicIP":"192.0.2.78"}', f"--lease={lease}")  # fmt: skip
        assert "10.9.4.0-24: not of the configured range" in await net(it, None, "leases", "gc")
        assert "10.9.4.0-24: deleted" in await net(it, None, "leases", "gc", "--yes")
        assert any("10.9.3.0-24" in key for key in await it.keys())  # a reservation stays
