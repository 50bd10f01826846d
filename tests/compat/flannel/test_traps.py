# SPDX-License-Identifier: Apache-2.0
"""The traps of specs/flannel.md §22, by number; many stand beside the module they concern."""

import asyncio
import re
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from fairlead.errors import RecordError
from fairlead.etcd.mirror import Mirror
from fairlead.etcd.types import KeyRange, KeyValue, LeaseID, Put, Revision
from fairlead.records import Records
from fairlead.testing.etcd import fake_etcd
from flannelpy import backends, keys, subnet_env
from flannelpy.backends import Host, Uplink
from flannelpy.desired import Overlay
from flannelpy.records import decode_attributes, decode_lease, encode_attributes, parse_config

PREFIX = "/coreos.com/network"
CONFIG = parse_config(b'{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}')
ME = IPv4Address("192.0.2.1")


def overlay():
    uplink = Uplink("eth0", 2, 1500, IPv4Interface("192.0.2.1/24"), None, ME)
    host = Host(CONFIG, uplink, fresh_mac="2e:00:00:00:00:01")
    return Overlay(CONFIG, backends.build(host), keys.parse_lease(b"10.5.1.0-24"))


def value(mac, public="192.0.2.2"):
    return (
        b'{"PublicIP":"%b","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%b"}}'
        % (
            public.encode(),
            mac.encode(),
        )
    )


class Following:
    """An overlay that follows a store as the daemon does."""

    def __init__(self, store):
        self.mirror = Mirror(store, keys.subnets(PREFIX), name="leases")
        self.records = Records(decode_lease)
        self.overlay = overlay()
        self.mirror.subscribe(self.told)

    def told(self, batch):
        for key in self.records.apply((change.key, change.new) for change in batch.changes):
            self.overlay.update(key, self.records.good.get(key))

    @property
    def objects(self):
        state = self.overlay.within(None)
        return [str(state[key]) for key in sorted(state)][2:]  # without device and address


def key(n):
    return f"{PREFIX}/subnets/10.5.{n}.0-24".encode()


A, B, C = (f"2e:00:00:00:00:0{n}" for n in "abc")


async def following(store, body):
    it = Following(store)
    run = asyncio.ensure_future(it.mirror.run())
    try:
        await it.mirror.ready()
        await body(it)
    finally:
        run.cancel()


async def test_t1_foreign_and_broken_keys_cost_only_themselves():
    async def body(it):
        for leaf in (b"hello", b"10.5.9.0-99", b"10.5.9.0-24"):
            await store.put(keys.subnets(PREFIX).start + leaf, b"{broken")
        await it.mirror.at_least((await store.put(key(3), value(B, "192.0.2.3"))).header.revision)
        assert it.overlay.peers == 2
        assert len(it.records.rejected) == 3
        assert all(isinstance(error, RecordError) for error in it.records.rejected.values())

    async with fake_etcd() as store:
        await store.put(key(2), value(A))
        await following(store, body)


async def test_t1_every_event_of_one_transaction_counts():
    async def body(it):
        done = await store.txn(
            (), tuple(Put(key(n), value(mac)) for n, mac in ((2, A), (3, B), (4, C)))
        )
        await it.mirror.at_least(done.header.revision)
        assert it.overlay.peers == 3

    async with fake_etcd() as store:
        await following(store, body)


def test_t1_nothing_of_ours_is_under_the_subnets_string():
    assert not keys.config(PREFIX).startswith(f"{PREFIX}/subnets".encode())


@pytest.mark.parametrize("text", ['{"Network":"10.3.0.0/16"}', '{"nEtWoRk":"10.3.0.0/16"}'])
def test_t2_absent_backend_is_udp_and_names_match_in_any_case(text):
    assert parse_config(text.encode()).backend.type == "udp"


def test_t7_public_ipv6_is_always_there_as_null():
    assert encode_attributes(decode_attributes(b'{"PublicIP":"192.0.2.13"}')) == (
        b'{"PublicIP":"192.0.2.13","PublicIPv6":null}'
    )


def test_t13_subnet_file_is_unquoted_and_subnet_is_base_plus_one():
    own = keys.parse_lease(b"10.7.21.0-24")
    env = subnet_env.SubnetEnv(CONFIG.v4.network, own.v4, None, None, 1450, ipmasq=False)
    assert env.render() == (
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.7.21.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    )


async def test_t16_attributes_that_changed_behind_a_compaction_are_seen():
    async def body(it):
        store.faults.freeze()
        store.faults.drop_watches()
        store.faults.thaw()
        await store.put(key(2), value(B, "192.0.2.9"))
        await store.delete(KeyRange(key(3)))
        done = await store.put(key(4), value(C, "192.0.2.4"))
        await store.faults.compact()
        await it.mirror.at_least(done.header.revision)
        assert it.objects == [
            "neigh 10.5.2.0 dev flannel.1 lladdr 2e:00:00:00:00:0b PERMANENT",
            "neigh 10.5.4.0 dev flannel.1 lladdr 2e:00:00:00:00:0c PERMANENT",
            "fdb 2e:00:00:00:00:0b dev flannel.1 dst 192.0.2.9 self permanent",
            "fdb 2e:00:00:00:00:0c dev flannel.1 dst 192.0.2.4 self permanent",
            "10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink",
            "10.5.4.0/24 via 10.5.4.0 dev flannel.1 onlink",
        ]

    async with fake_etcd() as store:
        await store.put(key(2), value(A))
        await store.put(key(3), value(B, "192.0.2.3"))
        await following(store, body)


def test_t20_leases_of_both_kinds_live_together():
    it = overlay()
    for leaf, mac in (("10.5.2.0-24", A), ("10.5.3.0-24&fd00:5:0:3::-64", B)):
        name = f"{PREFIX}/subnets/{leaf}".encode()
        from_etcd = decode_lease(_kv(name, value(mac)))
        it.update(name, from_etcd)
    assert it.peers == 2


def _kv(name, text):
    return KeyValue(name, text, Revision(1), Revision(1), 1, LeaseID(1))


def test_t23_readers_do_not_depend_on_field_order():
    one = decode_attributes(
        b'{"BackendType":"vxlan","BackendData":{"VNI":1},"PublicIP":"192.0.2.1"}'
    )
    assert encode_attributes(one) == (
        b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1}}'
    )


def test_every_trap_has_a_test_by_its_number():
    here = Path(__file__).resolve().parents[2]
    files = [
        *here.glob("unit/flannelpy/*.py"),
        *here.glob("compat/flannel/*.py"),
        *here.glob("netns/*.py"),
    ]
    text = "\n".join(path.read_text() for path in files)
    found = {
        int(n)
        for n in re.findall(r"(?:test_t|test_trap_t|trap T)(\d+)\b|_t(\d+)_", text)
        for n in n
        if n
    }
    assert set(range(1, 28)) <= found
