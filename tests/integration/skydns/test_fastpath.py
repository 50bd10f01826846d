# SPDX-License-Identifier: Apache-2.0
"""The hot loop on real sockets: by batches and plain, which answer alike."""

import itertools
import socket
from dataclasses import replace

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from fairlead.etcd.types import KeyValue, Revision
from skydns import batch, fastpath, keys, records, sockets
from skydns.attentive import Attentive
from skydns.compiled import Answers
from skydns.cookies import Cookies
from skydns.limit import Limiter
from skydns.order import Order
from skydns.policy import Policy
from skydns.querylog import QueryLog
from skydns.state import Served

pytestmark = pytest.mark.integration
WAYS = ("batches", "plain")
HOSTS = [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.7"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.7")]  # fmt: skip


class Stage:
    def __init__(self, host, to, monkeypatch, way):
        if way == "plain":
            monkeypatch.setattr(fastpath, "LIBRARY", None)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host == "::1")
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.bind((host, 0))
        policy = Policy(frozenset(keys.zones("z.test")), rotate=False, forwarding=True)
        self.answers = Answers(Served(), policy, lambda: 0.0)
        self.answers.loaded = True
        for at in range(300):
            kv = KeyValue(b"/skydns/test/z/n%d" % at, b'{"host":"10.0.0.%d"}' % (at % 256), Revision(1), Revision(1), 1)  # fmt: skip
            self.answers.served.index.put(records.decode(b"/skydns", kv))
        self.forwarded = []
        self.loop = fastpath.Loop(
            self.sock,
            self.answers,
            lambda *asked: self.forwarded.append(asked),
            wildcard=host in {"0.0.0.0", "::"},
        )
        self.client = socket.socket(
            socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM
        )
        # connected: a reply from another address than the one asked would not be seen
        self.client.connect((to, self.sock.getsockname()[1]))
        self.client.settimeout(1.0)

    def exchange(self, *packets):
        for packet in packets:
            self.client.send(packet)
        for _ in range(50):  # a turn ends early when answers have to be made
            self.loop.drain()
        found = []
        try:
            self.client.setblocking(False)
            while True:
                found.append(self.client.recv(4096))
        except BlockingIOError:
            return found


@pytest.fixture(params=list(itertools.product(WAYS, HOSTS)), ids=str)
def stage(request, monkeypatch):
    way, (host, to) = request.param
    if way == "batches" and batch.LIBRARY is None:
        pytest.skip("no recvmmsg here")
    made = Stage(host, to, monkeypatch, way)
    yield made
    made.sock.close()
    made.client.close()


def query(name, rtype="A", number=7, **more):
    message = dns.message.make_query(name, rtype, **more)
    message.id = number
    return message.to_wire()


def addresses(octets):
    message = dns.message.from_wire(octets)
    return [rr.to_text() for rrset in message.answer for rr in rrset]


def test_18_replies_are_not_cut_for_what_somebody_says_of_the_path():
    """RFC 9715; `IP_PMTUDISC_OMIT`."""
    for host, level, name in (
        ("127.0.0.1", socket.IPPROTO_IP, 10),
        ("::1", socket.IPPROTO_IPV6, 23),
    ):
        with sockets.bound(sockets.UDP, host, 0) as sock:
            assert sock.getsockopt(level, name) == 5


def test_hits_in_order_each_with_its_id(stage):
    asked = [query(f"n{at}.z.test", number=1000 + at) for at in range(200)]
    for _ in range(2):  # first made, then ready
        found = stage.exchange(*asked)
        assert [int.from_bytes(reply[:2], "big") for reply in found] == list(range(1000, 1200))
        assert [addresses(reply) for reply in found] == [[f"10.0.0.{at}"] for at in range(200)]
    assert len(stage.answers.ready) == 200


def test_a_flood_of_missing_names_each_with_its_id_and_question(stage, monkeypatch):
    whole = []
    real = fastpath.flood.replies
    monkeypatch.setattr(fastpath.flood, "replies", lambda *batch: whole.append(real(*batch)) or whole[-1])  # fmt: skip
    stage.exchange(query("aaaa.z.test"), query("bbbb.z.test"))
    names = [f"x{at:03}.z.test" for at in range(200)]
    names[150] = "n1.z.test"  # one exists, and makes its batch an ordinary one
    names[151] = "other.z.test"
    found = stage.exchange(*(query(name, number=1000 + at) for at, name in enumerate(names)))
    found = [dns.message.from_wire(reply) for reply in found]
    assert [reply.id for reply in found] == list(range(1000, 1200))
    assert [reply.question[0].name.to_text() for reply in found] == [f"{name}." for name in names]
    rcodes = [reply.rcode() for reply in found]
    assert rcodes == [0 if name == "n1.z.test" else 3 for name in names]
    assert any(whole) is (stage.loop.drain == stage.loop._drain_batches)


def test_an_order_by_client(monkeypatch):
    made = Stage("127.0.0.1", "127.0.0.1", monkeypatch, "plain")
    for at in range(8):
        kv = KeyValue(b"/skydns/test/z/p/x%d" % at, b'{"host":"10.0.1.%d"}' % at, Revision(1), Revision(1), 1)  # fmt: skip
        made.answers.served.index.put(records.decode(b"/skydns", kv))
    made.answers.policy = replace(made.answers.policy, rotate=True, order=Order(client=True))
    loop = made.loop = Attentive(made.sock, made.answers, lambda *asked: None, None, None)
    seen = set()
    for last in range(1, 9):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((f"127.0.0.{last}", 0))
            client.connect(made.sock.getsockname())
            replies = []
            for _ in range(2):
                client.send(query("p.z.test"))
                loop.drain()
                replies.append(addresses(client.recv(4096)))
        assert replies[0] == replies[1]
        seen.add(tuple(replies[0]))
    assert len(seen) > 2
    made.sock.close()
    made.client.close()


