# SPDX-License-Identifier: Apache-2.0
"""A batch answered whole gets what its queries get one by one, or is left alone."""

import dns.message
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.etcd.types import KeyValue, Revision
from skydns import flood, keys, records
from skydns.compiled import Answers
from skydns.fastpath import parted
from skydns.places import HEAD, PLACES
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
    found = flood.replies(answers.near, *batch(queries))
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
        {0: "c1.z.test.", 7: "cc345.z.test."},
        {4: "cc345.z.test.", 5: "c.z.test."},
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


HEADER = packets(["a.z.test."])[0][2:12]
REST = b"\1z\4test\0\0\1\0\1"
LABELS = st.one_of(
    st.sampled_from(
        # what stands between two labels of a joined batch, in one label: nothing may be mistaken for two
        [
            b"x" + REST + HEADER + b"\4yyyy",
            REST + HEADER,
            HEADER,
            REST,
            b"there",
            b"There",
            b"*",
            b"any",
        ]
    ),
    st.text("ab", min_size=1, max_size=9).map(str.encode),
    st.text("abAB01", min_size=3, max_size=5).map(str.encode),
)
REST_OF_ANOTHER = st.sampled_from(
    [REST] * 12 + [b"\1y\4test\0\0\1\0\1", REST[:-3] + b"\x1c\0\1", b""]
)


@given(
    st.lists(st.tuples(LABELS, REST_OF_ANOTHER), min_size=2, max_size=PLACES),
    st.sampled_from(["", "one size"]),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_batch_holds_it_gets_what_its_queries_get_one_by_one(answers, asked, form):
    if form:
        asked = [(label[:3].ljust(3, b"c"), rest) for label, rest in asked]
    queries = [b"\0\7" + HEADER + bytes((len(label),)) + label + rest for label, rest in asked]
    for label in (b"c" * length for length in range(1, 60)):
        answers.reply(b"\0\7" + HEADER + bytes((len(label),)) + label + REST)
    found = whole(answers, queries)
    if found is not None:
        assert found == [(answers.quick(query) or answers.reply(query))[2:] for query in queries]


@pytest.mark.parametrize(
    "mixed",
    [
        packets([*MISSING, "there.z.test."]),  # has records
        packets([*MISSING, "any.z.test."]),
        packets(["cccccc.z.test."] * 3 + ["there.z.test."]),  # has another size and records
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
        "another_size_any",
        "another_size_there",
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
