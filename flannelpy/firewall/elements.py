# SPDX-License-Identifier: Apache-2.0
"""Elements of the set `peers`, and what nftables notifies of, as nfnetlink messages. Pure.

Packed by hand, for a change of one peer must cost one message and no program started. An
address is let in by one transaction that also makes table and set where they are missing. One
that leaves stays for `LINGER` seconds: packets under way, and those that a host sends by its old
address until it has changed over, still arrive; then the kernel takes it out by itself.
Layouts: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from struct import pack

from msgspec import Struct

from flannelpy import nlmsg, rtnetlink
from flannelpy.firewall.nftables import PEERS, table_name
from flannelpy.nlmsg import Reply, attribute
from flannelpy.state import IPAddress, Key, Kind

GROUP = 1 << (7 - 1)  # NFNLGRP_NFTABLES
LINGER = 30  # seconds
_SUBSYSTEM = 10 << 8
_NEWTABLE, _GETTABLE, _NEWSET = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 9
_NEWELEM, _GETELEM, _DELELEM = _SUBSYSTEM | 12, _SUBSYSTEM | 13, _SUBSYSTEM | 14
_NEWGEN = _SUBSYSTEM | 15
_BEGIN, _END = 0x10, 0x11
_NESTED = 0x8000
_TIMEOUT_SET = 0x10  # NFT_SET_TIMEOUT
_TYPES = {4: (7, 4), 6: (8, 16)}  # nft's ipv4_addr and ipv6_addr, their lengths


class Element(Struct, frozen=True, gc=False):
    """A peer's address in the set of our table of its family."""

    address: IPAddress
    suffix: str = ""

    @property
    def table(self) -> str:
        """Our table's name."""
        return table_name(self.address.version, self.suffix)

    @property
    def key(self) -> Key:
        """Table and address."""
        return Key(Kind.ELEMENT, self.table, self.address.version, int(self.address))

    def __str__(self) -> str:
        return f"element {self.address} in {self.table} {PEERS}"


def _head(version: int, resource: int = 0) -> bytes:
    return bytes((rtnetlink.INET if version == 4 else rtnetlink.INET6, 0)) + resource.to_bytes(2)


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def begin() -> bytes:
    """Open a transaction."""
    return nlmsg.message(_BEGIN, 0, bytes(2) + (10).to_bytes(2))


def end() -> bytes:
    """Close it."""
    return nlmsg.message(_END, 0, bytes(2) + (10).to_bytes(2))


def make_set(table: str, version: int) -> list[bytes]:
    """Make table and set; nothing is changed where they stand."""
    kind, length = _TYPES[version]
    body = _text(1, table) + _text(2, PEERS) + attribute(3, pack("!I", _TIMEOUT_SET))
    body += attribute(4, pack("!I", kind)) + attribute(5, pack("!I", length))
    body += attribute(10, pack("!I", 1))  # an id within the transaction
    create = nlmsg.F_CREATE
    return [
        nlmsg.message(_NEWTABLE, create, _head(version) + _text(1, table)),
        nlmsg.message(_NEWSET, create, _head(version) + body),
    ]


def put(them: Sequence[Element]) -> list[bytes]:
    """Let these addresses in, for good also those that linger."""
    return [
        _elements(_NEWELEM, nlmsg.F_CREATE, them),
        _elements(_DELELEM, 0, them),
        _elements(_NEWELEM, nlmsg.F_CREATE, them),
    ]


def delete(them: Sequence[Element]) -> list[bytes]:
    """Let these addresses in for `LINGER` seconds more."""
    return [
        _elements(_NEWELEM, nlmsg.F_CREATE, them),
        _elements(_DELELEM, 0, them),
        _elements(_NEWELEM, nlmsg.F_CREATE, them, LINGER),
    ]


def _elements(kind: int, flags: int, them: Sequence[Element], seconds: int = 0) -> bytes:
    """Return a message about elements of one table."""
    first = them[0]
    items = []
    for it in them:
        item = attribute(1 | _NESTED, attribute(1, it.address.packed))
        if seconds:
            item += attribute(4, pack("!Q", 1000 * seconds))
        items.append(attribute(1 | _NESTED, item))
    body = _head(first.address.version) + _text(1, first.table) + _text(2, PEERS)
    return nlmsg.message(kind, flags, body + attribute(3 | _NESTED, b"".join(items)))


def get(it: Element) -> bytes:
    """Ask for one element."""
    return _elements(_GETELEM, 0, [it])


def dump(table: str, version: int) -> bytes:
    """Ask for all elements."""
    body = _head(version) + _text(1, table) + _text(2, PEERS)
    return nlmsg.message(_GETELEM, nlmsg.F_DUMP, body)


def get_table(table: str, version: int) -> bytes:
    """Ask for a table: whether it is there."""
    return nlmsg.message(_GETTABLE, 0, _head(version) + _text(1, table))


def parse(reply: Reply, suffix: str) -> list[Element]:
    """Return the elements in an answer; those that only linger are as good as gone."""
    if reply.type != _NEWELEM:
        return []
    found = []
    has = nlmsg.attributes(reply.body, 4)
    for item in _items(has.get(3, memoryview(b""))):
        fields = nlmsg.attributes(item, 0)
        key = bytes(nlmsg.attributes(fields.get(1, memoryview(b"")), 0).get(1, b""))
        if len(key) in (4, 16) and 4 not in fields:
            found.append(Element(IPv4Address(key) if len(key) == 4 else IPv6Address(key), suffix))
    return found


def _items(data: memoryview) -> Iterable[memoryview]:
    """Yield the entries of a list, whose attributes all have one number."""
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 2], "little")
        if size < 4:
            return
        yield data[at + 4 : at + size]
        at += size + (-size & 3)


def concerned(reply: Reply) -> str:
    """Return the table that a notification is about; "" for none."""
    if reply.type >> 8 != 10 or reply.type == _NEWGEN:
        return ""
    # whatever it tells of, the table's name comes first
    name = nlmsg.attributes(reply.body, 4).get(1, memoryview(b""))
    return bytes(name).rstrip(b"\0").decode("utf-8", "replace")


def is_element(reply: Reply) -> bool:
    """Say whether a notification tells of elements, or of a table that took them with it."""
    return reply.type in (_NEWELEM, _DELELEM, _SUBSYSTEM | 2, _SUBSYSTEM | 11)
