# SPDX-License-Identifier: Apache-2.0
"""What servers say → what clients get: pure parts of forwarding."""

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skydns import exchange, health, message, names, relayed, rrs
from skydns.addresses import Server
from skydns.reply import Reply
from skydns.upstream import Probe


def query(name="Www.example.org.", rtype="A", **options):
    parsed = message.parse(dns.message.make_query(name, rtype, id=99, **options).to_wire())
    assert isinstance(parsed, message.Query)
    return parsed


def upstream(*lines, name="www.example.org.", edns=True, tc=False, rtype="A"):
    reply = dns.message.make_response(
        dns.message.make_query(name, rtype, use_edns=0 if edns else -1, id=5), our_payload=4096
    )
    for line in lines:
        reply.answer.append(dns.rrset.from_text(*line.split(None, 4)))
    reply.flags |= dns.flags.AD | dns.flags.RA | (dns.flags.TC if tc else 0)
    return reply.to_wire()


ANSWER = ("www.example.org. 60 IN CNAME w.example.org.", "w.example.org. 60 IN A 192.0.2.1")


@pytest.mark.parametrize("edns", [False, True])
@pytest.mark.parametrize("theirs", [False, True])
def test_relayed(edns, theirs):
    asked = query(use_edns=0 if edns else -1)
    reply = dns.message.from_wire(relayed.relayed(asked, upstream(*ANSWER, edns=theirs), 1232))
    assert reply.id == 99
    assert reply.question[0].name.to_text() == "Www.example.org."
    assert [rrset.to_text().lower() for rrset in reply.answer] == [line.lower() for line in ANSWER]
    assert reply.edns == (0 if edns else -1)
    assert dns.flags.to_text(reply.flags) == "QR RD RA"  # AD is not believed, AA not claimed


def test_an_opt_in_the_middle_is_taken_out():
    plain = upstream(*ANSWER, edns=False)
    opt = b"\0\0\x29\x10\0\0\0\0\0\0\0"
    more = b"\x01x" + b"\xc0\x0c" + b"\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x09"
    found = plain[:10] + b"\0\x02" + plain[12:] + opt + more
    reply = dns.message.from_wire(relayed.relayed(query(), found, 1232))
    assert [rrset.to_text() for rrset in reply.additional] == [
        "x.Www.example.org. 60 IN A 192.0.2.9"
    ]


@pytest.mark.parametrize("counts", [b"\0\2\0\0\0\0", b"\0\1\0\1\0\0", b"\0\1\0\0\0\2"])
def test_an_opt_that_stands_where_none_may_and_one_that_is_there_twice(counts):
    plain = upstream(*ANSWER[1:], name="w.example.org.", edns=False)
    opt = b"\0\0\x29\x10\0\0\0\0\0\0\0"
    found = plain[:6] + counts + plain[12:] + opt * (counts[5] or 1)
    reply = dns.message.from_wire(relayed.relayed(query("w.example.org."), found, 1232))
    if counts[5] == 2:
        assert len(reply.answer) == 1
    else:
        assert reply.rcode() == dns.rcode.SERVFAIL


def test_too_much_for_the_client_is_cut():
    lines = [f"www.example.org. 60 IN A 192.0.2.{at}" for at in range(60)]
    reply = dns.message.from_wire(relayed.relayed(query(), upstream(*lines), 512))
    assert reply.flags & dns.flags.TC
    assert not reply.answer


def test_only_the_answer_to_the_question_counts():
    sent = exchange.Sent(names.from_text("www.example.org"), rrs.A, rrs.IN, message.RD, do=False)
    good = upstream(*ANSWER)
    assert exchange.matches(sent, 5, good)
    assert not exchange.matches(sent, 6, good)
    assert not exchange.matches(sent, 5, upstream(*ANSWER, name="wwx.example.org."))
    assert not exchange.matches(sent, 5, upstream(*ANSWER, rtype="AAAA"))
    assert not exchange.matches(sent, 5, exchange.query_octets(sent, 5))
    assert not exchange.matches(sent, 5, good[:20])


def test_what_goes_out_is_fresh():
    sent = exchange.Sent(
        names.from_text("www.example.org"), rrs.A, rrs.IN, message.RD | message.CD, do=True
    )
    out = dns.message.from_wire(exchange.query_octets(sent, 77))
    assert (out.id, out.edns, out.payload, out.ednsflags, out.options) == (
        77,
        0,
        1232,
        dns.flags.DO,
        (),
    )
    assert dns.flags.to_text(out.flags) == "RD CD"


def test_a_chain_is_completed():
    head = rrs.RR(
        names.from_text("a.skydns.test"), rrs.CNAME, 5, names=(names.from_text("www.example.org"),)
    )
    reply = Reply(rrs.NOERROR, answer=(head,), outside=names.from_text("www.example.org"))
    (wanted,) = reply.wanted(rrs.A)
    whole = relayed.completed(reply, query("a.skydns.test."), {wanted: upstream(*ANSWER)})
    body = message.encode(names.from_text("a.skydns.test"), whole)
    text = dns.message.from_wire(
        message.finish(body, query("a.skydns.test."), 1232, recursion=True)
    )
    assert [rrset.to_text() for rrset in text.answer] == [
        "a.skydns.test. 5 IN CNAME www.example.org.",
        *ANSWER,
    ]
    assert relayed.completed(reply, query(), {}) == reply
    assert relayed.completed(reply, query(), {wanted: b"nonsense"}) == reply


@given(st.binary(max_size=120))
def test_nothing_a_server_says_raises(data):
    asked = query()
    base = upstream(*ANSWER)
    for found in (base[:12] + data, base[:40] + data, base[: len(data) + 12] + data):
        reply = relayed.relayed(asked, found, 1232)
        assert reply[:2] == b"\0\x63"
        relayed.completed(Reply(rrs.NOERROR), asked, {(asked.name, asked.rtype): found})


async def test_a_server_that_is_down_is_probed_as_the_route_says():
    asked = []

    async def alive(server, probe):
        asked.append((server, probe))
        return len(asked) == 2

    said = []
    watched = health.Health(alive, lambda event, server: said.append(event))
    server, probe = Server("192.0.2.1", 53), Probe(0.001, recursive=False, name=b"\4test\0")
    watched.failed(server, 1, probe)
    await watched.down[server]
    assert asked == [(server, probe)] * 2
    assert said == ["down", "answers again"]
    assert not watched.down
