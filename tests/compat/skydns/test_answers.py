# SPDX-License-Identifier: Apache-2.0
"""specs/skydns.md §2.4, §4 to §7: answers by type, TTLs, groups, negative answers."""

import json

import dns.flags
import dns.message
import dns.rrset
import pytest

from fairlead.etcd.types import LeaseID
from skydns import names, relayed
from skydns.shown import srv_weight

from .conftest import lines


def rec(host="", **fields):
    return json.dumps({"host": host} | fields if host else fields)


# ── §2.4 what a record is


@pytest.mark.parametrize(("record", "question", "found"), [
    (rec("10.0.0.1"), "n A", ["n A 10.0.0.1"]),
    (rec("10.0.0.1"), "n AAAA", []),
    (rec("2001:db8::1"), "n AAAA", ["n AAAA 2001:db8::1"]),
    (rec("::ffff:10.0.0.1"), "n A", ["n A 10.0.0.1"]),  # trap 24
    (rec("010.0.0.1"), "n A", ["n CNAME 010.0.0.1."]),  # trap 24
    (rec("w.example.org", text="t"), "n A", ["n CNAME w.example.org."]),  # trap 5: name and text
    (rec("w.example.org", text="t"), "n TXT", ['n TXT "t"']),
    (rec("w.example.org", text="t", mail=True), "n MX", ["n MX 10 w.example.org."]),
    (rec("10.0.0.1", text="t"), "n TXT", ['n TXT "t"']),  # trap 5: address and text
    (rec(text="t"), "n A", []),  # trap 6: text only
    (rec(text="t"), "n SRV", []),
    (rec(text="t"), "n MX", []),
    (rec(text="t"), "n TXT", ['n TXT "t"']),
    (rec("10.0.0.1"), "n MX", []),
    (rec("10.0.0.1", mail=True, port=25), "n MX", ["n MX 10 n.skydns.test."]),
    (rec("w.example.org"), "n CNAME", ["n CNAME w.example.org."]),
    (rec("10.0.0.1"), "n CNAME", []),
    (rec("w.example.org"), "n PTR", ["n PTR w.example.org."]),
    (rec("10.0.0.1"), "n PTR", []),
    (rec("10.0.0.1"), "n HTTPS", []),
    (rec("10.0.0.1"), "n TYPE65280", []),
    (rec("10.0.0.1"), "n NS", []),
    (rec("10.0.0.1"), "n SOA", []),  # trap 25
    (rec("10.0.0.1"), "n AXFR", "FORMERR"),  # §10.1: by UDP
    (rec("10.0.0.1"), "n IXFR", "REFUSED"),
    (rec(r"a\\065b.example".replace("\\\\", "\\")), "n CNAME", ["n CNAME aAb.example."]),
    (rec("bad name!"), "n CNAME", [r"n CNAME bad\032name!."]),
])  # fmt: skip
def test_one_record_by_type(server, record, question, found):
    assert server({"n": record}).answer(question) == found


# ── §4.1 TTL


def test_defaults_by_profile(server):
    for profile, ttl in (("coredns", 300), ("skydns", 3600), ("strict", 300)):
        assert server({"n": rec("10.0.0.1")}, profile=profile).ask("n A")[1] == [
            f"n.skydns.test. {ttl} IN A 10.0.0.1"
        ]


def test_trap_27_one_ttl_an_rrset(server):
    s = server({"n/a": rec("10.0.0.1", ttl=99), "n/b": rec("10.0.0.2", ttl=49)})
    assert s.ask("n A")[1] == ["n.skydns.test. 49 IN A 10.0.0.1", "n.skydns.test. 49 IN A 10.0.0.2"]


def test_trap_3_ttl_and_priority_0_mean_default(server):
    assert server({"n": rec("10.0.0.1", ttl=0, priority=0)}).ask("n SRV")[1] == [
        "n.skydns.test. 300 IN SRV 10 100 0 n.skydns.test."
    ]


