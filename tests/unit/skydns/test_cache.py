# SPDX-License-Identifier: Apache-2.0
"""Answers of other servers: how long they are kept, how they age."""

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from skydns import cache, names
from skydns.cache import Bounds, Cache, Key

KEY = Key(names.from_text("w.example."), 1, 1, do=False, cd=False)
SOA = "example. {} IN SOA ns.example. root.example. 1 7200 1800 86400 {}"


def reply(*answers, authority=(), rcode="NOERROR", tc=False):
    made = dns.message.make_response(dns.message.make_query("w.example.", "A"))
    made.set_rcode(dns.rcode.from_text(rcode))
    for section, found in ((made.answer, answers), (made.authority, authority)):
        for line in found:
            section.append(dns.rrset.from_text(*line.split(None, 4)))
    made.flags |= dns.flags.TC if tc else 0
    return made.to_wire()


DATA = reply("w.example. 300 IN CNAME x.example.", "x.example. 100 IN A 192.0.2.1")


def ttls(octets):
    return [rrset.ttl for rrset in dns.message.from_wire(octets).answer]


@pytest.mark.parametrize(("octets", "seconds"), [
    pytest.param(DATA, 100, id="the least TTL of the answer"),
    pytest.param(reply("w.example. 9999 IN A 192.0.2.1"), 3600, id="not over the bound"),
    pytest.param(reply("w.example. 0 IN A 192.0.2.1"), None, id="TTL 0 is not kept"),
    pytest.param(reply("w.example. 60 IN A 192.0.2.1", tc=True), None, id="nor what is cut"),
    pytest.param(reply(authority=[SOA.format(500, 60)]), 60, id="NODATA: the SOA's minimum"),
    pytest.param(reply(authority=[SOA.format(50, 60)], rcode="NXDOMAIN"), 50, id="or its TTL"),
    pytest.param(reply(authority=[SOA.format(9000, 9000)], rcode="NXDOMAIN"), 1800, id="bounded"),
    pytest.param(reply(rcode="NXDOMAIN"), None, id="RFC 2308 §5: not without an SOA"),
    pytest.param(
        reply("w.example. 300 IN CNAME x.example.", authority=[SOA.format(60, 60)]), 60, id="NODATA behind an alias"
    ),
    pytest.param(reply(rcode="SERVFAIL"), 5, id="a failure: seconds"),
    pytest.param(reply(rcode="REFUSED"), None, id="other rcodes never"),
])  # fmt: skip
def test_lifetime(octets, seconds):
    found = cache.lifetime(octets, Bounds())
    assert (found and found[0]) == seconds


def test_ttls_count_down_and_what_has_run_out_is_stale():
    kept = Cache(Bounds(prefetch=2))
    assert kept.get(KEY, 0.0) is None
    kept.put(KEY, DATA, 1000.0)
    fresh = kept.get(KEY, 1030.5)
    assert ttls(fresh.octets) == [270, 70]
    assert not fresh.due
    assert kept.get(KEY, 1095.0).due  # asked for again and nearly over
    over = kept.get(KEY, 1101.0)
    assert over.left == -1.0
    assert ttls(over.octets) == [30, 30]  # RFC 8767 §4
    assert kept.get(KEY, 1101.0 + 86400.0) is None
    assert (kept.hits, kept.misses) == (2, 3)


def test_a_failure_does_not_replace_data_and_room_is_made():
    kept = Cache(Bounds(most=2))
    kept.put(KEY, DATA, 0.0)
    kept.put(KEY, reply(rcode="SERVFAIL"), 200.0)
    assert kept.get(KEY, 200.0).left == -100.0
    for rtype in (2, 3, 4):
        kept.put(KEY._replace(rtype=rtype), DATA, 200.0)
    assert len(kept) == kept.evicted == 2
    off = Cache(Bounds(most=0))
    off.put(KEY, DATA, 0.0)
    assert len(off) == 0


def test_trap_21_letter_case_is_folded_and_ttls_age():
    """The original keyed its cache by letter case, kept all for 60 s and aged nothing."""
    assert Key(names.from_text("W.example.").lower(), 1, 1, False, False) == KEY


GONE = reply(authority=[SOA.format(500, 60)], rcode="NXDOMAIN")


@pytest.mark.parametrize(("bounds", "kept"), [
    (Bounds(no_data=frozenset((names.from_text("example."),))), [False, True]),
    (Bounds(no_denial=frozenset((names.ROOT,))), [True, False]),
    (Bounds(no_denial=frozenset((names.from_text("other."),))), [True, True]),
    (Bounds(only=frozenset((names.from_text("w.example."),))), [True, True]),
    (Bounds(only=frozenset((names.from_text("other."),))), [False, False]),
], ids=["no data", "no denial", "elsewhere", "only here", "only elsewhere"])  # fmt: skip
def test_names_whose_answers_are_not_kept(bounds, kept):
    for octets, wanted in zip((DATA, GONE), kept, strict=True):
        held = Cache(bounds)
        held.put(KEY, octets, 1000.0)
        assert (held.get(KEY, 1001.0) is not None) is wanted


@pytest.mark.parametrize("prefers", [True, False])
def test_data_that_have_run_out_are_worth_more_than_their_absence_when_so_set(prefers):
    kept = Cache(Bounds(prefer_positive=prefers))
    kept.put(KEY, DATA, 1000.0)
    kept.put(KEY, GONE, 1200.0)
    hit = kept.get(KEY, 1201.0)
    assert (hit.left < 0) is prefers
    assert bool(ttls(hit.octets)) is prefers
    kept.put(KEY, DATA, 1300.0)
    assert kept.get(KEY, 1301.0).left > 0
