# SPDX-License-Identifier: Apache-2.0
"""What decides answers: profile, flags and the store's `config` key, as one frozen value.

Precedence is SkyDNS's (specs/skydns.md §13.1): default < environment < flag < `<prefix>/config`
in etcd. A field of the key that is absent leaves what the command line gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

import msgspec

from fairlead import gojson
from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue
from skydns import keys, names, records
from skydns.addresses import parse_server


class Apex(Enum):
    """Where A and AAAA of a zone's own name come from (§5.1, 1; §16)."""

    TREE = "every record below it"
    FALLBACK = "`dns/apex`, else every record below it"
    ONLY = "`dns/apex` or nothing; the apex is never expanded"


class Own(Enum):
    """What a name that has both a record and children answers with (§3.3)."""

    CHILDREN = "the records below"
    FIRST = "its own record"


@dataclass(frozen=True, slots=True)
class Profile:
    """One column of the table in §16.

    Attributes:
        ttl: seconds, for records that set none.
        min_ttl: seconds negative answers may be kept; the SOA's minimum.
        flatten: several aliases, or an alias beside addresses, become addresses; else the
            lowest key's alias is the one that counts.
        least_weight: SRV weights below are lifted to it.
        refuse_any: ANY is refused; else answered as RFC 8482 says.
        always_ra: RA is set in every answer; else only when forwarding.
        least_lease, most_lease: what a lease counts as at least and at most, in seconds (§4.1).
        links: aliases followed in a row; more: NODATA, in `strict` SERVFAIL.
    """

    name: str
    ttl: int = 300
    min_ttl: int = 30
    apex: Apex = Apex.FALLBACK
    catch_all: bool = False
    own: Own = Own.CHILDREN
    flatten: bool = True
    least_weight: int = 1
    refuse_any: bool = False
    always_ra: bool = False
    least_lease: int = 30
    most_lease: int = 86400
    links: int = 16
    strict: bool = False


PROFILES: Final[Mapping[str, Profile]] = {
    "coredns": Profile("coredns"),
    "skydns": Profile(
        "skydns", ttl=3600, min_ttl=60, apex=Apex.TREE, flatten=False, least_weight=0,
        refuse_any=True, always_ra=True, least_lease=1, most_lease=records.MOST_TTL, links=8,
    ),
    "strict": Profile(
        "strict", apex=Apex.ONLY, catch_all=True, own=Own.FIRST, least_lease=1, strict=True,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything `answer` needs to know beside the records.

    Attributes:
        zones: folded names we are authoritative for.
        ttl: seconds, for records that set none.
        priority: for records that set none.
        hostmaster: RNAME of every SOA; b"": `hostmaster.` and the zone.
        local: the name looked up for `local.dns.<zone>`, folded; b"": none.
        rotate: the addresses of an answer take turns in being first.
        forwarding: there are servers to ask about names that are not ours.
        chasing: there are servers to ask about aliases that lead out of our zones (`no_rec` ends
            the one and not the other, §9.1).
        addresses: ours, packed, for the NS record of a zone that has none in the store.
        version: the text answered for `version.bind`; "": refused.
        host: the text answered for `hostname.bind` and `id.server`; "": refused.
    """

    zones: frozenset[bytes]
    profile: Profile = PROFILES["coredns"]
    ttl: int = 300
    min_ttl: int = 30
    priority: int = 10
    hostmaster: bytes = b""
    local: bytes = b""
    rotate: bool = True
    forwarding: bool = False
    chasing: bool = False
    addresses: tuple[bytes, ...] = ()
    version: str = "Fairlead"
    host: str = ""


class Stored(msgspec.Struct, frozen=True):
    """The fields of `<prefix>/config` that are set; None: not set (§13.2)."""

    dns_addr: str | None = None
    domain: str | None = None
    local: str | None = None
    hostmaster: str | None = None
    round_robin: bool | None = None
    ns_rotate: bool | None = None
    nameservers: tuple[str, ...] | None = None
    no_rec: bool | None = None
    read_timeout: int | None = None  # nanoseconds (trap 2)
    priority: int | None = None
    ttl: int | None = None
    min_ttl: int | None = None
    ndot: int | None = None  # trap 2: the program's name for it; the manual's is the next
    ndots: int | None = None
    rcache: int | None = None
    dnssec: str | None = None
    systemd: bool | None = None


RESTART: Final = ("dns_addr", "nameservers", "no_rec", "read_timeout", "ndot", "ns_rotate")
"""Fields that are read at the start only."""

UNBUILT: Final = ("dnssec", "rcache", "systemd")
"""Fields of the original whose work is not built: refused when they ask for it."""


def decode(kv: KeyValue) -> Stored:
    """Return the fields of the `config` key.

    Raises:
        RecordError: not a JSON object, a field of the wrong type, or one that asks for what is
            not built; the former configuration stays in force.
    """
    stored = gojson.decode_record(Stored, kv.key, kv.value, kv.mod_revision)
    if stored.ndots is not None and stored.ndot is None:
        stored = msgspec.structs.replace(stored, ndot=stored.ndots)
    for field in UNBUILT:
        if getattr(stored, field):
            raise RecordError(kv.key, f'field "{field}": this is not built yet', kv.mod_revision)
    for field, most in (
        ("ttl", records.MOST_TTL),
        ("min_ttl", records.MOST_TTL),
        ("priority", 65535),
    ):
        value = getattr(stored, field) or 0
        if not 0 <= value <= most:
            reason = f'field "{field}": {value} is not within 0 and {most}'
            raise RecordError(kv.key, reason, kv.mod_revision)
    checks: tuple[tuple[str, Callable[[str], object], Iterable[str | None]], ...] = (
        ("dns_addr", parse_server, (stored.dns_addr,)),
        ("nameservers", parse_server, stored.nameservers or ()),
        ("domain", keys.zones, (stored.domain,)),
        ("local", names.from_text, (stored.local,)),
        ("hostmaster", mailbox, (stored.hostmaster,)),
    )
    for field, parse, texts in checks:
        for text in filter(None, texts):
            try:
                parse(text)
            except ValueError as error:
                reason = f'field "{field}": {error}'
                raise RecordError(kv.key, reason, kv.mod_revision) from error
    return stored


def merge(policy: Policy, stored: Stored | None) -> Policy:
    """Return the policy with what the `config` key sets; an absent key changes nothing.

    As in the original an empty string or a 0 is "not set", but for `hostmaster` where "" means
    the zone's own.
    """
    if stored is None:
        return policy
    changes: dict[str, Any] = {}
    if stored.domain:
        changes["zones"] = frozenset(keys.zones(stored.domain))
    if stored.local:
        changes["local"] = names.from_text(stored.local).lower()
    if stored.hostmaster is not None:
        changes["hostmaster"] = mailbox(stored.hostmaster)
    if stored.round_robin is not None:
        changes["rotate"] = stored.round_robin
    for field in ("priority", "ttl", "min_ttl"):
        if value := getattr(stored, field):
            changes[field] = value
    return replace(policy, **changes)


def mailbox(text: str) -> bytes:
    """Return an RNAME: the `@` of an address counts as a dot; "" stays b"".

    Raises:
        ValueError: not a name.
    """
    return names.from_text(text.replace("@", ".", 1)) if text else b""


def different(before: Stored | None, after: Stored | None) -> tuple[str, ...]:
    """Return the fields that differ and need a restart."""
    return tuple(
        field for field in RESTART if getattr(before, field, None) != getattr(after, field, None)
    )
