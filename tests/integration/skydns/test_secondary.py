# SPDX-License-Identifier: Apache-2.0
"""Zone transfers to real secondaries: NSD and Knot follow every change, told by NOTIFY.

NSD is let in by its address, Knot by a key (RFC 8945), which NOTIFY to it is signed with too.
"""

import asyncio
import shutil
from contextlib import asynccontextmanager

import dns.exception
import dns.message
import dns.query
import pytest

from fairlead.testing.etcd import free_ports, real_etcd

from .test_skydns import put, put_all, skydns

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NSD = """
server:
    ip-address: 127.0.0.1@{port}
    username: ""
    zonesdir: "{home}"
    database: ""
    pidfile: "{home}/nsd.pid"
    xfrdfile: "{home}/xfrd.state"
    xfrdir: "{home}"
    zonelistfile: "{home}/zone.list"
    server-count: 1
    xfrd-reload-timeout: 0
remote-control:
    control-enable: no
zone:
    name: "skydns.test"
    zonefile: "{home}/skydns.test.zone"
    allow-notify: 127.0.0.1 NOKEY
    request-xfr: 127.0.0.1@{primary} NOKEY
"""
KNOT = """
server:
    listen: 127.0.0.1@{port}
    rundir: {home}/run
database:
    storage: {home}/db
key:
  - id: k.example
    algorithm: hmac-sha256
    secret: AAECAwQFBgcICQoLDA0ODw==
remote:
  - id: primary
    address: 127.0.0.1@{primary}
    key: k.example
acl:
  - id: told
    address: 127.0.0.1
    key: k.example
    action: notify
template:
  - id: default
    storage: {home}
  - id: member
    storage: {home}
    master: primary
    acl: told
zone:
  - domain: skydns.test
    master: primary
    acl: told
  - domain: catalog.example
    master: primary
    acl: told
    catalog-role: interpret
    catalog-template: member
"""


KEYS = 'key "k.example" { algorithm hmac-sha256; secret "AAECAwQFBgcICQoLDA0ODw=="; };'


@asynccontextmanager
async def secondary(name, home, port, primary):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not on PATH (Debian: nsd, knot)")
    (home / "run").mkdir(parents=True)
    (home / "db").mkdir()
    text, flags = (NSD, ("-d",)) if name == "nsd" else (KNOT, ())
    (home / "conf").write_text(text.format(home=home, port=port, primary=primary))
    process = await asyncio.create_subprocess_exec(
        name, "-c", str(home / "conf"), *flags, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def answers(port, name, rtype="A"):
    query = dns.message.make_query(name, rtype)
    try:
        reply = await asyncio.to_thread(dns.query.tcp, query, "127.0.0.1", port=port, timeout=2)
    except (OSError, EOFError, dns.exception.DNSException):
        return None
    return sorted(rr.to_text() for rrset in reply.answer for rr in rrset)


async def becomes(port, name, rtype, wanted):
    async with asyncio.timeout(30):
        while True:
            if await answers(port, name, rtype) == wanted:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("more", [(), ("-workers=2",)])
async def test_nsd_and_knot_follow(tmp_path, more):
    """With workers too: whichever is asked, all transfers have one history."""
    nsd, knot = free_ports(2)
    (tmp_path / "keys").write_text(KEYS)
    allowed = ("-transfer-to=127.0.0.1,key:k.example",)
    async with real_etcd() as cluster:
        await put_all(
            cluster, {f"pool/x{at:02}": {"host": f"10.0.0.{at}", "port": 80} for at in range(50)}
        )
        await put_all(cluster, {
            "alias": {"host": "pool.skydns.test"}, "texts": {"text": 'say "hi" \\ there'},
            "mail": {"host": "10.0.1.1", "mail": True}, "odd:label": {"host": "10.0.1.2"},
        })  # fmt: skip
        async with skydns(
            tmp_path, cluster.endpoints[0], "-no-rec", f"-tsig-keys={tmp_path}/keys", "-catalog=catalog.example",
            *allowed, f"-notify=127.0.0.1:{nsd},k.example@127.0.0.1:{knot}", *more,
        ) as program:  # fmt: skip
            await program.ready()
            async with (
                secondary("nsd", tmp_path / "nsd", nsd, program.port),
                secondary("knotd", tmp_path / "knot", knot, program.port),
            ):
                for port in (nsd, knot):
                    await becomes(port, "x07.pool.skydns.test", "A", ["10.0.0.7"])
                    for name, rtype in (
                        ("pool", "A"), ("pool", "SRV"), ("texts", "TXT"), ("mail", "MX"), ("odd:label", "A"),
                        ("alias", "CNAME"), ("none", "A"),
                    ):  # fmt: skip
                        name = f"{name}.skydns.test"
                        assert await answers(port, name, rtype) == await answers(
                            program.port, name, rtype
                        )
                await put(cluster, "pool/x07", host="10.0.0.77", port=80)
                await put(cluster, "new", host="10.9.9.9")
                await cluster.etcdctl("del", "/skydns/test/skydns/texts")
                for port in (nsd, knot):
                    await becomes(port, "new.skydns.test", "A", ["10.9.9.9"])
                    await becomes(port, "x07.pool.skydns.test", "A", ["10.0.0.77"])
                    await becomes(port, "texts.skydns.test", "TXT", [])
                    assert await answers(port, "skydns.test", "SOA") == await answers(
                        program.port, "skydns.test", "SOA"
                    )
                # RFC 9432: skydns.test it has by its own file; example.test, and what comes, by the catalog
                has = await answers(program.port, "example.test", "SOA")
                await becomes(knot, "example.test", "SOA", has)
                await cluster.etcdctl("put", "/skydns/test/third/www", '{"host":"10.8.8.8"}')
                zones = '{"domain":"skydns.test,example.test,third.test"}'
                await cluster.etcdctl("put", "/skydns/config", zones)
                await becomes(knot, "www.third.test", "A", ["10.8.8.8"])
                await cluster.etcdctl("put", "/skydns/config", zones.replace(",third.test", ""))
                await becomes(knot, "www.third.test", "A", [])
                metrics = program.page("/metrics")
                assert 'skydns_transfers_total{kind="IXFR"}' in metrics
                assert "skydns_transfers_refused_total 0.0" in metrics
