# SPDX-License-Identifier: Apache-2.0
"""Values below the prefix → Service records, read as Go's encoding/json reads them.

`fairlead.gojson` does the reading (specs/skydns.md §2.1, trap 1): field names in any letter case,
the last of two wins, `null` leaves the default, unknown fields are skipped, types are strict. A
value it rejects is a RecordError and costs only its own key; in the originals it took every name
above it along (§2.3).

Before one is rejected its numbers are read once more, with less rigour: `"8080"` and `80.0` are meant
as whole numbers (§2.1). Who reads is told of that, as of keys in upper case, which the originals
never find (trap 26).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Final

import msgspec

from fairlead import gojson
from fairlead.errors import RecordError
from fairlead.etcd.types import NO_LEASE, KeyValue, LeaseID
from skydns import keys, names

NO_PORT: Final = -1  # CoreDNS leaves such a record out of SRV (§5.3)
MOST_TTL: Final = 2**31 - 1  # RFC 2181 §8: resolvers read more as 0


class _Value(msgspec.Struct, frozen=True, gc=False):
    """The JSON as it stands (§2)."""

    host: str = ""
    port: int = 0
    priority: int = 0
    weight: int = 0
    text: str = ""
    mail: bool = False
    ttl: Annotated[int, gojson.UINT32] = 0
    targetstrip: int = 0
    group: str = ""


_TEXT: Final = rb'"(?:host|text|group)":"[ !#-\[\]-~]*"'
_NUMBER: Final = rb'"(?:port|priority|weight|ttl|targetstrip)":(?:0|[1-9][0-9]{0,8})'
_MEMBER: Final = rb"(?:" + _TEXT + rb"|" + _NUMBER + rb'|"mail":(?:true|false))'
_plain: Final = re.compile(rb"\{" + _MEMBER + rb"(?:," + _MEMBER + rb")*\}").fullmatch
"""Says whether every JSON reader reads a value alike: as nearly all programs write it."""
_read_plain: Final = msgspec.json.Decoder(_Value).decode
_NUMBERS: Final = frozenset(("port", "priority", "weight", "ttl", "targetstrip"))
_number: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE]\+?[0-9]{1,2})?").fullmatch
_OCTETS: Final = {str(number): number for number in range(256)}  # no leading zeros, no signs


class Service(msgspec.Struct, frozen=True, gc=False):
    """One record; 0 and "" mean "not given", defaults are applied when it is used.

    Attributes:
        key: the etcd key; answers are in its order.
        name: the name the key stands for, in the key's letter case.
        address: `host` when it is an address: 4 or 16 octets; else b"".
        target: `host` when it is a name; else b"".
        text: as stored, UTF-8.
        lease: the key's lease, 0 for none.
    """

    key: bytes
    name: bytes
    address: bytes = b""
    target: bytes = b""
    port: int = 0
    priority: int = 0
    weight: int = 0
    text: bytes = b""
    mail: bool = False
    ttl: int = 0
    targetstrip: int = 0
    group: str = ""
    lease: LeaseID = NO_LEASE

    @property
    def host(self) -> str:
        """The host as text: an address, a name with its final dot, or ""."""
        if self.address:
            return str(ipaddress.ip_address(self.address))
        return names.to_text(self.target) if self.target else ""


Noted = Callable[[RecordError], None]
"""Told what is odd about a key that is served all the same."""


def tell_nobody(odd: RecordError) -> None:
    """Tell nobody."""


def decode(prefix: bytes, kv: KeyValue, noted: Noted = tell_nobody) -> Service | None:
    """Return the record of a key, None for the daemon's own configuration.

    Raises:
        RecordError: no name maps to the key, or its value is not a record.
    """
    if kv.key == keys.config(prefix):
        return None
    try:
        name = keys.name_of(prefix, kv.key)
    except ValueError as error:
        raise RecordError(kv.key, f"no name maps to this key: {error}", kv.mod_revision) from error
    # a fifth of the time of Go's reading; 100,000 are read at the start
    value = _read_plain(kv.value) if _plain(kv.value) else _carefully(kv, noted)
    if name != name.lower():
        noted(RecordError(kv.key, "has upper-case letters: the originals never find it (trap 26)", kv.mod_revision))  # fmt: skip
    address = parse_address(value.host)
    target = b""
    if value.host and not address:
        try:
            target = names.from_text(value.host)
        except ValueError as error:
            reason = f'field "host": "{value.host}" cannot be a domain name: {error}'
            raise RecordError(kv.key, reason, kv.mod_revision) from error
    return Service(
        key=kv.key,
        name=name,
        address=address,
        target=target,
        port=value.port if value.port == NO_PORT else value.port & 0xFFFF,  # wraps (§2)
        priority=value.priority,
        weight=value.weight,
        text=value.text.encode(),
        mail=value.mail,
        ttl=min(value.ttl, MOST_TTL),
        targetstrip=value.targetstrip,
        group=value.group,
        lease=kv.lease,
    )


def _carefully(kv: KeyValue, noted: Noted) -> _Value:
    """Read a value strictly; one that is refused with its numbers as they are meant.

    Raises:
        RecordError: the strict reading's.
    """
    try:
        return gojson.decode_record(_Value, kv.key, kv.value, kv.mod_revision)
    except RecordError as strict:
        try:
            tree = gojson.parse(kv.value)
            if not isinstance(tree, gojson.Pairs):
                raise
            value = gojson.from_tree(_Value, gojson.Pairs((name, _meant(name, each)) for name, each in tree))  # fmt: skip
        except gojson.DecodeError:
            raise strict from None
        noted(RecordError(kv.key, f"{strict.reason}; read as one all the same", kv.mod_revision))
        return value


def _meant(name: str, tree: gojson.Tree) -> gojson.Tree:
    """Return the whole number that a number's field means, in quotes or with a fraction of 0."""
    if name.casefold() in _NUMBERS and isinstance(tree, str) and _number(tree):
        exact = Decimal(tree)
        if exact == exact.to_integral_value():
            return gojson.Number(str(int(exact)))
    return tree


def parse_address(host: str) -> bytes:
    """Return an address's 4 or 16 octets, b"" when `host` is none as Go reads it (§2.2).

    Leading zeros, a zone, blanks or a final dot make it a name; an IPv4-mapped IPv6 address is
    an IPv4 address (trap 24).
    """
    if not host or "%" in host or "/" in host or (":" not in host and not host[0].isdecimal()):
        return b""
    if len(parts := host.split(".")) == 4 and ":" not in host:
        try:  # a fifth of the time that ipaddress takes
            return bytes(map(_OCTETS.__getitem__, parts))
        except KeyError:
            return b""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed
