"""What a host should have, as leases, uplink and configuration change."""

from dataclasses import replace
from ipaddress import IPv4Interface, ip_network

import pytest

from flannelpy.backends import Hop, Underlay
from flannelpy.keys import Subnets
from flannelpy.records import parse_config
from flannelpy.sources import StartError
from flannelpy.state import Kind
from tests.unit.flannelpy.parts import UPLINK, VXLAN, lease, parts


def kinds(scope):
    return sorted({key.kind.name for key in scope})


async def test_a_peers_change_marks_just_its_own_objects():
    async with parts() as it:
        node = it.assemble()
        await it.put("subnets/10.5.2.0-24", lease(12))
        assert kinds(node.loop.dirty.take()) == ["FDB", "NEIGHBOUR", "ROUTE"]
        assert node.overlay.peers == 1
        await it.put("subnets/10.5.2.0-24", lease(13))
        marks = node.loop.dirty.take()
        assert len(marks) == 3
        (fdb,) = [node.overlay.wanted(key) for key in marks if key.kind == Kind.FDB]
        assert str(fdb.dst) == "192.0.2.13"
        await it.delete("subnets/10.5.2.0-24")
        # the lines that people look for in flannel's log (specs/flannel.md §16)
        assert it.logged("Subnet added: 10.5.2.0/24 via 192.0.2.12")
        assert it.logged("Subnet removed: 10.5.2.0/24")


async def test_another_uplink_looks_at_the_device_first_and_then_at_everything():
    async with parts() as it:
        node = it.assemble()
        await it.put("subnets/10.5.2.0-24", lease(12))
        node.loop.dirty.take()
        v4 = IPv4Interface("192.0.2.99/24")
        node.become(replace(node.host, uplink=replace(UPLINK, v4=v4, ext_v4=v4.ip)))
        first = node.loop.dirty.take()
        assert kinds(first) == ["ADDRESS", "FILE", "LINK"]
        (link,) = [node.overlay.wanted(key) for key in first if key.kind == Kind.LINK]
        assert str(link.tunnel.local) == "192.0.2.99"
        await node.loop.once(frozenset(key for key in first if key.kind != Kind.FILE))
        assert node.loop.dirty.take() is None  # everything


async def test_a_backend_that_cannot_be_built_changes_nothing():
    async with parts() as it:
        node = it.assemble()
        bad = parse_config(VXLAN.replace(b'"vxlan"', b'"gce"'))
        with pytest.raises(StartError, match="removed from flannel"):
            node.become(replace(node.host, config=bad))
        assert node.host.config == parse_config(VXLAN)
        assert not node.loop.dirty


async def test_another_subnet_is_adopted_with_a_warning():
    async with parts() as it:
        node = it.assemble()
        node.adopt(replace(node.held, subnets=Subnets(ip_network("10.5.9.0/24"))))
        assert it.logged("another subnet")
        assert any("10.5.9.0" in str(thing) for thing in node.overlay.within(None).values())


async def test_a_twin_is_shouted_about_once_and_forgotten_when_it_goes():
    async with parts() as it:
        node = it.assemble()
        for _ in range(2):
            await it.put("subnets/10.5.200.0-24", lease(11))
        assert sum("another lease has our public address" in line for line in it.lines) == 1
        assert list(node.duplicates.values()) == ["192.0.2.11"]
        await it.put("subnets/10.5.200.0-24", lease(50))
        assert node.duplicates == {}


async def test_the_hosts_own_routes_decide_who_is_a_neighbour():
    async with parts() as it:
        node = it.assemble(config=VXLAN.replace(b'"vxlan"', b'"vxlan","DirectRouting":true'))
        await it.put("subnets/10.5.2.0-24", lease(12))
        assert "onlink" in str(node.overlay.within(None)[route_key(node)])
        near = Underlay((Hop(ip_network("192.0.2.0/24"), "eth0", False),))
        node.become(replace(node.host, underlay=near))
        assert (
            str(node.overlay.wanted(route_key(node)))
            == "10.5.2.0/24 via 192.0.2.12 dev eth0 proto 102"
        )


async def test_a_subnet_file_that_cannot_be_written_keeps_no_peer_waiting(tmp_path):
    folder = tmp_path / "file"
    folder.write_text("in the way")
    async with parts(f"-subnet-file={folder}/subnet.env") as it:
        node = it.assemble()
        await node.own_part()
        assert not it.runtime.health.ready
        assert "subnet.env" in it.runtime.health.conditions["subnet-file"].why
        assert not it.logged("Wrote subnet file")
        folder.unlink()
        await node.loop.once(node.overlay.own_keys)
        assert it.runtime.health.conditions["subnet-file"].holds


def route_key(node):
    (key,) = [key for key in node.overlay.within(None) if key.kind == Kind.ROUTE]
    return key


async def test_a_full_pass_never_takes_more_than_a_thousandth_of_the_time():
    async with parts() as it:
        node = it.assemble()
        assert node.loop.resync == 30.0
        done = replace(await node.loop.once(frozenset()), scope=None, seconds=0.2)
        node.loop.observed("overlay", done)
        assert node.loop.resync == 200.0
