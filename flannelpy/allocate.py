# SPDX-License-Identifier: Apache-2.0
"""Choose this host's subnet from what is leased already (specs/flannel.md §6). Pure.

::

    leases, in key order ─► mine by PublicIP ─► usable?  ─► Reuse
                                             └► not       ─► Replace / Drop, and on:
                         ─► the subnet of the last run    ─► Create
                         ─► a random one of the first 100 ─► Create, or Exhausted

One call is one round; the caller carries the decision out by a transaction that fails when
the world has changed, and then calls again with a fresh listing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from flannelpy.keys import Subnets
from flannelpy.records import NO_PUBLIC_IP, Lease, NetworkConfig, Range4, Range6

CANDIDATES = 100  # the original looks no further than this many free subnets

Pick = Callable[[Sequence[int]], int]
"""Chooses one of many at random; `random.choice`."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """This lease is ours: write our attributes over it, keeping a reservation one (trap T4)."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Create:
    """Create the key of these subnets, if nobody has.

    Attributes:
        instead: leases of ours that no longer fit and go first, each by a transaction of its
            own: two lease keys in one would lose old peers an event (trap T1).
    """

    subnets: Subnets
    reason: str
    instead: tuple[Lease, ...] = ()


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Every subnet of the range is taken; `leased` and `reserved` of `total` are in use."""

    family: str
    total: int
    leased: int
    reserved: int

    def __str__(self) -> str:
        return (
            f"out of subnets: all {self.total} {self.family} subnets of the range are taken "
            f"({self.leased} leased, {self.reserved} reserved)"
        )


Choice = Reuse | Create | Exhausted


@dataclass(frozen=True, slots=True)
class Mark:
    """What proves a lease ours under whatever address: the id of its etcd lease, granted to us."""

    key: bytes
    lease: int


@dataclass(frozen=True, slots=True)
class Wish:
    """Who asks: what identifies this host among the leases, and what it had before."""

    public_ip: IPv4Address
    public_ipv6: IPv6Address | None = None
    previous: Subnets | None = None
    mark: Mark | None = None


def fits(config: NetworkConfig, subnets: Subnets) -> bool:
    """Say whether a lease of `subnets` may stand under this configuration."""
    return _fits4(config.v4, subnets.v4) and _fits6(config.v6, subnets.v6)


def _fits4(wanted: Range4 | None, has: IPv4Network | None) -> bool:
    if wanted is None or has is None:
        return wanted is None and has is None
    inside = wanted.subnet_min <= has.network_address <= wanted.subnet_max
    return inside and has.prefixlen == wanted.subnet_len


def _fits6(wanted: Range6 | None, has: IPv6Network | None) -> bool:
    if wanted is None or has is None:
        return wanted is None and has is None
    inside = wanted.subnet_min <= has.network_address <= wanted.subnet_max
    return inside and has.prefixlen == wanted.subnet_len


def is_ours(config: NetworkConfig, lease: Lease, wish: Wish) -> bool:
    """Say whether a lease carries our public address; by IPv6 only in a v6-only network."""
    if is_marked(lease, wish):
        return True
    if config.v4 is None:
        return wish.public_ipv6 is not None and lease.attributes.public_ipv6 == wish.public_ipv6
    return wish.public_ip != NO_PUBLIC_IP and lease.attributes.public_ip == wish.public_ip


def is_marked(lease: Lease, wish: Wish) -> bool:
    """Say whether a lease is provably ours; a reservation is its PublicIP's alone."""
    mark = wish.mark
    return (
        mark is not None
        and not lease.is_reservation
        and (lease.key, lease.lease) == (mark.key, mark.lease)
    )


