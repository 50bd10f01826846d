# SPDX-License-Identifier: Apache-2.0
import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from random import Random

import pytest
from msgspec import structs

from fairlead.etcd.errors import Unavailable
from fairlead.etcd.types import KeyRange, LeaseID, Revision
from fairlead.testing.etcd import fake_etcd
from flannelpy.allocate import Wish
from flannelpy.keeper import Keeper
from flannelpy.keys import Subnets
from flannelpy.lease import TTL, Leases, OutOfSubnets
from flannelpy.records import Attributes, encode_attributes, parse_config

CONFIG = parse_config(b'{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}')
TINY = parse_config(b'{"Network":"10.5.0.0/24","Backend":{"Type":"vxlan"}}')
ME = IPv4Address("192.0.2.1")
MINE = Attributes(ME, None, "vxlan", b'{"VNI":1,"VtepMAC":"2e:6f:0b:91:c4:07"}')
VALUE = (
    b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan",'
    b'"BackendData":{"VNI":1,"VtepMAC":"2e:6f:0b:91:c4:07"}}'
)


class Heard:
    def __init__(self):
        self.lines = []

    def info(self, message, /, **fields):
        self.lines.append((message, fields))

    warning = error = info


class Hasty:
    """Time stands, sleeping takes none."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def monotonic(self):
        return self.now

    def wall(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def dealings(store, **options):
    return Leases(store, "/n", Heard(), Random(7).choice, clock=Hasty(), **options)


def first(store, **options):
    return replace(dealings(store, **options), pick=min)


async def test_creates_key_and_value_byte_for_byte_under_a_day_long_lease():
    async with fake_etcd() as store:
        held = await first(store).acquire(CONFIG, MINE, Wish(ME))
        kv = await store.get(b"/n/subnets/10.5.1.0-24")
        assert (kv.value, kv.lease, kv.mod_revision) == (VALUE, held.lease, held.revision)
        assert (await store.time_to_live(kv.lease)).granted_ttl_seconds == TTL
        assert held.expires == TTL


async def test_restart_finds_its_lease_and_writes_nothing():
    async with fake_etcd() as store:
        before = await first(store).acquire(CONFIG, MINE, Wish(ME))
        after = await first(store).acquire(CONFIG, MINE, Wish(ME))
        assert (after.key, after.lease, after.revision) == (
            before.key,
            before.lease,
            before.revision,
        )


async def test_new_attributes_go_under_the_same_key():
    async with fake_etcd() as store:
        await first(store).acquire(CONFIG, MINE, Wish(ME))
        other = structs.replace(MINE, backend_data=b'{"VNI":1,"VtepMAC":"2e:00:00:00:00:01"}')
        held = await first(store).acquire(CONFIG, other, Wish(ME))
        kv = await store.get(held.key)
        assert b"2e:00:00:00:00:01" in kv.value
        assert kv.version == 2


async def test_trap_t3_a_lost_race_is_tried_again():
    async with fake_etcd() as store:
        it = first(store)
        grant = store.grant

        async def slow(ttl, lease=LeaseID(0)):
            if store.core.revision == 1:  # another host takes it between listing and writing
                await store.put(b"/n/subnets/10.5.1.0-24", b'{"PublicIP":"192.0.2.9"}')
            return await grant(ttl, lease)

        store.grant = slow
        held = await it.acquire(CONFIG, MINE, Wish(ME))
        assert held.key == b"/n/subnets/10.5.2.0-24"
        assert await store.leases() == (held.lease,)  # the lost race's etcd lease was given back


async def test_forty_hosts_at_once_get_forty_subnets():
    async with fake_etcd() as store:
        hosts = [IPv4Address("192.0.2.0") + n for n in range(1, 41)]
        random = Random(3)
        held = await asyncio.gather(
            *(
                Leases(store, "/n", Heard(), random.choice, clock=Hasty()).acquire(
                    CONFIG, structs.replace(MINE, public_ip=host), Wish(host)
                )
                for host in hosts
            )
        )
        assert len({it.key for it in held}) == 40
        assert len(await store.leases()) == 40


async def test_trap_t4_own_reservation_stays_one():
    async with fake_etcd() as store:
        await store.put(b"/n/subnets/10.5.44.0-24", b'{"PublicIP":"192.0.2.1"}')
        held = await first(store).acquire(CONFIG, MINE, Wish(ME))
        kv = await store.get(b"/n/subnets/10.5.44.0-24")
        assert (kv.lease, kv.value, held.lease) == (0, VALUE, 0)
        again = await first(store).acquire(CONFIG, MINE, Wish(ME))
        assert again.revision == held.revision
        keeper = Keeper(first(store), again)
        assert keeper.due == float("inf")


async def test_trap_t6_etcd_away_is_waited_for():
    async with fake_etcd() as store:
        it = first(store)
        calls = 0
        pages = store.pages

        def flaky(keys, **options):
            nonlocal calls
            calls += 1
            if calls < 4:
                raise Unavailable("etcd: connection refused")
            return pages(keys, **options)

        store.pages = flaky
        held = await it.acquire(CONFIG, MINE, Wish(ME))
        assert held.key == b"/n/subnets/10.5.1.0-24"
        assert len(it.clock.slept) == 3


async def test_out_of_subnets_is_waited_for_or_said():
    async with fake_etcd() as store:
        for n in (64, 128, 192):
            await store.put(f"/n/subnets/10.5.0.{n}-26".encode(), b'{"PublicIP":"192.0.2.9"}')
        with pytest.raises(OutOfSubnets, match="all 3 IPv4 subnets"):
            await first(store, wait=False).acquire(TINY, MINE, Wish(ME))
        it = first(store)
        waiting = asyncio.ensure_future(it.acquire(TINY, MINE, Wish(ME)))
        while not it.clock.slept:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await store.delete(KeyRange(b"/n/subnets/10.5.0.128-26"))
        assert (await waiting).key == b"/n/subnets/10.5.0.128-26"


async def test_an_own_lease_out_of_range_is_given_back_by_a_transaction_of_its_own():
    async with fake_etcd() as store:
        await store.put(b"/n/subnets/10.9.1.0-24", b'{"PublicIP":"192.0.2.1"}')
        revision = (await store.get(b"/n/subnets/10.9.1.0-24")).mod_revision
        held = await first(store).acquire(CONFIG, MINE, Wish(ME))
        assert await store.get(b"/n/subnets/10.9.1.0-24") is None
        assert held.revision == revision + 2  # trap T1: one lease key in each


async def test_malformed_keys_take_no_part():
    async with fake_etcd() as store:
        await store.put(b"/n/subnets/hello", b"x")
        await store.put(b"/n/subnets/10.5.1.0-24", b"not json")
        held = await dealings(store).acquire(
            CONFIG, MINE, Wish(ME, previous=Subnets(IPv4Network("10.5.7.0/24")))
        )
        assert held.key == b"/n/subnets/10.5.7.0-24"


async def test_keeper_renews_in_place_an_hour_before_expiry():
    async with fake_etcd() as store:
        it = first(store, margin=3600.0)
        held = await it.acquire(CONFIG, MINE, Wish(ME))
        keeper = Keeper(it, held)
        run = asyncio.ensure_future(keeper.run())
        while not any("renewed" in message for message, _ in it.log.lines):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert it.clock.slept[0] == TTL - 3600
        assert (await store.get(held.key)).version == 1  # no event for the peers
        keeper.note(None, Revision(held.revision + 1))
        assert "deleted" in await run


async def test_trap_t5_a_revoked_lease_is_noticed():
    async with fake_etcd() as store:
        it = first(store)
        held = await it.acquire(CONFIG, MINE, Wish(ME))
        keeper = Keeper(it, replace(held, expires=0.0))
        await store.revoke(held.lease)
        assert await keeper.run() == "its etcd lease is gone"


async def test_keeper_ignores_what_was_before_and_takes_over_a_reservation():
    async with fake_etcd() as store:
        it = first(store)
        held = await it.acquire(CONFIG, MINE, Wish(ME))
        keeper = Keeper(it, held)
        keeper.note(None, Revision(held.revision - 1))
        await store.put(held.key, VALUE)
        kv = await store.get(held.key)
        keeper.note(kv, kv.mod_revision)
        assert keeper.held.lease == 0
        assert keeper.due == float("inf")


async def test_two_hosts_with_one_public_ip_are_shouted_about():
    async with fake_etcd() as store:
        it = first(store)
        keeper = Keeper(it, await it.acquire(CONFIG, MINE, Wish(ME)))
        twin = structs.replace(MINE, backend_data=b'{"VNI":1,"VtepMAC":"2e:00:00:00:00:02"}')
        await first(store).acquire(CONFIG, twin, Wish(ME))
        kv = await store.get(keeper.held.key)
        keeper.note(kv, kv.mod_revision)
        assert "same PublicIP" in it.log.lines[-1][0]
        assert keeper.held.lease == kv.lease


MOVED = structs.replace(MINE, public_ip=IPv4Address("192.0.2.9"))


async def test_changed_attributes_are_written_under_the_same_key_and_etcd_lease():
    async with fake_etcd() as store:
        it = first(store)
        held = await it.acquire(CONFIG, MINE, Wish(ME))
        keeper = Keeper(it, held)
        run = asyncio.ensure_future(keeper.run())
        await asyncio.sleep(0)
        keeper.want(encode_attributes(MOVED))
        while keeper.held.value == held.value:  # noqa: ASYNC110
            await asyncio.sleep(0)
        kv = await store.get(held.key)
        assert (kv.value, kv.lease, kv.version) == (encode_attributes(MOVED), held.lease, 2)
        keeper.note(kv, kv.mod_revision)  # the mirror tells of our own put
        assert not [line for line in it.log.lines if "somebody else" in line[0]]
        run.cancel()


async def test_changed_attributes_wait_for_etcd_and_keep_a_reservation_one():
    async with fake_etcd() as store:
        it = first(store)
        await store.put(b"/n/subnets/10.5.9.0-24", VALUE)
        held = await it.acquire(CONFIG, MINE, Wish(ME))
        keeper = Keeper(it, held)
        keeper.want(encode_attributes(MOVED))
        store.faults.refuse = Unavailable("away")
        run = asyncio.ensure_future(keeper.run())
        while not it.clock.slept:  # noqa: ASYNC110
            await asyncio.sleep(0)
        store.faults.refuse = None
        while keeper.held.value == held.value:  # noqa: ASYNC110
            await asyncio.sleep(0)
        kv = await store.get(held.key)
        assert (kv.value, kv.lease) == (encode_attributes(MOVED), 0)
        run.cancel()


async def test_trap_t4_a_reservation_stays_one_when_its_host_goes_dual_stack():
    dual = parse_config(b'{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}')
    async with fake_etcd() as store:
        await store.put(b"/n/subnets/10.5.9.0-24", b'{"PublicIP":"192.0.2.1"}')
        held = await first(store).acquire(dual, MINE, Wish(ME))
        assert held.key.startswith(b"/n/subnets/10.5.9.0-24&fd00:5:")
        assert held.lease == (await store.get(held.key)).lease == 0
        assert await store.get(b"/n/subnets/10.5.9.0-24") is None


async def test_a_live_mirror_spares_the_first_list_but_not_the_one_after_a_lost_race():
    async with fake_etcd() as store:
        await first(store).acquire(
            CONFIG,
            structs.replace(MINE, public_ip=IPv4Address("192.0.2.2")),
            Wish(IPv4Address("192.0.2.2")),
        )
        it = first(store, known=tuple)  # a mirror that has not heard of the other yet
        held = await it.acquire(CONFIG, MINE, Wish(ME))
        assert str(held.subnets) == "10.5.2.0/24"
        assert any("faster" in message for message, _ in it.log.lines)