@pytest.mark.parametrize(("profile", "left", "ttl", "shown"), [
    ("coredns", 10, 0, 30), ("coredns", 99.7, 0, 99), ("coredns", 99, 5, 5), ("coredns", 100000, 0, 86400),
    ("strict", 10, 0, 10), ("strict", 0.2, 0, 1), ("skydns", 99, 120, 99),
])  # fmt: skip
def test_trap_13_a_lease_bounds_the_ttl(server, profile, left, ttl, shown):
    s = server(profile=profile)
    s.served.leases[LeaseID(5)] = s.now + left
    s.put({"n": rec("10.0.0.1", ttl=ttl)}, lease=5)
    assert s.ask("n A")[1] == [f"n.skydns.test. {shown} IN A 10.0.0.1"]


def test_trap_13_a_lease_runs_down_in_kept_answers(server):
    s = server(profile="strict")
    s.served.leases[LeaseID(5)] = s.now + 60
    s.put({"n": rec("10.0.0.1")}, lease=5)
    assert "60" in s.ask("n A")[1][0]
    s.now += 20
    s.answers.sweep()
    assert "40" in s.ask("n A")[1][0]


# ── §4.3, §4.4


def test_nothing_stands_twice(server):
    s = server(
        {
            "n/a": rec("10.0.0.1", port=1),
            "n/b": rec("10.0.0.1", port=2),
            "n/c": rec(text="x"),
            "n/d": rec(text="x"),
        }
    )
    assert s.answer("n A") == ["n A 10.0.0.1"]
    assert s.answer("n TXT") == ['n TXT "x"']


@pytest.mark.parametrize(("groups", "octets"), [
    ({"g/a/c": "g1", "g/b": None, "g/d": "g2"}, [1, 2]),
    ({"g/a": "g1", "g/b": "g2", "g/z/c": "g3"}, [1, 2, 3]),
    ({"g/a": "g1", "g/b": "g1", "g/c": None}, [1, 2, 3]),
    ({"g/a": "g1", "g/z/c": "g3"}, [1]),
    ({"g/a": None, "g/b": "g1"}, [1, 2]),
])  # fmt: skip
def test_trap_16_groups(server, groups, octets):
    stored = {
        key: rec(f"10.0.0.{at}", **({"group": group} if group else {}))
        for at, (key, group) in enumerate(groups.items(), 1)
    }
    assert server(stored).answer("g A") == [f"g A 10.0.0.{octet}" for octet in octets]


# ── §5.2 aliases


def test_a_chain_in_order(server):
    s = server(
        {"a": rec("b.skydns.test"), "b": rec("C.skydns.test"), "c/x": rec("10.0.0.1", ttl=60)}
    )
    assert s.answer("a A") == ["a CNAME b.skydns.test.", "b CNAME C.skydns.test.", "C A 10.0.0.1"]
    assert s.answer("a AAAA") == []
    s.put({"c/x": rec("10.0.0.9")})
    assert s.answer("a A")[-1] == "C A 10.0.0.9"
    s.put({"c/x": None})
    assert s.answer("a A") == []
    s.put({"c": rec("10.0.0.8")})
    assert s.answer("a A")[-1] == "C A 10.0.0.8"


def test_loops_and_long_chains(server):
    loop = {
        "a": rec("b.skydns.test"),
        "b": rec("a.skydns.test"),
        "self": rec("SELF.skydns.test"),
        "under": rec("x.under.skydns.test"),
    }
    assert server(loop).answer("a A") == []
    assert server(loop, profile="strict").answer("a A") == "SERVFAIL"
    assert server(loop).answer("self A") == []
    assert server(loop).answer("under A") == []
    long = {f"n{at}": rec(f"n{at + 1}.skydns.test") for at in range(20)} | {"n20": rec("10.0.0.1")}
    assert server(long).answer("n0 A") == []
    assert len(server(long).answer("n4 A")) == 17
    assert len(server(long, profile="skydns").answer("n12 A")) == 9
    assert server(long, profile="skydns").answer("n11 A") == []


