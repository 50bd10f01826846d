# SPDX-License-Identifier: Apache-2.0
"""vulcand's gauges to statsd (specs/vulcand.md §14): once a second, over UDP."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Never

from lb.plane import Plane
from lb.records import split_address
from lb.stats import Stats

_PACKET: Final = 1440
PHASES: Final = ("new", "active", "idle")
_QUANTILES: Final = (50.0, 75.0, 95.0, 99.0, 99.9)


def name(*parts: str) -> str:
    """Return a metric's name; what statsd cannot take becomes `_`."""
    return ".".join(re.sub(r"[^A-Za-z0-9_.]", "_", part) for part in parts if part)


Connections = Mapping[tuple[str, str], float]
"""Our own address and phase → how many connections of clients."""


def connections(plane: Plane) -> Counter[tuple[str, str]]:
    """Return how many connections of clients are new, active, idle in this process."""
    counts: Counter[tuple[str, str]] = Counter()
    for live in (*plane.listeners.values(), *plane.retired):
        spec = live.spec
        fixed = spec.address if spec.network == "unix" or split_address(spec.address)[0] else ""
        for client in live.clients:
            if phase := client.phase:
                counts[fixed or _local(client.transport) or spec.address, phase] += 1
    return counts


def named(counts: Connections, seen: set[str]) -> Iterator[tuple[str, float]]:
    """Give the gauges of connections; `seen` as in `gauges`."""
    seen.update(where for where, _ in counts)
    for where in sorted(seen):
        for phase in PHASES:
            yield name("conns", where.replace(":", "_"), phase), counts.get((where, phase), 0)


def _local(transport: asyncio.BaseTransport) -> str:
    """Return the address a client came to, for a listener of every address."""
    found = transport.get_extra_info("sockname")
    if not isinstance(found, tuple):
        return ""
    host = str(found[0]).removeprefix("::ffff:")
    return f"[{host}]:{found[1]}" if ":" in host else f"{host}:{found[1]}"


def gauges(counts: Connections, stats: Stats, seen: set[str]) -> Iterator[tuple[str, float]]:
    """Give name and value of everything, without the prefix.

    Args:
        seen: the addresses that had any clients; kept by the caller, so that a count gets back
            to 0.
    """
    yield from named(counts, seen)
    now = stats.now()
    for frontend, figures in stats.frontends.items():
        codes = figures.codes.total(now)
        root = name("frontend", frontend.replace(".", "_"))
        for code, count in codes.items():
            yield f"{root}.code.{code}", count
        yield f"{root}.neterr", codes[502] + codes[504]
        yield f"{root}.reqs", codes.total()
        for quantile, value in zip(_QUANTILES, figures.quantiles(now, _QUANTILES), strict=True):
            yield f"{root}.rtt.{round(quantile * 10)}", value
    yield "sys.runtime.tasks", len(asyncio.all_tasks())
    yield "sys.runtime.fds", len(list(Path("/proc/self/fd").iterdir()))
    yield "sys.runtime.mem.sys", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    yield "sys.runtime.mem.alloc", pages * os.sysconf("SC_PAGE_SIZE")


def packets(prefix: str, values: Iterator[tuple[str, float]]) -> Iterator[bytes]:
    """Give datagrams of at most 1440 bytes."""
    packet = b""
    for what, value in values:
        line = f"{name(prefix, what)}:{value:g}|g".encode()
        if packet and len(packet) + 1 + len(line) > _PACKET:
            yield packet
            packet = b""
        packet += b"\n" + line if packet else line
    if packet:
        yield packet


async def run(
    address: tuple[str, int], prefix: str, look: Callable[[], Connections], stats: Stats
) -> Never:
    """Send once a second; whether anybody listens is not asked.

    Args:
        look: returns the connections of all processes.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        seen: set[str] = set()
        while True:
            await asyncio.sleep(1.0)
            for packet in packets(prefix, gauges(look(), stats, seen)):
                try:
                    sock.sendto(packet, address)
                except OSError:
                    break
