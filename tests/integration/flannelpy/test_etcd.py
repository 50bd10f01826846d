# SPDX-License-Identifier: Apache-2.0
"""The lease dealings on a real etcd: the least rights, and two hundred hosts at once."""

import asyncio
import random
from ipaddress import IPv4Address

import pytest
from msgspec import structs

from fairlead.etcd.client import connect
from fairlead.etcd.errors import Denied
from fairlead.etcd.mirror import Mirror
from fairlead.etcd.options import Options
from fairlead.etcd.types import KeyRange
from fairlead.testing.etcd import real_etcd
from flannelpy import keys
from flannelpy.allocate import Wish
from flannelpy.lease import Leases
from flannelpy.records import Attributes, decode_config, parse_config

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PREFIX = "/coreos.com/network"
TEXT = b'{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
CONFIG = parse_config(TEXT)
DATA = b'{"VNI":1,"VtepMAC":"2e:6f:0b:91:c4:07"}'


class Quiet:
    def info(self, message, /, **fields):
        """Say nothing."""

    warning = error = info


def dealings(store):
    return Leases(store, PREFIX, Quiet(), random.choice)


def wish(n):
    public = IPv4Address("192.0.2.0") + n
    return Attributes(public, None, "vxlan", DATA), Wish(public)


async def ctl(cluster, *words):
    process = await asyncio.create_subprocess_exec(
        "etcdctl", "--endpoints", ",".join(cluster.endpoints), *words,
        env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin:/usr/local/bin"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out


async def test_the_rights_of_the_manual_page_are_enough():
    async with real_etcd() as cluster:
        await ctl(cluster, "put", f"{PREFIX}/config", TEXT.decode())
        for words in (
            ("user", "add", "root:rootpw"),
            ("user", "grant-role", "root", "root"),
            ("role", "add", "flanneld"),
            ("role", "grant-permission", "flanneld", "read", f"{PREFIX}/config"),
            ("role", "grant-permission", "flanneld", "--prefix", "readwrite", f"{PREFIX}/subnets/"),
            ("user", "add", "flanneld:secret"),
            ("user", "grant-role", "flanneld", "flanneld"),
            ("auth", "enable"),
        ):
            await ctl(cluster, *words)
        options = Options(endpoints=cluster.endpoints, user="flanneld", password="secret")
        async with connect(options) as store:
            for ranges in (KeyRange(keys.config(PREFIX)), keys.subnets(PREFIX)):
                mirror = Mirror(store, ranges, name="x")
                run = asyncio.ensure_future(mirror.run())
                async with asyncio.timeout(5):
                    await mirror.ready()
                for kv in mirror.data.values():
                    assert decode_config(kv) == CONFIG
                run.cancel()
            attributes, who = wish(1)
            held = await dealings(store).acquire(CONFIG, attributes, who)
            again = await dealings(store).acquire(CONFIG, attributes, who)  # keeps it alive
            assert again.lease == held.lease
            other = structs.replace(attributes, backend_data=DATA.replace(b"2e", b"3e"))
            assert (await dealings(store).acquire(CONFIG, other, who)).key == held.key
            with pytest.raises(Denied):
                await store.put(b"/elsewhere", b"x")


async def test_two_hundred_hosts_at_once_get_a_subnet_each():
    async with real_etcd() as cluster, connect(Options(endpoints=cluster.endpoints)) as store:
        held = await asyncio.gather(
            *(dealings(store).acquire(CONFIG, *wish(n)) for n in range(1, 201))
        )
        assert len({it.key for it in held}) == 200
        assert len(await store.leases()) == 200  # none is left of lost races
