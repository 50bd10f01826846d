# SPDX-License-Identifier: Apache-2.0
"""specs/skydns.md §16, the table of `-compat`: each row in each of its columns."""

import dns.flags
import pytest

from skydns.config import configure
from skydns.settings import SETTINGS

A = '{"host":"10.0.0.1"}'
B = '{"host":"10.0.0.2"}'
APEX = {"dns/apex/x": A, "www": B}


def by_profile(skydns, coredns, strict):
    return [("skydns", skydns), ("coredns", coredns), ("strict", strict)]


def ttls(s):
    return s.message("n A").answer[0].ttl, s.message("none A").authority[0].ttl


@pytest.mark.parametrize(("profile", "found"), by_profile((3600, 60), (300, 30), (300, 30)))
def test_default_ttl_and_negative_ttl(server, profile, found):
    assert ttls(server({"n": A}, profile=profile)) == found


@pytest.mark.parametrize(("profile", "found"), by_profile(["10.0.0.2"], ["10.0.0.1"], ["10.0.0.1"]))
def test_apex_data_from_dns_apex(server, profile, found):
    rows = server(APEX, profile=profile).answer("skydns.test. A")
    assert [row.split()[-1] for row in rows] == found  # the `dns` child counts in no profile (§1.2)


@pytest.mark.parametrize(("profile", "found"), by_profile(["10.0.0.2"], ["10.0.0.2"], []))
def test_apex_without_dns_apex(server, profile, found):
    rows = server({"www": B}, profile=profile).answer("skydns.test. A")
    assert [row.split()[-1] for row in rows] == found


@pytest.mark.parametrize(
    ("profile", "found"), by_profile("NXDOMAIN", "NXDOMAIN", ["x.w A 10.0.0.1"])
)
def test_a_stored_star_as_catch_all(server, profile, found):
    assert server({"w/*": A}, profile=profile).answer("x.w A") == found


@pytest.mark.parametrize(("profile", "found"), by_profile(["10.0.0.2"], ["10.0.0.2"], ["10.0.0.1"]))
def test_own_key_beside_children(server, profile, found):
    rows = server({"n": A, "n/x": B}, profile=profile).answer("n A")
    assert [row.split()[-1] for row in rows] == found  # etcd v2 could not hold both: as CoreDNS


@pytest.mark.parametrize("profile", ["skydns", "coredns", "strict"])
def test_host_name_and_text_count_both(server, profile):
    s = server({"n": '{"host":"w.skydns.test","text":"t"}', "w": A}, profile=profile)
    assert s.answer("n TXT") == ['n TXT "t"']
    assert s.answer("n A") == ["n CNAME w.skydns.test.", "w A 10.0.0.1"]
    assert s.answer("n SRV") == ["n SRV 10 100 0 w.skydns.test."]


@pytest.mark.parametrize("profile", ["skydns", "coredns", "strict"])
def test_srv_additional_has_both_families(server, profile):
    stored = {"s": '{"host":"w.skydns.test","port":1}', "w/4": A, "w/6": '{"host":"2001:db8::1"}'}
    _, _, additional = server(stored, profile=profile).ask("s SRV")
    assert [row.split()[3] for row in additional] == ["A", "AAAA"]


@pytest.mark.parametrize(("profile", "found"), by_profile({0}, {1}, {1}))
def test_srv_weight_0(server, profile, found):
    stored = {f"n/x{at:03}": f'{{"host":"10.0.0.{at}","weight":1}}' for at in range(101)}
    rows = server(stored, profile=profile).answer("n SRV", udp=False)
    assert {int(row.split()[3]) for row in rows} == found


@pytest.mark.parametrize("profile", ["skydns", "coredns", "strict"])
def test_nxdomain_is_authoritative(server, profile):
    reply = server({"n": A}, profile=profile).message("none A")
    assert reply.flags & dns.flags.AA


ALIASES = {"n/a": '{"host":"v.skydns.test"}', "n/b": '{"host":"w.skydns.test"}', "v": A, "w": B}


@pytest.mark.parametrize(("profile", "found"), by_profile(
    ["n CNAME v.skydns.test.", "v A 10.0.0.1"],
    ["n A 10.0.0.1", "n A 10.0.0.2"],
    ["n A 10.0.0.1", "n A 10.0.0.2"],
))  # fmt: skip
def test_several_aliases(server, profile, found):
    assert server(ALIASES, profile=profile).answer("n A") == found


@pytest.mark.parametrize(("profile", "found"), by_profile(
    ["n A 10.0.0.9"], ["n A 10.0.0.9", "n A 10.0.0.1"], ["n A 10.0.0.9", "n A 10.0.0.1"],
))  # fmt: skip
def test_an_alias_beside_an_address(server, profile, found):
    stored = {"n/a": '{"host":"10.0.0.9"}', "n/b": '{"host":"v.skydns.test"}', "v": A}
    assert server(stored, profile=profile).answer("n A") == found


@pytest.mark.parametrize(("profile", "found"), by_profile(
    "REFUSED", ['n HINFO "ANY obsoleted" "See RFC 8482"'], ['n HINFO "ANY obsoleted" "See RFC 8482"'],
))  # fmt: skip
def test_any(server, profile, found):
    assert server({"n": A}, profile=profile).answer("n ANY") == found


@pytest.mark.parametrize(("profile", "found"), by_profile(True, False, False))
@pytest.mark.parametrize("name", ["n", "none"])
def test_ra_without_forwarding(server, profile, found, name):
    reply = server({"n": A}, profile=profile).message(f"{name} A")
    assert bool(reply.flags & dns.flags.RA) == found
    forwarding = server({"n": A}, profile=profile, forwarding=True).message(f"{name} A")
    assert forwarding.flags & dns.flags.RA


@pytest.mark.parametrize("profile", ["skydns", "coredns", "strict"])
def test_stub_zones_only_with_the_flag(profile):
    without = configure(SETTINGS.parse((f"-compat={profile}",), {}))
    assert not without.stub_records
    assert configure(SETTINGS.parse((f"-compat={profile}", "-stubzones"), {})).stub_records


def test_coredns_is_the_default():
    assert configure(SETTINGS.parse((), {})).policy.profile.name == "coredns"
