# SPDX-License-Identifier: Apache-2.0
"""What is kept equals what would be made anew, whatever changes; and only what must go goes."""

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.etcd.types import KeyValue, Revision
from skydns import keys, records
from skydns.compiled import Answers
from skydns.policy import PROFILES, Policy
from skydns.state import Index, Served

LABEL = st.sampled_from(["a", "b", "dns", "apex", "ns", "*"])
PATH = st.lists(LABEL, min_size=1, max_size=3).map("/".join)
VALUE = st.sampled_from([
    '{"host":"10.0.0.1"}', '{"host":"10.0.0.2","port":80,"group":"g"}', '{"host":"2001:db8::1","text":"t"}',
    '{"host":"a.z.test"}', '{"host":"b.a.z.test","mail":true}', '{"host":"x.example.org"}', '{"text":"only"}',
])  # fmt: skip
CHANGE = st.tuples(PATH, st.none() | VALUE)
QUESTIONS = [
    f"{name} {rtype}"
    for name in (
        "z.test.",
        "a.z.test.",
        "b.a.z.test.",
        "no.z.test.",
        "x.no.z.test.",
        "*.z.test.",
        "a.*.z.test.",
        "ns.dns.z.test.",
        "b.b.a.z.test.",
    )
    for rtype in ("A", "AAAA", "TXT", "SRV", "MX", "CNAME", "NS", "SOA", "ANY", "CAA")
]
PACKETS = [dns.message.make_query(*question.split(), id=7).to_wire() for question in QUESTIONS]


def server(profile):
    policy = Policy(frozenset(keys.zones("z.test")), profile=PROFILES[profile], rotate=False)
    answers = Answers(Served(), policy, lambda: 0.0)
    answers.loaded = True
    return answers


def change(answers, path, value, revision):
    key = b"/skydns/test/z/" + path.encode()
    name = keys.name_of(b"/skydns", key).lower()
    if value is None:
        answers.served.index.remove(key)
    else:
        answers.served.index.put(
            records.decode(b"/skydns", KeyValue(key, value.encode(), Revision(1), Revision(1), 1))
        )
    answers.served.serials[keys.zones("z.test")[0]] = revision
    answers.touch([name])


def ask(answers, packet):
    return answers.quick(packet) or answers.reply(packet)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(CHANGE, max_size=12), st.sampled_from(["coredns", "skydns", "strict"]))
def test_what_is_kept_equals_what_would_be_made_anew(changes, profile):
    kept = server(profile)
    stored = {}
    for revision, (path, value) in enumerate(changes, 2):
        change(kept, path, value, revision)
        stored[path] = value
        fresh = server(profile)
        for other, what in stored.items():
            change(fresh, other, what, revision)
        for question, packet in zip(QUESTIONS, PACKETS, strict=True):
            assert ask(kept, packet) == ask(fresh, packet), (question, stored)
            assert ask(kept, packet) == ask(fresh, packet), (question, stored)


@given(st.lists(CHANGE, max_size=20))
def test_the_index_holds_what_stands_and_nothing_else(changes):
    index = Index()
    stored = {}
    for path, value in changes:
        key = b"/skydns/test/z/" + path.encode()
        if value is None:
            index.remove(key)
            stored.pop(key, None)
        else:
            stored[key] = records.decode(
                b"/skydns", KeyValue(key, value.encode(), Revision(1), Revision(1), 1)
            )
            index.put(stored[key])
    assert dict(index.services) == stored
    root = keys.zones("z.test")[0]
    assert index.below(root) == [stored[key] for key in sorted(stored)]
    names = {service.name for service in stored.values()}
    for name in (b"\x01a" + root, b"\x01b\x01a" + root, root):
        assert index.exists(name) == any(other.endswith(name) for other in names)
    for key in list(stored):
        index.remove(key)
    assert not index.exists(root)


def test_a_change_costs_nothing_to_strangers():
    answers = server("coredns")
    for at in range(200):
        change(answers, f"n{at}", '{"host":"10.0.0.1"}', 2)
    packets = [dns.message.make_query(f"n{at}.z.test.", "A", id=7).to_wire() for at in range(200)]
    for packet in packets:
        ask(answers, packet)
    assert len(answers.ready) == 200
    assert answers.touch([b"\x02n7\x01z\x04test\0"]) == 1
    assert len(answers.ready) == 199


