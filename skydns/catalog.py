# SPDX-License-Identifier: Apache-2.0
"""The catalog zone: our zones, listed for secondaries that take them all (RFC 9432). Pure.

::

    catalog.          SOA, NS invalid.
    version.catalog.  TXT "2"
    <id>.zones.catalog.  PTR of each zone; the id is a hash of its name, so it stays what it is

Its serial is the time of our start, so that it never goes back, and one more for each change.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from skydns import names, rrs
from skydns.rrs import RR
from skydns.zonefile import Zone

_INVALID: Final = names.from_text("invalid.")
_TIMERS: Final = (3600, 600, 2147483646, 0)
"""Refresh, retry, expire, minimum: as RFC 9432 §4.1 and its examples have them."""


def zone(name: bytes, members: Iterable[bytes], serial: int) -> Zone:
    """Return the catalog of this (folded) name that lists these zones."""
    numbers = b"".join(number.to_bytes(4, "big") for number in (serial, *_TIMERS))
    made = Zone(name, inner={b"\x05zones" + name})
    made.sets[name] = {
        rrs.SOA: (RR(name, rrs.SOA, 0, names=(_INVALID, _INVALID), tail=numbers),),
        rrs.NS: (RR(name, rrs.NS, 0, names=(_INVALID,)),),
    }
    version = b"\x07version" + name
    made.sets[version] = {rrs.TXT: (RR(version, rrs.TXT, 0, b"\x012"),)}
    for member in sorted(members):
        owner = b"%c%b\x05zones%b" % (16, _id(member), name)
        made.sets[owner] = {rrs.PTR: (RR(owner, rrs.PTR, 0, names=(member,)),)}
    return made


def _id(member: bytes) -> bytes:
    return blake2b(member, digest_size=8).hexdigest().encode()
