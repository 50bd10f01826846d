# SPDX-License-Identifier: Apache-2.0
"""specs/skydns.md §10, §18: header bits, EDNS, truncation, and what is no good query."""

import dns.edns
import dns.flags
import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HEADER = bytes.fromhex("1234 0100 0001 0000 0000 0000".replace(" ", ""))
QUESTION = b"\x01n\x06skydns\x04test\0\0\x01\0\x01"
OPT = b"\0\0\x29\x10\0\0\0\0\0\0\0"
RR = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x0a\0\0\x01"


def pool(count):
    return {f"n/x{at:03}": f'{{"host":"10.0.1.{at}","port":80}}' for at in range(count)}


def counts(qd=1, an=0, ns=0, ar=0, flags="0100"):
    return bytes.fromhex("1234" + flags) + b"".join(n.to_bytes(2, "big") for n in (qd, an, ns, ar))


FORMERR, NOTIMP, REFUSED = "1", "4", "5"


@pytest.mark.parametrize(("data", "rcode", "echoed"), [
    pytest.param(HEADER[:11], None, False, id="under 12 octets"),
    pytest.param(counts(flags="8100") + QUESTION, None, False, id="QR set"),
    pytest.param(counts(flags="2800") + QUESTION, NOTIMP, True, id="UPDATE"),
    pytest.param(counts(flags="1000"), NOTIMP, False, id="STATUS without a question"),
    pytest.param(counts(flags="2000") + QUESTION, REFUSED, True, id="NOTIFY"),
    pytest.param(counts(qd=0), FORMERR, False, id="no question"),
    pytest.param(counts(qd=2) + QUESTION * 2, FORMERR, False, id="two questions"),
    pytest.param(HEADER, FORMERR, False, id="question count without question"),
    pytest.param(HEADER + QUESTION[:-1], FORMERR, False, id="cut question"),
    pytest.param(HEADER + b"\xc0\x0c\0\x01\0\x01", FORMERR, False, id="pointer loop"),
    pytest.param(HEADER + b"\x40" + b"x" * 64 + b"\0\0\x01\0\x01", FORMERR, False, id="label of 64"),
    pytest.param(HEADER + (b"\x3f" + b"x" * 63) * 4 + b"\0\0\x01\0\x01", FORMERR, False, id="name of 257"),
    pytest.param(counts(an=1) + QUESTION + RR, FORMERR, True, id="answer in a query"),
    pytest.param(counts(ns=1) + QUESTION + RR, FORMERR, True, id="authority in a query"),
    pytest.param(counts(ar=3) + QUESTION + RR * 3, FORMERR, True, id="three additional"),
    pytest.param(counts(ar=1) + QUESTION + OPT[:-1], FORMERR, True, id="cut OPT"),
    pytest.param(counts(ar=1) + QUESTION + OPT[:-1] + b"\x03\0\x0a\0", FORMERR, True, id="broken option"),
    pytest.param(counts(ar=2) + QUESTION + OPT * 2, FORMERR, True, id="two OPT"),
    pytest.param(counts(ar=1) + QUESTION + b"\x01x" + OPT, FORMERR, True, id="OPT with a name"),
    pytest.param(counts() + QUESTION[:-3] + b"\x29\0\x01", FORMERR, True, id="OPT as question"),
    pytest.param(counts() + QUESTION[:-3] + b"\xfa\0\x01", NOTIMP, True, id="TSIG as question"),
    pytest.param(counts() + QUESTION + b"trailing", "0", True, id="octets after the message"),
    pytest.param(counts(ar=1) + QUESTION + RR, "0", True, id="another additional record"),
    pytest.param(counts(flags="0170") + QUESTION, "0", True, id="Z, AD and CD set"),
])  # fmt: skip
def test_reactions(server, data, rcode, echoed):
    reply = server(pool(1)).send(data)
    if rcode is None:
        assert reply is None
        return
    assert reply[:2] == data[:2]
    assert str(reply[3] & 15) == rcode
    assert reply[2] & 0xF8 == 0x80 | (data[2] & 0x78)  # QR, opcode echoed
    assert (reply[12:].startswith(QUESTION[:-3])) == echoed
    if data[2] & 0x78 != 0x28:  # the oracle wants an SOA in an UPDATE
        dns.message.from_wire(reply)
    if rcode == FORMERR:
        assert reply[10:12] == b"\0\0"


