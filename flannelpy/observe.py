# SPDX-License-Identifier: Apache-2.0
"""Kernel and files → HostState: our own objects only, whole within the scope (promise 6).

A pass over EVERYTHING dumps our devices' tables and the routes with our protocol; one over some
keys asks for just those, so that one peer's change costs the same among ten thousand.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fairlead.errors import ActionError
from flannelpy import rtnetlink
from flannelpy.backends import Hop, Underlay
from flannelpy.kernel import Kernel
from flannelpy.netlink import KernelError
from flannelpy.nlmsg import Reply
from flannelpy.rtnetlink import PERMANENT, PROTO_KERNEL, RawNeighbour, RawRoute
from flannelpy.state import (
    PROTO_OURS,
    Address,
    Fdb,
    File,
    HostState,
    Key,
    Kind,
    Neighbour,
    Object,
    Route,
    Territory,
    mac_text,
)


async def host_state(kernel: Kernel, ours: Territory, scope: Iterable[Key] | None) -> HostState:
    """Return what is there of ours: everything (None) or under the keys of a scope.

    Raises:
        ActionError: the kernel refused to tell.
    """
    keys = None if scope is None else frozenset(scope)
    try:
        found = dict(
            await (_everything(kernel, ours) if keys is None else _some(kernel, ours, keys))
        )
        for part in kernel.parts:
            asked = None if keys is None else [key for key in keys if key.kind in part.kinds]
            if asked is None or asked:
                found |= {thing.key: thing for thing in await part.observe(asked)}
    except KernelError as error:
        raise ActionError("observe", str(error), transient=True) from error
    return found


async def _everything(kernel: Kernel, ours: Territory) -> HostState:
    found: list[Object] = []
    versions = {net.version for net in ours.networks}
    for name in ours.devices:
        interface = await kernel.interface(name)
        if interface is None:
            continue
        found.append(interface.link)
        index, names = interface.index, {interface.index: name}
        found += [
            Address(name, it.address)
            for it in await kernel.addresses(index)
            if ours.has_address(it.address)
        ]
        for version in (0, *versions):
            entries = await kernel.neighbours(version, index)
            found += filter(None, (_entry(it, names) for it in entries))
        for version in versions:
            found += _routes(kernel, await kernel.routes(version, index=index), ours)
    for version in versions:
        found += _routes(kernel, await kernel.routes(version, proto=PROTO_OURS), ours)
    found += _files(ours.files)
    return {thing.key: thing for thing in found}


async def _some(kernel: Kernel, ours: Territory, scope: Iterable[Key]) -> HostState:
    found: list[Object] = []
    requests: list[bytes] = []
    asked: list[Key] = []
    for key in scope:
        match key.kind:
            case Kind.LINK:
                interface = await kernel.interface(key.dev)
                if interface is not None:
                    found.append(interface.link)
            case Kind.ADDRESS:
                found += await _addresses(kernel, ours, key)
            case Kind.FILE:
                found += _files((key.dev,))
            case Kind.NEIGHBOUR | Kind.FDB | Kind.ROUTE:
                request = _request(kernel, key)
                if request is not None:
                    requests.append(request)
                    asked.append(key)
    for key, reply in zip(asked, await kernel.ask(requests), strict=True):
        thing = None if reply is None else parse(kernel, reply, ours)
        if thing is not None and thing.key == key:
            found.append(thing)
    return {thing.key: thing for thing in found}


def _request(kernel: Kernel, key: Key) -> bytes | None:
    """Return the question about one neighbour, FDB entry or route; None: its device is gone."""
    if key.kind == Kind.ROUTE:
        return rtnetlink.get_route(rtnetlink.key_network(key))
    try:
        index = kernel.index_of(key.dev)
    except KernelError:
        return None
    if key.kind == Kind.FDB:
        return rtnetlink.get_fdb(mac_text(key.number), index)
    return rtnetlink.get_neighbour(rtnetlink.key_ip(key), index)


async def _addresses(kernel: Kernel, ours: Territory, key: Key) -> list[Object]:
    try:
        index = kernel.index_of(key.dev)
    except KernelError:
        return []
    there = [Address(key.dev, it.address) for it in await kernel.addresses(index)]
    return [it for it in there if it.key == key and ours.has_address(it.address)]


def parse(kernel: Kernel, reply: Reply, ours: Territory) -> Object | None:
    """Return the object of ours that an answer tells of, or None when it is not ours."""
    heard = _parse(kernel, reply, ours)
    return None if heard is None else heard[1]


def heard(kernel: Kernel, reply: Reply, ours: Territory) -> tuple[Key, Object | None] | None:
    """Return what a notification tells of: a key of ours and what is there now; None: not ours.

    Links are the caller's: they matter also when they are not ours.
    """
    told = _parse(kernel, reply, ours)
    if told is not None and reply.type in _GONE:
        return told[0], None
    return told


_GONE = frozenset({rtnetlink.DELROUTE, rtnetlink.DELNEIGH, rtnetlink.DELADDR})


def _parse(kernel: Kernel, reply: Reply, ours: Territory) -> tuple[Key, Object | None] | None:
    thing: Object | None = None
    if reply.type in (rtnetlink.NEWROUTE, rtnetlink.DELROUTE):
        raw = rtnetlink.parse_route(reply)
        if raw is not None and raw.table == rtnetlink.MAIN:
            thing = _route(raw, kernel.name_of(raw.ifindex), ours)
    elif reply.type in (rtnetlink.NEWNEIGH, rtnetlink.DELNEIGH):
        entry = rtnetlink.parse_neighbour(reply)
        name = None if entry is None else kernel.name_of(entry.ifindex)
        if entry is None or name not in ours.devices:
            return None
        thing = _entry(entry, {entry.ifindex: name})
        if thing is None and not entry.is_fdb and entry.dst is not None:
            # one that went says neither its MAC nor that it was permanent; one that we want
            # may also have been put back into the kernel's own care
            return Neighbour(name, entry.dst, "0").key, None
    elif reply.type in (rtnetlink.NEWADDR, rtnetlink.DELADDR):
        address = rtnetlink.parse_address(reply)
        name = None if address is None else kernel.name_of(address.ifindex)
        if address is None or name not in ours.devices or not ours.has_address(address.address):
            return None
        thing = Address(name, address.address)
    return None if thing is None else (thing.key, thing)


def _entry(raw: RawNeighbour, names: dict[int, str]) -> Object | None:
    """Return a permanent entry; what the kernel learnt by itself is not ours."""
    if not raw.state & PERMANENT or not raw.lladdr or raw.dst is None:
        return None
    name = names[raw.ifindex]
    return Fdb(name, raw.lladdr, raw.dst) if raw.is_fdb else Neighbour(name, raw.dst, raw.lladdr)


def _routes(kernel: Kernel, raws: Iterable[RawRoute], ours: Territory) -> list[Object]:
    names: dict[int, str | None] = {}  # asked once a table: 10 µs each would be a quarter of it
    found: list[Object] = []
    for raw in raws:
        if raw.ifindex not in names:
            names[raw.ifindex] = kernel.name_of(raw.ifindex)
        route = _route(raw, names[raw.ifindex], ours)
        if route is not None:
            found.append(route)
    return found


def _route(raw: RawRoute, name: str | None, ours: Territory) -> Route | None:
    if name is None or not raw.plain or raw.proto == PROTO_KERNEL or raw.dst.is_multicast:
        return None
    if name not in ours.devices and not ours.has_route(raw.dst, raw.proto):
        return None
    return Route(raw.dst, raw.via, name, raw.onlink, raw.proto)


def _files(paths: Iterable[str]) -> list[Object]:
    found: list[Object] = []
    for path in paths:
        try:
            found.append(File(path, Path(path).read_text("utf-8", "replace")))
        except OSError:
            continue  # not there; if it is only that it cannot be read, its putting says why
    return found


async def underlay(kernel: Kernel, ours: Territory, versions: Iterable[int]) -> Underlay:
    """Return the routes that are not ours: how hosts are reached without the overlay."""
    hops = []
    for version in versions:
        for raw in await kernel.routes(version):
            name = kernel.name_of(raw.ifindex)
            if name in ours.devices or raw.proto == PROTO_OURS:
                continue
            # several hops: no one device reaches it directly
            hops.append(Hop(raw.dst, name or "", raw.via is not None or name is None, raw.metric))
    return Underlay(tuple(hops))
