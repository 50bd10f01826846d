# SPDX-License-Identifier: Apache-2.0
"""Active checks: which servers of a pool live. Thresholds are pure; `Prober` asks.

::

             Fall bad answers in a row
    healthy ──────────────────────────► out
            ◄──────────────────────────
             Rise good answers in a row

What a check found belongs to backend and address: it survives every change of the configuration
but the removal of the server. A server nobody asked yet gets requests.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Final, Never

from lb.liveserver import LiveServer
from lb.plane import Plane
from lb.policy import HealthCheck
from lb.pool import LivePool

_LEAST: Final = 0.02  # seconds between two looks at who is due
_HEAD: Final = 65536
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r]")


class Health:
    """Answers of one server, and what follows from them."""

    __slots__ = ("_row", "healthy", "why")

    def __init__(self, *, healthy: bool = True) -> None:
        self.healthy = healthy
        self.why = "" if healthy else "unknown"
        self._row = 0  # answers in a row that speak against what stands

    def note(self, why: str, rise: int, fall: int) -> bool:
        """Take note of an answer; return whether the server went out or came back.

        Args:
            why: what was wrong; "" for a good answer.
        """
        good = not why
        if good == self.healthy:
            self._row = 0
            return False
        self._row += 1
        if self._row < (rise if good else fall):
            return False
        self._row = 0
        self.healthy = good
        self.why = why
        return True


async def ask(host: str, port: int, authority: str, check: HealthCheck) -> str:
    """Return what is wrong with a server, "" for nothing."""
    try:
        async with asyncio.timeout(check.timeout):
            reader, writer = await asyncio.open_connection(host, check.port or port, limit=_HEAD)
            try:
                if check.type == "tcp":
                    return ""
                writer.write(
                    f"GET {check.path} HTTP/1.1\r\nHost: {check.host or authority}\r\n"
                    "User-Agent: fairlead-health-check\r\nConnection: close\r\n\r\n".encode()
                )
                line = await reader.readline()
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return f"no answer within {check.timeout:g} s"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    found = _STATUS.match(line)
    if found is None:
        return "no HTTP/1 response"
    status = int(found[1])
    return "" if check.low <= status <= check.high else f"status {status}"


class Prober:
    """Asks every server whose pool wants it, as often as the pool says; else it sleeps."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._found: dict[tuple[str, str, int], Health] = {}
        self._due: dict[tuple[str, str, int], float] = {}
        self._asking: dict[tuple[str, str, int], asyncio.Task[None]] = {}
        self._checked: list[LivePool] = []
        self._changed = True  # pools, since the last survey
        self._wake = asyncio.Event()
        plane.on_pools = self._on_pools

    def _on_pools(self) -> None:
        self._changed = True
        self._wake.set()

    async def run(self) -> Never:
        """Probe for ever."""
        try:
            while True:
                self._wake.clear()
                if self._changed:
                    self._changed = False
                    self._survey()
                self._start_due()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._rest()):
                        await self._wake.wait()
                await asyncio.sleep(_LEAST)
        finally:
            for task in self._asking.values():
                task.cancel()

    def _rest(self) -> float | None:
        """Return the seconds until the next server is due; None: until something changes."""
        if not self._due:
            return None
        now = self._plane.clock.monotonic()
        return max(0.0, min(self._due.values()) - now)

    def _survey(self) -> None:
        """See which pools are checked; what was found of a server outlives changes."""
        now = self._plane.clock.monotonic()
        self._checked = []
        known = set()
        for pool in self._plane.pools.values():
            if pool.policy.check is None:
                for server in pool.servers.values():
                    pool.set_health(server, True, now)
                continue
            self._checked.append(pool)
            for (host, port), server in pool.servers.items():
                place = pool.id, host, port
                known.add(place)
                health = self._found.setdefault(place, Health())
                pool.set_health(server, health.healthy, now)
                if place not in self._asking:
                    self._due.setdefault(place, now)
        for place in self._found.keys() - known:
            del self._found[place]
            self._due.pop(place, None)

    def _start_due(self) -> None:
        now = self._plane.clock.monotonic()
        for pool in self._checked:
            check = pool.policy.check
            for (host, port), server in pool.servers.items():
                place = pool.id, host, port
                if check is not None and self._due.get(place, now + 1.0) <= now:
                    del self._due[place]
                    self._asking[place] = self._plane.loop.create_task(
                        self._ask(place, server, check, now), name="health check"
                    )

    async def _ask(
        self, place: tuple[str, str, int], server: LiveServer, check: HealthCheck, begun: float
    ) -> None:
        try:
            why = await ask(server.spec.host, server.spec.port, server.spec.authority, check)
        finally:
            self._asking.pop(place, None)
            if place in self._found:
                self._due[place] = begun + check.interval
                self._wake.set()
        health = self._found.get(place)
        if health is None or not health.note(why, check.rise, check.fall):
            return
        pool = self._plane.pools.get(place[0])
        live = pool.servers.get(place[1:]) if pool is not None else None
        if pool is not None and live is not None:
            pool.set_health(live, health.healthy, self._plane.now)
        if self._plane.on_health is not None:
            self._plane.on_health(place[0], server.spec.id, health.why)
