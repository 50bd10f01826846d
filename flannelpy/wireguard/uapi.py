# SPDX-License-Identifier: Apache-2.0
"""wireguard-go's configuration protocol: lines of key=value over a socket. Pure.

set=1                                      errno=0
public_key=<hex> …           ──────►
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

from flannelpy.wireguard.objects import NO_KEY, Endpoint, Identity, Peer, in_order

GET = "get=1\n\n"


def identity(it: Identity) -> str:
    """Return the request that sets a device's key and port."""
    return f"set=1\nprivate_key={it.private.hex()}\nlisten_port={it.port}\n\n"


def peers(put: Iterable[Peer], gone: Iterable[Peer]) -> str:
    """Return the request that puts peers, each as a whole, and removes others."""
    lines = ["set=1"]
    for it in put:
        lines += [f"public_key={it.public.hex()}", f"preshared_key={it.psk.hex()}"]
        if it.endpoint is not None:
            lines.append(f"endpoint={it.endpoint}")
        lines.append(f"persistent_keepalive_interval={it.keepalive}")
        lines.append("replace_allowed_ips=true")
        lines += [f"allowed_ip={net}" for net in it.allowed]
    for it in gone:
        lines += [f"public_key={it.public.hex()}", "remove=true"]
    return "\n".join(lines) + "\n\n"


def refused(answer: str) -> int:
    """Return the errno in an answer; 0: done."""
    for key, value in _pairs(answer):
        if key == "errno":
            return abs(int(value))
    return 0


def device(name: str, answer: str) -> tuple[bytes, int, tuple[Peer, ...]]:
    """Return a device's private key, its port and its peers."""
    private, port = NO_KEY, 0
    found: list[dict[str, str]] = []
    allowed: list[list[str]] = []
    for key, value in _pairs(answer):
        if key == "private_key":
            private = bytes.fromhex(value)
        elif key == "public_key":
            found.append({key: value})
            allowed.append([])
        elif not found:
            port = int(value) if key == "listen_port" else port
        elif key == "allowed_ip":
            allowed[-1].append(value)
        else:
            found[-1][key] = value
    them = (_peer(name, it, nets) for it, nets in zip(found, allowed, strict=True))
    return private, port, tuple(them)


def _peer(name: str, it: dict[str, str], allowed: list[str]) -> Peer:
    endpoint = None
    if it.get("endpoint"):
        host, _, port = it["endpoint"].rpartition(":")
        endpoint = Endpoint(ip_address(host.strip("[]").partition("%")[0]), int(port))
    return Peer(
        name,
        bytes.fromhex(it["public_key"]),
        endpoint,
        in_order([ip_network(net) for net in allowed]),
        bytes.fromhex(it.get("preshared_key", "")) or NO_KEY,
        int(it.get("persistent_keepalive_interval", "0")),
    )


def _pairs(answer: str) -> Iterator[tuple[str, str]]:
    for line in answer.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            yield key, value
