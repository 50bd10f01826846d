# SPDX-License-Identifier: Apache-2.0
"""specs/skydns.md §19: every numbered trap, by its number."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue, Revision
from skydns import keys, names, records, rrs, stored
from skydns.answer import answer
from skydns.cache import Bounds, Cache, Key
from skydns.policy import PROFILES, Policy
from skydns.reply import Forward
from skydns.rrs import Question


def decode(value, key=b"/skydns/test/skydns/x", **more):
    kv = KeyValue(key, value.encode(), Revision(1), Revision(1), 1)
    return records.decode(b"/skydns", kv, **more)


def test_trap_1_field_names_in_any_case_and_numbers_in_quotes(server):
    assert decode('{"HOST":"10.0.0.1","Ttl":5}').ttl == 5
    with pytest.raises(RecordError, match="port"):
        decode('{"host":"10.0.0.1","port":"http"}')
    odd = []  # §2.1: read as it is meant, and named
    assert decode('{"host":"10.0.0.1","port":"80"}', noted=odd.append).port == 80
    assert "port" in odd[0].reason
    s = server({"pool/a": '{"host":"10.0.0.1"}'})  # the broken neighbour costs only itself
    assert s.answer("pool A") == ["pool A 10.0.0.1"]


def test_trap_2_ndot_ndots_nanoseconds_and_who_wins():
    def config(value):
        return stored.decode(
            b"/skydns", KeyValue(b"/skydns/config", value.encode(), Revision(1), Revision(1), 1)
        )

    assert config('{"ndot":3}').ndot == config('{"ndots":3}').ndot == 3
    assert config('{"read_timeout":2000000000}').read_timeout / 1e9 == 2
    given = Policy(frozenset(keys.zones("a.test")), ttl=5)
    assert stored.merge(given, config('{"ttl":9}')).ttl == 9


def test_trap_3_zero_means_default(server):
    s = server({"x": '{"host":"10.0.0.1","priority":0,"ttl":0,"port":1}'})
    assert s.ask("x SRV")[1] == ["x.skydns.test. 300 IN SRV 10 100 1 x.skydns.test."]


@pytest.mark.parametrize(("weights", "shown"), [
    ([97], [99]), ([161], [99]), ([120, 100, 130], [34, 28, 37]), ([0, 0, 0], [33, 33, 33]),
])  # fmt: skip
def test_trap_4_weights_are_floors_of_a_double_product(server, weights, shown):
    s = server(
        {
            f"p/x{at}": f'{{"host":"10.0.0.{at}","weight":{weight}}}'
            for at, weight in enumerate(weights)
        }
    )
    assert [int(line.split()[3]) for line in s.answer("p SRV")] == shown
    lots = {f"p/x{at:03}": f'{{"host":"10.0.0.{at}","weight":1}}' for at in range(101)}
    assert {int(line.split()[3]) for line in server(lots).answer("p SRV", udp=False)} == {1}
    skydns = server(lots, profile="skydns")
    assert {int(line.split()[3]) for line in skydns.answer("p SRV", udp=False)} == {0}


def test_trap_5_host_and_text_both_count(server):
    s = server(
        {
            "n/x": '{"host":"w.skydns.test","text":"hi"}',
            "a/x": '{"host":"10.0.0.2","text":"ho"}',
            "w": '{"host":"10.0.0.1"}',
        }
    )
    assert s.answer("n A") == ["n CNAME w.skydns.test.", "w A 10.0.0.1"]
    assert s.answer("n TXT") == ['n TXT "hi"']
    assert s.answer("a TXT") == ['a TXT "ho"']


@pytest.mark.parametrize("profile", PROFILES)
def test_trap_6_text_alone_is_no_alias_to_the_root(server, profile):
    s = server({"t": '{"text":"only"}', "w": '{"host":"10.0.0.1"}'}, profile=profile)
    assert s.answer("t A") == []


def test_trap_7_inner_names_answer_for_all_below(server):
    s = server({"a/b/c": '{"host":"10.0.0.1"}', "d": '{"host":"10.0.0.2"}'})
    assert s.answer("a A") == ["a A 10.0.0.1"]
    assert len(s.answer("skydns.test. A")) == 2
    assert server({"d": '{"host":"10.0.0.2"}'}, profile="strict").answer("skydns.test. A") == []


def test_trap_8_a_record_beside_children(server):
    stored = {"n": '{"host":"10.0.0.1"}', "n/x": '{"host":"10.0.0.2"}'}
    assert server(stored).answer("n A") == ["n A 10.0.0.2"]
    assert server(stored, profile="strict").answer("n A") == ["n A 10.0.0.1"]


def test_trap_9_cname_is_the_exact_key_but_a_name_that_exists_is_no_nxdomain(server):
    s = server({"n/x/y": '{"host":"10.0.0.1"}', "ext/3f9a01bc": '{"host":"o.example.org"}'})
    assert s.answer("n CNAME") == []
    assert s.answer("n PTR") == []
    assert s.answer("ext CNAME") == ["ext CNAME o.example.org."]


def test_trap_10_a_name_among_name_servers_spoils_nothing(server):
    s = server({"dns/ns/a": '{"host":"10.0.0.1"}', "dns/ns/b": '{"host":"ns.example.org"}'})
    _, answers, additional = s.ask("skydns.test. NS")
    assert [line.split()[-1] for line in answers] == ["a.ns.dns.skydns.test.", "ns.example.org."]
    assert additional == ["a.ns.dns.skydns.test. 300 IN A 10.0.0.1"]


def test_trap_11_apex_data_is_for_addresses_only(server):
    s = server({"dns/apex/x": '{"host":"10.0.0.1","text":"apex"}', "t": '{"text":"tree"}'})
    assert s.answer("skydns.test. A") == ["skydns.test. A 10.0.0.1"]
    assert s.answer("skydns.test. TXT") == ['skydns.test. TXT "tree"']


def test_trap_12_siblings_do_not_leak(server):
    s = server({"my/x": '{"host":"10.0.0.1"}', "my1/x": '{"host":"10.0.0.2"}'})
    assert s.answer("my A") == ["my A 10.0.0.1"]


def test_trap_13_a_lease_id_is_no_ttl(server):
    s = server()
    s.put({"x": '{"host":"10.0.0.1"}'}, lease=0x7FFFFFFF)
    assert s.message("x A").answer[0].ttl == 300  # not known yet how long it has
    s.served.leases[0x7FFFFFFF] = s.now + 10
    s.answers.clear()
    assert s.message("x A").answer[0].ttl == 30  # the floor of profile coredns
    strict = server(profile="strict")
    strict.put({"x": '{"host":"10.0.0.1"}'}, lease=5)
    strict.served.leases[5] = strict.now + 10
    strict.answers.clear()
    assert strict.message("x A").answer[0].ttl == 10


def test_trap_14_a_nested_prefix_is_taken_off_whole(server):
    s = server({"x/n1": '{"host":"10.0.0.1","port":1}'}, prefix="/skydns/ka2")
    assert s.answer("x SRV") == ["x SRV 10 100 1 n1.x.skydns.test."]


def test_trap_15_targetstrip(server):
    s = server(
        {
            "given/a": '{"host":"foo.bar.example.com","targetstrip":1}',
            "over/a": '{"host":"a.b","targetstrip":2}',
            "mail/m": '{"host":"10.0.0.1","mail":true,"targetstrip":1}',
        }
    )
    assert s.answer("given SRV")[0].endswith(" bar.example.com.")
    assert s.answer("over SRV")[0].endswith(" a.b.")
    _, answers, additional = s.ask("mail MX")
    assert answers == ["mail.skydns.test. 300 IN MX 10 mail.skydns.test."]
    assert additional == ["mail.skydns.test. 300 IN A 10.0.0.1"]


def test_trap_16_the_group_scan_stops_at_a_shallower_groupless_key(server):
    s = server(
        {
            "g/a/c": '{"host":"10.0.0.1","group":"g1"}',
            "g/b": '{"host":"10.0.0.2"}',
            "g/d": '{"host":"10.0.0.3","group":"g2"}',
        }
    )
    assert s.answer("g A") == ["g A 10.0.0.1", "g A 10.0.0.2"]


def test_trap_17_a_stored_star_is_a_literal_and_any_a_wildcard(server):
    stored = {"*": '{"host":"10.0.0.1"}', "w/any": '{"host":"10.0.0.2"}', "w/b": '{"host":"10.0.0.3"}'}  # fmt: skip
    assert server(stored).answer("missing A") == "NXDOMAIN"
    assert server(stored, profile="strict").answer("missing A") == ["missing A 10.0.0.1"]
    assert len(server(stored).answer("any.w A")) == 2


@pytest.mark.parametrize("profile", PROFILES)
def test_trap_18_nxdomain_is_authoritative_and_hostmaster_the_zones(server, profile):
    reply = server({"x": '{"host":"10.0.0.1"}'}, profile=profile).message("missing A")
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert reply.flags & dns.flags.AA
    assert reply.authority[0][0].rname.to_text() == "hostmaster.skydns.test."


def test_trap_19_what_cannot_be_asked_is_still_answered(server):
    """Never silent: see also tests/integration/skydns/test_forward.py."""
    s = server({"x": '{"host":"w.example.org"}'})
    assert s.answer("www.example.org. A") == "REFUSED"
    assert s.answer("x A") == ["x CNAME w.example.org."]


def test_trap_20_an_opt_for_every_edns_query_and_no_option_echoed(server):
    s = server({"x": '{"host":"10.0.0.1"}'})
    nsid = dns.edns.GenericOption(65001, b"echo?")
    reply = s.message("x A", use_edns=0, payload=4096, options=[nsid])
    assert (reply.edns, reply.payload) == (0, 1232)
    assert all(option.otype != 65001 for option in reply.options)
    assert s.message("x A").edns == -1


def test_trap_21_the_cache_folds_case_and_ages_ttls():
    query = dns.message.make_query("w.example.", "A")
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text("w.example.", 100, "IN", "A", "192.0.2.1"))
    kept = Cache(Bounds())
    key = Key(names.from_text("W.Example.").lower(), 1, 1, do=False, cd=False)
    kept.put(key, reply.to_wire(), 0.0)
    hit = kept.get(key._replace(name=names.from_text("w.EXAMPLE.").lower()), 40.0)
    assert dns.message.from_wire(hit.octets).answer[0].ttl == 60


def test_trap_22_only_ptr_is_reverse_below_ip6_arpa(server):
    s = server({"/skydns/arpa/ip6/2/0": '{"host":"a.example.org"}'})
    assert s.answer("0.2.ip6.arpa. PTR") == ["0.2.ip6.arpa. PTR a.example.org."]
    made = answer(Question(names.from_text("0.2.ip6.arpa."), rrs.A), s.served, s.policy, 0.0)
    assert isinstance(made, Forward)


@pytest.mark.parametrize("length", [255, 510])
def test_trap_23_no_empty_string_at_the_end(server, length):
    s = server({"t": f'{{"text":"{"x" * length}"}}'})
    (rdata,) = s.message("t TXT", udp=False).answer[0]
    assert [len(part) for part in rdata.strings] == [255] * (length // 255)


def test_trap_24_mapped_addresses_and_leading_zeros(server):
    s = server({"m": '{"host":"::ffff:10.0.0.1"}', "z": '{"host":"010.0.0.1"}'})
    assert s.answer("m A") == ["m A 10.0.0.1"]
    assert s.answer("m AAAA") == []
    assert s.answer("z CNAME") == ["z CNAME 010.0.0.1."]


def test_trap_25_soa_below_the_apex_is_no_data(server):
    s = server({"a/x": '{"host":"10.0.0.1"}'})
    reply = s.message("a SOA")
    assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
    assert reply.authority[0].name.to_text() == "skydns.test."
    assert s.answer("missing SOA") == "NXDOMAIN"
    assert s.message("skydns.test. SOA").answer[0][0].serial == 7


def test_trap_26_upper_case_keys_are_found(server):
    assert server({"UP/X": '{"host":"10.0.0.1"}'}).answer("up A") == ["up A 10.0.0.1"]


@pytest.mark.parametrize("profile", PROFILES)
def test_trap_27_one_ttl_an_rrset(server, profile):
    s = server({"p/a": '{"host":"10.0.0.1","ttl":99}', "p/b": '{"host":"10.0.0.2","ttl":49}', "q/a": '{"host":"10.0.0.3","ttl":9000}',
                "q/b": '{"host":"10.0.0.4","ttl":9000}'}, profile=profile)  # fmt: skip
    assert s.message("p A").answer[0].ttl == 49
    assert s.message("q A").answer[0].ttl == 9000  # not lowered to the default


def test_trap_28_external_dns(server):
    """§17.1: random label, quotes in the text, owner, PTR without a label, repeats."""
    heritage = '{"text":"\\"heritage=external-dns,external-dns/owner=default\\"","targetstrip":1}'
    s = server({
        "web/3f9a01bc": '{"host":"192.0.2.10","ttl":300,"targetstrip":1,"owner":"me"}',
        "web/5b1c2d3e": '{"host":"192.0.2.11","ttl":300,"targetstrip":1,"owner":"me"}',
        "a-web/5b1c2d3e": heritage,
        "a-web/6b1c2d3e": heritage,
        "c/0a0a0a0a": '{"host":"web.skydns.test","text":"\\"heritage\\"","targetstrip":1}',
        "/skydns/arpa/in-addr/192/0/2/10": '{"host":"web.skydns.test"}',
    }, zones="skydns.test,192.0.2.0/24")  # fmt: skip
    assert s.answer("web A") == ["web A 192.0.2.10", "web A 192.0.2.11"]
    assert s.answer("web SRV") == ["web SRV 10 100 0 web.skydns.test."]
    assert s.answer("a-web TXT") == [
        'a-web TXT "\\"heritage=external-dns,external-dns/owner=default\\""'
    ]
    assert s.answer("c A")[0] == "c CNAME web.skydns.test."
    assert s.answer("10.2.0.192.in-addr.arpa. PTR") == [
        "10.2.0.192.in-addr.arpa. PTR web.skydns.test."
    ]
