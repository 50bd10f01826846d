# SPDX-License-Identifier: Apache-2.0
"""The forwarder against servers that behave badly, on loopback."""

import asyncio
import dataclasses
import ipaddress
from contextlib import asynccontextmanager

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from skydns import keys, message, names, rrs
from skydns.addresses import Server
from skydns.cache import Bounds, Key
from skydns.compiled import Answers, Ask
from skydns.forward import Forwarder
from skydns.policy import Policy
from skydns.reply import Reply
from skydns.rrs import RR
from skydns.state import Served
from skydns.upstream import Routes, Upstream

pytestmark = [pytest.mark.integration, pytest.mark.slow]
EVERYONE = (ipaddress.ip_network("0.0.0.0/0"),)


class Fake(asyncio.DatagramProtocol):
    """A name server that does what `way` says with each query."""

    def __init__(self):
        self.way = "answer"
        self.asked = []
        self.by_tcp = 0
        self.connections = 0
        self.ttl = 60
        self.flags = 0
        self.count = 1

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        if (reply := self.reply(data, udp=True)) is not None:
            self.transport.sendto(reply, addr)

    async def converse(self, reader, writer):
        self.connections += 1
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                self.by_tcp += 1
                reply = self.reply(await reader.readexactly(size), udp=False)
                if reply is not None:
                    writer.write(len(reply).to_bytes(2, "big") + reply)
                if self.way == "hangs up":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def reply(self, data, *, udp):
        query = dns.message.from_wire(data)
        self.asked.append(query)
        if self.way == "silent":
            return None
        made = dns.message.make_response(query)
        made.flags |= self.flags
        if self.way in {"SERVFAIL", "REFUSED", "NXDOMAIN", "NOTAUTH", "NOERROR"}:
            made.set_rcode(dns.rcode.from_text(self.way))
            return made.to_wire()
        if self.way == "no EDNS" and query.edns >= 0:
            return data[:2] + b"\x80\x01" + b"\0" * 8
        count = 100 if self.way == "long" else self.count
        if self.way == "long" and udp:
            made.flags |= dns.flags.TC
            return made.to_wire()
        name = query.question[0].name
        made.answer.append(
            dns.rrset.from_text_list(
                name, self.ttl, "IN", "A", [f"192.0.2.{at + 1}" for at in range(count)]
            )
        )
        out = made.to_wire(max_size=65535)
        if self.way == "garbled":
            return out[:6] + b"\0\5" + out[8:]
        if self.way == "folds" and udp:
            return out[:12] + out[12:30].lower() + out[30:]
        return out


@asynccontextmanager
async def fakes(number):
    loop = asyncio.get_running_loop()
    made, closing, servers = [], [], []
    for _ in range(number):
        fake = Fake()
        stream = await asyncio.start_server(fake.converse, "127.0.0.1", 0)
        port = stream.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(
            lambda fake=fake: fake, local_addr=("127.0.0.1", port)
        )
        made.append(fake)
        closing += [transport, stream]
        servers.append(Server("127.0.0.1", port))
    try:
        yield made, tuple(servers)
    finally:
        for one in closing:
            one.close()


class Client:
    def __init__(self, routes):
        self.said = []
        self.forwarder = Forwarder(routes, lambda event, server: self.said.append(event))
        policy = Policy(frozenset(keys.zones("z.test")), forwarding=True, chasing=True)
        self.answers = Answers(Served(), policy, lambda: 0.0)

    async def ask(self, name="www.example.org.", rtype="A", *, udp=True, **options):
        query = dns.message.make_query(name, rtype, **options)
        ask = Ask(message.parse(query.to_wire()), None)
        reply, self.system = await self.forwarder.answer(ask, self.answers, "127.0.0.1", udp=udp)
        return dns.message.from_wire(reply)


def upstream(servers, **fields):
    return Upstream(servers, **{"clients": EVERYONE, "rotate": False, "timeout": 0.5, "hedge": 0.1} | fields)  # fmt: skip


@asynccontextmanager
async def client(servers, *, bounds=None, **fields):
    routes = Routes(upstream(servers, **fields), bounds=bounds or Bounds())
    made = Client(routes)
    try:
        yield made
    finally:
        await made.forwarder.aclose()


