# SPDX-License-Identifier: Apache-2.0
"""Addresses of name servers: `IP:port` and /etc/resolv.conf as text ↔ values. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from skydns import names

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Server(NamedTuple):
    """A name server's address.

    Attributes:
        tls: it speaks TLS (RFC 7858).
        name: in its certificate; "": its address.
        https: it is asked over HTTPS (RFC 8484).
        key: name, folded, of the key that it is told of changes with; b"": with none.
    """

    host: str
    port: int
    tls: bool = False
    name: str = ""
    https: bool = False
    key: bytes = b""

    def __str__(self) -> str:
        place = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return f"{'https' if self.https else 'tls'}://{place}" if self.tls else place


SECURE = {"tls://": 853, "https://": 443}
"""How a server's address begins that speaks TLS, and its usual port."""


def parse_server(text: str) -> Server:
    """Return the server that `IP:port`, `[IP]:port` or a bare IP names.

    `tls://IP[%NAME][:port]` speaks TLS, `https://IP[%NAME][:port]` HTTPS, with that name in its
    certificate.

    Raises:
        ValueError: not an address, or no port.
    """
    for scheme, usual in SECURE.items():
        if text.startswith(scheme):
            place, percent, rest = text.removeprefix(scheme).partition("%")
            name, colon, port = rest.partition(":")
            plain = parse_server(f"{place}:{port}" if percent and colon else place)
            bare = plain.port == 53 and not text.endswith(":53")
            return Server(
                plain.host, usual if bare else plain.port, tls=True, name=name,
                https=scheme == "https://",
            )  # fmt: skip
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in text.removesuffix(f":{port}") and not bracketed):
        host, port = text, "53"
    host = host.removeprefix("[").removesuffix("]")
    ipaddress.ip_address(host.partition("%")[0])
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"port {port!r} is not within 1 and 65535")
    return Server(host, int(port))


def network(text: str) -> Network:
    """Return a CIDR's network; an address is a network of one, host bits do not matter.

    Raises:
        ValueError: neither.
    """
    return ipaddress.ip_network(text, strict=False)


def parse_notified(text: str) -> Server:
    """Return the server that `[KEY@]IP:port` names.

    Raises:
        ValueError: not an address, no port, or no name.
    """
    key, _, place = text.rpartition("@")
    return parse_server(place)._replace(key=names.from_text(key).lower() if key else b"")


def parse_allowed(text: str) -> Network | bytes:
    """Return the network that a CIDR or address names, or the folded name of the key in `key:NAME`.

    Raises:
        ValueError: none of them.
    """
    if text.startswith("key:"):
        return names.from_text(text.removeprefix("key:")).lower()
    return network(text)


def resolv_conf(text: str) -> tuple[Server, ...]:
    """Return the name servers of /etc/resolv.conf; lines it cannot read are left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(parse_server(words[1] if ":" not in words[1] else f"[{words[1]}]:53"))
            except ValueError:
                continue
    return tuple(found)


def without(servers: Iterable[Server], own: Sequence[Server]) -> tuple[Server, ...]:
    """Return the servers that are not ourselves: asking those would go round for ever."""
    return tuple(server for server in servers if server not in own)


@dataclass(frozen=True, slots=True)
class Peers:
    """Who may have our zones, and who is told of changes.

    Attributes:
        by_zone: those of the zones in one (folded), the longest counts, beside those of all.
        keys: names, folded, of keys by which anybody may have them.
        signed: nobody may have them without a good signature (of any key).
    """

    allowed: tuple[Network, ...] = ()
    notified: tuple[Server, ...] = ()
    by_zone: Mapping[bytes, Peers] = field(default_factory=dict)
    keys: frozenset[bytes] = frozenset()
    signed: bool = False

    @property
    def any_notified(self) -> bool:
        """Whether anybody is told of anything."""
        return bool(self.notified) or any(one.notified for one in self.by_zone.values())

    def told(self, zone: bytes) -> tuple[Server, ...]:
        """Return who is told of changes in a zone."""
        own = self.by_zone.get(names.longest(zone, self.by_zone))
        return tuple(dict.fromkeys((*self.notified, *(own.notified if own else ()))))

    def may(self, host: str, zone: bytes, key: bytes = b"") -> bool:
        """Say whether an address may have a zone of ours.

        Args:
            key: that its query is signed with, folded; b"": with none.
        """
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        own = self.by_zone.get(names.longest(zone, self.by_zone))
        if not key and (self.signed or (own and own.signed)):
            return False
        if key and key in self.keys | (own.keys if own else frozenset()):
            return True
        networks = (*self.allowed, *(own.allowed if own else ()))
        return any(address in network for network in networks)
