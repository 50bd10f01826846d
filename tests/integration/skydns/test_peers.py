# SPDX-License-Identifier: Apache-2.0
"""Answer by answer beside CoreDNS and SkyDNS on the same etcd; every difference has its reason."""

import asyncio
import json
import os
import shutil
import urllib.parse
import urllib.request
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from fairlead.testing.etcd import free_ports, real_etcd

from .test_skydns import put, skydns

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TYPES = ("A", "AAAA", "CNAME", "TXT", "SRV", "MX", "NS", "SOA", "PTR", "HTTPS", "CAA")

STORED = {
    "dns/ns/ns1": {"host": "192.0.2.53"},
    "dns/apex/x1": {"host": "192.0.2.1"},
    "db/x1": {"host": "10.0.0.1", "port": 5432},
    "db/x2": {"host": "10.0.0.2", "port": 5432, "weight": 300},
    "db/x3": {"host": "10.0.0.3", "port": 5433, "priority": 20, "ttl": 60},
    "six": {"host": "2001:db8::1"},
    "mapped": {"host": "::ffff:10.0.0.9"},
    "alias": {"host": "db.skydns.test"},
    "away": {"host": "www.example.org"},
    "texts/a": {"text": "one"},
    "texts/b": {"text": "two"},
    "mail/m1": {"host": "10.0.1.1", "mail": True, "priority": 5},
    "mail/m2": {"host": "mx.example.org", "mail": True},
    "g/a/c": {"host": "10.0.2.1", "group": "g1"},
    "g/b": {"host": "10.0.2.2"},
    "g/d": {"host": "10.0.2.3", "group": "g2"},
    "web/3f9a01bc": {"host": "10.0.3.1", "ttl": 300, "targetstrip": 1},
    "web/4f9a01bc": {"host": "10.0.3.2", "ttl": 300, "targetstrip": 1},
    "_tcp/_http": {"host": "10.0.4.1", "port": 80},
    "up/two": {"host": "10.0.5.1", "weight": 97},
    "both": {"host": "10.0.6.1"},
    "both/x": {"host": "10.0.6.2"},
    "named": {"host": "db.skydns.test", "text": "hidden"},
    "addressed": {"host": "10.0.7.1", "text": "hidden"},
    "mixed/a": {"host": "10.0.8.1"},
    "mixed/b": {"host": "db.skydns.test"},
}
NAMES = (
    "skydns.test", "ns.dns.skydns.test", "ns1.ns.dns.skydns.test", "apex.dns.skydns.test",
    *(f"{name}.skydns.test" for name in (
        "db", "x1.db", "x3.db", "DB", "six", "mapped", "alias", "away", "texts", "a.texts", "mail", "m1.mail", "g", "a.g",
        "web", "3f9a01bc.web", "_http._tcp", "_tcp", "up", "two.up", "both", "x.both", "named", "addressed", "mixed",
        "missing", "below.six", "*.db", "x1.*", "any.g", "*.missing",
    )),
)  # fmt: skip

# (name without the zone, types) → why we answer otherwise than CoreDNS
BETTER = {
    ("named", TYPES): "trap 5: a name with text is an alias all the same, and is in SRV",
    ("addressed", ("TXT",)): "trap 5: text beside an address is text",
    ("mixed", TYPES): "§4.3: no alias beside addresses: it is resolved into them",
    ("mail", ("A", "AAAA", "TXT")): "§4.3: no alias beside an address",
    (
        "skydns.test",
        ("SRV", "TXT", "MX"),
    ): "§1.2: the `dns` child is not part of the zone's own name",
    ("web", ("SRV",)): "§4.3: weights are computed after equal targets have become one",
}
BETTER_THAN_SKYDNS = {
    ("skydns.test", ("A", "AAAA", "SRV")): "trap 6 (text alone leads to the root) and §1.2",
    ("skydns.test", ("SOA",)): "§5.7: the store's serial; trap 18: hostmaster of the zone",
    ("texts", TYPES): "trap 6: text alone is no alias to the root",
    ("a.texts", TYPES): "trap 6",
    (
        "alias",
        ("A",),
    ): "trap 27: a TTL is lowered within an RRset, not across the answer",
    ("named", ("A",)): "trap 27",
    ("mixed", ("A",)): "§4.3: one alias or the addresses, not both",
    (
        "away",
        ("A", "AAAA", "TXT"),
    ): "§5.2: an alias that nobody can resolve is shown, as in CoreDNS",
    ("mail", ("AAAA", "TXT")): "§5.2, likewise",
    ("web", ("SRV",)): "§4.3: weights are computed after equal targets have become one",
    ("g", TYPES): "§3.2: v2 lists a directory in any order, and groups depend on it (trap 16)",
    ("any.g", TYPES): "§3.2, likewise",
    ("_tcp", ("A", "SRV")): "etcd v2 hides keys that begin with an underscore, v3 does not",
    ("missing", ("NS",)): "§5.6: a missing name is NXDOMAIN for NS too",
    ("*.missing", ("NS",)): "§5.6, likewise",
    (
        "below.six",
        TYPES,
    ): "RFC 8020: below a leaf there is nothing, where v2 says 'not a directory'",
}
# a name's own host is its PTR, as in CoreDNS (§2.4); SkyDNS has PTR in reverse zones only
PTR_AS_COREDNS = ("alias", "away", "named")


