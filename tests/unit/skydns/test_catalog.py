# SPDX-License-Identifier: Apache-2.0
import dns.flags
import dns.message
import pytest

from skydns import catalog, keys, names, rrs
from skydns.compiled import Answers
from skydns.policy import Policy
from skydns.state import Served

NAME = names.from_text("catalog.example")


def listed(zones):
    made = catalog.zone(NAME, keys.zones(zones), 7)
    return {names.to_text(rr.names[0]): rr.owner for rr in made.records() if rr.rtype == rrs.PTR}


def test_9432_a_zone_keeps_its_id_whatever_comes_beside_it():
    one, more = listed("b.test"), listed("a.test,b.test,10.0.0.0/24")
    assert set(more) == {"a.test.", "b.test.", "0.0.10.in-addr.arpa."}
    assert more["b.test."] == one["b.test."]
    assert len(set(more.values())) == 3
    assert all(names.below(owner, b"\x05zones" + NAME) for owner in more.values())


@pytest.mark.parametrize(("name", "rtype", "rcode", "said"), [
    ("catalog.example", "SOA", 0, ["invalid. invalid. 7 3600 600 2147483646 0"]),
    ("catalog.example", "NS", 0, ["invalid."]),
    ("version.catalog.example", "TXT", 0, ['"2"']),
    ("zones.catalog.example", "PTR", 0, []),
    ("x.catalog.example", "A", 3, []),
    ("catalog.example", "AXFR", 5, []),
])  # fmt: skip
def test_9432_what_a_secondary_asks_for(name, rtype, rcode, said):
    served = Served()
    served.serials[NAME] = 7
    policy = Policy(frozenset(keys.zones("z.test")), catalog=NAME)
    answers = Answers(served, policy, lambda: 0.0)
    answers.loaded = True
    for _ in range(2):
        made = answers.reply(dns.message.make_query(name, rtype).to_wire(), udp=False)
        reply = dns.message.from_wire(made)
        assert reply.rcode() == rcode
        assert [rr.to_text() for rrset in reply.answer for rr in rrset] == said
