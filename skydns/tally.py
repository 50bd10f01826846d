# SPDX-License-Identifier: Apache-2.0
"""What all servers of a process count together: of every address, and of those that are gone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from skydns.acl import Decided


@dataclass(slots=True)
class Tally:
    """The counters.

    Attributes:
        unsent: replies by UDP that the kernel refused.
        tcp_refused: connections closed because of a limit.
        statuses: responses over HTTPS, by status.
        decided: what an access list did.
        clients: connections open now, by the client's address; TLS counts from its handshake on.
    """

    unsent: int = 0
    tcp_refused: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    decided: Decided = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)

    def admit(self, host: str, connections: int, by_client: int) -> bool:
        """Count a connection in; False: it is over one of the limits, and counted as refused."""
        if self.clients.total() >= connections or self.clients[host] >= by_client:
            self.tcp_refused += 1
            return False
        self.clients[host] += 1
        return True

    def leave(self, host: str) -> None:
        """Count a connection out."""
        self.clients[host] -= 1
        if not self.clients[host]:
            del self.clients[host]
