# SPDX-License-Identifier: Apache-2.0
"""Which interface and addresses face the other hosts (specs/flannel.md §9).

`facts` asks the kernel, `choose` decides and is pure. Selectors are tried in order: every
-iface, every -iface-regex, -iface-can-reach; the first that works wins. With none given the
interface that owns -public-ip (trap T11), or else the default route's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
)

import re2

from fairlead.errors import FairleadError
from flannelpy.backends import Uplink
from flannelpy.kernel import Kernel
from flannelpy.netlink import KernelError
from flannelpy.state import IPAddress, IPInterface

_TEMPORARY, _DADFAILED, _DEPRECATED, _PERMANENT = 0x01, 0x08, 0x20, 0x80  # IFA_F_*


class UplinkError(FairleadError):
    """No interface faces the other hosts; the message has each selector and what was wrong."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for; `v4` and `v6` are the families of the network."""

    iface: tuple[str, ...] = ()
    iface_regex: tuple[str, ...] = ()
    can_reach: IPAddress | None = None
    public_ip: IPv4Address | None = None
    public_ipv6: IPv6Address | None = None
    v4: bool = True
    v6: bool = False


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address of an interface with its IFA_F_* flags."""

    address: IPInterface
    flags: int = _PERMANENT


@dataclass(frozen=True, slots=True)
class Nic:
    """A network interface."""

    name: str
    index: int
    mtu: int
    addresses: tuple[OwnAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What the kernel says.

    Attributes:
        default4: device of the best default route; "" for one with several hops; None: no such.
        reach: device and source address to the address of -iface-can-reach.
    """

    nics: tuple[Nic, ...]
    default4: str | None = None
    default6: str | None = None
    reach: tuple[str, IPAddress | None] | None = None


def choose(request: Request, facts: Facts) -> Uplink:
    """Return the uplink.

    Raises:
        UplinkError: nothing that was asked for can be used.
    """
    tries: list[tuple[str, Callable[[], Uplink]]] = []
    tries += [(f'-iface "{it}"', partial(_by_word, request, facts, it)) for it in request.iface]
    tries += [
        (f'-iface-regex "{it}"', partial(_by_regex, request, facts, it))
        for it in request.iface_regex
    ]
    if request.can_reach is not None:
        reach = partial(_by_reach, request, facts)
        tries.append((f'-iface-can-reach "{request.can_reach}"', reach))
    if not tries:
        tries.append(_unasked(request, facts))
    failures = []
    for selector, attempt in tries:
        try:
            return attempt()
        except UplinkError as error:
            failures.append(f"{selector}: {error}")
    raise UplinkError("; ".join(failures))


def _unasked(request: Request, facts: Facts) -> tuple[str, Callable[[], Uplink]]:
    public: IPAddress | None = request.public_ip
    if not request.v4:
        public = request.public_ipv6
    if public is None:
        return "default route", lambda: _by_default(request, facts)
    wanted = public

    def owner() -> Uplink:
        try:
            return _by_word(request, facts, str(wanted))
        except UplinkError as error:
            raise UplinkError(f"{error}; behind NAT name the interface too: -iface NAME") from error

    return f'-public-ip "{public}"', owner


def _by_word(request: Request, facts: Facts, word: str) -> Uplink:
    try:
        address = ip_address(word)
    except ValueError:
        for nic in facts.nics:
            if nic.name == word:
                return _finish(request, nic)
        raise UplinkError("no such interface") from None
    for nic in facts.nics:
        for own in nic.addresses:
            if own.address.ip == address:
                return _finish(request, nic, own.address)
    raise UplinkError("no interface has this address")


def _by_regex(request: Request, facts: Facts, pattern: str) -> Uplink:
    """Match addresses first, then names; unanchored, in RE2's syntax."""
    found = re2.compile(pattern).search
    for nic in facts.nics:
        v4 = [it for it in usable(nic, 4) if found(str(it.ip))] if request.v4 else []
        v6 = [it for it in usable(nic, 6) if found(str(it.ip))] if request.v6 else []
        if (v4 or not request.v4) and (v6 or not request.v6):
            return _finish(request, nic, *v4[:1], *v6[:1])
    for nic in facts.nics:
        if found(nic.name):
            return _finish(request, nic)
    seen = ", ".join(
        f"{nic.name} ({' '.join(str(own.address.ip) for own in nic.addresses)})"
        for nic in facts.nics
    )
    raise UplinkError(f"matches none of {seen}")


