# SPDX-License-Identifier: Apache-2.0
"""Addresses of name servers: `IP:port` and /etc/resolv.conf as text ↔ values. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Server(NamedTuple):
    """A name server's address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_server(text: str) -> Server:
    """Return the server that `IP:port`, `[IP]:port` or a bare IP names.

    Raises:
        ValueError: not an address, or no port.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in text.removesuffix(f":{port}") and not bracketed):
        host, port = text, "53"
    host = host.removeprefix("[").removesuffix("]")
    ipaddress.ip_address(host.partition("%")[0])
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"port {port!r} is not within 1 and 65535")
    return Server(host, int(port))


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