def test_several_aliases_become_addresses(server):
    mixed = {
        "n/a": rec("t.skydns.test"),
        "n/b": rec("10.0.0.1"),
        "n/c": rec("u.skydns.test"),
        "t": rec("10.0.0.2"),
        "u": rec("t.skydns.test"),
    }
    assert server(mixed).answer("n A") == ["n A 10.0.0.1", "n A 10.0.0.2"]
    assert server(mixed, profile="skydns").answer("n A") == ["n A 10.0.0.1"]
    two = {
        "n/a": rec("t.skydns.test"),
        "n/b": rec("u.skydns.test"),
        "t": rec("10.0.0.2"),
        "u": rec("10.0.0.3"),
    }
    assert server(two).answer("n A") == ["n A 10.0.0.2", "n A 10.0.0.3"]
    assert server(two, profile="skydns").answer("n A") == ["n CNAME t.skydns.test.", "t A 10.0.0.2"]
    outside = {"n/a": rec("t.example.org"), "n/b": rec("u.example.org")}
    assert server(outside).answer("n A") == ["n CNAME t.example.org."]


def test_no_alias_beside_the_soa(server):
    s = server({"x": rec("t.skydns.test"), "t": rec("10.0.0.2")}, profile="coredns")
    s.put({"dns/apex/a": rec("t.skydns.test")})
    assert s.answer("skydns.test. A") == ["skydns.test. A 10.0.0.2"]
    assert s.answer("skydns.test. CNAME") == []


def test_an_alias_of_the_apex_that_leads_out_is_absorbed(server):
    """§4.3: no alias beside the SOA; what the name servers say of it becomes the apex's own."""
    stored = {"dns/apex/a": rec("away.example.org")}
    s = server(stored)  # nobody can be asked
    assert s.answer("skydns.test. A") == []
    s = server(stored, chasing=True)
    reply = told(s, "skydns.test. A", AWAY)
    assert lines(reply.answer) == ["skydns.test. 60 IN A 192.0.2.1"]
    assert not reply.authority
    reply = told(s, "skydns.test. A", {})
    assert not reply.answer
    assert len(reply.authority) == 1


AWAY = {
    "away.example.org. A": ("away.example.org. 60 IN CNAME x.example.org.", "x.example.org. 60 IN A 192.0.2.1"),
    "away.example.org. AAAA": ("away.example.org. 60 IN CNAME x.example.org.", "x.example.org. 60 IN AAAA 2001:db8::7"),
    "far.example.org. A": ("far.example.org. 90 IN A 192.0.2.2",),
}  # fmt: skip


def told(s, question, known):
    """Return what a question is answered when the name servers know so much, and are asked no more."""
    name, rtype = question.split()
    name = name if name.endswith(".") else f"{name}.skydns.test."
    ask = s.send(dns.message.make_query(name, rtype).to_wire())
    found = {}
    for target, kind in ask.reply.wanted(ask.query.rtype):
        theirs = dns.message.make_response(dns.message.make_query(names.to_text(target), kind))
        for row in known.get(theirs.question[0].to_text().replace(" IN ", " "), ()):
            owner, ttl, *rest = row.split()
            theirs.answer.append(dns.rrset.from_text(owner, int(ttl), *rest))
        if theirs.answer:
            found[target, kind] = theirs.to_wire()
    whole = relayed.completed(ask.reply, ask.query, found)
    return dns.message.from_wire(s.answers.close(ask.query, whole, udp=True))


def test_4_3_aliases_that_lead_out_become_addresses_beside_others(server):
    stored = {
        "n/a": rec("10.0.0.1"),
        "n/b": rec("away.example.org"),
        "n/c": rec("t.skydns.test"),
        "t/a": rec("10.0.0.2"),
        "t/b": rec("far.example.org"),
        "two/a": rec("t.skydns.test"),
        "two/b": rec("n.skydns.test"),
    }
    s = server(stored, chasing=True)
    addresses = [f"n.skydns.test. 60 IN A {each}" for each in ("10.0.0.1", "10.0.0.2", "192.0.2.2", "192.0.2.1")]  # fmt: skip
    assert sorted(lines(told(s, "n A", AWAY).answer)) == sorted(addresses)
    assert lines(told(s, "n AAAA", AWAY).answer) == ["n.skydns.test. 60 IN AAAA 2001:db8::7"]
    nobody = told(s, "n AAAA", {})
    assert (nobody.answer, len(nobody.authority)) == ([], 1)
    assert {line.split()[0] for line in lines(told(s, "two A", AWAY).answer)} == {
        "two.skydns.test."
    }
    assert len(lines(told(s, "two A", AWAY).answer)) == 4
    assert server(stored).answer("n A") == ["n A 10.0.0.1", "n A 10.0.0.2"]  # nobody can be asked


