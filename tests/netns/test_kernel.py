# SPDX-License-Identifier: Apache-2.0
"""observe, plan and apply against the real kernel; `ip` and `bridge` are the oracles."""

import asyncio
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

import pytest

from fairlead.etcd.types import LeaseID, Revision
from flannelpy import apply, backends, kernel, keys, observe, plan, rtnetlink
from flannelpy.backends import Host, Uplink
from flannelpy.desired import Overlay
from flannelpy.records import Attributes, Lease, parse_config
from flannelpy.state import PROTO_OURS, Kind, Route, mac_text

pytestmark = [pytest.mark.netns, pytest.mark.slow]

DUAL = '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan"}}'
PLAIN = '{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}'


def sh(*argv, stdin=None):
    return subprocess.run(argv, check=True, capture_output=True, text=True, input=stdin).stdout


def underlay():
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far")
    sh("ip", "link", "set", "eth0", "up")
    sh("ip", "link", "set", "far", "up")
    sh("ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
    sh("ip", "addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad")


def overlay(config, own="10.5.1.0-24", dev="eth0", address="192.0.2.1/24"):
    v4, v6 = IPv4Interface(address), IPv6Interface("2001:db8::1/64")
    uplink = Uplink(dev, kernel.index_of(dev), 1500, v4, v6, v4.ip, v6.ip)
    host = Host(parse_config(config.encode()), uplink, fresh_mac="2e:00:00:00:00:01")
    return Overlay(host.config, backends.build(host), keys.parse_lease(own.encode()))


def peer(n, leaf=None, mac=None):
    key = (leaf or f"10.5.{n}.0-24").encode()
    data = b'{"VNI":1,"VtepMAC":"%b"}' % (mac or mac_text(0x2E0000010000 + n)).encode()
    data6 = b'{"VNI":1,"VtepMAC":"%b"}' % mac_text(0x2E0000020000 + n).encode()
    has = Attributes(
        IPv4Address("192.0.2.0") + n % 250 + 2, IPv6Address("2001:db8::") + n, "vxlan", data, data6
    )
    return Lease(key, keys.parse_lease(key), has, LeaseID(1), Revision(n))


async def reconcile(host, it, scope=None):
    actual = await observe.host_state(host, it.territory, scope)
    actions = plan.host_state(it.within(scope), actual)
    assert await apply.carry_out(host, actions) == []
    return [str(action) for action in actions]


def test_overlay_as_ip_and_bridge_show_it(in_namespace):
    async def main():
        underlay()
        async with kernel.connect() as host:
            it = overlay(DUAL, "10.5.1.0-24&fd00:5:0:1::-64")
            it.update(b"x", peer(2, "10.5.2.0-24&fd00:5:0:2::-64"))
            assert len(await reconcile(host, it)) == 10
            assert await reconcile(host, it) == []
            assert "10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink" in sh("ip", "route")
            assert "fd00:5:0:2::/64 via fd00:5:0:2:: dev flannel-v6.1 metric 1024 onlink" in sh(
                "ip", "-6", "route"
            )
            assert "10.5.2.0 dev flannel.1 lladdr 2e:00:00:01:00:02 PERMANENT" in sh("ip", "neigh")
            assert "2e:00:00:01:00:02 dev flannel.1 dst 192.0.2.4 self permanent" in sh(
                "bridge", "fdb"
            )
            link = sh("ip", "-d", "link", "show", "flannel.1")
            assert "mtu 1450" in link
            assert "vxlan id 1 local 192.0.2.1 dev eth0 srcport 0 0 dstport 8472 nolearning" in link
            assert "10.5.1.0/32" in sh("ip", "addr", "show", "flannel.1")

    in_namespace(main)


def test_one_peer_by_scope_comes_moves_and_goes(in_namespace):
    async def main():
        underlay()
        async with kernel.connect() as host:
            it = overlay(PLAIN)
            await reconcile(host, it)
            assert len(await reconcile(host, it, it.update(b"x", peer(2)))) == 3
            moved = await reconcile(host, it, it.update(b"x", peer(2, mac="2e:00:00:00:99:99")))
            assert [text.split()[:2] for text in moved] == [
                ["put", "neigh"],
                ["put", "fdb"],
                ["del", "fdb"],
            ]
            assert len(await reconcile(host, it, it.update(b"x", None))) == 3
            assert "10.5.2.0" not in sh("ip", "route") + sh("ip", "neigh") + sh("bridge", "fdb")

    in_namespace(main)


def test_leftovers_and_drift_are_mended_and_strangers_stay(in_namespace):
    async def main():
        underlay()
        async with kernel.connect() as host:
            it = overlay(PLAIN)
            it.update(b"x", peer(2))
            await reconcile(host, it)
            for line in (
                "ip route add 10.5.9.0/24 via 10.5.9.0 dev flannel.1 onlink",  # of a crashed predecessor
                "ip neigh add 10.5.9.0 dev flannel.1 lladdr 2e:00:00:00:00:09 nud permanent",
                "bridge fdb add 2e:00:00:00:00:09 dev flannel.1 dst 192.0.2.9 self permanent",
                "ip route add 10.5.8.0/24 via 192.0.2.8 proto 102",
                "ip addr add 10.5.7.0/32 dev flannel.1",
                "ip route add 10.5.77.0/24 via 192.0.2.77",  # a stranger's
                "ip route add 172.20.8.0/24 via 192.0.2.8 proto 102",  # trap T27: another daemon's
                "ip neigh del 10.5.2.0 dev flannel.1",  # drift
                "ip link set flannel.1 mtu 1300",
            ):
                sh(*line.split())
            done = await reconcile(host, it)
            assert [text.split()[:2] for text in done] == [
                ["put", "link"], ["put", "neigh"], ["del", "10.5.8.0/24"], ["del", "10.5.9.0/24"],
                ["del", "fdb"], ["del", "neigh"], ["del", "address"],
            ]  # fmt: skip
            assert "10.5.77.0/24 via 192.0.2.77 dev eth0" in sh("ip", "route")
            assert "172.20.8.0/24 via 192.0.2.8 dev eth0 proto 102" in sh("ip", "route")
            assert await reconcile(host, it) == []

    in_namespace(main)


def test_another_vni_makes_the_device_anew_with_all_on_it(in_namespace):
    async def main():
        underlay()
        sh(
            *[
                "ip",
                "link",
                "add",
                "flannel.1",
                "address",
                "2e:00:00:00:00:01",
                "type",
                "vxlan",
                "id",
                "7",
                "dev",
                "eth0",
                "local",
                "192.0.2.1",
                "dstport",
                "4789",
            ]
        )
        async with kernel.connect() as host:
            it = overlay(PLAIN)
            it.update(b"x", peer(2))
            assert (await reconcile(host, it))[0].startswith("remake link flannel.1")
            assert "vxlan id 1 " in sh("ip", "-d", "link", "show", "flannel.1")
            assert await reconcile(host, it) == []

    in_namespace(main)


def test_another_source_or_lower_device_is_set_in_place_with_all_that_is_on_it(in_namespace):
    async def main():
        underlay()
        for line in (
            "ip link add x0 type veth peer name x1",
            "ip link set x0 up",
            "ip addr add 198.51.100.1/24 dev x0",
            "ip addr add 192.0.2.9/24 dev eth0",
        ):
            sh(*line.split())
        async with kernel.connect() as host:
            it = overlay(PLAIN)
            it.update(b"x", peer(2))
            await reconcile(host, it)
            before = await host.interface("flannel.1")
            for dev, address in (("eth0", "192.0.2.9/24"), ("x0", "198.51.100.1/24")):
                moved = overlay(PLAIN, dev=dev, address=address)
                moved.update(b"x", peer(2))
                (done,) = await reconcile(host, moved)
                assert done.startswith("put link flannel.1")
                now = await host.interface("flannel.1")
                assert now.index == before.index
                assert (now.link.tunnel.lower, str(now.link.tunnel.local)) == (
                    dev,
                    address.partition("/")[0],
                )

    in_namespace(main)


def test_a_refusal_costs_only_itself_and_names_the_action(in_namespace):
    async def main():
        underlay()
        async with kernel.connect() as host:
            it = overlay(PLAIN)
            await reconcile(host, it)
            good = it.within(it.update(b"x", peer(2)))
            # no such host on any link: the kernel refuses the gateway
            bad = Route(peer(3).subnets.v4, IPv4Address("203.0.113.1"), "eth0", proto=PROTO_OURS)
            refused = await apply.carry_out(host, [plan.Put(bad), *map(plan.Put, good.values())])
            assert [str(error.action) for error in refused] == [
                "put 10.5.3.0/24 via 203.0.113.1 dev eth0 proto 102"
            ]
            assert "invalid gateway" in str(refused[0])
            assert "10.5.2.0/24 via" in sh("ip", "route")

    in_namespace(main)


def test_changes_are_heard_but_not_our_own(in_namespace):
    async def main():
        underlay()
        heard = []
        async with kernel.connect() as host:
            it = overlay(PLAIN)
            await reconcile(host, it)
            with host.changes(heard.extend, lambda: None):
                await reconcile(host, it, it.update(b"x", peer(2)))
                sh(*["ip", "route", "del", "10.5.2.0/24"])
                sh(*["ip", "neigh", "del", "10.5.2.0", "dev", "flannel.1"])
                await asyncio.sleep(0.05)
            told = [
                observe.heard(host, reply, it.territory)
                for reply in heard
                if reply.port != host.port
            ]
            gone = {key.kind for key, thing in filter(None, told) if thing is None}
            assert gone == {Kind.ROUTE, Kind.NEIGHBOUR}

    in_namespace(main)


def test_file_is_replaced_whole_mode_0644(tmp_path):
    path = tmp_path / "run" / "subnet.env"
    apply.replace_file(path, "A=1\n")
    apply.replace_file(path, "A=2\n")
    assert path.read_text() == "A=2\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_more_peers_than_one_batch_or_one_datagram_of_a_dump_holds(in_namespace):
    async def main():
        underlay()
        async with kernel.connect() as host:
            it = overlay(PLAIN)
            for n in range(700):
                lease = peer(n, f"10.{16 + n // 256}.{n % 256}.0-24")
                it.update(lease.key, lease)
            assert len(await reconcile(host, it)) == 2 + 3 * 700
            assert await reconcile(host, it) == []

    in_namespace(main)


def test_addresses_and_links_read_back(in_namespace):
    async def main():
        underlay()
        async with kernel.connect() as host:
            names = [it.name for it in await host.interfaces()]
            assert {"lo", "eth0", "far"} <= set(names)
            found = [it for it in await host.addresses(kernel.index_of("eth0")) if it.scope == 0]
            assert {str(it.address) for it in found} == {"192.0.2.1/24", "2001:db8::1/64"}
            assert await host.interface("nope") is None
            assert await host.route_to(IPv4Address("192.0.2.77")) == (
                "eth0",
                IPv4Address("192.0.2.1"),
            )
            link = (await host.interface("eth0")).link
            assert replace(link, up=True) == link
            assert await host.ask([rtnetlink.get_route(peer(2).subnets.v4)]) == [None]

    in_namespace(main)
