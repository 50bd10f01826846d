# SPDX-License-Identifier: Apache-2.0
"""Which name servers are down: those that failed in a row, until a probe reaches them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from skydns.addresses import Server
from skydns.upstream import USUAL, Probe

_LONGEST: Final = 10  # times the first pause between two probes


class Health:
    """Counts failures and probes.

    Args:
        alive: asks a server anything.
        said: told of changes.

    Attributes:
        down: servers that are asked last, with the task that probes each.
        broken: how often all that could be asked were down.
        failures: probes and questions that failed, by server.
    """

    def __init__(
        self, alive: Callable[[Server, Probe], Awaitable[bool]], said: Callable[[str, Server], None]
    ) -> None:
        self.down: dict[Server, asyncio.Task[None]] = {}
        self.failures: Counter[Server] = Counter()
        self.broken = 0
        self._row: Counter[Server] = Counter()
        self._alive = alive
        self._said = said

    def failed(self, server: Server, most: int, probe: Probe = USUAL) -> None:
        """Note that a server did not answer; 0 as `most`: it never counts as down."""
        self.failures[server] += 1
        self._row[server] += 1
        if most and self._row[server] >= most and server not in self.down:
            self._said("down", server)
            self.down[server] = asyncio.ensure_future(self._probe(server, probe))

    def well(self, server: Server) -> None:
        """Note that a server answered."""
        self._row.pop(server, None)
        probe = self.down.pop(server, None)
        if probe is not None:
            self._said("answers again", server)
            probe.cancel()

    def all_down(self, servers: Iterable[Server]) -> bool:
        """Say whether none of the servers is known to answer, and count it."""
        found = all(server in self.down for server in servers)
        self.broken += found
        return found

    def forget(self, servers: Iterable[Server]) -> None:
        """Stop probing servers that are not asked any more."""
        for server in servers:
            self._row.pop(server, None)
            if probe := self.down.pop(server, None):
                probe.cancel()

    async def aclose(self) -> None:
        """Stop all probes."""
        probes = tuple(self.down.values())
        self.forget(tuple(self.down))
        await asyncio.gather(*probes, return_exceptions=True)

    async def _probe(self, server: Server, probe: Probe) -> None:
        pause = probe.first
        while True:
            await asyncio.sleep(pause)
            if await self._alive(server, probe):
                self._row.pop(server, None)
                del self.down[server]
                self._said("answers again", server)
                return
            self.failures[server] += 1
            pause = min(pause * 1.5, probe.first * _LONGEST)