def _by_reach(request: Request, facts: Facts) -> Uplink:
    if facts.reach is None:
        raise UplinkError("the kernel knows no way there")
    name, source = facts.reach
    for nic in facts.nics:
        if nic.name == name:
            own = [it.address for it in nic.addresses if it.address.ip == source]
            return _finish(request, nic, *own)
    raise UplinkError(f"{name} is gone")


def _by_default(request: Request, facts: Facts) -> Uplink:
    names = []
    if request.v4:
        names.append(("IPv4", facts.default4))
    if request.v6:
        names.append(("IPv6", facts.default6))
    for family, name in names:
        if name is None:
            raise UplinkError(
                f"there is no {family} default route; name the interface: -iface NAME"
            )
        if not name:
            raise UplinkError(f"the {family} default route has several hops; name one: -iface NAME")
    if len({name for _, name in names}) > 1:
        raise UplinkError("IPv4 and IPv6 leave by different interfaces; name one: -iface NAME")
    return _by_word(request, facts, names[0][1] or "")


def _finish(request: Request, nic: Nic, *given: IPInterface) -> Uplink:
    """Return the uplink on `nic`, with the addresses that the selector gave already."""
    if not nic.mtu:
        raise UplinkError(f"{nic.name} has no MTU")
    v4 = next((it for it in (*given, *usable(nic, 4)) if isinstance(it, IPv4Interface)), None)
    six = [it for it in (*given, *usable(nic, 6)) if isinstance(it, IPv6Interface)]
    v6 = next((it for it in six if it.ip == request.public_ipv6), six[0] if six else None)
    for wanted, version, found in ((request.v4, 4, v4), (request.v6, 6, v6)):
        if wanted and found is None:
            raise UplinkError(f"{nic.name} has no usable IPv{version} address")
    return Uplink(
        nic.name,
        nic.index,
        nic.mtu,
        v4 if request.v4 else None,
        v6 if request.v6 else None,
        (request.public_ip or (v4 and v4.ip)) if request.v4 else None,
        (request.public_ipv6 or (v6 and v6.ip)) if request.v6 else None,
    )


def usable(nic: Nic, version: int) -> list[IPInterface]:
    """Return an interface's addresses that peers may send to, best first.

    Global before link-local, permanent before dynamic, and no temporary one while there is
    another; deprecated ones never.
    """
    fit = [
        own
        for own in nic.addresses
        if own.address.version == version
        and not own.flags & (_DEPRECATED | _DADFAILED)
        and not (own.address.ip.is_loopback or own.address.ip.is_multicast)
        and int(own.address.ip)
    ]
    fit.sort(
        key=lambda own: (
            own.address.ip.is_link_local,
            not own.flags & _PERMANENT,
            bool(own.flags & _TEMPORARY),
        )
    )
    return [own.address for own in fit]


async def facts(kernel: Kernel, request: Request) -> Facts:
    """Ask the kernel what `choose` needs.

    Raises:
        UplinkError: the kernel refused to tell.
    """
    try:
        addresses = await kernel.addresses()
        nics = tuple(
            Nic(
                it.name,
                it.index,
                it.mtu,
                tuple(OwnAddress(a.address, a.flags) for a in addresses if a.ifindex == it.index),
            )
            for it in await kernel.interfaces()
        )
        defaults = {version: await _default(kernel, version) for version in (4, 6)}
    except KernelError as error:
        raise UplinkError(f"the kernel does not tell: {error}") from error
    reach = None
    if request.can_reach is not None:
        try:
            reach = await kernel.route_to(request.can_reach)
        except KernelError:
            reach = None  # choose() says that there is no way
    return Facts(nics, defaults[4], defaults[6], reach)


async def _default(kernel: Kernel, version: int) -> str | None:
    routes = [it for it in await kernel.routes(version) if not it.dst.prefixlen]
    if not routes:
        return None
    best = min(routes, key=lambda it: it.metric)
    return kernel.name_of(best.ifindex) or ""


def again(request: Request, facts: Facts, now: Uplink) -> Uplink:
    """Return the uplink as it is by now: the same interface, and its addresses while they stand.

    Raises:
        UplinkError: it is gone, or has no usable address at the moment.
    """
    for nic in facts.nics:
        if nic.name == now.name:
            standing = (*usable(nic, 4), *usable(nic, 6))
            kept = [it for it in (now.v4, now.v6) if it is not None and it in standing]
            return _finish(request, nic, *kept)
    raise UplinkError(f"{now.name} is gone")


async def find(kernel: Kernel, request: Request) -> Uplink:
    """Return the uplink that the kernel and the command line lead to."""
    return choose(request, await facts(kernel, request))