KEY = Key(names.from_text("www.example.org"), 1, 1, do=False, cd=False)


async def until(holds):
    """Wait for something to be so."""
    async with asyncio.timeout(20):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


def age(c, by):
    """Make what is kept older than it is."""
    for kept in c.forwarder.cache._kept.values():
        kept.born -= by


async def test_kept_for_its_time_and_refreshed_before_it_runs_out():
    async with fakes(1) as ((fake,), servers), client(servers) as c:
        for name in ("www.example.org.", "WWW.example.org.", "www.example.org."):
            reply = await c.ask(name)
            assert reply.answer[0].to_text().endswith("IN A 192.0.2.1")
            assert reply.question[0].name.to_text() == name  # trap 21
        assert len(fake.asked) == 1
        await c.ask(want_dnssec=True)  # DO is another answer
        assert len(fake.asked) == 2
        await c.ask("short.example.org.")
        for _ in range(4):
            await c.ask("short.example.org.")
        age(c, 56)
        await c.ask("short.example.org.")
        assert c.forwarder.cache.prefetched == 1
        await until(lambda: len(fake.asked) == 4)


async def test_only_the_server_itself_has_authority():
    async with fakes(1) as ((fake,), servers), client(servers) as c:
        fake.flags = dns.flags.AA
        assert (await c.ask()).flags & dns.flags.AA  # §9.2: the server's flags
        for options in ({}, {"use_edns": 0}, {"udp": False}):
            assert not (await c.ask(**options)).flags & dns.flags.AA
        assert len(fake.asked) == 1
        age(c, 61)
        fake.way = "SERVFAIL"
        assert not (await c.ask()).flags & dns.flags.AA  # what has run out has none either


def at_hand(c, ask, host="127.0.0.1"):
    made = c.forwarder.at_hand(ask, c.answers, host, udp=True)
    return dns.message.from_wire(made.octets) if made else None


async def test_what_is_kept_is_answered_at_once_and_takes_turns():
    clients = (ipaddress.ip_network("127.0.0.0/8"),)
    async with fakes(1) as ((fake,), servers), client(servers, clients=clients) as c:
        fake.count = 3
        for name in ("www.example.org.", "www.example.com."):
            ask = Ask(message.parse(dns.message.make_query(name, "A").to_wire()), None)
            assert at_hand(c, ask) is None
            await c.ask(name)
            firsts = [at_hand(c, ask).answer[0][0].address for _ in range(6)]
            assert sorted(firsts) == ["192.0.2.1"] * 2 + ["192.0.2.2"] * 2 + ["192.0.2.3"] * 2
            assert at_hand(c, ask).answer[0].ttl == 60
            assert at_hand(c, ask, "192.0.2.1").rcode() == dns.rcode.REFUSED
        age(c, 7.5)
        assert at_hand(c, ask).answer[0].ttl == 60 - 8 + 1
        c.answers.policy = dataclasses.replace(c.answers.policy, rotate=False)
        assert len({at_hand(c, ask).answer[0][0].address for _ in range(6)}) == 1
        assert len(fake.asked) == 2
        assert (c.forwarder.cache.hits, c.forwarder.cache.misses) == (21, 2)


async def test_an_alias_whose_target_is_kept_is_answered_at_once():
    """Each answer of the server makes the octets anew; a client we do not ask for gets none of it."""
    clients = (ipaddress.ip_network("127.0.0.0/8"),)
    async with fakes(1) as ((fake,), servers), client(servers, clients=clients) as c:
        fake.count = 2
        target, owner = names.from_text("Lb.example.org"), names.from_text("w.z.test")
        reply = Reply(rrs.NOERROR, answer=(RR(owner, rrs.CNAME, 300, names=(target,)),), outside=target)  # fmt: skip
        ask = Ask(message.parse(dns.message.make_query("w.z.test.", "A").to_wire()), reply)
        assert at_hand(c, ask) is None
        await c.forwarder.answer(ask, c.answers, "127.0.0.1", udp=True)
        found = [at_hand(c, ask) for _ in range(2)]
        assert [rrset.name.to_text() for rrset in found[0].answer] == [
            "w.z.test.",
            "Lb.example.org.",
        ]
        assert {each.answer[1][0].address for each in found} == {"192.0.2.1", "192.0.2.2"}
        assert [len(each.answer) for each in (at_hand(c, ask, "192.0.2.9"), found[0])] == [1, 2]
        age(c, 61)
        assert at_hand(c, ask) is None  # has run out: somebody has to be asked
        fake.count = 1
        await c.forwarder.answer(ask, c.answers, "127.0.0.1", udp=True)
        assert [rr.address for rr in at_hand(c, ask).answer[1]] == ["192.0.2.1"]
        assert len(fake.asked) == 2