def test_letter_case_comes_back(stage):
    stage.exchange(query("n1.z.test"))
    (found,) = stage.exchange(query("N1.z.TesT", number=9))
    assert found[12:22] == b"\x02N1\x01z\x04TesT"[:10]
    assert addresses(found) == ["10.0.0.1"]
    assert len(stage.answers.ready) == 1


def test_missing_names_and_their_brothers(stage):
    for label in ("no", "na", "NO", "xy"):
        (found,) = stage.exchange(query(f"{label}.z.test"))
        reply = dns.message.from_wire(found)
        assert reply.rcode() == dns.rcode.NXDOMAIN
        assert reply.question[0].name.labels[0] == label.encode()
        assert reply.authority[0].name.to_text() == "z.test."
    (found,) = stage.exchange(query("n2.z.test"))
    assert addresses(found) == ["10.0.0.2"]


def test_the_letter_case_of_type_and_header_is_no_letter_case(stage):
    # type 65 is "A" and 97 is "a" as octets: one must not be answered as the other
    one, other = (query("n3.z.test", f"TYPE{kind}") for kind in (97, 65))
    for packet in (one, other):
        (found,) = stage.exchange(packet)
        assert found[12:] != b""
        assert found[22:26] == packet[22:26]


def test_a_query_longer_than_a_head_and_one_longer_than_any(stage):
    stage.exchange(query("n4.z.test"))
    label = "x" * 60
    (found,) = stage.exchange(query(f"{label}.{label}.{label}.n4.z.test"))
    assert dns.message.from_wire(found).rcode() == dns.rcode.NXDOMAIN
    (found,) = stage.exchange(query("n4.z.test") + bytes(400))
    assert addresses(found) == ["10.0.0.4"]
    padded = bytearray(query("n4.z.test", use_edns=0))
    padded[-2:] = b"\x13\x8c\0\x0c\x13\x88" + bytes(5000)
    (found,) = stage.exchange(bytes(padded))
    assert dns.message.from_wire(found).rcode() == dns.rcode.FORMERR


def test_what_is_no_query_gets_no_reply_and_holds_up_none(stage):
    reply = bytearray(query("n5.z.test"))
    reply[2] |= 0x80
    asked = [query("n5.z.test"), b"", b"\0", bytes(reply), query("n6.z.test"), b"\0" * 11]
    found = stage.exchange(*asked)
    assert [addresses(octets) for octets in found] == [["10.0.0.5"], ["10.0.0.6"]]


def test_an_answer_from_the_name_servers_comes_later(stage):
    before, asked, after = query("n7.z.test"), query("example.org", number=77), query("n8.z.test")
    found = stage.exchange(before, asked, after)
    assert [addresses(octets) for octets in found] == [["10.0.0.7"], ["10.0.0.8"]]
    ((ask, data, peer),) = stage.forwarded
    assert data == asked
    assert ask.query.id == 77
    stage.loop.send(data + b"later", peer)
    stage.client.settimeout(1.0)
    assert stage.client.recv(512) == asked + b"later"


def test_a_client_that_is_gone_costs_only_its_own_reply(stage):
    gone = socket.socket(stage.client.family, socket.SOCK_DGRAM)
    gone.connect(stage.client.getpeername())
    gone.send(query("n9.z.test"))
    gone.close()
    assert [addresses(octets) for octets in stage.exchange(query("n9.z.test"))] == [["10.0.0.9"]]


@pytest.mark.parametrize("stage", [("batches", host) for host in HOSTS], ids=str, indirect=True)
def test_the_query_log_has_each_reply_that_is_due(stage):
    lines = []
    stage.loop.log = QueryLog(lines.append, 3)
    long = query(".".join("x" * 60 for _ in range(2)) + ".z.test", number=8)
    asked = [query("n1.z.test", number=1), long, query("n2.z.test", number=3), b"\0"] * 2
    stage.exchange(*asked)
    host, port = stage.client.getsockname()[:2]
    sender = f"::ffff:{host}" if stage.sock.family != stage.client.family else host
    client = f"[{sender}]:{port}" if ":" in sender else f"{sender}:{port}"
    assert [line.rsplit(" ", 1)[0] for line in lines] == [
        f'{client} - 3 "A IN n2.z.test. udp 27 false 512" NOERROR qr,aa,rd,ra 43'
    ] * 2


def test_a_flood_to_one_network_is_cut_and_dropped_and_good_cookies_pass(stage):
    cookies = Cookies(bytes(16), lambda: 1000.0)
    stage.loop.limiter = Limiter(5, 2, (), cookies, lambda: 0.0)
    asked = [query("n1.z.test", number=at) for at in range(64)]
    stage.exchange(*asked)
    found = [dns.message.from_wire(octets) for octets in stage.exchange(*asked)]
    assert len(found) == 32
    assert all(reply.flags & dns.flags.TC and not reply.answer for reply in found)
    half = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    (octets,) = stage.exchange(query("n1.z.test", use_edns=0, options=[half]))
    reply = dns.message.from_wire(octets)
    assert reply.rcode() == 23
    whole = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, reply.options[0].to_wire())
    (octets,) = stage.exchange(query("n1.z.test", use_edns=0, options=[whole]))
    reply = dns.message.from_wire(octets)
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.options[0].to_wire() == whole.to_wire()
    assert addresses(octets) == ["10.0.0.1"]
