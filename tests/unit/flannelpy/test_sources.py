"""etcd's word as records: the network configuration and the leases."""

import asyncio

import pytest

from flannelpy.sources import StartError
from tests.unit.flannelpy.parts import VXLAN, lease, parts


async def test_it_waits_for_a_good_configuration_and_says_why():
    async with parts() as it:
        waiting = asyncio.ensure_future(it.sources.network())
        await it.clock.settle()
        assert it.logged('reason="no such key"')
        await it.put("config", b'{"Network":1}')
        assert it.logged("Network")
        assert not waiting.done()
        await it.put("config", VXLAN)
        assert str((await waiting).v4.network) == "10.5.0.0/16"
        assert it.sources.config() == await waiting


async def test_both_families_off_ends_the_daemon():
    async with parts() as it:
        await it.put("config", b'{"EnableIPv4":false}')
        with pytest.raises(StartError, match="both EnableIPv4 and EnableIPv6 are off"):
            await it.sources.network()


async def test_a_bad_configuration_keeps_the_last_good_one_in_force():
    async with parts() as it:
        await it.put("config", VXLAN)
        good = it.sources.config()
        it.sources.config_changed.clear()
        await it.put("config", b"{")
        assert it.sources.config_changed.is_set()
        assert it.sources.config() == good


async def test_trap_t1_changed_leases_are_told_by_key_and_bad_ones_cost_only_themselves():
    async with parts() as it:
        told, raw = [], []
        it.sources.on_leases = lambda touched: told.extend(touched)
        it.sources.on_keys = lambda changes: raw.extend((key, kv is None) for key, kv, _ in changes)
        await it.put("subnets/10.5.2.0-24", lease(12))
        await it.put("subnets/10.5.3.0-24", b"{")
        await it.put("subnets/nonsense", b"{}")
        assert told == [b"/n/subnets/10.5.2.0-24"]
        assert [key for key, _ in raw] == [
            b"/n/subnets/10.5.2.0-24", b"/n/subnets/10.5.3.0-24", b"/n/subnets/nonsense",
        ]  # fmt: skip
        assert list(it.sources.leases) == told
        assert it.sources.lease(told[0]).attributes.public_ip.packed[-1] == 12
        assert it.sources.live
        _, kv, revision = it.sources.as_stored(told[0])
        assert (kv.value, kv.mod_revision) == (lease(12), revision)
