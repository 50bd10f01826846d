# SPDX-License-Identifier: Apache-2.0
"""DNS over TLS and HTTPS, zone transfers with NOTIFY, sockets from systemd: asked by dig, kdig, curl."""

import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import sys

import dns.message
import dns.query
import dns.rdatatype
import dns.zone
import pytest

from fairlead.testing.etcd import free_ports, real_etcd
from skydns import message, names
from skydns.addresses import Server
from skydns.exchange import Habits, Sent, exchange
from skydns.forward import Forwarder
from skydns.upstream import Routes, Upstream

from .test_skydns import Skydns, put, put_all, skydns

pytestmark = [pytest.mark.integration, pytest.mark.slow]


async def run(*command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on PATH")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    return out.decode()


async def certificate(home):
    await run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
        "-keyout", str(home / "key.pem"), "-out", str(home / "cert.pem"), "-subj", "/CN=localhost",
        "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
    )  # fmt: skip
    return str(home / "cert.pem"), str(home / "key.pem")


async def served(port):
    """Return the certificate that a TLS server shows, without looking at it."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))


async def by_our_forwarder(cert, tls, https, program):
    """Ask it as an upstream server: over TLS, and over HTTPS by POST and GET."""
    name = names.from_text("pool.skydns.test")
    sent = Sent(name, 1, 1, message.RD, do=False)
    for server, get in (
        (Server("127.0.0.1", tls, tls=True), False),
        (Server("127.0.0.1", https, tls=True, https=True), False),
        (Server("127.0.0.1", https, tls=True, name="localhost", https=True), True),
    ):
        routes = Routes(Upstream((server,), files=(cert, "", ""), get=get))
        forwarder = Forwarder(routes, lambda event, server: None)
        for asked in (name, names.from_text("none.skydns.test")):
            found = await exchange(
                server, sent._replace(name=asked), Habits(), forwarder.asking.streams, forwarder.asking._way(server)
            )  # fmt: skip
            reply = dns.message.from_wire(found)
            assert (80 if asked == name else 0) == len(reply.answer and reply.answer[0])
        assert (
            forwarder.asking.streams.opened[server],
            forwarder.asking.streams.reused[server],
        ) == (1, 1)
        await forwarder.aclose()
    assert 'status="200"} 8.0' in program.page("/metrics")
    other = Server("127.0.0.1", tls, tls=True, https=True)  # speaks TLS, and no HTTP
    forwarder = Forwarder(Routes(Upstream((other,), files=(cert, "", ""))), lambda *told: None)
    with pytest.raises(OSError, match="does not speak HTTP/2"):
        await exchange(
            other, sent, Habits(), forwarder.asking.streams, forwarder.asking._way(other)
        )
    await forwarder.aclose()


async def test_tls_and_https(tmp_path):
    cert, key = await certificate(tmp_path)
    tls, https = free_ports(2)
    async with real_etcd() as cluster:
        await put_all(cluster, {f"pool/x{at:02}": {"host": f"10.0.0.{at}"} for at in range(80)})
        async with skydns(
            tmp_path, cluster.endpoints[0], "-no-rec", f"-tls-addr=127.0.0.1:{tls}", f"-https-addr=127.0.0.1:{https}",
            f"-serve-cert={cert}", f"-serve-key={key}", "-nsid=ns-a",
        ) as program:  # fmt: skip
            await program.ready()
            name = "pool.skydns.test"
            for command in (
                ("kdig", "@127.0.0.1", "-p", str(tls), "+tls", f"+tls-ca={cert}", name),
                ("kdig", "@127.0.0.1", "-p", str(https), "+https", f"+tls-ca={cert}", name),
                ("kdig", "@127.0.0.1", "-p", str(https), "+https-get", f"+tls-ca={cert}", name),
                ("dig", "@127.0.0.1", "-p", str(tls), "+tls", name),
                ("dig", "@127.0.0.1", "-p", str(https), "+https", name),
                ("dig", "@127.0.0.1", "-p", str(https), "+https-get", name),
            ):
                out = await run(*command)
                assert out.count("10.0.0.") == 80, (command, out)
            await by_our_forwarder(cert, tls, https, program)
            query = dns.message.make_query(name, "A", id=0).to_wire()
            text = base64.urlsafe_b64encode(query).rstrip(b"=").decode()
            for http in ("--http1.1", "--http2"):
                base = (
                    "curl",
                    http,
                    "-s",
                    "--cacert",
                    cert,
                    "-D",
                    "-",
                    "-o",
                    str(tmp_path / "out"),
                )
                url = f"https://127.0.0.1:{https}"
                out = (await run(*base, f"{url}/dns-query?dns={text}")).lower()
                assert "200" in out.splitlines()[0]
                assert "cache-control: max-age=300" in out
                assert "content-type: application/dns-message" in out
                reply = dns.message.from_wire((tmp_path / "out").read_bytes())
                assert len(reply.answer[0]) == 80
                for path, status in (
                    ("/x", "404"),
                    ("/dns-query?dns=a", "400"),
                    ("/dns-query", "400"),
                ):
                    assert status in (await run(*base, url + path)).splitlines()[0]
                out = await run(*base, "-X", "PUT", f"{url}/dns-query")
                assert "405" in out.splitlines()[0]
            for way, where in (("+tls", tls), ("+https", https)):  # RFC 8467: blocks of 468 octets
                out = await run(
                    "kdig", "@127.0.0.1", "-p", str(where), way, f"+tls-ca={cert}", "+padding", name
                )
                assert int(re.search(r"Received (\d+) B", out)[1]) % 468 == 0, out
            # who never shakes hands counts too
            silent = [await asyncio.open_connection("127.0.0.1", tls) for _ in range(105)]
            await program.until(lambda: "skydns_tcp_refused_total 5.0" in program.page("/metrics"))
            assert "skydns_tcp_connections 100.0" in program.page("/metrics")
            for _, writer in silent:
                writer.close()
            await program.until(lambda: "skydns_tcp_connections 0.0" in program.page("/metrics"))
            # the next handshake has what the files hold by then, as soon as it can be used
            (tmp_path / "cert.pem").write_text("half")
            first = await served(tls)
            await program.until(lambda: "new certificate not used" in program.log)
            await certificate(tmp_path)
            second = await served(tls)
            assert second != first
            assert second.strip() == (tmp_path / "cert.pem").read_text().strip()
            assert await served(https) == second
            command = (
                "kdig",
                "@127.0.0.1",
                "-p",
                str(tls),
                "+tls",
                f"+tls-ca={cert}",
                "+nsid",
                name,
            )
            out = await run(*command)
            assert out.count("10.0.0.") == 80
            assert "ns-a" in out


async def test_transfers_and_notify(tmp_path):
    notified = asyncio.Queue()

    class Secondary(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            notified.put_nowait(dns.message.from_wire(data))
            self.transport.sendto(data[:2] + b"\xa4" + data[3:], addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Secondary, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    async with real_etcd() as cluster:
        pool = {
            f"pool/x{at:03}": {"host": f"10.0.{at // 250}.{at % 250}", "port": 80}
            for at in range(300)
        }
        await put_all(cluster, pool)
        await put(cluster, "alias", host="pool.skydns.test")
        await put(cluster, "texts", text="hello", mail=False)
        await put(cluster, "dns/ns/ns1", host="10.9.9.9")
        async with skydns(
            tmp_path, cluster.endpoints[0], "-no-rec", "-transfer-to=127.0.0.0/8", f"-notify=127.0.0.1:{port}"
        ) as program:  # fmt: skip
            await program.ready()

            def transfer():
                query = dns.query.xfr(
                    "127.0.0.1", "skydns.test.", port=program.port, timeout=10, relativize=False
                )
                return dns.zone.from_xfr(query, relativize=False)

            zone = await asyncio.to_thread(transfer)
            # what a secondary would answer is what we answer
            for name, rtype in (
                ("pool", "A"), ("x007.pool", "A"), ("alias", "CNAME"), ("texts", "TXT"), ("pool", "SRV"),
                ("ns1.ns.dns", "A"),
            ):  # fmt: skip
                theirs = zone.get_rdataset(f"{name}.skydns.test.", rtype)
                ours = program.query(f"{name}.skydns.test", rtype, tcp=True)
                assert set(theirs) == set(ours.answer[0]), (name, rtype)
            assert zone.get_rdataset("alias.skydns.test.", "SRV") is None  # an alias stands alone
            soa = zone.get_rdataset("skydns.test.", "SOA")[0]
            out = await run("dig", "@127.0.0.1", "-p", str(program.port), "skydns.test", "AXFR")
            assert "x299.pool.skydns.test." in out
            out = await run("drill", "-p", str(program.port), "@127.0.0.1", "skydns.test", "AXFR")
            assert "x299.pool.skydns.test." in out
            await put(cluster, "new", host="10.8.8.8")
            async with asyncio.timeout(10):
                told = await notified.get()
            assert told.opcode() == 4
            assert told.question[0].name.to_text() == "skydns.test."
            out = await run(
                "dig", "@127.0.0.1", "-p", str(program.port), "skydns.test", f"IXFR={soa.serial}"
            )
            assert out.count("SOA") == 4  # a difference, not the zone
            assert "new.skydns.test." in out
            assert "x299.pool" not in out
            out = await run(
                "dig",
                "@127.0.0.1",
                "-p",
                str(program.port),
                "skydns.test",
                f"IXFR={soa.serial + 1000}",
            )
            assert out.count("SOA") == 1
    transport.close()
    async with (
        real_etcd() as cluster,
        skydns(tmp_path, cluster.endpoints[0], "-no-rec") as program,
    ):
        await program.ready()
        out = await run("dig", "@127.0.0.1", "-p", str(program.port), "skydns.test", "AXFR")
        assert "Transfer failed" in out


@pytest.mark.parametrize("workers", [1, 2])
async def test_sockets_from_systemd(tmp_path, workers):
    async with real_etcd() as cluster:
        await put(cluster, "web", host="10.0.0.1")
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        tcp.listen()
        port = udp.getsockname()[1]
        # as systemd does: descriptors from 3 on, LISTEN_PID the process itself
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2'); "
            "os.execv(sys.executable, [sys.executable, '-m', 'skydns', *sys.argv[3:]])"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(udp.fileno()), str(tcp.fileno()),
            "-systemd", f"-workers={workers}", "-domain=skydns.test", f"-machines={cluster.endpoints[0]}", "-no-rec", "-state-dir=",
            f"-admin-socket={tmp_path}/skydns.sock", pass_fds=(udp.fileno(), tcp.fileno()), stderr=asyncio.subprocess.PIPE,
            env=dict(os.environ),
        )  # fmt: skip
        program = Skydns(process, tmp_path, port)
        try:
            processes = 1 if workers == 1 else workers + 1
            await program.until(lambda: program.log.count("msg=ready") == processes, 20.0)
            for over_tcp in (False, True) * 6:
                assert program.rdata("web.skydns.test", tcp=over_tcp) == ("NOERROR", ["10.0.0.1"])
            assert await program.end(signal.SIGTERM) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        udp.close()
        tcp.close()
        async with skydns(tmp_path, cluster.endpoints[0], "-systemd", "-no-rec") as program:
            assert await program.process.wait() == 1
            await program._reader
            assert "systemd passed no socket" in program.log
