# SPDX-License-Identifier: Apache-2.0
"""NOTIFY: secondaries are told that a zone has changed (RFC 1996)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Never

from skydns import content, message, names, rrs, tsig
from skydns.addresses import Peers, Server
from skydns.compiled import Answers
from skydns.exchange import by_udp
from skydns.reply import Reply


class Notifier:
    """Tells secondaries that a zone has changed (RFC 1996).

    Each by itself: one that does not answer holds up neither the others nor what changes next.

    Args:
        every: seconds between two looks at the serials. What a look finds is told after one more,
            so that every worker has the change when the secondary comes and asks for the serial.
    """

    def __init__(self, answers: Answers, peers: Peers, every: float = 0.5) -> None:
        self._answers = answers
        self._peers = peers
        self._every = every
        self._telling: dict[tuple[Server, bytes], asyncio.Task[None]] = {}
        self.failed = 0

    async def run(self) -> Never:
        """Compare serials; the first look tells nobody."""
        known, due = dict(self._serials()), set[bytes]()
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self._every)
                for zone in due:
                    self._begin(zone, group)
                now = dict(self._serials())
                due = {zone for zone, serial in now.items() if known.get(zone) != serial}
                known = now

    def _begin(self, zone: bytes, group: asyncio.TaskGroup) -> None:
        """Begin to tell of a zone's present serial, and of no older one any more."""
        for server in self._peers.told(zone):
            if before := self._telling.get((server, zone)):
                before.cancel()
            self._telling[server, zone] = group.create_task(
                self._tell(server, zone), name=f"notify {server} of {names.to_text(zone)}"
            )

    def _serials(self) -> Iterable[tuple[bytes, int]]:
        served = self._answers.served
        ours = [(zone, served.serial(zone)) for zone in self._answers.policy.zones]
        return [
            *ours,
            *((zone, one.serial) for zone, one in self._answers.beside.items()),
        ]

    async def _tell(self, server: Server, zone: bytes) -> None:
        """Send NOTIFY until it is answered, three times at most (7 s)."""
        data = self._message(zone)
        keyring = self._answers.keyring
        key = keyring.keys.get(server.key) if keyring and server.key else None
        mac = b""
        if keyring and key:
            data, mac = tsig.signed(data, key, int(keyring.wall()))

        def wanted(reply: bytes) -> bool:
            ours = reply[:2] == data[:2] and len(reply) >= message.HEADER and reply[2] & 0x80 > 0
            return ours and (key is None or tsig.answers(reply, key, mac))

        for seconds in (1.0, 2.0, 4.0):
            try:
                async with asyncio.timeout(seconds):
                    await by_udp(server, data, wanted)
                    return
            except (OSError, TimeoutError):
                continue
        self.failed += 1

    def _message(self, zone: bytes) -> bytes:
        """Return a NOTIFY with a zone's present SOA."""
        file = self._answers.beside.get(zone)
        record = file.soa if file else content.soa(zone, self._answers)
        soa = message.encode(zone, Reply(rrs.NOERROR, answer=(record,)))
        return b"".join((
            secrets.token_bytes(2), b"\x24\0\0\x01\0\x01\0\0\0\0", zone, b"\0\x06\0\x01", soa.octets,
        ))  # fmt: skip
