# SPDX-License-Identifier: Apache-2.0
"""`file` and `rewrite` of a Corefile beside CoreDNS, with the same file for both."""

import asyncio
import sys

import dns.rcode
import dns.rdatatype
import pytest

from fairlead.testing.etcd import free_ports

from .test_peers import ask, peer
from .test_skydns import Skydns

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DB = """
$ORIGIN example.test.
$TTL 300
@       3600 IN SOA ns1 hostmaster 2024010101 7200 1800 86400 60
        IN NS ns1
        IN MX 10 mail
        IN A 192.0.2.1
ns1     IN A 192.0.2.53
mail    IN A 192.0.2.25
www     IN A 192.0.2.80
        IN A 192.0.2.81
alias   IN CNAME www
twice   IN CNAME alias
srv     IN SRV 0 5 80 www
txt     IN TXT "one" "two"
*.wild  IN A 192.0.2.9
*.cw    IN CNAME www
a.b.deep IN A 192.0.2.7
sub     IN NS ns.sub
ns.sub  IN A 192.0.2.54
old     IN DNAME new.example.test.
x.new   IN A 192.0.2.70
caa     IN CAA 0 issue "ca.example"
ftp.service IN A 192.0.2.21
"""
COREFILE = """
.:{port} {{
    bind 127.0.0.1
{etcd}
    rewrite name exact red.example.test www.example.test
    rewrite name suffix .former.test .example.test answer auto
    rewrite name suffix .bare.test .example.test
    rewrite name regex (.*)-(west)\\.example\\.test {{1}}.service.example.test answer name (.*)\\.service\\.example\\.test {{1}}-west.example.test
    rewrite stop {{
        name prefix old- alias
    }}
    rewrite type AAAA A
    rewrite continue ttl txt.example.test 15
    rewrite rcode suffix .forgiven.example.test NXDOMAIN NOERROR
    rewrite cname exact www.example.test. mail.example.test.
    file {db} example.test
}}
"""
NAMES = (
    "example.test", "www.example.test", "WWW.example.test", "ns1.example.test", "alias.example.test", "twice.example.test",
    "srv.example.test", "txt.example.test", "x.wild.example.test", "wild.example.test", "y.x.wild.example.test",
    "x.cw.example.test", "deep.example.test", "b.deep.example.test", "nothing.example.test", "sub.example.test",
    "h.sub.example.test", "caa.example.test", "x.old.example.test", "old.example.test", "red.example.test",
    "www.former.test", "alias.former.test", "nothing.former.test", "www.bare.test", "ftp-west.example.test",
    "old-.example.test", "a.forgiven.example.test",
)  # fmt: skip
TYPES = ("A", "AAAA", "CNAME", "MX", "TXT", "SRV", "NS", "SOA", "CAA", "DS")


def shown(reply):
    """rcode, answers, and a referral: records without order, in lower case.

    The rest of authority differs on purpose: ours has the SOA's TTL as RFC 2308 §3 says, and no NS
    records beside answers, which are of no use to anybody.
    """
    answers, authority = (
        sorted(
            f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rdata}".lower()
            for rrset in section
            for rdata in rrset
        )
        for section in (reply.answer, reply.authority)
    )
    referral = authority if not answers and " ns " in "".join(authority) else []
    return dns.rcode.to_text(reply.rcode()), answers, referral


async def test_every_answer_is_the_originals(tmp_path):
    theirs_port, ours_port = free_ports(2)
    (tmp_path / "db").write_text(DB)
    for name, port, etcd in (("theirs", theirs_port, ""), ("ours", ours_port, "    etcd z.test")):
        text = COREFILE.format(port=port, etcd=etcd, db=tmp_path / "db")
        (tmp_path / name).write_text(text)
    async with peer("coredns", "-conf", f"{tmp_path}/theirs", port=theirs_port):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skydns", f"-conf={tmp_path}/ours", f"-etcd-embedded={tmp_path}/store",
            f"-state-dir={tmp_path}/state", f"-admin-socket={tmp_path}/skydns.sock", stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        program = Skydns(process, tmp_path, ours_port)
        try:
            await program.ready()
            different, same = [], 0
            for name in NAMES:
                for rtype in TYPES:
                    theirs = shown(await ask(theirs_port, name, rtype))
                    mine = shown(await ask(ours_port, name, rtype))
                    same += theirs == mine
                    if theirs != mine:
                        different.append(f"{name} {rtype}\n  theirs {theirs}\n  ours   {mine}")
            print(f"{same} of {len(NAMES) * len(TYPES)} are equal")
            assert not different, "\n".join(different)
        finally:
            await program.end()