async def ask(port, name, rtype):
    query = dns.message.make_query(name, rtype)
    return await asyncio.to_thread(dns.query.tcp, query, "127.0.0.1", port=port, timeout=5)


def shown(reply):
    """What a client goes by: rcode, answers with TTLs."""
    answers = sorted(
        f"{rrset.name.to_text().lower()} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rdata}"
        for rrset in reply.answer
        for rdata in rrset
    )
    return dns.rcode.to_text(reply.rcode()), answers


@asynccontextmanager
async def peer(name, *arguments, port, env=None):
    path = shutil.which(name, path=f"{os.environ.get('FAIRLEAD_PEERS', '')}:{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{name} is neither in $FAIRLEAD_PEERS nor on PATH")
    process = await asyncio.create_subprocess_exec(
        path, *arguments, env=os.environ | (env or {}), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )  # fmt: skip
    try:
        for _ in range(100):
            try:
                await ask(port, "skydns.test", "SOA")
                break
            except (OSError, EOFError):
                assert process.returncode is None, f"{name} ended"
                await asyncio.sleep(0.1)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def excused(name, rtype, theirs, mine, reasons):
    short = name.removesuffix(".skydns.test")
    if any(short == which and rtype in kinds for which, kinds in reasons):
        return True
    if rtype in {"CNAME", "PTR"} and (theirs[0], mine[0]) == ("NXDOMAIN", "NOERROR"):
        return rtype == "CNAME" or not mine[1]  # trap 9: a name that exists is no NXDOMAIN
    if rtype == "SOA":  # trap 25; at the apex the serial is the store's
        below = name != "skydns.test" and not mine[1]
        return len(theirs[1]) == 1 and (below or len(mine[1]) == 1)
    return False


async def compare(port, ours, reasons):
    """Ask both everything; return how many answers are equal, and say which are not and why not."""
    same, unexplained = 0, []
    for name in NAMES:
        for rtype in TYPES:
            theirs = shown(await ask(port, name, rtype))
            mine = shown(await ask(ours, name, rtype))
            if theirs == mine:
                same += 1
            elif not excused(name, rtype, theirs, mine, reasons):
                unexplained.append(f"{name} {rtype}\n  theirs {theirs}\n  ours   {mine}")
    print(f"{same} of {len(NAMES) * len(TYPES)} answers are equal")
    assert not unexplained, "\n".join(unexplained)
    return same


async def test_answer_by_answer_beside_coredns(tmp_path):
    (port,) = free_ports(1)
    async with real_etcd() as cluster:
        for path, record in STORED.items():
            await put(cluster, path, **record)
        corefile = tmp_path / "Corefile"
        corefile.write_text(
            f"skydns.test:{port} {{\n  bind 127.0.0.1\n  etcd {{\n    path /skydns\n    endpoint {cluster.endpoints[0]}\n  }}\n}}\n"
        )
        async with (
            peer("coredns", "-conf", str(corefile), port=port),
            skydns(tmp_path, cluster.endpoints[0], "-no-rec", "-round-robin=false", "-auto-ptr=false") as ours,
        ):  # fmt: skip
            await ours.ready()
            assert await compare(port, ours.port, BETTER) > 300


def put_v2(endpoint, path, record):
    """Write a record into etcd's v2 store."""
    data = urllib.parse.urlencode({"value": json.dumps(record)}).encode()
    url = f"{endpoint}/v2/keys/skydns/test/skydns/{path}"
    urllib.request.urlopen(urllib.request.Request(url, data=data, method="PUT"), timeout=5).close()


async def test_answer_by_answer_beside_skydns(tmp_path):
    """SkyDNS on the v2 store, where it gives the answers that it is known for."""
    (port,) = free_ports(1)
    stored = {
        path: record for path, record in STORED.items() if path != "both"
    }  # v2: no leaf there
    async with real_etcd(arguments=("--enable-v2",)) as cluster:
        for path, record in stored.items():
            await put(cluster, path, **record)
            await asyncio.to_thread(put_v2, cluster.endpoints[0], path, record)
        async with (
            peer(
                "skydns-go", f"-machines={cluster.endpoints[0]}", f"-addr=127.0.0.1:{port}", "-domain=skydns.test.", "-no-rec",
                "-round-robin=false", port=port,
            ),
            skydns(tmp_path, cluster.endpoints[0], "-no-rec", "-round-robin=false", "-compat=skydns", "-auto-ptr=false") as ours,
        ):  # fmt: skip
            await ours.ready()
            reasons = BETTER_THAN_SKYDNS | {(name, ("PTR",)): "§2.4" for name in PTR_AS_COREDNS}
            assert await compare(port, ours.port, reasons) > 340