async def test_equal_questions_are_asked_once():
    async with fakes(1) as ((fake,), servers), client(servers) as c:
        await asyncio.gather(*(c.ask() for _ in range(50)))
        assert len(fake.asked) == 1


async def test_a_silent_server_gets_company_then_is_asked_last():
    async with (
        fakes(2) as ((dead, good), servers),
        client(servers, bounds=Bounds(most=0), timeout=4.4) as c,
    ):
        dead.way = "silent"
        assert (await c.ask()).answer  # after `hedge`, while `timeout` is still far
        assert (len(dead.asked), len(good.asked)) == (1, 1)
        await c.ask("b.example.org.")
        assert c.said == ["down"]
        before = len([q for q in dead.asked if q.question[0].rdtype == 1])
        await c.ask("c.example.org.")
        assert len([q for q in dead.asked if q.question[0].rdtype == 1]) == before
        dead.way = "answer"
        for _ in range(40):
            await asyncio.sleep(0.1)
            if "answers again" in c.said:
                break
        assert c.said == ["down", "answers again"]


def troubles(reply):
    """Return the extended errors of a reply (RFC 8914)."""
    return [option.code for option in reply.options if option.otype == dns.edns.EDE]


async def test_trap_19_never_silent():
    async with fakes(2) as (both, servers):
        pass
    async with client(servers) as c:  # nobody is there any more
        reply = await c.ask("c.example.org.", use_edns=0)
        assert (reply.rcode(), troubles(reply)) == (dns.rcode.SERVFAIL, [23])
    async with fakes(2) as (both, servers), client(servers) as c:
        for fake in both:
            fake.way = "silent"
        async with asyncio.timeout(10):
            reply = await c.ask(use_edns=0)
        assert (reply.rcode(), troubles(reply)) == (dns.rcode.SERVFAIL, [22])
        for fake in both:
            fake.way = "SERVFAIL"
        assert (await c.ask("b.example.org.")).rcode() == dns.rcode.SERVFAIL


async def test_what_only_helps_is_waited_for_a_second_and_not_of_servers_that_are_down():
    """§4.3, §5.3: addresses beside our own, and those of targets outside."""
    async with fakes(1) as ((fake,), servers), client(servers) as c:
        away = names.from_text("away.example.org")
        query = dns.message.make_query("n.z.test.", "A")
        own = RR(names.from_text("n.z.test"), rrs.A, 60, bytes((10, 0, 0, 1)))
        reply = Reply(rrs.NOERROR, answer=(own,), absorbed=((away, own.owner),))
        ask = Ask(message.parse(query.to_wire()), reply)

        async def addresses():
            octets, _ = await c.forwarder.answer(ask, c.answers, "127.0.0.1", udp=True)
            return sorted(each.address for each in dns.message.from_wire(octets).answer[0])

        fake.way = "silent"
        async with asyncio.timeout(4):  # where a question of its own takes 4.5 s
            assert await addresses() == ["10.0.0.1"]
        await until(lambda: c.said == ["down"])
        asked = sum(each.question[0].rdtype == 1 for each in fake.asked)
        assert await addresses() == ["10.0.0.1"]
        assert sum(each.question[0].rdtype == 1 for each in fake.asked) == asked
        fake.way = "answer"
        await until(lambda: "answers again" in c.said)
        assert await addresses() == ["10.0.0.1", "192.0.2.1"]


