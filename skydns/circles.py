# SPDX-License-Identifier: Apache-2.0
"""Name servers that ask us what we ask them: found at the start, and not asked any more.

Each server is asked for a name that nobody else knows; when that name is asked of us, what leads
back is found. CoreDNS's `loop` ends the whole program there.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from skydns import message, names, rrs
from skydns.addresses import Server
from skydns.asking import FAILURES, Asking, Said
from skydns.exchange import Sent

LOOKING: Final = 30.0  # seconds after the start, as in the original
_PATIENCE: Final = 5.0  # seconds for one answer
_PAUSE: Final = 2.0  # seconds until a server that gave none is asked again


class Circles:
    """Looks for servers that lead back to us.

    Args:
        said: told of each.
    """

    def __init__(self, asking: Asking, said: Said) -> None:
        self._asking = asking
        self._said = said
        self._looked_for: dict[bytes, Server] = {}

    def closes(self, name: bytes) -> bool:
        """Say whether a (folded) name that we are asked for is one that we asked for; its server is barred."""
        server = self._looked_for.get(name)
        if server is not None and server not in self._asking.barred:
            self._asking.barred.add(server)
            self._said("leads back to us, not asked any more", server)
        return server is not None

    async def look(self) -> None:
        """Ask all servers until each has answered, for half a minute."""
        probes = {
            names.from_labels(
                (secrets.token_hex(8).encode(), secrets.token_hex(8).encode())
            ): server
            for server in sorted(self._asking.routes.servers)
        }
        self._looked_for |= probes
        try:
            async with asyncio.timeout(LOOKING):
                await asyncio.gather(*(self._ask(name, server) for name, server in probes.items()))
        except TimeoutError:
            return
        finally:
            for name in probes:
                del self._looked_for[name]

    async def _ask(self, name: bytes, server: Server) -> None:
        sent = Sent(name, rrs.HINFO, rrs.IN, message.RD, do=False)
        while server not in self._asking.barred:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._asking.put_to(server, sent)
            except FAILURES:
                await asyncio.sleep(_PAUSE)
                continue
            return
