# SPDX-License-Identifier: Apache-2.0
"""The real program against a real etcd, asked with dig and dnspython."""

import asyncio
import itertools
import json
import shutil
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from fairlead.ask import ask
from fairlead.etcd.client import connect
from fairlead.etcd.options import Options
from fairlead.testing.etcd import free_ports, real_etcd

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Skydns:
    def __init__(self, process, home, port):
        self.process, self.home, self.port = process, home, port
        self.log = ""
        self._reader = asyncio.create_task(self._read())

    async def _read(self):
        while line := await self.process.stderr.readline():
            self.log += line.decode()

    async def until(self, holds, seconds=30.0):
        begun = time.monotonic()
        while not (found := holds()):
            assert time.monotonic() - begun < seconds, f"not within {seconds} s; log:\n{self.log}"
            assert self.process.returncode is None, f"ended:\n{self.log}"
            await asyncio.sleep(0.01)
        return found

    async def ready(self, seconds=30.0):
        await self.until(lambda: "msg=ready" in self.log, seconds)

    def query(self, name, rtype="A", *, tcp=False, timeout=2.0, **options):
        query = dns.message.make_query(name, rtype, **options)
        send = dns.query.tcp if tcp else dns.query.udp
        return send(query, "127.0.0.1", port=self.port, timeout=timeout)

    def rdata(self, name, rtype="A", **options):
        reply = self.query(name, rtype, **options)
        return dns.rcode.to_text(reply.rcode()), sorted(
            rr.to_text() for rrset in reply.answer for rr in rrset
        )

    async def dig(self, *arguments):
        if shutil.which("dig") is None:
            pytest.skip("dig is not on PATH (Debian: bind9-dnsutils)")
        process = await asyncio.create_subprocess_exec(
            "dig", "@127.0.0.1", "-p", str(self.port), "+tries=1", "+time=2", *arguments, stdout=asyncio.subprocess.PIPE
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    def page(self, path):
        reply = ask(self.home / "skydns.sock", path)
        assert not reply.error, reply.error
        return reply.json() if reply.body.startswith(b"{") else reply.body.decode()

    async def end(self, how=signal.SIGTERM):
        if self.process.returncode is None:
            self.process.send_signal(how)
        async with asyncio.timeout(10):
            status = await self.process.wait()
            await self._reader
        return status


@asynccontextmanager
async def skydns(home, endpoint, *arguments, port=0):
    port = port or free_ports(1)[0]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skydns", f"-addr=127.0.0.1:{port}", "-domain=skydns.test,example.test", f"-machines={endpoint}",
        f"-state-dir={home}/state", f"-admin-socket={home}/skydns.sock", *(arguments or ("-no-rec",)), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    program = Skydns(process, home, port)
    try:
        yield program
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await program._reader


async def put_all(cluster, records):
    """Put many records, path → record, over one connection: etcdctl takes 20 ms each."""
    async with connect(Options(endpoints=tuple(cluster.endpoints))) as store:
        for path, record in records.items():
            await store.put(f"/skydns/test/skydns/{path}".encode(), json.dumps(record).encode())


def put(cluster, path, **record):
    return cluster.etcdctl("put", f"/skydns/test/skydns/{path}", json.dumps(record))


async def test_put_is_visible_by_every_way(tmp_path):
    async with real_etcd() as cluster:
        pool = {f"pool/x{at:02}": {"host": f"10.0.0.{at}", "port": 80} for at in range(40)}
        await put_all(cluster, pool)
        async with skydns(tmp_path, cluster.endpoints[0]) as program:
            await program.ready()
            for way in (
                (),
                ("+tcp",),
                ("+bufsize=4096",),
                ("+noedns",),
                ("+dnssec",),
                ("+nocookie",),
            ):
                out = await program.dig("pool.skydns.test", "A", *way)
                assert "status: NOERROR" in out
                assert out.count("\tA\t10.0.0.") == 40
            assert (
                "Truncated" in await program.dig("pool.skydns.test", "A", "+noedns", "+ignore")
                or program.query("pool.skydns.test").flags & dns.flags.TC
            )
            assert "10 2 80 x39.pool.skydns.test." in await program.dig(
                "pool.skydns.test", "SRV", "+short", "+tcp"
            )
            assert (await program.dig("*.skydns.test", "A", "+short", "+tcp")).count(
                "10.0.0."
            ) == 40
            assert program.rdata("new.skydns.test") == ("NXDOMAIN", [])
            await put(cluster, "new", host="192.0.2.1", text="hello")
            await program.until(
                lambda: program.rdata("new.skydns.test") == ("NOERROR", ["192.0.2.1"]), 1.0
            )
            assert (await program.dig("new.skydns.test", "TXT", "+short")).strip() == '"hello"'
            assert program.rdata("new.skydns.test", "AAAA") == ("NOERROR", [])
            await cluster.etcdctl("del", "/skydns/test/skydns/new")
            await program.until(lambda: program.rdata("new.skydns.test") == ("NXDOMAIN", []), 1.0)
            assert program.rdata("www.example.org") == ("REFUSED", [])
            metrics = program.page("/metrics")
            assert 'rcode="NXDOMAIN"' in metrics
            assert "skydns_records 40.0" in metrics
            assert await program.end() == 0


async def test_a_malformed_key_costs_only_itself(tmp_path):
    async with real_etcd() as cluster:
        await put(cluster, "pool/good", host="10.0.0.1")
        await cluster.etcdctl("put", "/skydns/test/skydns/pool/bad", "{host:10.0.0.2}")
        async with skydns(tmp_path, cluster.endpoints[0]) as program:
            await program.ready()
            assert program.rdata("pool.skydns.test") == ("NOERROR", ["10.0.0.1"])
            bad = {
                "pool/typed": ('{"port":"http"}', 'field "port"'),
                "pool//empty": ('{"host":"10.0.0.3"}', "cannot be a label"),
                "pool/name": ('{"host":"a..b"}', 'field "host"'),
                "pool/none": (" ", "it is empty"),
            }
            for path, (value, _) in bad.items():
                await cluster.etcdctl("put", "--", f"/skydns/test/skydns/{path}", value)
            await put(cluster, "pool/later", host="10.0.0.4")
            await program.until(
                lambda: program.rdata("pool.skydns.test") == ("NOERROR", ["10.0.0.1", "10.0.0.4"])
            )
            # a good record made bad stays in force
            await cluster.etcdctl("put", "/skydns/test/skydns/pool/good", "nonsense")
            await cluster.etcdctl("put", "/skydns/config", '{"ttl":"7"}')
            await program.until(lambda: "skydns/config" in program.log)
            assert program.rdata("pool.skydns.test") == ("NOERROR", ["10.0.0.1", "10.0.0.4"])
            for path, (_, reason) in (
                bad | {"pool/bad": ("", "not JSON"), "pool/good": ("", "not JSON")}
            ).items():
                (line,) = [
                    line
                    for line in program.log.splitlines()
                    if f"skydns/{path} " in line and "rejected" in line
                ]
                assert reason in line.replace("\\", "")
            assert 'fairlead_records_rejected_total{records="services"} 6' in program.page("/metrics") or "6.0" in [
                line.split()[-1] for line in program.page("/metrics").splitlines() if line.startswith("fairlead_records_rejected_total") and "services" in line
            ]  # fmt: skip
            (services,) = [
                entry
                for entry in program.page("/debug/state")["records"]
                if entry["name"] == "services"
            ]
            assert services["rejected_total"] == 6
            assert {entry["key"] for entry in services["rejected"]} == {
                f"/skydns/test/skydns/{path}" for path in [*bad, "pool/bad", "pool/good"]
            }


async def test_etcd_restarts_and_no_query_fails(tmp_path):
    async with real_etcd() as cluster:
        await put(cluster, "web/x1", host="10.0.0.1")
        async with skydns(tmp_path, cluster.endpoints[0]) as program:
            await program.ready()
            asked, stop = 0, False

            def load():
                nonlocal asked
                while not stop:
                    assert program.rdata("web.skydns.test") == ("NOERROR", ["10.0.0.1"])
                    assert program.rdata(f"n{asked}.skydns.test") == ("NXDOMAIN", [])
                    asked += 2

            running = asyncio.create_task(asyncio.to_thread(load))
            await cluster.nodes[0].kill()
            await asyncio.sleep(1.5)
            assert "fairlead_etcd_connected 0.0" in program.page("/metrics")
            await cluster.nodes[0].start()
            await cluster.healthy()
            await put(cluster, "late", host="10.0.0.2")
            await program.until(
                lambda: program.rdata("late.skydns.test") == ("NOERROR", ["10.0.0.2"]), 10.0
            )
            stop = True
            await running
            assert asked > 200


async def test_start_while_etcd_is_down(tmp_path):
    async with real_etcd() as cluster:
        await put(cluster, "web/x1", host="10.0.0.1")
        async with skydns(tmp_path, cluster.endpoints[0]) as program:
            await program.ready()
            await program.until(lambda: list((tmp_path / "state").rglob("*.state")))
            await asyncio.sleep(1.2)  # the file is at most 1 s behind
            await program.end(signal.SIGKILL)
        await cluster.nodes[0].kill()
        async with skydns(tmp_path, cluster.endpoints[0]) as program:
            await program.ready()
            assert program.rdata("web.skydns.test") == ("NOERROR", ["10.0.0.1"])
            assert program.rdata("no.skydns.test") == ("NXDOMAIN", [])
            await cluster.nodes[0].start()
            await cluster.healthy()
            await put(cluster, "web/x1", host="10.0.0.9")
            await program.until(
                lambda: program.rdata("web.skydns.test") == ("NOERROR", ["10.0.0.9"])
            )


async def test_without_etcd_and_file_it_says_so_and_waits(tmp_path):
    async with real_etcd() as cluster:
        await cluster.nodes[0].kill()
        async with skydns(tmp_path, cluster.endpoints[0]) as program:
            await program.until(lambda: "listening" in program.log, 30.0)
            reply = program.query("web.skydns.test", use_edns=0)
            # §6: no SOA, for nobody knows the zone; extended error 23, as for any fault of the store
            assert (reply.rcode(), reply.authority) == (dns.rcode.SERVFAIL, [])
            assert [int(option.code) for option in reply.options] == [23]
            await program.until(lambda: "waiting for etcd" in program.log)
            assert "msg=ready" not in program.log
            await cluster.nodes[0].start()
            await cluster.healthy()
            await put(cluster, "web", host="10.0.0.1")
            await program.until(
                lambda: program.rdata("web.skydns.test") == ("NOERROR", ["10.0.0.1"])
            )
            await program.ready()


async def test_the_config_key_is_followed(tmp_path):
    async with real_etcd() as cluster:
        await put(cluster, "web", host="10.0.0.1")
        await cluster.etcdctl("put", "/skydns/test/other/web", '{"host":"10.0.0.2"}')
        async with skydns(tmp_path, cluster.endpoints[0]) as program:
            await program.ready()
            assert program.query("web.skydns.test").answer[0].ttl == 300
            before = program.query("skydns.test", "SOA").answer[0][0].serial
            await cluster.etcdctl(
                "put",
                "/skydns/config",
                '{"TTL":7,"domain":"other.test","hostmaster":"root@example.org"}',
            )
            await program.until(
                lambda: program.rdata("web.other.test") == ("NOERROR", ["10.0.0.2"])
            )
            assert program.query("web.other.test").answer[0].ttl == 7
            assert program.rdata("web.skydns.test") == ("REFUSED", [])
            assert "root.example.org." in program.rdata("other.test", "SOA")[1][0]
            # §5.7: what the key changes secondaries fetch too
            assert program.query("other.test", "SOA").answer[0][0].serial > before
            await cluster.etcdctl("put", "/skydns/config", '{"ttl":8,"dnssec":"Kkey"}')
            await program.until(lambda: "keys of the config key refused" in program.log)
            assert (
                program.query("web.other.test").answer[0].ttl == 7
            )  # the bad value changes nothing
            await cluster.etcdctl("del", "/skydns/config")
            await program.until(
                lambda: program.rdata("web.skydns.test") == ("NOERROR", ["10.0.0.1"])
            )


async def test_an_order_by_client_that_the_config_key_turns_on(tmp_path):
    def first_ones():
        query = dns.message.make_query("pool.skydns.test", "A")
        return {
            dns.query.udp(
                query, "127.0.0.1", port=program.port, source=f"127.0.0.{at}", timeout=2.0
            ).answer[0][0].address
            for at in range(1, 33)
        }  # fmt: skip

    async with real_etcd() as cluster:
        await put_all(cluster, {f"pool/x{at}": {"host": f"10.0.0.{at}"} for at in range(1, 5)})
        await cluster.etcdctl("put", "/skydns/config", '{"round_robin":false}')
        async with skydns(tmp_path, cluster.endpoints[0], "-no-rec", "-order=client") as program:
            await program.ready()
            assert first_ones() == {"10.0.0.1"}
            await cluster.etcdctl("del", "/skydns/config")
            await program.until(lambda: len(first_ones()) > 1)
            fixed = [program.query("pool.skydns.test").answer[0][0].address for _ in range(4)]
            assert len(set(fixed)) == 1
            await cluster.etcdctl("put", "/skydns/config", '{"round_robin":false}')
            await program.until(lambda: first_ones() == {"10.0.0.1"})


async def test_leases(tmp_path):
    async with real_etcd() as cluster:
        lease = (await cluster.etcdctl("lease", "grant", "100")).split()[1]
        await cluster.etcdctl(
            "put", f"--lease={lease}", "/skydns/test/skydns/web", '{"host":"10.0.0.1"}'
        )
        async with skydns(tmp_path, cluster.endpoints[0]) as program:
            await program.ready()
            await program.until(
                lambda: 90 <= program.query("web.skydns.test").answer[0].ttl <= 100, 3.0
            )
            await cluster.etcdctl("lease", "revoke", lease)
            await program.until(lambda: program.rdata("web.skydns.test") == ("NXDOMAIN", []), 1.0)


@pytest.fixture
def silent():
    """The port of a server that takes queries and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


async def test_names_of_others_are_asked_of_the_servers(tmp_path, silent):
    """§9: failover, TCP after a cut answer, aliases that lead out, one silent server."""
    async with real_etcd() as cluster:
        for at in range(60):
            await cluster.etcdctl(
                "put", f"/up/org/example/big/x{at}", f'{{"host":"10.1.0.{at}","port":80}}'
            )
        await cluster.etcdctl("put", "/up/org/example/www", '{"host":"192.0.2.80","ttl":77}')
        await put(cluster, "alias", host="www.example.org")
        await put(cluster, "mixed/a", host="10.0.0.1")
        await put(cluster, "mixed/b", host="www.example.org", port=443)
        (tmp_path / "up").mkdir()
        (live,) = free_ports(1)
        async with (
            skydns(tmp_path / "up", cluster.endpoints[0], "-no-rec", "-path-prefix=/up", "-domain=example.org", port=live) as upstream,
            skydns(tmp_path, cluster.endpoints[0], f"-nameservers=127.0.0.1:{silent},127.0.0.1:{live}", "-rtimeout=500ms") as program,
        ):  # fmt: skip
            await upstream.ready()
            await program.ready()
            begun = time.monotonic()
            for _ in range(8):  # a silent server is waited for once
                assert program.rdata("WWW.example.org") == ("NOERROR", ["192.0.2.80"])
            assert time.monotonic() - begun < 1.5
            reply = program.query("www.example.org", use_edns=0, want_dnssec=True)
            assert reply.answer[0].ttl == 77
            assert reply.flags & dns.flags.RA
            assert reply.payload == 1232
            assert program.query("www.example.org").edns == -1
            assert program.rdata("alias.skydns.test") == (
                "NOERROR",
                ["192.0.2.80", "www.example.org."],
            )
            assert program.rdata("mixed.skydns.test") == (
                "NOERROR",
                ["10.0.0.1", "192.0.2.80"],
            )  # §4.3
            glue = program.query("mixed.skydns.test", "SRV").additional  # §5.3
            assert [rrset.name.to_text() for rrset in glue] == [
                "a.mixed.skydns.test.",
                "www.example.org.",
            ]
            assert program.rdata("nono.example.org") == ("NXDOMAIN", [])
            assert program.query("big.example.org", "SRV").flags & dns.flags.TC
            assert len(program.rdata("big.example.org", "SRV", tcp=True)[1]) == 60
            assert program.rdata("onelabel")[0] == "SERVFAIL"  # fewer labels than ndots
            await upstream.end()
            begun = time.monotonic()
            assert (
                program.rdata("new.example.org", use_edns=0)[0] == "SERVFAIL"
            )  # trap 19: never silent
            assert time.monotonic() - begun < 1.9
            assert program.rdata("alias.skydns.test") == (
                "NOERROR",
                ["192.0.2.80", "www.example.org."],
            )


async def test_tcp_pipelining_and_limits(tmp_path):
    async with real_etcd() as cluster:
        await put(cluster, "web", host="10.0.0.1")
        async with skydns(tmp_path, cluster.endpoints[0]) as program:
            await program.ready()
            reader, writer = await asyncio.open_connection("127.0.0.1", program.port)
            query = dns.message.make_query("web.skydns.test", "A").to_wire()
            writer.write(b"".join(len(query).to_bytes(2, "big") + query for _ in range(50)))
            for _ in range(50):
                size = int.from_bytes(await reader.readexactly(2), "big")
                assert dns.message.from_wire(await reader.readexactly(size)).answer
            writer.write(b"\0\5hello")
            assert await reader.read() == b""  # what is no query ends the connection
            writer.close()
            many = [await asyncio.open_connection("127.0.0.1", program.port) for _ in range(110)]
            await program.until(lambda: "skydns_tcp_refused_total 10.0" in program.page("/metrics"))
            for _, other in many:
                other.close()


@pytest.mark.parametrize(
    ("address", "asked"), [("0.0.0.0", "127.0.0.3"), ("[::]", "::1"), ("[::1]", "::1")]
)
async def test_replies_leave_from_the_address_that_was_asked(tmp_path, address, asked):
    """A host with many addresses, as every container host is."""
    (port,) = free_ports(1)
    async with real_etcd() as cluster:
        await put(cluster, "web", host="10.0.0.1")
        async with skydns(
            tmp_path, cluster.endpoints[0], "-no-rec", f"-addr={address}:{port}"
        ) as program:
            await program.ready()
            query = dns.message.make_query("web.skydns.test", "A")
            for send in (dns.query.udp, dns.query.udp, dns.query.tcp):
                assert send(query, asked, port=port, timeout=2).answer  # dnspython minds the source


async def test_a_taken_address_is_said(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        async with (
            real_etcd() as cluster,
            skydns(tmp_path, cluster.endpoints[0], port=taken.getsockname()[1]) as program,
        ):
            async with asyncio.timeout(10):
                assert await program.process.wait() == 1
            await program._reader
            assert "cannot listen" in program.log
            assert f"127.0.0.1:{program.port}" in program.log


async def test_twenty_thousand_records(tmp_path):
    """issue: start to ready, and one put visible while the rest stands."""
    async with real_etcd(
        arguments=("--quota-backend-bytes=2000000000", "--max-txn-ops=10000")
    ) as cluster:
        text = "".join(
            f'put /skydns/test/skydns/s{at // 100}/n{at} "{{\\"host\\":\\"10.{at >> 16}.{at >> 8 & 255}.{at & 255}\\"}}"\n'
            for at in range(20_000)
        )
        for start in range(0, 20_000, 5000):
            lines = "\n".join(text.splitlines()[start : start + 5000])
            await cluster.etcdctl("txn", stdin=f"\n{lines}\n\n\n".encode())
        async with skydns(tmp_path, cluster.endpoints[0]) as program:
            await program.ready(60.0)
            assert program.rdata("n777.s7.skydns.test") == ("NOERROR", ["10.0.3.9"])
            await put(cluster, "one", host="192.0.2.1")
            await program.until(
                lambda: program.rdata("one.skydns.test") == ("NOERROR", ["192.0.2.1"])
            )


async def test_no_query_fails_whatever_becomes_of_etcd(tmp_path):
    """Stopped, restarted, compacted, frozen, replaced by an older snapshot, all under load."""
    async with real_etcd() as cluster:
        await put_all(cluster, {f"pool/x{at:02}": {"host": f"10.0.0.{at + 1}"} for at in range(20)})
        old = tmp_path / "old.snapshot"
        await cluster.snapshot(old)
        await put_all(
            cluster, {f"later/x{at:02}": {"host": f"10.1.0.{at + 1}"} for at in range(50)}
        )
        homes = [tmp_path / "one", tmp_path / "several"]
        for home in homes:
            home.mkdir()
        async with (
            skydns(homes[0], cluster.endpoints[0]) as program,
            skydns(homes[1], cluster.endpoints[0], "-no-rec", "-workers=2") as team,
        ):
            await program.ready()
            await team.until(lambda: team.log.count("msg=ready") == 3, 20.0)
            programs = (program, team)

            def known(name):
                # by several ports, for the kernel deals them out to the workers
                return all(each.rdata(name)[0] == "NOERROR" for each in programs for _ in range(12))

            asked, stop, failed = 0, False, []

            def load():
                nonlocal asked
                while not stop:
                    for each, (name, rtype, wanted) in itertools.product(programs, (
                        ("pool.skydns.test", "A", "NOERROR"),
                        ("x01.pool.skydns.test", "SRV", "NOERROR"),
                        (f"n{asked}.skydns.test", "A", "NXDOMAIN"),
                        ("skydns.test", "SOA", "NOERROR"),
                    )):  # fmt: skip
                        try:
                            reply = each.query(name, rtype, tcp=asked % 3 == 0)
                        except OSError as error:  # a time-out too
                            failed.append((name, repr(error)))
                            continue
                        if dns.rcode.to_text(reply.rcode()) != wanted or (
                            wanted == "NOERROR" and not reply.answer
                        ):
                            failed.append((name, reply.to_text()))
                        asked += 1

            running = asyncio.create_task(asyncio.to_thread(load))
            node = cluster.nodes[0]
            await node.stop()
            await asyncio.sleep(1.0)
            await node.start()
            await cluster.healthy()
            node.freeze()
            await asyncio.sleep(1.0)
            node.cont()
            for at in range(20):
                await put_all(cluster, {"churn": {"host": f"10.2.0.{at + 1}"}})
            revision = json.loads(await cluster.etcdctl("get", "x", "-w", "json"))["header"][
                "revision"
            ]
            await cluster.etcdctl("compact", str(revision))
            await put(cluster, "compacted", host="10.3.0.1")
            await program.until(lambda: known("compacted.skydns.test"), 15.0)
            await cluster.restore(old)
            await cluster.healthy()
            # most of what stood is gone: the plan is held back (promise 8), what was there is served
            await put(cluster, "restored", host="10.4.0.1")
            await program.until(lambda: known("restored.skydns.test"), 20.0)
            stop = True
            await running
            assert not failed, failed[:5]
            assert asked > 500
