# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from fairlead.etcd.types import LeaseID, Revision
from flannelpy import allocate, keys
from flannelpy.allocate import Create, Exhausted, Mark, Reuse, Wish, choose, free
from flannelpy.keys import Subnets
from flannelpy.records import Attributes, Lease, parse_config

CONFIG = parse_config(b'{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}')
SMALL = parse_config(b'{"Network":"10.5.0.0/24","Backend":{"Type":"vxlan"}}')
DUAL = parse_config(b'{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}')
ME = IPv4Address("192.0.2.1")


def lease(v4, public, v6=None, etcd_lease=1):
    subnets = Subnets(IPv4Network(v4), v6 and IPv6Network(v6))
    key = keys.lease("/n", subnets)
    return Lease(key, subnets, Attributes(IPv4Address(public)), LeaseID(etcd_lease), Revision(1))


def first(choices):
    return choices[0]


def test_new_host_gets_a_free_subnet_from_subnet_min():
    got = choose(CONFIG, [lease("10.5.1.0/24", "192.0.2.9")], Wish(ME), first)
    assert got == Create(Subnets(IPv4Network("10.5.2.0/24")), "a free subnet")


def test_picks_among_the_first_hundred_free():
    seen = []
    choose(CONFIG, [], Wish(ME), lambda choices: seen.append(choices) or choices[-1])
    assert (len(seen[0]), str(IPv4Address(seen[0][-1]))) == (100, "10.5.100.0")


def test_reuses_the_lease_with_its_address_first_in_key_order():
    mine = [lease("10.5.2.0/24", "192.0.2.1"), lease("10.5.10.0/24", "192.0.2.1")]
    assert choose(CONFIG, mine, Wish(ME), first) == Reuse(mine[1])


def test_an_own_lease_out_of_range_goes_and_still_counts_as_taken():
    old = lease("10.5.1.0/25", "192.0.2.1")
    got = choose(CONFIG, [old], Wish(ME), first)
    assert got == Create(Subnets(IPv4Network("10.5.2.0/24")), "a free subnet", (old,))


def test_previous_subnet_is_taken_again_unless_somebody_has_it():
    wish = Wish(ME, previous=Subnets(IPv4Network("10.5.77.0/24")))
    assert choose(CONFIG, [], wish, first).subnets == wish.previous
    other = lease("10.5.77.0/24", "192.0.2.9")
    assert str(choose(CONFIG, [other], wish, first).subnets) == "10.5.1.0/24"


def test_previous_subnet_outside_the_range_is_ignored():
    wish = Wish(ME, previous=Subnets(IPv4Network("10.9.77.0/24")))
    assert str(choose(CONFIG, [], wish, first).subnets) == "10.5.1.0/24"


def test_out_of_subnets_says_how_many_are_taken():
    taken = [lease(f"10.5.0.{n}/26", "192.0.2.9", etcd_lease=n % 128) for n in (64, 128, 192)]
    got = choose(SMALL, taken, Wish(ME), first)
    assert got == Exhausted("IPv4", 3, 2, 1)
    assert "all 3 IPv4 subnets" in str(got)


def test_trap_t4_reservation_of_another_host_is_never_allocated():
    held = lease("10.5.1.0/24", "192.0.2.20", etcd_lease=0)
    assert str(choose(CONFIG, [held], Wish(ME), first).subnets) == "10.5.2.0/24"


def test_trap_t4_own_reservation_is_reused():
    held = lease("10.5.44.0/24", "192.0.2.1", etcd_lease=0)
    assert choose(CONFIG, [held], Wish(ME), first) == Reuse(held)


def test_trap_t20_a_host_that_goes_dual_stack_keeps_its_ipv4_subnet():
    old = lease("10.5.9.0/24", "192.0.2.1")
    mixed = [
        old,
        lease("10.5.3.0/24", "192.0.2.3"),
        lease("10.5.4.0/24", "192.0.2.4", "fd00:5:0:1::/64"),
    ]
    got = choose(DUAL, mixed, Wish(ME), first)
    assert isinstance(got, Create)
    assert (str(got.subnets), got.instead) == ("10.5.9.0/24&fd00:5:0:2::/64", (old,))


def test_lost_races_widen_the_choice():
    sizes = []
    choose(
        CONFIG, [], Wish(ME), lambda choices: sizes.append(len(choices)) or choices[0], window=1000
    )
    assert sizes == [255]


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=20),
    st.integers(0, 8).map(lambda n: 1 << n),
    st.integers(0, 20),
)
def test_free_agrees_with_looking_at_each(ranges, size, window):
    taken = [(start, start + length - 1) for start, length in ranges]
    low, high = 0, 256 // size * size
    plain = [
        address
        for address in range(low, high + 1, size)
        if not any(first <= address + size - 1 and last >= address for first, last in taken)
    ]
    assert free(low, high, size, taken, window) == plain[:window]


def test_an_ipv6_range_is_not_walked_to_its_end():
    config = parse_config(b'{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/16"}')
    taken = [lease("10.5.1.0/24", "192.0.2.9", "fd00::/17")]
    got = choose(config, taken, Wish(ME), first, allocate.CANDIDATES)
    assert str(got.subnets.v6) == "fd00:8000::/64"


def test_a_marked_lease_is_ours_under_another_address_and_first_when_two_hosts_swap_theirs():
    ours = lease("10.5.9.0/24", "192.0.2.7", etcd_lease=77)
    theirs = lease("10.5.3.0/24", "192.0.2.1", etcd_lease=5)
    wish = Wish(ME, mark=Mark(ours.key, 77))
    assert choose(CONFIG, [theirs, ours], wish, first) == Reuse(ours)
    wish = Wish(ME, mark=Mark(ours.key, 78))  # it was lost meanwhile, and is another's now
    assert choose(CONFIG, [theirs, ours], wish, first) == Reuse(theirs)


def test_a_mark_never_takes_a_reservation_of_another_address():
    pinned = lease("10.5.9.0/24", "192.0.2.7", etcd_lease=0)
    got = choose(CONFIG, [pinned], Wish(ME, mark=Mark(pinned.key, 0)), first)
    assert isinstance(got, Create)