def test_edns(server):
    s = server(pool(1))
    assert s.message("n A").edns == -1  # none in an answer to a query without
    reply = s.message("n A", use_edns=0, payload=4096, want_dnssec=True)
    assert (reply.edns, reply.payload, reply.ednsflags) == (0, 1232, dns.flags.DO)
    assert reply.options == ()
    for payload in (0, 511):
        assert len(server(pool(60)).wire("n A", use_edns=0, payload=payload)[1]) <= 512
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    assert (
        s.message("n A", use_edns=0, options=[cookie]).options == ()
    )  # trap 20: no foreign cookie echoed
    reply = s.message("n A", use_edns=1)
    assert (reply.rcode(), reply.edns, reply.payload) == (16, 0, 1232)


def test_nsid_is_told_to_who_asks(server):
    """RFC 5001; §8: hostname.bind and id.server say the same."""
    asking = dns.edns.GenericOption(dns.edns.NSID, b"")
    s = server(pool(1), nsid=b"ns-a", host="ns-a", version="")
    reply = s.message("n A", use_edns=0, options=[asking])
    assert [(option.otype, option.to_wire()) for option in reply.options] == [(3, b"ns-a")]
    assert not s.message("n A", use_edns=0).options
    for name in ("hostname.bind.", "id.server."):
        assert s.answer(f"{name} TXT CH") == [f'{name} TXT "ns-a"']
    for name in ("version.bind.", "version.server.", "authors.bind."):
        assert s.answer(f"{name} TXT CH") == "REFUSED"
    secret = server(pool(1))
    assert not secret.message("n A", use_edns=0, options=[asking]).options
    assert secret.answer("id.server. TXT CH") == "REFUSED"


def test_flags(server):
    s = server(pool(1))
    reply = s.message("n A")
    assert dns.flags.to_text(reply.flags) == "QR AA RD"
    query = dns.message.make_query("n.skydns.test.", "A", flags=dns.flags.CD)
    assert dns.flags.to_text(dns.message.from_wire(s.send(query.to_wire())).flags) == "QR AA CD"


def test_truncation(server):
    s = server(pool(60))
    _, data = s.wire("n A")
    assert len(data) <= 512
    reply = dns.message.from_wire(data)
    assert reply.flags & dns.flags.TC
    assert sum(len(rrset) for rrset in reply.answer) == 30
    whole = s.message("n A", udp=False)
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 60
    reply = s.message("n A", use_edns=0, payload=4096)
    assert not reply.flags & dns.flags.TC  # 60 addresses are 988 octets
    reply = s.message("n SRV", use_edns=0, payload=1232)
    assert reply.flags & dns.flags.TC
    assert (reply.edns, reply.payload) == (0, 1232)  # the OPT stays
    assert len(s.wire("n SRV", use_edns=0, payload=4096)[1]) <= 1232  # the server's own limit


def test_lost_glue_alone_is_no_truncation(server):
    s = server(pool(9))
    reply = s.message("n SRV")
    assert len(reply.answer[0]) == 9
    assert not reply.flags & dns.flags.TC
    assert len(reply.additional) < 9


def test_a_message_is_never_over_64_kib(server):
    s = server(
        {
            f"n/x{at}": f'{{"host":"10.{at // 65536}.{at // 256 % 256}.{at % 256}","port":80}}'
            for at in range(5000)
        }
    )
    for question in ("n A", "n SRV"):
        _, data = s.wire(question, udp=False)
        assert len(data) <= 65535
        dns.message.from_wire(data)


SEEDS = [
    counts() + QUESTION,
    counts(ar=1) + QUESTION + OPT,
    counts(ar=1) + QUESTION + OPT[:-1] + b"\x04\0\x0a\0\0",
]


@settings(max_examples=300, deadline=None)
@given(seed=st.sampled_from(SEEDS), edits=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 60), tail=st.binary(max_size=20), udp=st.booleans())  # fmt: skip
def test_no_packet_raises(seed, edits, cut, tail, udp):
    from skydns import keys
    from skydns.compiled import Answers
    from skydns.policy import Policy
    from skydns.state import Served

    answers = Answers(Served(), Policy(frozenset(keys.zones("skydns.test"))), lambda: 0.0)
    answers.loaded = True
    data = bytearray(seed)
    for at, octet in edits:
        data[at % len(data)] = octet
    packet = bytes(data[: cut or None]) + tail
    for _ in range(2):
        reply = answers.reply(packet, udp=udp)
        assert reply is None or (
            isinstance(reply, bytes) and reply[:2] == packet[:2] and reply[2] & 0x80
        )
        if reply is not None:
            assert len(reply) <= 1232 or not udp
            if packet[2] & 0x78 != 0x28:  # the oracle wants an SOA in an UPDATE
                dns.message.from_wire(reply)
    if len(packet) < 12 or packet[2] & 0x80:
        assert answers.reply(packet, udp=udp) is None  # never answer an answer


@given(st.binary(max_size=80))
def test_no_octets_raise(data):
    from skydns.message import parse

    parse(data)