def test_floods_of_missing_names_take_no_memory():
    answers = server("coredns")
    change(answers, "a/b", '{"host":"10.0.0.1"}', 2)
    for at in range(600):
        for parent in ("z.test.", "a.z.test.", f"deep{at}.z.test."):
            reply = ask(answers, dns.message.make_query(f"x{at}.{parent}", "A", id=7).to_wire())
            assert reply[3] & 15 == 3
    sizes = answers.sizes()
    assert sizes["near"] <= 10
    assert sizes["absent"] <= 600
    assert sizes["kept"] == 0


def test_counts_are_exact():
    answers = server("coredns")
    change(answers, "a", '{"host":"10.0.0.1"}', 2)
    for name in ("a", "a", "A", "x", "y", "z"):
        packet = dns.message.make_query(f"{name}.z.test.", "A").to_wire()
        ask(answers, packet)
    assert dict(answers.counts.totals()) == {"NOERROR": 3, "NXDOMAIN": 3}


def test_a_name_in_mixed_case_is_kept_in_lower_case_and_answered_in_its_own():
    answers = server("coredns")
    change(answers, "a", '{"host":"10.0.0.1"}', 2)
    for name in ("A.z.TEST.", "a.Z.test.", "A.Z.TEST."):
        found = dns.message.from_wire(
            ask(answers, dns.message.make_query(name, "A", id=7).to_wire())
        )
        assert found.question[0].name.to_text() == found.answer[0].name.to_text() == name
    assert len(answers.ready) == 1
    answers.reply = None  # none of these has to be made
    found = ask(answers, dns.message.make_query("a.z.tesT.", "A", id=7).to_wire())
    assert dns.message.from_wire(found).answer[0][0].to_text() == "10.0.0.1"


def test_a_flood_of_missing_names_in_mixed_case_is_answered_from_one_template():
    answers = server("coredns")
    first = ask(answers, dns.message.make_query("XyZ.z.TEST.", "A", id=7).to_wire())
    answers.reply = None
    for name in ("abc.z.test.", "AbC.Z.tEsT.", "ABC.Z.TEST."):
        found = ask(answers, dns.message.make_query(name, "A", id=7).to_wire())
        assert dns.message.from_wire(found).question[0].name.to_text() == name
        assert found[24:] == first[24:]
    assert len(answers.near) == 1


@pytest.mark.parametrize("twin", ["TYPE97", "TYPE65"])
def test_an_octet_that_looks_like_a_letter_is_none(twin):
    answers = server("coredns")
    change(answers, "a", '{"host":"10.0.0.1"}', 2)
    for name in ("a", "x"):
        other = {"TYPE97": "TYPE65", "TYPE65": "TYPE97"}[twin]
        ask(answers, dns.message.make_query(f"{name}.z.test.", twin, id=7).to_wire())
        query = dns.message.make_query(f"{name}.z.test.", other, id=7).to_wire()
        assert ask(answers, query)[12 : len(query)] == query[12:]
    header = bytearray(dns.message.make_query("a.z.test.", "A", id=7).to_wire())
    for reserved in (0x40, 0x50, 0x70):
        header[3] = reserved
        fresh = server("coredns")
        change(fresh, "a", '{"host":"10.0.0.1"}', 2)
        assert ask(answers, bytes(header)) == ask(fresh, bytes(header))


def test_a_fault_of_ours_costs_one_query(monkeypatch):
    answers = server("coredns")
    change(answers, "a", '{"host":"10.0.0.1"}', 2)
    packet = dns.message.make_query("a.z.test.", "A", id=7).to_wire()
    told = []
    answers.on_fault = lambda query, fault: told.append((query, str(fault)))
    with monkeypatch.context() as patch:
        patch.setattr("skydns.compiled.answer", lambda *args: [].pop())
        assert dns.message.from_wire(ask(answers, packet)).rcode() == 2
    assert told == [(packet, "pop from empty list")]
    assert answers.faults == 1
    assert dns.message.from_wire(ask(answers, packet)).rcode() == 0  # nothing was kept of it
