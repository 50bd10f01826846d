# SPDX-License-Identifier: Apache-2.0
"""Stub zones: parts of the name space that other servers answer for (specs/skydns.md §9.2). Pure.

From records below `stub.dns.<zone>` (the leaf is a placeholder, the labels between are the zone),
and from the flag `-stub ZONE=SERVER`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from skydns import keys, names
from skydns.addresses import Server, parse_server
from skydns.records import Service

_STUB: Final = b"\x04stub\x03dns"
_LOCAL: Final = b"\x05local\x03dns"


def places(prefix: bytes, zones: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return what the keys of stub zones' servers begin with."""
    return tuple(keys.key_of(prefix, _STUB + zone) + b"/" for zone in sorted(zones))


def from_records(
    services: Iterable[Service], zones: Iterable[bytes]
) -> dict[bytes, tuple[Server, ...]]:
    """Return the servers by stub zone; records that are no address are left out."""
    found: dict[bytes, dict[Server, None]] = {}
    ours = tuple(zones)
    for service in sorted(services, key=lambda service: service.key):
        name = service.name.lower()
        for zone in ours:
            suffix = _STUB + zone
            if not service.address or not names.below(name, suffix):
                continue
            between = list(names.labels(name))[1 : -names.count(suffix)]
            if not between:
                continue
            stub = names.from_labels(between)
            if stub != _LOCAL + zone:  # as the original: that name is answered here
                server = Server(service.host, service.port or 53)
                found.setdefault(stub, {})[server] = None
    return {stub: tuple(servers) for stub, servers in found.items()}


def from_flag(elements: Iterable[str]) -> dict[bytes, tuple[Server, ...]]:
    """Return the servers by stub zone of `ZONE=SERVER` elements.

    Raises:
        ValueError: an element is not of that form.
    """
    found: dict[bytes, tuple[Server, ...]] = {}
    for element in elements:
        zone, equals, server = element.partition("=")
        if not equals:
            raise ValueError(f'"{element}" is not ZONE=IP:port')
        name = names.from_text(zone).lower()
        found[name] = (*found.get(name, ()), parse_server(server))
    return found


def merged(
    one: Mapping[bytes, tuple[Server, ...]], other: Mapping[bytes, tuple[Server, ...]]
) -> dict[bytes, tuple[Server, ...]]:
    """Return both; a zone that both have takes the servers of `other`."""
    return {**one, **other}
