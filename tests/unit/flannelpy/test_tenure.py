"""Holding a lease: first, kept, advertised, lost and taken again."""

import asyncio
import json
from dataclasses import replace
from ipaddress import IPv4Interface

import pytest

from fairlead.etcd.errors import Unavailable
from fairlead.etcd.types import KeyRange
from flannelpy import identity
from flannelpy.backends import Host
from flannelpy.records import parse_config
from tests.unit.flannelpy.parts import MAC, UPLINK, VXLAN, parts

HOST = Host(parse_config(VXLAN), UPLINK, fresh_mac=MAC)


@pytest.fixture(autouse=True)
def first_free(monkeypatch):
    """Choose the first free subnet, not one by chance."""
    monkeypatch.setattr("flannelpy.tenure.secrets.choice", min)
    monkeypatch.setattr("flannelpy.identity.previous", lambda config, log: None)


async def keeping(it):
    """Acquire, and keep in the background."""
    node = it.assemble()
    node.adopt(await it.tenure.first(HOST))
    kept = asyncio.ensure_future(it.tenure.keep(node))
    await it.clock.settle()
    return node, kept


async def value(it):
    (name,) = await it.leases()
    return json.loads((await it.store.get(f"/n/subnets/{name}".encode())).value)


async def test_what_is_advertised_gets_under_the_same_key_and_lease():
    async with parts() as it:
        node, kept = await keeping(it)
        before = await it.store.get(b"/n/subnets/10.5.1.0-24")
        moved = backend_at(node, "192.0.2.99")
        it.tenure.advertise(moved)
        await it.tenure.advertised(1.0)
        after = await it.store.get(b"/n/subnets/10.5.1.0-24")
        assert (await value(it))["PublicIP"] == "192.0.2.99"
        assert (after.lease, after.create_revision) == (before.lease, before.create_revision)
        kept.cancel()


def backend_at(node, address):
    v4 = IPv4Interface(f"{address}/24")
    return identity.build(replace(node.host, uplink=replace(UPLINK, v4=v4, ext_v4=v4.ip)))


async def test_advertising_waits_no_longer_than_told_when_etcd_is_away():
    async with parts() as it:
        node, kept = await keeping(it)
        it.store.faults.refuse = Unavailable("away")
        it.tenure.advertise(backend_at(node, "192.0.2.99"))
        await it.tenure.advertised(0.01)
        assert it.logged("lease not rewritten; trying again")
        it.store.faults.refuse = None
        await it.clock.advance(2.0)
        assert (await value(it))["PublicIP"] == "192.0.2.99"
        kept.cancel()


async def test_trap_t5_a_revoked_lease_is_taken_again():
    async with parts() as it:
        _, kept = await keeping(it)
        await it.store.delete(KeyRange(b"/n/subnets/10.5.1.0-24"))
        await it.clock.settle()
        assert it.logged("Lease has been revoked")
        assert await it.leases() == ["10.5.1.0-24"]
        assert not kept.done()
        kept.cancel()


async def test_trap_t5_or_the_daemon_ends_with_0():
    async with parts("-on-revoke=exit") as it:
        _, kept = await keeping(it)
        await it.store.delete(KeyRange(b"/n/subnets/10.5.1.0-24"))
        assert await kept == 0
        assert await it.leases() == []


async def test_with_plan_nothing_is_written():
    async with parts("-plan") as it:
        held = await it.tenure.first(HOST)
        assert str(held.subnets.v4) == "10.5.1.0/24"
        assert it.logged("the plan takes one of those that a start would choose from")
        assert await it.leases() == []