def choose(
    config: NetworkConfig, leases: Iterable[Lease], wish: Wish, pick: Pick, window: int = CANDIDATES
) -> Choice:
    """Return what to do in this round.

    Args:
        leases: every lease of the network, ours too.
        window: how many free subnets to choose from; a wider one after lost races.
    """
    # what is provably ours comes first: two hosts that swap addresses keep their subnets
    standing = sorted(leases, key=lambda lease: (not is_marked(lease, wish), lease.key))
    instead: list[Lease] = []
    keep4: IPv4Network | None = None
    for lease in standing:
        if not is_ours(config, lease, wish):
            continue
        if fits(config, lease.subnets):
            return Reuse(lease)
        instead.append(lease)
        if keep4 is None and lease.subnets.v4 is not None and _fits4(config.v4, lease.subnets.v4):
            keep4 = lease.subnets.v4  # a host that goes dual-stack keeps its IPv4 subnet (trap T20)
        break  # as the original: the first lease with our address decides
    gone = tuple(instead)
    if keep4 is not None:
        return _complete(config, standing, keep4, gone, (pick, window))
    previous = wish.previous
    if previous is not None and fits(config, previous):
        held = any(same_subnet(lease.subnets, previous) for lease in standing)
        if not held:
            return Create(previous, "the subnet of the last run", gone)
    return _complete(config, standing, None, gone, (pick, window))


def same_subnet(one: Subnets, other: Subnets) -> bool:
    """Say whether two leases hold the same subnet, by IPv4 where there is one."""
    if one.v4 is not None or other.v4 is not None:
        return one.v4 == other.v4
    return one.v6 == other.v6


def _complete(
    config: NetworkConfig,
    standing: Sequence[Lease],
    v4: IPv4Network | None,
    instead: tuple[Lease, ...],
    how: tuple[Pick, int],
) -> Choice:
    """Return a Create with what `v4` leaves open chosen at random, or Exhausted."""
    pick, window = how
    reason = "a free subnet" if v4 is None else "the same IPv4 subnet, now with IPv6"
    if config.v4 is not None and v4 is None:
        taken = [lease.subnets.v4 for lease in standing if lease.subnets.v4 is not None]
        low, high = int(config.v4.subnet_min), int(config.v4.subnet_max)
        size = 1 << (32 - config.v4.subnet_len)
        spare = free(low, high, size, map(_bounds, taken), window)
        if not spare:
            return _exhausted("IPv4", low, high, size, standing)
        v4 = IPv4Network((pick(spare), config.v4.subnet_len))
    v6 = None
    if config.v6 is not None:
        taken6 = [lease.subnets.v6 for lease in standing if lease.subnets.v6 is not None]
        low, high = int(config.v6.subnet_min), int(config.v6.subnet_max)
        size = 1 << (128 - config.v6.subnet_len)
        spare = free(low, high, size, map(_bounds, taken6), window)
        if not spare:
            return _exhausted("IPv6", low, high, size, standing)
        v6 = IPv6Network((pick(spare), config.v6.subnet_len))
    return Create(Subnets(v4, v6), reason, instead)


def _bounds(net: IPv4Network | IPv6Network) -> tuple[int, int]:
    first = int(net.network_address)
    return first, first + net.num_addresses - 1


def free(
    low: int, high: int, size: int, taken: Iterable[tuple[int, int]], window: int
) -> list[int]:
    """Return the first `window` multiples of `size` from `low` to `high` that touch no taken range.

    Args:
        taken: first and last address of each lease, of any length, in any order.
    """
    ranges = sorted(taken)
    starts: list[int] = []
    ends: list[int] = []  # of the merged ranges, both rising
    for first, last in ranges:
        if ends and first <= ends[-1] + 1:
            ends[-1] = max(ends[-1], last)
        else:
            starts.append(first)
            ends.append(last)
    found: list[int] = []
    address = low
    while address <= high and len(found) < window:
        at = bisect_right(starts, address + size - 1) - 1
        if at >= 0 and ends[at] >= address:  # jump over the whole taken range at once
            address += size * max(1, -(-(ends[at] + 1 - address) // size))
        else:
            found.append(address)
            address += size
    return found


def _exhausted(family: str, low: int, high: int, size: int, standing: Sequence[Lease]) -> Exhausted:
    reserved = sum(lease.is_reservation for lease in standing)
    return Exhausted(family, (high - low) // size + 1, len(standing) - reserved, reserved)