def test_4_3_several_aliases_take_turns(server):
    """One alias an owner: the lowest key's, or with -round-robin each for a second."""
    stored = {"n/a": rec("away.example.org"), "n/b": rec("far.example.org")}
    assert server(stored).answer("n A") == ["n CNAME away.example.org."]
    s = server(stored, rotate=True)
    seen = []
    for _ in range(4):
        seen += s.answer("n A")
        s.now += 1
        s.answers.sweep()
    assert seen == ["n CNAME away.example.org.", "n CNAME far.example.org."] * 2


def test_5_3_addresses_of_targets_outside_are_additional(server):
    stored = {
        "n/a": rec("away.example.org", port=1, mail=True),
        "n/b": rec("far.example.org", port=2),
        "n/c": rec("10.0.0.1", port=3),
        "n/d": rec("away.example.org", port=4),
    }
    s = server(stored, chasing=True)
    own = "c.n.skydns.test. 300 IN A 10.0.0.1"
    reply = told(s, "n SRV", AWAY)
    assert len(lines(reply.answer)) == 4
    assert lines(reply.additional) == [
        own,
        "away.example.org. 60 IN CNAME x.example.org.",  # once, from the A reply
        "x.example.org. 60 IN A 192.0.2.1",
        "x.example.org. 60 IN AAAA 2001:db8::7",
        "far.example.org. 90 IN A 192.0.2.2",
    ]
    assert lines(told(s, "n SRV", {}).additional) == [own]
    assert len(lines(told(s, "n MX", AWAY).additional)) == 3
    assert server(stored).ask("n SRV")[2] == [own]  # nobody can be asked
    assert server(stored, chasing=True, minimal=True).ask("n SRV")[2] == []


def test_trap_9_cname_of_an_inner_name(server):
    s = server(
        {"n/3f9a": rec("t.example.org"), "pool/a": rec("10.0.0.1"), "pool/b": rec("10.0.0.2")}
    )
    assert s.answer("n CNAME") == ["n CNAME t.example.org."]
    assert s.answer("n A") == ["n CNAME t.example.org."]
    assert s.answer("pool CNAME") == []
    assert s.answer("no CNAME") == "NXDOMAIN"


def test_txt_follows_a_name(server):
    s = server({"n": rec("t.skydns.test"), "t": rec(text="at the target")})
    assert s.answer("n TXT") == ["n CNAME t.skydns.test.", 't TXT "at the target"']


# ── §5.3 SRV


@pytest.mark.parametrize(("weight", "total", "shown"), [
    (100, 300, 33), (120, 350, 34), (100, 350, 28), (130, 350, 37), (97, 97, 99), (161, 161, 99), (97, 194, 49),
    (117, 195, 59), (130, 360, 36), (80, 360, 22), (150, 360, 41),
])  # fmt: skip
def test_trap_4_weights_in_floating_point(weight, total, shown):
    assert srv_weight(weight, total) == shown


def test_weights_by_priority(server):
    s = server({"n/a": rec("10.0.0.1", weight=130, port=1), "n/b": rec("10.0.0.2", weight=80, port=1), "n/c": rec("10.0.0.3", weight=150, port=1),
        "n/d": rec("10.0.0.4", priority=20, port=1), "n/t": rec(text="not counted")})  # fmt: skip
    assert s.answer("n SRV") == [
        "n SRV 10 36 1 a.n.skydns.test.", "n SRV 10 22 1 b.n.skydns.test.", "n SRV 10 41 1 c.n.skydns.test.", "n SRV 20 100 1 d.n.skydns.test.",
    ]  # fmt: skip
    assert [line.split()[0] for line in s.ask("n SRV")[2]] == [
        f"{x}.n.skydns.test." for x in "abcd"
    ]


def test_trap_4_weight_0_is_lifted(server):
    many = {"n/a": rec("10.0.0.1", weight=1, port=1), "n/b": rec("10.0.0.2", weight=60000, port=1)}
    assert server(many).answer("n SRV")[0] == "n SRV 10 1 1 a.n.skydns.test."
    assert server(many, profile="skydns").answer("n SRV")[0] == "n SRV 10 0 1 a.n.skydns.test."