async def test_what_has_run_out_is_served_when_nobody_answers():
    async with fakes(1) as ((fake,), servers), client(servers) as c:
        await c.ask()
        fake.way = "silent"
        age(c, 61)
        reply = await c.ask(use_edns=0)
        assert reply.answer[0].ttl == 30
        assert "3" in [str(int(option.code)) for option in reply.options if option.otype == 15]
        fake.way = "answer"
        await c.ask()
        await until(lambda: c.forwarder.cache.get(KEY, asyncio.get_running_loop().time()).left > 30)
        assert (await c.ask()).answer[0].ttl > 30


async def test_what_has_run_out_first_and_a_pause_after_a_failure():
    bounds = Bounds(stale_first=True, stale_ttl=7)
    async with fakes(1) as ((fake,), servers), client(servers, bounds=bounds) as c:
        await c.ask()
        age(c, 61)
        assert (await c.ask()).answer[0].ttl == 7
        await until(lambda: len(fake.asked) == 2)  # it is asked for beside
    async with fakes(1) as ((fake,), servers), client(servers, bounds=Bounds(recheck=60.0)) as c:
        await c.ask()
        age(c, 61)
        fake.way = "SERVFAIL"
        assert (await c.ask()).answer[0].ttl == 30
        asked = len(fake.asked)
        assert (await c.ask()).answer[0].ttl == 30
        assert len(fake.asked) == asked
    bounds = Bounds(prefer_positive=True)
    async with fakes(1) as ((fake,), servers), client(servers, bounds=bounds) as c:
        await c.ask()
        age(c, 61)
        fake.way = "NXDOMAIN"
        assert (await c.ask()).answer[0].ttl == 30
        assert len(fake.asked) == 2


async def test_connections_are_kept_for_the_next_question():
    async with fakes(1) as ((fake,), servers), client(servers, tcp=True) as c:
        for at in range(5):
            assert (await c.ask(f"n{at}.example.org.")).answer
        assert (fake.by_tcp, fake.connections) == (5, 1)
        assert c.forwarder.asking.streams.reused[servers[0]] == 4
        fake.way = "hangs up"
        assert (await c.ask("last.example.org.")).answer
        assert (await c.ask("gone.example.org.")).answer  # over a new one
        assert fake.connections == 2
    async with fakes(1) as ((fake,), servers), client(servers, tcp=True, expire=0.0) as c:
        for at in range(3):
            await c.ask(f"n{at}.example.org.")
        assert fake.connections == 3


@pytest.mark.parametrize(("first", "fields"), [
    ("NXDOMAIN", {"next_rcodes": frozenset((3,))}), ("NOERROR", {"next_on_nodata": True}),
])  # fmt: skip
async def test_the_next_forward_is_asked(first, fields):
    async with fakes(2) as ((bad, good), servers):
        following = upstream(servers[1:])
        async with client(servers[:1], following=following, **fields) as c:
            bad.way = first
            assert (await c.ask()).answer
            assert (await c.ask()).answer  # kept as one answer
            assert (len(bad.asked), len(good.asked)) == (1, 1)
            good.way = "NXDOMAIN"
            assert (await c.ask("b.example.org.")).rcode() == dns.rcode.NXDOMAIN


async def test_failover_attempts_failfast_and_concurrency():
    async with fakes(2) as ((bad, good), servers):
        bad.way = "NOTAUTH"
        async with client(servers) as c:
            assert (await c.ask()).rcode() == 9
        async with client(servers, failover=frozenset((2, 5, 9))) as c:
            assert (await c.ask()).answer
        bad.way = good.way = "SERVFAIL"
        bad.asked.clear()
        good.asked.clear()
        async with client(servers, attempts=1) as c:
            await c.ask()
            assert len(bad.asked) + len(good.asked) == 1
        bad.way = good.way = "silent"
        async with client(servers, failfast=True, fails=1, timeout=0.1) as c:
            await c.ask()
            before = len(bad.asked) + len(good.asked)
            assert set(c.said) == {"down"}
            assert (await c.ask("b.example.org.")).rcode() == dns.rcode.SERVFAIL
            asked = [q for q in (*bad.asked, *good.asked) if q.question[0].rdtype == 1]
            assert len(asked) <= before
        async with client(servers, concurrent=2, timeout=0.2) as c:
            replies = await asyncio.gather(*(c.ask(f"n{at}.example.org.") for at in range(4)))
            rcodes = sorted(reply.rcode() for reply in replies)
            assert rcodes == [dns.rcode.SERVFAIL] * 2 + [dns.rcode.REFUSED] * 2


