# SPDX-License-Identifier: Apache-2.0
"""`-workers 2`: one daemon on all sockets, whatever becomes of its processes."""

import asyncio
import os
import re
import signal
import socket
import ssl

import dns.edns
import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest
import pytest_asyncio

from fairlead.ask import ask
from fairlead.testing.etcd import free_ports, real_etcd

from .test_encrypted import certificate
from .test_skydns import put, put_all, skydns

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]
MANY = range(24)  # questions from as many ports: that one worker gets none of them, 1 in 16 million


class Daemon:
    """What `-workers 2` shows to its clients; every question comes from a port of its own."""

    def __init__(self, cluster, program, tls, https):
        self.cluster, self.program, self.tls, self.https = cluster, program, tls, https

    def said(self, name, rtype="A", **options):
        """Return what is answered to many questions: one element when all processes agree."""
        return {str(self.program.rdata(name, rtype, **options)) for _ in MANY}

    def status(self):
        return self.program.page("/status")

    def workers(self):
        return {each["number"]: each for each in self.status()["workers"]}

    def counted(self):
        """Return how many replies the metrics count."""
        lines = re.findall(r"^coredns_dns_responses_total\{.*\} (\S+)$", self.program.page("/metrics"), re.MULTILINE)  # fmt: skip
        return sum(map(float, lines))

    async def serving(self):
        await self.program.until(
            lambda: all(each["state"] == "serving" for each in self.workers().values()), 20.0
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory):
    home = tmp_path_factory.mktemp("workers")
    cert, key = await certificate(home)
    tls, https = free_ports(2)
    async with real_etcd() as cluster:
        await put_all(cluster, {f"pool/x{at:02}": {"host": f"10.0.0.{at}"} for at in range(30)})
        async with skydns(
            home, cluster.endpoints[0], "-no-rec", "-workers=2", f"-tls-addr=127.0.0.1:{tls}", f"-https-addr=127.0.0.1:{https}",
            f"-serve-cert={cert}", f"-serve-key={key}", "-rrl-exempt=127.0.0.1/32",
        ) as program:  # fmt: skip
            await program.until(lambda: (home / "skydns.sock").exists())
            it = Daemon(cluster, program, tls, https)
            await program.until(lambda: it.status()["ready"], 20.0)
            yield it
            assert await program.end() == 0
            assert program.log.count("msg=stopped") == 3


async def test_all_sockets_are_answered_and_every_reply_is_counted_once(daemon):
    program, before = daemon.program, daemon.counted()
    assert daemon.said("x07.pool.skydns.test") == {"('NOERROR', ['10.0.0.7'])"}
    assert daemon.said("x07.pool.skydns.test", tcp=True) == {"('NOERROR', ['10.0.0.7'])"}
    assert daemon.said("no.skydns.test") == {"('NXDOMAIN', [])"}
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    query = dns.message.make_query("x08.pool.skydns.test", "A")
    for _ in range(6):
        reply = dns.query.tls(query, "127.0.0.1", port=daemon.tls, ssl_context=context, timeout=3)
        assert reply.answer[0][0].address == "10.0.0.8"
    out = await asyncio.create_subprocess_exec(
        "curl", "-sk", "-H", "content-type: application/dns-message", "--data-binary", "@-",
        f"https://127.0.0.1:{daemon.https}/dns-query", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    found, _ = await out.communicate(query.to_wire())
    assert dns.message.from_wire(found).answer[0][0].address == "10.0.0.8"
    expected = before + 3 * len(MANY) + 7
    await program.until(lambda: daemon.counted() >= expected)
    assert daemon.counted() == expected
    assert daemon.program.page("/debug/state")["state"]["skydns"]["replies"]["NXDOMAIN"] >= len(
        MANY
    )
    assert "skydns_records 30.0" in program.page("/metrics")


async def test_a_change_is_seen_in_every_process_with_the_same_serial(daemon):
    await put(daemon.cluster, "new", host="192.0.2.1")
    await daemon.program.until(
        lambda: daemon.said("new.skydns.test") == {"('NOERROR', ['192.0.2.1'])"}
    )
    assert len(daemon.said("skydns.test", "SOA")) == 1
    await daemon.cluster.etcdctl("del", "/skydns/test/skydns/new")
    await daemon.program.until(lambda: daemon.said("new.skydns.test") == {"('NXDOMAIN', [])"})


async def test_the_config_key_and_sighup_reach_every_process(daemon):
    def ttls():
        return {daemon.program.query("x01.pool.skydns.test").answer[0].ttl for _ in MANY}

    assert ttls() == {300}
    await daemon.cluster.etcdctl("put", "/skydns/config", '{"ttl":77}')
    await daemon.program.until(lambda: ttls() == {77})
    await daemon.cluster.etcdctl("del", "/skydns/config")
    await daemon.program.until(lambda: ttls() == {300})
    before = daemon.program.log.count("configuration reloaded")
    daemon.program.process.send_signal(signal.SIGHUP)
    await daemon.program.until(
        lambda: daemon.program.log.count("configuration reloaded") == before + 3
    )


async def test_a_lease_runs_down_in_every_process(daemon):
    granted = (await daemon.cluster.etcdctl("lease", "grant", "200")).split()[1]
    key = "/skydns/test/skydns/leased"
    await daemon.cluster.etcdctl("put", f"--lease={granted}", key, '{"host":"10.9.0.1"}')

    def ttls():
        replies = [daemon.program.query("leased.skydns.test").answer for _ in MANY]
        return {answer[0].ttl if answer else 0 for answer in replies}

    await daemon.program.until(lambda: ttls() <= set(range(190, 201)))
    await daemon.cluster.etcdctl("lease", "revoke", granted)
    await daemon.program.until(lambda: ttls() == {0})


async def test_a_cookie_of_one_process_is_good_for_the_others(daemon):
    half = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")

    def cookie(option):
        reply = daemon.program.query("x01.pool.skydns.test", use_edns=0, options=[option])
        return reply.options[0].to_wire()

    whole = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie(half))
    # a good one comes back as it is for half an hour; another's would be replaced
    assert {cookie(whole) for _ in MANY} == {whole.to_wire()}