def test_srv_of_a_name_brings_both_families_and_the_chain(server):
    s = server(
        {
            "n": rec("t.skydns.test", port=80),
            "t": rec("u.skydns.test"),
            "u/a": rec("10.0.0.1"),
            "u/b": rec("2001:db8::1"),
        }
    )
    _, answer, additional = s.ask("n SRV")
    assert answer == ["n.skydns.test. 300 IN SRV 10 100 80 t.skydns.test."]
    assert additional == [
        "t.skydns.test. 300 IN CNAME u.skydns.test.",
        "u.skydns.test. 300 IN A 10.0.0.1",
        "u.skydns.test. 300 IN AAAA 2001:db8::1",
    ]


@pytest.mark.parametrize(("record", "target"), [
    (rec("foo.bar.example.com", targetstrip=1), "bar.example.com."),
    (rec("foo.bar.example.com", targetstrip=4), "foo.bar.example.com."),
    (rec("10.0.0.1", targetstrip=1), "n.skydns.test."),
    (rec("10.0.0.1", targetstrip=9), "x.n.skydns.test."),
    (rec("10.0.0.1", targetstrip=-1), "x.n.skydns.test."),
])  # fmt: skip
def test_trap_15_targetstrip(server, record, target):
    s = server({"n/x": record})
    assert s.ask("n SRV")[1] == [f"n.skydns.test. 300 IN SRV 10 100 0 {target}"]


def test_srv_of_the_same_target_and_port_is_one(server):
    s = server({"n/3f": rec("10.0.0.1", targetstrip=1), "n/4f": rec("10.0.0.2", targetstrip=1)})
    assert s.answer("n SRV") == ["n SRV 10 100 0 n.skydns.test."]
    assert s.ask("n SRV")[2] == [
        "n.skydns.test. 300 IN A 10.0.0.1",
        "n.skydns.test. 300 IN A 10.0.0.2",
    ]
    assert server({"n/a": rec("t.example.org"), "n/b": rec("t.example.org")}).answer("n SRV") == [
        "n SRV 10 100 0 t.example.org."
    ]


def test_srv_asked_by_its_own_name_and_service_labels(server):
    s = server(
        {"staging/rails/4": rec("10.0.0.1", port=80), "web/_tcp/_http/x1": rec("10.0.0.2", port=81)}
    )
    assert s.answer("4.rails.staging SRV") == [
        "4.rails.staging SRV 10 100 80 4.rails.staging.skydns.test."
    ]
    assert s.answer("_http._tcp.web SRV") == [
        "_http._tcp.web SRV 10 100 81 x1._http._tcp.web.skydns.test."
    ]


def test_5_3_port_minus_1_is_left_out_but_in_skydns(server):
    stored = {"n/a": rec("10.0.0.1", port=-1), "n/b": rec("10.0.0.2", port=-2)}
    assert server(stored).answer("n SRV") == ["n SRV 10 100 65534 b.n.skydns.test."]
    assert server(stored).answer("n A") == ["n A 10.0.0.1", "n A 10.0.0.2"]
    assert server(stored, profile="skydns").answer("n SRV") == [
        "n SRV 10 50 65535 a.n.skydns.test.",
        "n SRV 10 50 65534 b.n.skydns.test.",
    ]


def test_ports_wrap_and_wide_weights_are_clamped(server):
    assert server({"n": rec("10.0.0.1", port=70000, weight=-5)}).answer("n SRV") == [
        "n SRV 10 100 4464 n.skydns.test."
    ]


# ── §5.4 MX, §5.5 TXT


def test_trap_15_mx_glue_has_the_name_that_mx_shows(server):
    s = server({"ts/m": rec("10.0.0.1", mail=True, priority=5, targetstrip=1)})
    assert s.answer("ts MX") == ["ts MX 5 ts.skydns.test."]
    assert s.ask("ts MX")[2] == ["ts.skydns.test. 300 IN A 10.0.0.1"]
    assert s.answer("ts A") == ["ts A 10.0.0.1"]


