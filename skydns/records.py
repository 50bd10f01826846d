# SPDX-License-Identifier: Apache-2.0
"""Values below the prefix → Service records, read as Go's encoding/json reads them.

What the originals' decoder does (specs/skydns.md §2.1, trap 1): field names in any letter
case, the last of two wins, `null` leaves the default, unknown fields are skipped, types are
strict. A value it would reject is a RecordError here and costs only its own key; there it
took every name above it along (§2.3).
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any, Final, NoReturn

import msgspec

from fairlead.errors import RecordError
from fairlead.etcd.types import NO_LEASE, KeyValue, LeaseID
from skydns import keys, names

MOST_TTL: Final = 2**31 - 1  # RFC 2181 §8: resolvers read more as 0
_INT64: Final = 2**63
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # "\\ud800" alone: as Go, U+FFFD
_KINDS: Final = {
    "host": str, "port": int, "priority": int, "weight": int, "text": str,
    "mail": bool, "ttl": int, "targetstrip": int, "group": str,
}  # fmt: skip
SHOWN: Final = {str: "a string", int: "an integer", bool: "true or false", list: "an array"}


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


def decode(prefix: bytes, kv: KeyValue) -> Service | None:
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
    try:
        return _service(kv, name, fields(kv.value))
    except ValueError as error:
        raise RecordError(kv.key, str(error), kv.mod_revision) from error


def parse_address(host: str) -> bytes:
    """Return an address's 4 or 16 octets, b"" when `host` is none as Go reads it (§2.2).

    Leading zeros, a zone, blanks or a final dot make it a name; an IPv4-mapped IPv6 address is
    an IPv4 address (trap 24).
    """
    if not host or "%" in host or "/" in host or (":" not in host and not host[0].isdecimal()):
        return b""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed


def fields(value: bytes) -> dict[str, Any]:
    """Return a value's fields by their lower-case names; of two the last."""
    if not value.strip():
        raise ValueError("empty value; a JSON object is needed")
    text = value.decode("utf-8", "replace")
    try:
        pairs = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from error
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error
    if not isinstance(pairs, _Pairs):
        raise ValueError(f"a JSON {kind(pairs)}, not an object")  # noqa: TRY004  # all faults are alike here
    return {name.lower(): field for name, field in pairs if field is not None}


def _service(kv: KeyValue, name: bytes, given: dict[str, Any]) -> Service:
    """Check the fields and put them together."""
    found: dict[str, Any] = {}
    for field, wanted in _KINDS.items():
        value = given.get(field)
        if value is None:
            continue
        if type(value) is not wanted:
            raise ValueError(f'field "{field}": {kind(value)} {_shown(value)}, not {SHOWN[wanted]}')
        found[field] = value
    for field in ("port", "priority", "weight", "targetstrip"):
        if not -_INT64 <= found.get(field, 0) < _INT64:
            raise ValueError(f'field "{field}": {found[field]} does not fit 64 bits')
    if not 0 <= found.get("ttl", 0) < 2**32:
        raise ValueError(f'field "ttl": {found["ttl"]} is not within 0 and 4294967295')
    host = found.pop("host", "")
    address = parse_address(host)
    target = b""
    if host and not address:
        try:
            target = names.from_text(host)
        except ValueError as error:
            raise ValueError(f'field "host": "{host}" cannot be a domain name: {error}') from error
    return Service(
        key=kv.key,
        name=name,
        address=address,
        target=target,
        port=found.get("port", 0) & 0xFFFF,  # as the originals: wraps (§2)
        priority=found.get("priority", 0),
        weight=found.get("weight", 0),
        text=_SURROGATE.sub("\ufffd", found.get("text", "")).encode(),
        mail=found.get("mail", False),
        ttl=min(found.get("ttl", 0), MOST_TTL),
        targetstrip=found.get("targetstrip", 0),
        group=found.get("group", ""),
        lease=kv.lease,
    )


class _Pairs(list[tuple[str, Any]]):
    """An object's fields as they came; a class of its own to tell it from an array."""


def _no_constant(text: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python's decoder would take and JSON does not have."""
    raise ValueError(f"not JSON: {text}")


# of two fields with one name in different letter case the later must win, so the order is needed:
# the standard decoder gives it by this hook; 100,000 records take 0.5 s
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_no_constant)


def kind(value: object) -> str:
    """Return JSON's word for a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "fraction"
        case str():
            return "string"
        case _Pairs():
            return "object"
        case _:
            return "array"


def _shown(value: object) -> str:
    """Return a short rendering of a value for a message."""
    match value:
        case bool() | int() | float() | str():
            text = json.dumps(value)
            return text if len(text) <= 40 else text[:37] + "…"
        case _:
            return ""
