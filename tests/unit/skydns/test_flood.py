# SPDX-License-Identifier: Apache-2.0
"""A batch answered whole gets what its queries get one by one, or is left alone."""

import dns.message
import pytest

from fairlead.etcd.types import KeyValue, Revision
from skydns import flood, keys, records
from skydns.compiled import Answers
from skydns.fastpath import parted
from skydns.places import HEAD
from skydns.policy import PROFILES, Policy
from skydns.state import Served

MISSING = ["aaaaa.z.test.", "bbbbb.z.test.", "01234.z.test."]


@pytest.fixture
def answers():
    policy = Policy(frozenset(keys.zones("z.test")), profile=PROFILES["coredns"], rotate=False)
    answers = Answers(Served(), policy, lambda: 0.0)
    answers.loaded = True
    key = b"/skydns/test/z/there"
    value = KeyValue(key, b'{"host":"10.0.0.1"}', Revision(1), Revision(1), 1)
    answers.served.index.put(records.decode(b"/skydns", value))
    return answers


def packets(names, rtype="A", **options):
    return [
        dns.message.make_query(name, rtype, id=7 + at, **options).to_wire()
        for at, name in enumerate(names)
    ]


def batch(packets):
    """As the kernel leaves them: what stood in a place before stands behind the query."""
    return b"".join(each.ljust(HEAD, b"\xee") for each in packets), tuple(map(len, packets))


def whole(answers, queries):
    found = flood.replies(
        answers.near, *batch(queries), lambda place: answers.quick(queries[place])[2:]
    )
    if found is None:
        return None
    octets, sizes = found
    assert len(sizes) == len(queries)
    assert sum(sizes) == len(octets)
    return parted(octets, sizes)


@pytest.mark.parametrize("options", [{}, {"use_edns": 0}, {"flags": 0}])
def test_missing_names_of_one_form_are_answered_whole(answers, options):
    queries = packets(MISSING, **options)
    assert whole(answers, queries) is None  # no template yet
    assert answers.reply(queries[0])[3] & 15 == 3
    assert whole(answers, queries) == [answers.quick(query)[2:] for query in queries]
    assert answers.counts.totals()["NXDOMAIN"] == 7


@pytest.mark.parametrize(
    "odd",
    [
        {3: "cccccc.z.test."},
        {0: "c1.z.test.", 7: "There.z.test."},
        {4: "there.z.test.", 5: "c.z.test."},
    ],
    ids=["one", "first_and_last", "side_by_side"],
)
def test_up_to_a_quarter_may_have_other_sizes(answers, odd):
    names = [f"{at:06}.z.test." for at in range(8)]
    for place, name in odd.items():
        names[place] = name
    queries = packets(names)
    for query in [*queries, *queries]:  # the second missing name of a form makes its template
        answers.reply(query)
    assert whole(answers, queries) == [answers.quick(query)[2:] for query in queries]


@pytest.mark.parametrize(
    "mixed",
    [
        packets([*MISSING, "there.z.test."]),  # has records
        packets([*MISSING, "cccccc.z.test.", "dddddd.z.test."]),  # too many of another length
        packets([*MISSING, "ccccc.y.test."]),  # of another zone
        packets([*MISSING, "Ccccc.z.test."]),  # has to keep its case
        packets([*MISSING, "There.z.test."]),  # has records and has to keep its case
        packets(MISSING) + packets(["ccccc.z.test."], "TXT"),
        packets(MISSING) + packets(["ccccc.z.test."], flags=0),
        packets(["any.z.test.", "abc.z.test."]),  # one is a wildcard
        packets(["*.z.test.", "a.z.test."]),
        packets(["there.z.test."] * 3),
        packets(["z.test."] * 3),
        [b"\0" * 12] * 3,
        [b"\xff" * HEAD] * 3,
    ],
    ids=[
        "a_name_there",
        "length",
        "zone",
        "case",
        "case_of_a_name_there",
        "type",
        "flags",
        "any",
        "star",
        "hits",
        "apex",
        "empty",
        "garbage",
    ],
)
def test_any_other_batch_is_left_alone(answers, mixed):
    for query in mixed:
        answers.reply(query)
    for name in ("aaaaa.z.test.", "abc.z.test.", "b.z.test.", "cccccc.z.test."):
        answers.reply(packets([name])[0])
    assert whole(answers, mixed) is None


def test_the_serial_is_that_of_now_and_a_new_name_is_seen(answers):
    queries = packets(MISSING)
    answers.reply(queries[0])
    before = whole(answers, queries)
    answers.served.serials[keys.zones("z.test")[0]] = 77
    answers.touch([b"\x05other\x01z\x04test\0"])
    answers.reply(queries[0])
    after = whole(answers, queries)
    assert after != before
    assert after == [answers.quick(query)[2:] for query in queries]