@pytest.mark.parametrize(
    ("length", "strings"), [(0, []), (1, [1]), (255, [255]), (256, [255, 1]), (510, [255, 255])]
)
def test_trap_23_strings_of_255(server, length, strings):
    reply = server({"n": rec("10.0.0.1", text="x" * length)}).message("n TXT", udp=False)
    found = [len(string) for rrset in reply.answer for rr in rrset for string in rr.strings]
    assert found == strings


def test_trap_28_external_dns(server):
    s = server({
        "web/3f9a01bc": rec("192.0.2.10", ttl=300, targetstrip=1), "web/4f9a01bc": rec("192.0.2.11", ttl=300, targetstrip=1),
        "a-web/5b1c2d3e": rec(text='"heritage=external-dns,external-dns/owner=default"', targetstrip=1, owner="default"),
        "a-web/6b1c2d3e": rec(text='"heritage=external-dns,external-dns/owner=default"', targetstrip=1, owner="default"),
    })  # fmt: skip
    assert s.answer("web A") == ["web A 192.0.2.10", "web A 192.0.2.11"]
    assert s.answer("a-web TXT") == [
        r'a-web TXT "\"heritage=external-dns,external-dns/owner=default\""'
    ]


def test_backslashes_in_text_are_data(server):
    assert server({"n": rec(text="x\\y")}).answer("n TXT") == [r'n TXT "x\\y"']


# ── §5.6 NS, §5.7 SOA, §5.8


def test_trap_10_ns(server):
    s = server(
        {
            "dns/ns/ns1": rec("192.0.2.53"),
            "dns/ns/ns2": rec("2001:db8::53", targetstrip=1),
            "dns/ns/ns3": rec("ns.example.org"),
        }
    )
    assert s.answer("skydns.test. NS") == [
        "skydns.test. NS ns1.ns.dns.skydns.test.",
        "skydns.test. NS ns.dns.skydns.test.",
        "skydns.test. NS ns.example.org.",
    ]
    assert s.ask("skydns.test. NS")[2] == [
        "ns1.ns.dns.skydns.test. 300 IN A 192.0.2.53",
        "ns.dns.skydns.test. 300 IN AAAA 2001:db8::53",
    ]
    assert server({"dns/ns": rec("192.0.2.53")}).answer("skydns.test. NS") == [
        "skydns.test. NS ns.dns.skydns.test."
    ]


def test_ns_without_records(server):
    assert server().answer("skydns.test. NS") == []
    s = server(addresses=(bytes([192, 0, 2, 1]),))
    assert s.answer("skydns.test. NS") == ["skydns.test. NS ns.dns.skydns.test."]
    assert s.ask("skydns.test. NS")[2] == ["ns.dns.skydns.test. 300 IN A 192.0.2.1"]
    assert s.answer("ns.dns A") == ["ns.dns A 192.0.2.1"]
    assert s.answer("ns.dns AAAA") == []
    assert s.answer("ns.no NS") == "NXDOMAIN"


def test_soa(server):
    s = server({"x": rec("10.0.0.1")})
    assert s.ask("skydns.test. SOA")[1] == [
        "skydns.test. 30 IN SOA ns.dns.skydns.test. hostmaster.skydns.test. 7 7200 1800 86400 30"
    ]
    s.served.serials[b"\x06skydns\x04test\0"] = 2**32 + 9
    s.put({"y": rec("10.0.0.2")})
    assert " 9 7200" in s.ask("skydns.test. SOA")[1][0]
    named = server(mname=names.from_text("ns1.example.org"))
    assert "SOA ns1.example.org. hostmaster" in named.ask("skydns.test. SOA")[1][0]


def test_10_1_ixfr_by_udp_has_the_present_soa(server):
    """RFC 1995 §2: who does not have it asks again by TCP."""
    s = server({"n": rec("10.0.0.1")})

    def serial():
        return s.message("skydns.test. IXFR").answer[0][0].serial

    assert serial() == 7
    s.served.serials[names.from_text("skydns.test")] = 8
    s.put({"m": rec("10.0.0.2")})
    assert serial() == 8
    assert s.answer("skydns.test. AXFR") == "FORMERR"
    assert s.message("skydns.test. AXFR", udp=False).rcode() == 5