async def test_a_client_of_one_worker_may_have_what_all_may_send(daemon):
    other, query = (
        dns.message.make_query(f"x{at}.pool.skydns.test", "A").to_wire() for at in ("02", "01")
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        # the first so that it is counted: until a worker's part is used up nothing is looked at
        for each in [other] * 110 + [query] * 200:
            sock.sendto(each, ("127.0.0.1", daemon.program.port))
        sock.settimeout(2.0)
        replies = []
        while len(replies) < 150:
            if (reply := sock.recv(512))[12:24] == query[12:24]:
                replies.append(reply)
        assert not any(reply[2] & 2 for reply in replies)  # a worker's part would be 100


async def test_a_worker_that_is_killed_loses_no_query_and_no_configuration(daemon):
    program = daemon.program
    counted, asked, stop = daemon.counted(), 0, False
    failed = []

    def load():
        nonlocal asked
        while not stop:
            for tcp in (False, True):
                try:
                    found = program.rdata(f"x{asked % 30:02}.pool.skydns.test", tcp=tcp)
                except (OSError, EOFError, dns.exception.DNSException) as error:
                    # what a connection has under way dies with its process, as with any server
                    if not tcp:
                        failed.append(repr(error))
                    continue
                if found[0] != "NOERROR":
                    failed.append(found)
                asked += 1

    running = asyncio.create_task(asyncio.to_thread(load))
    victim = daemon.workers()[0]
    os.kill(victim["pid"], signal.SIGKILL)
    await program.until(lambda: daemon.workers()[0]["restarts"] > victim["restarts"])
    await put(daemon.cluster, "meanwhile", host="10.8.0.1")
    await daemon.serving()
    stop = True
    await running
    assert not failed, failed[:5]
    assert asked > 20
    assert daemon.said("meanwhile.skydns.test") == {"('NOERROR', ['10.8.0.1'])"}
    assert len(daemon.said("skydns.test", "SOA")) == 1
    assert daemon.counted() >= counted  # counters do not go back, though a second of them may miss


async def test_removals_are_held_back_and_released_in_every_process(daemon):
    await daemon.cluster.etcdctl("del", "--prefix", "/skydns/test/skydns/pool")
    await daemon.program.until(lambda: "removals held back" in daemon.program.log)
    await put(daemon.cluster, "after", host="10.7.0.1")
    await daemon.program.until(
        lambda: daemon.said("after.skydns.test") == {"('NOERROR', ['10.7.0.1'])"}
    )
    assert daemon.said("x01.pool.skydns.test") == {"('NOERROR', ['10.0.0.1'])"}
    victim = daemon.workers()[1]  # one that is started anew has what the others still serve
    os.kill(victim["pid"], signal.SIGKILL)
    await daemon.program.until(lambda: daemon.workers()[1]["restarts"] > victim["restarts"])
    await daemon.serving()
    assert daemon.said("x01.pool.skydns.test") == {"('NOERROR', ['10.0.0.1'])"}
    reply = ask(daemon.program.home / "skydns.sock", "/release", "POST")
    assert not reply.error
    await daemon.program.until(lambda: daemon.said("x01.pool.skydns.test") == {"('NXDOMAIN', [])"})