@pytest.mark.parametrize("way", ["REFUSED", "SERVFAIL"])
async def test_the_next_server_is_asked(way):
    async with fakes(2) as ((bad, good), servers), client(servers) as c:
        bad.way = way
        assert (await c.ask()).answer
        assert len(good.asked) == 1


async def test_an_answer_that_cannot_be_read_is_none():
    async with fakes(2) as ((garbled, well), servers):
        garbled.way = "garbled"
        async with client(servers) as c:
            assert (await c.ask()).answer
            assert (len(garbled.asked), len(well.asked)) == (1, 1)
            assert c.forwarder.asking.strays == 1
        async with client(servers[:1], tcp=True) as c:  # 22: the network says nothing of it
            reply = await c.ask(use_edns=0)
            assert (reply.rcode(), [int(each.code) for each in reply.options]) == (2, [22])


async def test_cut_answers_come_by_tcp():
    async with fakes(1) as ((fake,), servers), client(servers) as c:
        fake.way = "long"
        assert len((await c.ask(udp=False)).answer[0]) == 100
        assert fake.by_tcp == 1


async def test_a_server_that_folds_the_name_and_one_without_edns():
    async with fakes(1) as ((fake,), servers), client(servers) as c:
        fake.way = "folds"
        assert (await c.ask("aaaaaaaaaaaaaaaaa.example.org.")).answer
        assert fake.by_tcp == 1  # draft 0x20: not believed over UDP
    async with fakes(1) as ((fake,), servers), client(servers) as c:
        fake.way = "no EDNS"
        assert (await c.ask()).answer
        assert [q.edns for q in fake.asked] == [0, -1]


async def test_a_loop_is_found_and_the_server_left_out():
    async with fakes(2) as ((loops, _), servers), client(servers) as c:
        original = loops.reply
        tasks = []

        def back(data, *, udp):
            query = message.parse(data)
            ask = Ask(query, None)
            answering = c.forwarder.answer(ask, c.answers, "127.0.0.1", udp=True)
            tasks.append(asyncio.ensure_future(answering))
            return original(data, udp=udp)

        loops.reply = back
        await c.forwarder.circles.look()
        await asyncio.sleep(0.05)
        assert c.forwarder.asking.barred == {servers[0]}
        loops.asked.clear()
        assert (await c.ask()).answer
        assert not loops.asked


async def test_stub_zones_carry_a_mark_and_a_marked_query_ends_here():
    """§9.2: the original drops the query with a log line; RFC 8906 wants an answer, so both."""
    async with fakes(2) as ((plain, stub), servers):
        routes = Routes(upstream(servers[:1])).with_stubs(
            {keys.zones("example.org")[0]: servers[1:]}
        )
        c = Client(routes)
        await c.ask()
        assert not plain.asked
        (option,) = stub.asked[0].options
        assert (int(option.otype), option.to_wire()) == (65011, b"\1")
        marked = dns.message.make_query("b.example.org.", "A", options=stub.asked[0].options)
        query = message.parse(marked.to_wire())
        reply, system = await c.forwarder.answer(Ask(query, None), c.answers, "127.0.0.1", udp=True)
        assert dns.message.from_wire(reply).rcode() == dns.rcode.SERVFAIL
        assert len(stub.asked) == 1
        assert c.said == ["asks us what we ask it: a stub zone leads in a circle"]
        assert (system, c.system) == ("stub", "stub")
        await c.ask()
        assert c.system == "cache"
        await c.forwarder.aclose()


async def test_bounds_on_what_is_under_way():
    async with fakes(1) as ((fake,), servers):
        fake.way = "silent"
        c = Client(Routes(upstream(servers), concurrent=5, by_client=3))
        replies = await asyncio.gather(*(c.ask(f"n{at}.example.org.") for at in range(10)))
        assert {reply.rcode() for reply in replies} == {dns.rcode.SERVFAIL}
        assert c.forwarder.rejected == 7
        await c.forwarder.aclose()
