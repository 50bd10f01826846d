# SPDX-License-Identifier: Apache-2.0
"""The store's `<prefix>/config` key: read, checked, put over what the command line gave.

Precedence is SkyDNS's (specs/skydns.md §13.1): default < environment < flag < `<prefix>/config`
in etcd. A field of the key that is absent leaves what the command line gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import msgspec

from fairlead import gojson
from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue
from skydns import keys, names, records
from skydns.addresses import parse_server
from skydns.policy import Policy


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
    rcache_ttl: int | None = None
    dnssec: str | None = None
    scache: int | None = None
    systemd: bool | None = None


RESTART: Final = ("dns_addr", "systemd", "scache")
"""Fields that are read at the start only."""


def decode(prefix: bytes, kv: KeyValue) -> Stored | None:
    """Return the fields of the `config` key, None for every other key.

    Raises:
        RecordError: not a JSON object, a field of the wrong type, or one that asks for what is
            not built; the former configuration stays in force.
    """
    if kv.key != keys.config(prefix):
        return None
    stored = gojson.decode_record(Stored, kv.key, kv.value, kv.mod_revision)
    if stored.ndots is not None and stored.ndot is None:
        stored = msgspec.structs.replace(stored, ndot=stored.ndots)
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
        ("hostmaster", names.mailbox, (stored.hostmaster,)),
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
        changes["hostmaster"] = names.mailbox(stored.hostmaster)
    if stored.round_robin is not None:
        changes["rotate"] = stored.round_robin
    for field in ("priority", "ttl", "min_ttl"):
        if value := getattr(stored, field):
            changes[field] = value
    return replace(policy, **changes)


def different(before: Stored | None, after: Stored | None) -> tuple[str, ...]:
    """Return the fields that differ and need a restart."""
    return tuple(
        field for field in RESTART if getattr(before, field, None) != getattr(after, field, None)
    )
