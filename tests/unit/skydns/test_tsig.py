# SPDX-License-Identifier: Apache-2.0
"""RFC 8945, held against dnspython."""

import base64
import time
from dataclasses import replace

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.tsig
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skydns import keys, message, names, sharedkeys, tsig
from skydns.compiled import Answers, Ask
from skydns.policy import Policy
from skydns.state import Served

SECRET = bytes(range(32))
TEXT = base64.b64encode(SECRET).decode()
ALGORITHMS = ("hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
NOW = int(time.time())  # dnspython looks at the clock of its own accord


def key(algorithm="hmac-sha256", name="k.example.", secret=TEXT):
    return sharedkeys.made(name, algorithm, secret)


def theirs(algorithm="hmac-sha256", name="k.example.", secret=SECRET):
    return dns.tsig.Key(dns.name.from_text(name), secret, algorithm)


def query(with_key=None, rtype="A", **options):
    made = dns.message.make_query("n.skydns.test.", rtype, **options)
    if with_key is not None:
        made.use_tsig(with_key)
    return made, made.to_wire()


def ring(*known):
    return tsig.Keyring({each.name: each for each in known or (key(),)}, lambda: NOW)


def answers(**policy):
    made = Answers(Served(), Policy(frozenset(keys.zones("skydns.test")), **policy), lambda: 0.0)
    made.loaded = True
    made.keyring = ring()
    return made


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("named", [True, False])
def test_a_signed_query_is_opened_and_each_message_of_the_reply_signed(algorithm, named):
    asked, plain = query(want_dnssec=True)
    asked.use_tsig(theirs(algorithm))
    found = ring(key(algorithm if named else "")).opened(asked.to_wire())
    assert found.data == plain
    assert message.parse(found.data).do
    context = None
    for at in range(3):  # as of a transfer
        whole = found.seal(message.failure(message.parse(found.data), at, recursion=False))
        read = dns.message.from_wire(
            whole, keyring=theirs(algorithm), request_mac=asked.mac, xfr=True, tsig_ctx=context, multi=True
        )  # fmt: skip
        assert read.had_tsig
        context = read.tsig_ctx
        assert read.rcode() == at


@pytest.mark.parametrize(("with_key", "error"), [
    (theirs(name="other.example."), tsig.BADKEY),
    (theirs("hmac-sha512"), tsig.BADKEY),
    (theirs(secret=b"another"), tsig.BADSIG),
])  # fmt: skip
def test_what_nobody_we_know_has_signed_is_notauth(with_key, error):
    _, data = query(with_key)
    reply = ring().opened(data)
    read = dns.message.from_wire(reply, keyring=False)
    assert (read.rcode(), read.tsig[0].error, read.tsig[0].mac) == (9, error, b"")
    assert read.question[0].name.to_text() == "n.skydns.test."


def test_a_clock_that_goes_wrong_is_told_ours():
    asked, data = query(theirs())
    keyring = replace(ring(), wall=lambda: NOW + 5000)
    reply = keyring.opened(data)
    read = dns.message.from_wire(reply, keyring=False)
    assert (read.rcode(), read.tsig[0].error) == (9, tsig.BADTIME)
    assert int.from_bytes(read.tsig[0].other, "big") == NOW + 5000
    with pytest.raises(dns.tsig.PeerBadTime):  # dnspython believes it: the signature is good
        dns.message.from_wire(reply, keyring=theirs(), request_mac=asked.mac)
    assert isinstance(replace(ring(), wall=lambda: NOW + 100).opened(data), tsig.Opened)


def test_what_is_cut_or_in_the_wrong_place_is_a_format_error():
    _, data = query(theirs())
    found = tsig._signature(data)
    record = data[found.start :]
    short = record.replace(b"\0\x20" + found.mac, b"\0\x09" + found.mac[:9])
    short = short[:19] + (int.from_bytes(short[19:21], "big") - 23).to_bytes(2, "big") + short[21:]
    half = record.replace(b"\0\x20" + found.mac, b"\0\x10" + found.mac[:16])
    half = half[:19] + (int.from_bytes(half[19:21], "big") - 16).to_bytes(2, "big") + half[21:]
    bodies = {
        "twice": (data[:11] + b"\2" + data[12:] + record, message.rrs.FORMERR),
        "something behind": (data + b"\0", message.rrs.FORMERR),
        "too short a MAC": (data[: found.start] + short, message.rrs.FORMERR),
        "half a MAC": (data[: found.start] + half, tsig.NOTAUTH),
    }
    for what, (octets, rcode) in bodies.items():
        reply = ring().opened(octets)
        assert isinstance(reply, bytes), what
        assert reply[3] & 15 == rcode, what
    assert ring().opened(query()[1]) is None
    assert ring().opened(data[:2] + b"\x81" + data[3:-1]) is None  # an answer is never answered


def test_answers_to_signed_queries_are_signed_and_cut_to_fit():
    a = answers()
    asked, data = query(theirs())
    read = dns.message.from_wire(a.reply(data), keyring=theirs(), request_mac=asked.mac)
    assert (read.rcode(), read.had_tsig) == (dns.rcode.NXDOMAIN, True)
    a.policy = replace(a.policy, bufsize=150)
    read = dns.message.from_wire(a.reply(data), keyring=theirs(), request_mac=asked.mac)
    assert read.flags & dns.flags.TC
    asked, data = query(theirs(secret=b"another"))
    assert a.reply(data)[3] & 15 == tsig.NOTAUTH
    a.keyring = None
    assert a.reply(data)[3] & 15 == dns.rcode.NXDOMAIN


def test_what_others_answer_is_sealed_at_the_end():
    made = dns.message.make_query("www.example.org.", "A")
    made.use_tsig(theirs())
    found = answers(forwarding=True).reply(made.to_wire())
    assert isinstance(found, Ask)
    whole = found.seal(message.failure(found.query, 2, recursion=True))
    assert dns.message.from_wire(whole, keyring=theirs(), request_mac=made.mac).rcode() == 2


def test_ours_are_signed_and_their_replies_checked():
    made, data = query()
    whole, mac = tsig.signed(data, key(), NOW)
    read = dns.message.from_wire(whole, keyring=theirs())
    assert read.had_tsig
    reply = dns.message.make_response(read).to_wire()
    assert tsig.answers(reply, key(), mac)
    assert not tsig.answers(reply, key(), mac[::-1])
    assert not tsig.answers(reply, key(secret="YQ=="), mac)
    assert not tsig.answers(dns.message.make_response(made).to_wire(), key(), mac)


KEYGEN = 'key "a.example" {\n\talgorithm hmac-sha512;\n\tsecret "YWJj";\n};\n# another\nkey b { secret YWJj; }; // end\n'


def test_a_file_as_tsig_keygen_writes_it(tmp_path):
    path = tmp_path / "keys"
    path.write_text(KEYGEN)
    found = sharedkeys.read(str(path))
    assert {names.to_text(name): names.to_text(each.algorithm) for name, each in found.items()} == {
        "a.example.": "hmac-sha512.",
        "b.": "hmac-sha256.",
    }
    assert {each.secret for each in found.values()} == {b"abc"}


@pytest.mark.parametrize(("text", "reason"), [
    ("key a { algorithm hmac-md5; secret YWJj; };", 'algorithm "hmac-md5" is not known'),
    ("key a { secret ?; };", 'key "a"'), ("key a { };", "it has no secret"), ("zone a { };", "is expected"),
    ("key a..b { secret YWJj; };", 'key "a..b"'),
])  # fmt: skip
def test_a_file_that_is_none_says_why(tmp_path, text, reason):
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        sharedkeys.read(str(path))
    with pytest.raises(ValueError, match="cannot read"):
        sharedkeys.read(str(tmp_path / "none"))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4), st.integers(0, 200), st.binary(max_size=9))  # fmt: skip
def test_no_octets_raise_and_none_pass(edits, cut, tail):
    whole = query(theirs())[1]
    data = bytearray(whole)
    for at, octet in edits:
        data[at % len(data)] = octet
    packet = bytes(data[: cut or None]) + tail
    found = tsig.opened(packet, ring().keys, NOW)
    if isinstance(
        found, tsig.Opened
    ):  # nothing was changed but what is not signed: the id, letter case
        assert packet[2:].lower() == whole[2:].lower()
