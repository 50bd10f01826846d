# SPDX-License-Identifier: Apache-2.0
"""specs/skydns.md §1, §3: from question to records."""

from dataclasses import replace

import dns.flags
import pytest

from skydns import names
from skydns.policy import Own, Shape


def host(address):
    return f'{{"host":"{address}"}}'


WILD = {
    "w/a/web": host("10.0.0.1"),
    "w/b/web": host("10.0.0.2"),
    "w/b/db": host("10.0.0.3"),
    "w/leaf": host("10.0.0.4"),
}


@pytest.mark.parametrize(("question", "octets"), [
    ("*.w", [1, 3, 2, 4]),
    ("web.*.w", [1, 2]),
    ("any.any.w", [1, 3, 2]),
    ("*.*.*.w", []),
    ("*.leaf.w", []),
    ("*.nothere", "NXDOMAIN"),
    ("nothere.*", []),
    ("ANY.b.W", [3, 2]),
])  # fmt: skip
def test_trap_17_wildcards_in_questions(server, question, octets):
    found = server(WILD).answer(f"{question} A")
    assert found == (
        octets if isinstance(octets, str) else [f"{question} A 10.0.0.{octet}" for octet in octets]
    )


def test_trap_17_a_stored_star_is_a_literal(server):
    s = server({"*": host("10.0.0.1")})
    assert s.answer("web A") == "NXDOMAIN"
    assert s.answer("* A") == ["* A 10.0.0.1"]


def test_strict_a_stored_star_catches_all(server):
    s = server({"*": host("10.0.0.1"), "web/x": host("10.0.0.2")}, profile="strict")
    assert s.answer("other A") == ["other A 10.0.0.1"]
    assert s.answer("deep.down A") == ["deep.down A 10.0.0.1"]
    assert s.answer("web A") == ["web A 10.0.0.2"]
    assert s.answer("no.web A") == "NXDOMAIN"  # RFC 4592: the closest name that exists has no star
    assert s.answer("other TXT") == []
    s.put({"other": host("10.0.0.9")})
    assert s.answer("other A") == ["other A 10.0.0.9"]


def test_trap_7_inner_names_answer_for_all_below(server):
    s = server({"pool/x1": host("10.0.0.1"), "pool/deep/x2": host("10.0.0.2")})
    assert s.answer("pool A") == ["pool A 10.0.0.2", "pool A 10.0.0.1"]
    assert s.answer("skydns.test. A") == ["skydns.test. A 10.0.0.2", "skydns.test. A 10.0.0.1"]


def test_trap_7_strict_never_expands_the_apex(server):
    assert server({"x": host("10.0.0.1")}, profile="strict").answer("skydns.test. A") == []


def test_the_dns_child_is_no_part_of_the_apex(server):
    s = server(
        {
            "x": '{"host":"10.0.0.1","port":1}',
            "dns/apex/x1": host("10.0.0.9"),
            "dns/ns/ns1": host("10.0.0.8"),
        }
    )
    assert s.answer("skydns.test. SRV") == ["skydns.test. SRV 10 100 1 x.skydns.test."]
    assert s.answer("ns.dns A") == ["ns.dns A 10.0.0.8"]


def test_trap_11_apex_is_for_addresses_only(server):
    s = server(
        {"x": '{"host":"10.0.0.1","text":"t"}', "dns/apex/x1": '{"host":"10.0.0.9","text":"apex"}'}
    )
    assert s.answer("skydns.test. A") == ["skydns.test. A 10.0.0.9"]
    assert s.answer("skydns.test. TXT") == ['skydns.test. TXT "t"']
    assert server(
        {"x": host("10.0.0.1"), "dns/apex/x1": host("10.0.0.9")}, profile="skydns"
    ).answer("skydns.test. A") == ["skydns.test. A 10.0.0.1"]


def test_trap_8_a_leaf_beside_children(server):
    both = {"a": host("10.0.0.1"), "a/b": host("10.0.0.2")}
    assert server(both).answer("a A") == ["a A 10.0.0.2"]
    assert server(both, profile="strict").answer("a A") == ["a A 10.0.0.1"]


def test_trap_12_a_name_that_begins_alike_does_not_leak(server):
    assert server(
        {"my": host("10.0.0.1"), "my1": host("10.0.0.2"), "myx/a": host("10.0.0.3")}
    ).answer("my A") == ["my A 10.0.0.1"]


def test_trap_26_upper_case_keys_are_found(server):
    s = server({"Web": host("10.0.0.1"), "web": host("10.0.0.2")})
    assert s.answer("wEb A") == ["wEb A 10.0.0.1", "wEb A 10.0.0.2"]
    s.put({"Web": None})
    assert s.answer("web A") == ["web A 10.0.0.2"]


def test_trap_14_nested_prefixes_give_right_targets(server):
    s = server({"x/n1": '{"host":"10.0.0.1","port":80}'}, prefix="/skydns/ka2/")
    assert s.answer("x SRV") == ["x SRV 10 100 80 n1.x.skydns.test."]


@pytest.mark.parametrize("label", ["a/b", r"a\000b", r"\.\.", r"\."])
def test_labels_that_would_climb_are_no_names(server, label):
    assert (
        server({"a/b": host("10.0.0.1"), "b/a": host("10.0.0.1")}).answer(f"{label} A")
        == "NXDOMAIN"
    )


