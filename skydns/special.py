# SPDX-License-Identifier: Apache-2.0
"""Names that no name server outside should be asked about (RFC 6761, 6303, 7686, 8375). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from skydns import keys, names, rrs
from skydns.addresses import Server
from skydns.reply import Reply
from skydns.rrs import RR, Question

_TTL: Final = 3600
_LOCALHOST: Final = names.from_text("localhost.")
_ADDRESSES: Final = {rrs.A: b"\x7f\0\0\1", rrs.AAAA: bytes(15) + b"\1"}

_ALWAYS: Final = frozenset((
    *map(names.from_text, ("invalid.", "onion.")),
    *keys.zones("0.0.0.0/8,127.0.0.0/8,169.254.0.0/16,192.0.2.0/24,198.51.100.0/24,203.0.113.0/24"),
    *keys.zones("255.255.255.255/32,::/128,::1/128,fe80::/10,2001:db8::/32"),
))  # fmt: skip
_PRIVATE: Final = frozenset((
    names.from_text("home.arpa."),
    *keys.zones("10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fd00::/8"),
))  # fmt: skip


def answer(question: Question, servers: Iterable[Server]) -> Reply | None:
    """Return the answer to a special name; None: ask.

    Reverse names of private networks are asked of servers that are in such networks themselves
    (they may well know them), never of public ones (RFC 6303).

    Args:
        servers: who would be asked.
    """
    if question.rclass != rrs.IN:
        return None
    name = question.name
    if names.below(name, _LOCALHOST):
        address = _ADDRESSES.get(question.rtype)
        if address is None:
            return Reply(rrs.NOERROR, authority=(_soa(_LOCALHOST),))
        return Reply(rrs.NOERROR, answer=(RR(name, question.rtype, _TTL, address),))
    for above in names.ancestors(name):
        if above in _ALWAYS or (above in _PRIVATE and all(map(_public, servers))):
            rcode = rrs.NOERROR if above == name else rrs.NXDOMAIN
            return Reply(rcode, authority=(_soa(above),))
    return None


def _public(server: Server) -> bool:
    return ipaddress.ip_address(server.host.partition("%")[0]).is_global


def _soa(zone: bytes) -> RR:
    """Return the SOA that RFC 6303 §3 gives such a zone."""
    rname = b"\x06nobody\x07invalid\0"
    tail = b"".join(number.to_bytes(4, "big") for number in (1, 3600, 1200, 604800, _TTL))
    return RR(zone, rrs.SOA, _TTL, names=(zone, rname), tail=tail)