def test_trap_18_hostmaster(server, name):
    assert "hostmaster.skydns.test. 7" in server().ask("skydns.test. SOA")[1][0]
    assert (
        "root.example.org. 7"
        in server(hostmaster=name("root.example.org")).ask("skydns.test. SOA")[1][0]
    )


def test_any(server):
    assert server({"n": rec("10.0.0.1")}).ask("n ANY")[1] == [
        'n.skydns.test. 8482 IN HINFO "ANY obsoleted" "See RFC 8482"'
    ]
    assert server().answer("n ANY") == "NXDOMAIN"
    assert server({"n": rec("10.0.0.1")}, profile="skydns").answer("n ANY") == "REFUSED"


# ── §6 negative answers


@pytest.mark.parametrize(("profile", "ttl"), [("coredns", 30), ("skydns", 60)])
def test_negative_answers(server, profile, ttl):
    s = server({"n/x": rec("10.0.0.1")}, profile=profile)
    for question, rcode in (
        ("no A", 3),
        ("no AAAA", 3),
        ("a.b.no TXT", 3),
        ("x.x.n A", 3),
        ("n AAAA", 0),
        ("n CAA", 0),
        ("skydns.test. MX", 0),
    ):
        reply = s.message(question)
        assert reply.rcode() == rcode, question
        assert reply.flags & dns.flags.AA  # trap 18
        (soa,) = reply.authority
        assert (
            soa.to_text()
            == f"skydns.test. {ttl} IN SOA ns.dns.skydns.test. hostmaster.skydns.test. 7 7200 1800 86400 {ttl}"
        )
        assert bool(reply.flags & dns.flags.RA) == (profile == "skydns")


def test_the_apex_of_an_empty_zone_exists(server):
    for rtype in ("A", "TXT", "SRV", "PTR", "CNAME", "MX", "TYPE1"):
        assert server().answer(f"skydns.test. {rtype}") == []


def test_negative_answers_carry_the_present_serial(server):
    s = server({"n": rec("10.0.0.1")})
    for question in ("no A", "n AAAA", "a.b A"):
        assert s.message(question).authority[0][0].serial == 7
    s.served.serials[b"\x06skydns\x04test\0"] = 8
    s.put({"elsewhere": rec("10.0.0.2")})
    for question in ("no A", "n AAAA", "a.b A", "other A"):
        assert s.message(question).authority[0][0].serial == 8


def test_before_the_first_list_nothing_is_denied(server):
    s = server()
    s.answers.loaded = False
    for question in ("n A", "skydns.test. SOA"):
        reply = s.message(question, use_edns=0)
        assert reply.rcode() == 2
        assert not reply.flags & dns.flags.AA


# ── §7 reverse


def test_ptr(server):
    keys = {"/skydns/arpa/in-addr/10/0/0/1": rec("web.skydns.test"), "/skydns/arpa/in-addr/10/0/0/2": rec("10.9.9.9"),
        "/skydns/arpa/in-addr/10/0/0/3/a": rec("one.example.org"), "/skydns/arpa/in-addr/10/0/0/3/b": rec("two.example.org")}  # fmt: skip
    s = server(keys, zones="skydns.test,10.0.0.0/24")
    reply = s.message("1.0.0.10.in-addr.arpa. PTR")
    assert reply.answer[0].to_text() == "1.0.0.10.in-addr.arpa. 300 IN PTR web.skydns.test."
    assert reply.flags & dns.flags.AA
    assert s.answer("2.0.0.10.in-addr.arpa. PTR") == []
    assert s.answer("3.0.0.10.in-addr.arpa. PTR") == [
        "3.0.0.10.in-addr.arpa. PTR one.example.org.",
        "3.0.0.10.in-addr.arpa. PTR two.example.org.",
    ]
    assert s.answer("4.0.0.10.in-addr.arpa. PTR") == "NXDOMAIN"
    assert s.answer("0.0.10.in-addr.arpa. PTR") == []  # what lies below are other addresses