def test_labels_with_colons_and_other_odd_octets(server):
    """§17.2: registrator's ids."""
    s = server({"web/host:web:80": '{"host":"10.0.0.1","port":80}', "café": host("10.0.0.2")})
    assert s.answer("web A") == ["web A 10.0.0.1"]
    assert s.answer("web SRV") == ["web SRV 10 100 80 host:web:80.web.skydns.test."]
    assert s.answer(r"caf\195\169 A") == [r"caf\195\169 A 10.0.0.2"]


def test_case_of_the_question_comes_back(server):
    """§10.4: needed for 0x20."""
    s = server({"web": host("10.0.0.1"), "alias": host("web.skydns.test")})
    s.wire("web A")
    for spelt in ("WeB", "web", "WEB"):
        assert s.answer(f"{spelt} A") == [f"{spelt} A 10.0.0.1"]
        assert (
            s.message(f"{spelt}.SkyDNS.test. A").question[0].name.to_text()
            == f"{spelt}.SkyDNS.test."
        )
    assert s.answer("No A") == "NXDOMAIN"
    assert s.message("nO.SKYDNS.test. A").authority[0].name.to_text() == "SKYDNS.test."


def test_several_zones_the_longest_counts(server):
    s = server(
        {"/skydns/test/a/web": host("10.0.0.1"), "/skydns/test/a/sub/web": host("10.0.0.2")},
        zones="a.test,sub.a.test",
    )
    assert s.message("no.a.test. A").authority[0].name.to_text() == "a.test."
    assert s.message("no.sub.a.test. A").authority[0].name.to_text() == "sub.a.test."
    assert s.message("sub.a.test. MX").authority[0].name.to_text() == "sub.a.test."


def test_outside_all_zones_is_refused(server):
    reply = server().message("www.example.org. A")
    assert reply.rcode() == 5
    assert not reply.flags & (dns.flags.AA | dns.flags.RA)


def test_local_name(server):
    """§8: -local."""
    from skydns import names

    s = server(
        {"addresses/public": '{"host":"192.0.2.1","port":80}'},
        local=names.from_text("public.addresses.skydns.test"),
    )
    assert s.answer("local.dns A") == ["local.dns A 192.0.2.1"]
    assert s.answer("local.dns SRV") == ["local.dns SRV 10 100 80 public.addresses.skydns.test."]


@pytest.mark.parametrize(("question", "found"), [
    ("version.bind. TXT CH", ['version.bind. TXT "Fairlead"']),
    ("id.server. TXT CH", ['id.server. TXT "node7"']),
    ("authors.bind. TXT CH", "REFUSED"),
    ("web TXT HS", "REFUSED"),
    ("web A ANY", ["web A 10.0.0.1"]),
])  # fmt: skip
def test_other_classes(server, question, found):
    s = server({"web": host("10.0.0.1")}, host="node7")
    if "ANY" in question:  # the reply's class is IN
        _, data = s.wire(question)
        assert data.endswith(bytes([10, 0, 0, 1]))
    else:
        assert s.answer(question) == found


def test_depth_own_and_union(server):
    """§3.3, §3.4: how far below a name its answers reach, and whether its own record counts."""
    stored = {
        "n": '{"host":"10.0.0.1"}',
        "n/x": '{"host":"10.0.0.2"}',
        "n/x/y": '{"host":"10.0.0.3"}',
        "e/f/g": '{"host":"10.0.0.4"}',
    }

    def hosts(s, question="n A"):
        return [line.rpartition(".")[2] for line in s.answer(question)]

    def made(**fields):
        own = fields.pop("own", None)
        s = server(stored, **fields)
        if own:
            s.answers.policy = replace(s.policy, profile=replace(s.policy.profile, own=own))
        return s

    assert hosts(made()) == ["2", "3"]
    assert hosts(made(depth=1)) == ["2"]
    assert hosts(made(own=Own.UNION)) == ["1", "2", "3"]
    assert hosts(made(own=Own.UNION, depth=1)) == ["1", "2"]
    assert hosts(made(own=Own.FIRST)) == ["1"]
    assert hosts(made(own=Own.UNION, depth=0)) == ["1"]
    assert hosts(made(depth=0)) == ["1"]  # its own key only
    assert hosts(made(depth=1), "e A") == []  # exists, has nothing that near
    assert hosts(made(depth=0), "skydns.test. A") == []


def test_3_4_depth_own_and_wildcards_by_zone(server):
    """§3.1, §3.3, §3.4: options of a zone; one inside another is its own."""
    stored = {
        f"{zone}{name}": f'{{"host":"10.0.{at}.{host}"}}'
        for at, zone in enumerate(("n/", "n/in/deep/"))
        for host, name in enumerate(("x", "x/y", "x/y/z", "*"))
    }
    outer, inner = (names.from_text(text) for text in ("n.skydns.test.", "deep.in.n.skydns.test."))
    s = server(stored, zones="n.skydns.test,deep.in.n.skydns.test")
    s.answers.policy = replace(
        s.policy,
        shapes={outer: Shape(depth=1), inner: Shape(own=Own.FIRST, catch_all=True)},
    )

    def hosts(question):
        return [line.split()[-1] for line in s.answer(f"{question} A")]

    assert hosts("x.n.skydns.test.") == ["10.0.0.1"]
    assert hosts("x.deep.in.n.skydns.test.") == ["10.0.1.0"]
    assert s.answer("no.n.skydns.test. A") == "NXDOMAIN"
    assert hosts("no.deep.in.n.skydns.test.") == ["10.0.1.3"]
