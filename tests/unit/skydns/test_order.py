# SPDX-License-Identifier: Apache-2.0
"""§10.6: in which order addresses go out."""

import ipaddress
from collections import Counter

import dns.message
import pytest

from fairlead.etcd.types import KeyValue, Revision
from skydns import keys, order, records
from skydns.compiled import Answers
from skydns.order import Order
from skydns.policy import Policy
from skydns.state import Served


def answers(**given):
    served = Served()
    for at in range(1, 5):
        key, value = f"/skydns/test/z/p/x{at}", f'{{"host":"10.0.{at % 2}.{at}"}}'
        kv = KeyValue(key.encode(), value.encode(), Revision(1), Revision(1), 1)
        served.index.put(records.decode(b"/skydns", kv))
    found = Answers(
        served, Policy(frozenset(keys.zones("z.test")), order=Order(**given)), lambda: 0.0
    )
    found.loaded = True
    return found


def first(answers, times=40):
    data = dns.message.make_query("p.z.test", "A").to_wire()
    answers.reply(data)
    (payload, *_), rows = answers.ready[data[2:]], []
    for _ in range(times):
        reply = dns.message.from_wire(data[:2] + payload())
        assert len(reply.answer[0]) == 4
        rows.append(next(iter(reply.answer[0])).address)
    return rows


def test_preferred_networks_come_first_and_take_turns():
    rows = first(answers(preferred=(ipaddress.ip_network("10.0.1.0/24"),)), 10)
    assert Counter(rows) == {"10.0.1.1": 5, "10.0.1.3": 5}


def in_order(answers, client, name="p.z.test", rtype="A"):
    data = dns.message.make_query(name, rtype, use_edns=0).to_wire()
    reply = answers.policy.order.for_client(answers.reply(data), client)
    return [rr.to_text() for rrset in dns.message.from_wire(reply).answer for rr in rrset]


def test_each_client_has_its_own_first_address_and_keeps_it():
    made = answers(client=True)
    rows = [in_order(made, bytes((10, 0, 0, at))) for at in range(100)]
    assert rows == [in_order(made, bytes((10, 0, 0, at))) for at in range(100)]
    assert {len(set(row)) for row in rows} == {4}
    assert min(Counter(row[0] for row in rows).values()) > 10
    assert made.ready  # kept all the same, in one order for all
    made = answers(client=True, preferred=(ipaddress.ip_network("10.0.1.0/24"),))
    for at in range(20):
        assert set(in_order(made, bytes((at,)))[:2]) == {"10.0.1.1", "10.0.1.3"}


@pytest.mark.parametrize(("name", "rtype"), [("p.z.test", "SRV"), ("x1.p.z.test", "A"), ("no.z.test", "A")])  # fmt: skip
def test_nothing_else_changes_by_client(name, rtype):
    made = answers(client=True)
    assert len({tuple(in_order(made, bytes((at,)), name, rtype)) for at in range(20)}) == 1


def test_by_chance():
    assert set(first(answers(chance=True), 200)) == {"10.0.1.1", "10.0.0.2", "10.0.1.3", "10.0.0.4"}


def test_weights_decide_who_is_first(tmp_path):
    (tmp_path / "weights").write_text(
        "# none\np.z.test.\n10.0.1.1 255\n10.0.0.2 1\nother.test\n192.0.2.1 9\n"
    )
    found = order.read_weights(str(tmp_path / "weights"))
    rows = Counter(first(answers(weights=found), 300))
    assert rows["10.0.1.1"] > 250


@pytest.mark.parametrize(("text", "said"), [
    ("10.0.0.1 5\n", "line 1: a name comes first"),
    ("a.test\n10.0.0.1 0\n", "line 2: a name comes first, and weights are 1 to 255"),
    ("a.test\n10.0.0.300 5\n", "line 2: '10.0.0.300'"),
])  # fmt: skip
def test_a_bad_file_names_its_line(tmp_path, text, said):
    (tmp_path / "weights").write_text(text)
    with pytest.raises(ValueError, match="weights") as caught:
        order.read_weights(str(tmp_path / "weights"))
    assert said in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match='cannot read "/no/such"'):
        order.read_weights("/no/such")
