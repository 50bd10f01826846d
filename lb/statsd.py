# SPDX-License-Identifier: Apache-2.0
"""vulcand's gauges to statsd (specs/vulcand.md §14): once a second, over UDP."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Never

from lb.plane import Plane
from lb.stats import Stats

_PACKET: Final = 1440
_QUANTILES: Final = (50.0, 75.0, 95.0, 99.0, 99.9)


def name(*parts: str) -> str:
    """Return a metric's name; what statsd cannot take becomes `_`."""
    return ".".join(re.sub(r"[^A-Za-z0-9_.]", "_", part) for part in parts if part)


def gauges(plane: Plane, stats: Stats) -> Iterator[tuple[str, float]]:
    """Give name and value of everything, without the prefix."""
    for live in plane.listeners.values():
        where = live.spec.address
        if where.startswith(":"):
            where = "0.0.0.0" + where  # noqa: S104  (a name, as the original's)
        busy = sum(not getattr(client, "idle", False) for client in live.clients)
        yield name("conns", where.replace(":", "_"), "active"), busy
        yield name("conns", where.replace(":", "_"), "idle"), len(live.clients) - busy
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


async def run(address: tuple[str, int], prefix: str, plane: Plane, stats: Stats) -> Never:
    """Send once a second; whether anybody listens is not asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        while True:
            await asyncio.sleep(1.0)
            for packet in packets(prefix, gauges(plane, stats)):
                try:
                    sock.sendto(packet, address)
                except OSError:
                    break