def test_trap_22_ptr_without_a_reverse_zone(server):
    s = server({"/skydns/arpa/in-addr/10/0/0/1": rec("web.skydns.test")})
    reply = s.message("1.0.0.10.in-addr.arpa. PTR")
    assert reply.answer
    assert not reply.flags & dns.flags.AA
    assert s.answer("9.0.0.10.in-addr.arpa. PTR") == "REFUSED"
    assert s.answer("1.0.0.10.in-addr.arpa. A") == "REFUSED"
    assert s.answer("0.0.0.0.ip6.arpa. A") == "REFUSED"


# ── rotation and what is kept


def test_addresses_take_turns(server):
    s = server(
        {f"n/x{at}": rec(f"10.0.0.{at}") for at in range(1, 4)} | {"a": rec("n.skydns.test")},
        rotate=True,
    )
    query = __import__("dns.message").message.make_query("a.skydns.test.", "A")
    seen = [
        [
            rr.address
            for rr in __import__("dns.message").message.from_wire(s.send(query.to_wire())).answer[1]
        ]
        for _ in range(7)
    ]
    assert sorted(seen[0]) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert {first for first, *_ in seen} == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert seen[1:4] == seen[4:]


def test_a_change_drops_only_what_it_touches(server):
    s = server({"a/x": rec("10.0.0.1"), "b/x": rec("10.0.0.2")})
    for question in ("a A", "b A", "skydns.test. A", "*.a A", "a SRV"):
        s.wire(question)
    before = set(s.answers.ready)
    s.put({"a/y": rec("10.0.0.3")})
    assert len(before & set(s.answers.ready)) == 1
    assert s.answer("a A") == ["a A 10.0.0.1", "a A 10.0.0.3"]
    assert len(s.answer("skydns.test. A")) == 3
    assert len(s.answer("*.a A")) == 2


def test_a_name_that_comes_to_be_is_seen_at_once(server):
    s = server({"n": rec("10.0.0.1")})
    for question in ("new A", "newer A", "deep.er.new A", "x.n A"):
        assert s.answer(question) == "NXDOMAIN"
    s.put({"new": rec("10.0.0.2"), "n/x": rec("10.0.0.3")})
    assert s.answer("new A") == ["new A 10.0.0.2"]
    assert s.answer("newer A") == "NXDOMAIN"
    assert s.answer("x.n A") == ["x.n A 10.0.0.3"]
    s.put({"new": None, "n/x": None})
    assert s.answer("new A") == "NXDOMAIN"
    assert s.answer("n A") == ["n A 10.0.0.1"]


def test_ptr_by_itself_from_addresses(server):
    """§7: an explicit key, else lexically the first name that has the address."""
    s = server(zones="skydns.test,10.0.0.0/24,2001:db8::/32", auto_ptr=True)
    assert s.answer("9.0.0.10.in-addr.arpa. PTR") == "NXDOMAIN"
    s.put({
        "pool/x2": '{"host":"10.0.0.9"}',
        "pool/x1": '{"host":"10.0.0.9"}',
        "six": '{"host":"2001:db8::9"}',
        "web/3f9a01bc": '{"host":"10.0.0.8","targetstrip":1}',
        "both": '{"host":"10.0.0.7"}',
        "/skydns/arpa/in-addr/10/0/0/7": '{"host":"said.example.org"}',
    })  # fmt: skip
    ask = lambda name: s.answer(f"{name}. PTR")[0].rpartition(" ")[2]  # noqa: E731
    assert ask("9.0.0.10.in-addr.arpa") == "x1.pool.skydns.test."
    assert ask("8.0.0.10.in-addr.arpa") == "web.skydns.test."
    assert ask("7.0.0.10.in-addr.arpa") == "said.example.org."
    assert ask(".".join("9" + "0" * 23 + "8bd01002") + ".ip6.arpa") == "six.skydns.test."
    assert s.answer("9.0.0.10.in-addr.arpa. TXT") == []  # the name exists
    s.put({"pool/x1": None})
    s.answers.touch([names.reverse(bytes((10, 0, 0, 9)))])  # as `apply` does
    assert ask("9.0.0.10.in-addr.arpa") == "x2.pool.skydns.test."
    off = server({"x": '{"host":"10.0.0.9"}'}, zones="skydns.test,10.0.0.0/24")
    assert off.answer("9.0.0.10.in-addr.arpa. PTR") == "NXDOMAIN"
