# SPDX-License-Identifier: Apache-2.0
"""A Corefile as its users have it: starts, answers, logs, exports, is read anew."""

import asyncio
import signal
import sys
import urllib.request
from functools import partial

import dns.exception
import pytest

from fairlead.testing.etcd import free_ports, real_etcd

from .test_skydns import Skydns, put

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FILE = """
skydns.test 10.0.0.0/24 {{
    etcd {{
        path /skydns
        endpoint {endpoint}
    }}
    loadbalance
    prometheus 127.0.0.1:{metrics}
    errors
    log
    bind 127.0.0.1
    acl blocked.skydns.test {{
        block type TXT
        drop type A
        filter
    }}
}}
. {{
    rewrite name exact red.lan inline.lan
    rewrite name exact blue.lan web.skydns.test
    log red.lan "{{type}} of {{name}}: {{/log/class}}" {{
        class success
    }}
    file {db} zone.lan {{
        reload 1s
    }}
    transfer {{
        to 127.0.0.1
    }}
    hosts {hosts} {{
        reload 1s
        10.7.7.7 inline.lan
        fallthrough
    }}
    forward . 127.0.0.1:{nobody}
    cache
    health 127.0.0.1:{health} {{
        lameduck 0s
    }}
    ready 127.0.0.1:{ready}
    reload 2s
    loop
}}
"""


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
        return reply.read().decode()


async def test_a_corefile(tmp_path):
    port, metrics, health, ready, nobody = free_ports(5)
    async with real_etcd() as cluster:
        await put(cluster, "web", host="10.0.0.1")
        file = tmp_path / "Corefile"
        fields = {"metrics": metrics, "health": health, "ready": ready, "nobody": nobody}
        fields["hosts"] = tmp_path / "hosts"
        (tmp_path / "hosts").write_text("10.7.7.8 printer.lan\n")
        fields["db"] = tmp_path / "db"
        (tmp_path / "db").write_text("$TTL 9\n@ IN SOA a b 1 2 3 4 5\n@ IN NS a\nx IN A 10.7.7.9\n")
        text = FILE.format(endpoint=cluster.endpoints[0], **fields)
        file.write_text(text)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skydns", f"-conf={file}", "-p", str(port), f"-pidfile={tmp_path}/pid", "-quiet",
            f"-state-dir={tmp_path}/state", f"-admin-socket={tmp_path}/skydns.sock", stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        program = Skydns(process, tmp_path, port)
        try:
            await program.ready()
            assert (tmp_path / "pid").read_text() == f"{process.pid}\n"
            assert "msg=listening" not in program.log
            assert "ready for queries" not in program.log
            assert program.rdata("web.skydns.test") == ("NOERROR", ["10.0.0.1"])
            assert program.rdata("1.0.0.10.in-addr.arpa", "PTR") == (
                "NOERROR",
                ["web.skydns.test."],
            )
            for way in ({}, {"tcp": True}):
                found = partial(program.rdata, "x.blocked.skydns.test", **way)
                assert found("TXT")[0] == "REFUSED"
                assert found("MX") == ("NOERROR", [])
                with pytest.raises(dns.exception.Timeout):
                    found("A", timeout=0.3)
            assert program.rdata("inline.lan") == ("NOERROR", ["10.7.7.7"])
            assert program.rdata("printer.lan", tcp=True) == ("NOERROR", ["10.7.7.8"])
            assert program.rdata("x.zone.lan") == ("NOERROR", ["10.7.7.9"])
            out = await program.dig("zone.lan", "AXFR")
            assert "x.zone.lan.\t\t9\tIN\tA\t10.7.7.9" in out
            assert out.count("SOA") == 2
            (tmp_path / "db").write_text("$TTL 9\n@ IN SOA a b 2 2 3 4 5\nx IN A 10.7.7.11\n")
            await program.until(lambda: program.rdata("x.zone.lan")[1] == ["10.7.7.11"])
            out = await program.dig("zone.lan", "IXFR=1")  # the difference to what was sent
            assert out.count("SOA") == 4
            for tcp in (False, True):
                assert program.rdata("red.lan", tcp=tcp) == ("NOERROR", ["10.7.7.7"])
                assert program.rdata("blue.lan", tcp=tcp) == ("NOERROR", ["10.0.0.1"])
            await program.until(lambda: program.log.count('msg="A of red.lan.: success"') == 2)
            (tmp_path / "hosts").write_text("10.7.7.10 printer.lan\n")
            await program.until(lambda: program.rdata("printer.lan")[1] == ["10.7.7.10"])
            assert program.rdata("www.example.org")[0] == "SERVFAIL"
            assert await asyncio.to_thread(get, health, "/health") == "OK\n"
            assert await asyncio.to_thread(get, ready, "/ready") == "OK\n"
            page = await asyncio.to_thread(get, metrics, "/metrics")
            assert 'coredns_dns_requests_total{family="1",proto="udp"' in page
            asked = "coredns_health_request_duration_seconds_count "
            await program.until(lambda: f"{asked}0.0" not in program.page("/metrics"))
            assert "coredns_health_request_failures_total 0.0" in program.page("/metrics")
            wanted = '\\"A IN web.skydns.test. udp 33 false 512\\" NOERROR qr,aa,rd,ra 49'
            await program.until(lambda: wanted in program.log)
            text = text.replace("skydns.test 10", "skydns.test other.test 10")
            file.write_text(text.replace("acl blocked", "acl unheard"))
            await program.until(lambda: program.rdata("other.test", "SOA")[1], 10)
            assert program.rdata("x.blocked.skydns.test", "TXT") == ("NXDOMAIN", [])
            start, end = text.index("    acl"), text.index("}\n. {")
            listed = partial(program.rdata, "x.blocked.skydns.test", "TXT")
            for given, rcode in (
                (text, "REFUSED"),
                (text[:start] + text[end:], "NXDOMAIN"),
                (text, "REFUSED"),
            ):
                file.write_text(given)  # the list goes, and comes back
                process.send_signal(signal.SIGHUP)  # sooner than `reload`
                await program.until(lambda rcode=rcode: listed()[0] == rcode)
            changed = text.replace("{type} of {name}", "seen {name}")
            file.write_text(changed.replace("to 127.0.0.1", "to 127.0.0.2"))
            process.send_signal(signal.SIGUSR1)  # §15.2: as CoreDNS's users do
            await program.until(lambda: 'msg="changes need a restart" what=transfer' in program.log)

            def seen():  # asked again and again: the reload that changes the log's form takes its time
                assert program.rdata("red.lan") == ("NOERROR", ["10.7.7.7"])
                return 'msg="seen red.lan.: success"' in program.log

            await program.until(seen)
            assert await program.end() == 0
            assert not (tmp_path / "pid").exists()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
