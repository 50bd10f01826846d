# SPDX-License-Identifier: Apache-2.0
"""Signed answers as validators see them: delv, kdig, and unbound with our key as its anchor."""

import asyncio
import base64
import shutil

import pytest

from fairlead.testing.etcd import free_ports, real_etcd
from skydns import dnssec

from .test_skydns import put, skydns

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def key_pair(home, zone="skydns.test.", flags=257):
    """Write a P-256 pair as dnssec-keygen does; return its base name and DNSKEY line."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_numbers()
    public = base64.b64encode(point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")).decode()
    private = base64.b64encode(key.private_numbers().private_value.to_bytes(32, "big")).decode()
    base = home / f"K{zone}+013+00001"
    line = f"{zone} IN DNSKEY {flags} 3 13 {public}"
    base.with_name(base.name + ".key").write_text(line + "\n")
    base.with_name(base.name + ".private").write_text(
        f"Private-key-format: v1.3\nAlgorithm: 13 (ECDSAP256SHA256)\nPrivateKey: {private}\n"
    )
    assert dnssec.load(str(base))
    return str(base), public


async def run(*command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on PATH")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    return out.decode()


STORED = {
    "web/x1": {"host": "10.0.0.1"},
    "web/x2": {"host": "10.0.0.2"},
    "six": {"host": "2001:db8::1"},
    "alias": {"host": "web.skydns.test"},
    "texts": {"text": "hello"},
    "_tcp/_http": {"host": "10.0.0.3", "port": 80},
    "star/*": {"host": "10.0.0.4"},
    "deep/er/one": {"text": "below an empty name"},
    "sub/www": {"host": "10.0.0.5"},
}

# question → what delv says of it: the answer's kind, or the denial's
QUESTIONS = [
    ("web.skydns.test", "A", "; fully validated"),
    ("alias.skydns.test", "A", "; fully validated"),
    ("six.skydns.test", "AAAA", "; fully validated"),
    ("texts.skydns.test", "TXT", "; fully validated"),
    ("_http._tcp.skydns.test", "SRV", "; fully validated"),
    ("skydns.test", "SOA", "; fully validated"),
    ("skydns.test", "NS", "; fully validated"),
    ("skydns.test", "DNSKEY", "; fully validated"),
    ("skydns.test", "CDS", "; fully validated"),
    ("skydns.test", "CDNSKEY", "; fully validated"),
    ("six.skydns.test", "A", "; negative response, fully validated"),
    ("web.skydns.test", "MX", "; negative response, fully validated"),
    ("alias.skydns.test", "HTTPS", "; negative response, fully validated"),
    ("nothing.skydns.test", "A", "; negative response, fully validated"),
    ("a.b.nothing.skydns.test", "TXT", "; negative response, fully validated"),
    ("any-of-them.star.skydns.test", "A", "; fully validated"),
    ("any-of-them.star.skydns.test", "MX", "; negative response, fully validated"),
    ("er.deep.skydns.test", "A", "; negative response, fully validated"),
    # a zone of ours without a key, below one with: the denial of its DS is signed, it is not
    ("sub.skydns.test", "DS", "; negative response, fully validated"),
    ("www.sub.skydns.test", "A", "; unsigned answer"),
]


async def test_delv_kdig_and_unbound_validate(tmp_path):
    base, public = key_pair(tmp_path)
    anchors = tmp_path / "anchors"
    anchors.write_text(f'trust-anchors {{ "skydns.test." static-key 257 3 13 "{public}"; }};\n')
    (unbound_port,) = free_ports(1)
    async with real_etcd() as cluster:
        for path, record in STORED.items():
            await put(cluster, path, **record)
        async with skydns(
            tmp_path,
            cluster.endpoints[0],
            "-no-rec",
            f"-dnssec={base}",
            "-wildcards=true",
            "-domain=skydns.test,sub.skydns.test",
        ) as program:
            await program.ready()
            for name, rtype, said in QUESTIONS:
                out = await run(
                    "delv", "@127.0.0.1", "-p", str(program.port), "-a", str(anchors),
                    "+root=skydns.test", name, rtype,
                )  # fmt: skip
                assert said in out, (name, rtype, out)
            out = await run(
                "kdig", "@127.0.0.1", "-p", str(program.port), "+dnssec", "nothing.skydns.test", "A"
            )
            assert "NSEC" in out
            assert "NOERROR" in out  # RFC 9824 §3.1: NXDOMAIN only for those who set CO
            out = await run(
                "kdig", "@127.0.0.1", "-p", str(program.port), "nothing.skydns.test", "A"
            )
            assert "NXDOMAIN" in out
            assert "RRSIG" not in out

            conf = tmp_path / "unbound.conf"
            conf.write_text(
                f"""server:
  interface: 127.0.0.1@{unbound_port}
  do-daemonize: no
  chroot: ""
  username: ""
  pidfile: ""
  directory: "{tmp_path}"
  do-not-query-localhost: no
  use-syslog: no
  num-threads: 1
  module-config: "validator iterator"
  local-zone: "test." nodefault
  trust-anchor: "skydns.test. DNSKEY 257 3 13 {public}"
  cache-max-negative-ttl: 0
  cache-max-ttl: 0
  aggressive-nsec: yes
forward-zone:
  name: "skydns.test."
  forward-addr: 127.0.0.1@{program.port}
"""
            )
            if shutil.which("unbound") is None:
                pytest.skip("unbound is not on PATH")
            unbound = await asyncio.create_subprocess_exec("unbound", "-d", "-c", str(conf))
            try:
                await asyncio.sleep(1.0)
                for name, rtype, said in QUESTIONS:
                    out = await run(
                        "dig", "@127.0.0.1", "-p", str(unbound_port), "+dnssec", name, rtype
                    )
                    flags = out.partition("flags:")[2].partition(";")[0].split()
                    assert ("ad" in flags) == ("validated" in said), (name, rtype, out)
                    if (name, rtype) != ("alias.skydns.test", "HTTPS"):
                        # there unbound shows the alias while it has it from the question before
                        assert ("ANSWER: 0" in out) == ("negative" in said), out
            finally:
                unbound.terminate()
                await unbound.wait()
