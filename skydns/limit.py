# SPDX-License-Identifier: Apache-2.0
"""Response rate limiting: who asks with somebody else's address gets us to send them little.

Counted by client network (/24, /56) and answer, in windows of a second; every error is one answer.
Of what comes above the limit every `slip`th reply is sent without its records and with TC, so that
a real client asks again by TCP; the others are not sent. A client with a good cookie is not
limited; one with half a cookie gets BADCOOKIE and the other half, which is no larger than its query.

While all clients together stay below the limit none can be above it: nothing is looked at then.
Of several processes each looks from its part of the limit on; what it looks at is counted with what
the others count of the same (`skydns.joint`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Sequence
from typing import Final

from skydns import message
from skydns.cookies import Cookies
from skydns.joint import Joint

_MOST: Final = 100_000  # networks and answers counted in one second
_BADCOOKIE: Final = 23

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Limiter:
    """Counts replies and says which are not to be sent as they are.

    Args:
        rate: replies a second for one network and answer; 0: no limit.
        slip: each how many-th of those above is sent cut; 0: none.
        exempt: networks that are never limited.
        joint: where other processes count too; None: there are none.

    Attributes:
        dropped, slipped, challenged: replies not sent, cut, answered with BADCOOKIE.
    """

    def __init__(
        self,
        rate: int,
        slip: int,
        exempt: Sequence[Network],
        cookies: Cookies,
        clock: Callable[[], float],
        joint: Joint | None = None,
    ) -> None:
        self.rate = rate
        self._joint = joint
        self._unlooked = -(-rate // joint.seats) if joint else rate
        self.dropped = self.slipped = self.challenged = 0
        self.cookies = cookies
        self._slip = slip
        self._exempt = exempt
        self._clock = clock
        self._second = 0
        self._replies = 0
        self._counts: dict[tuple[bytes, bytes], int] = {}
        self._networks: dict[bytes, bytes] = {}  # address → network; b"": exempt
        self._spared: set[bytes] = set()  # addresses of exempt networks, as far as met

    def pressed(self, replies: int) -> bool:
        """Count some replies; say whether a client may be above the limit by now."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._replies = 0
            self._counts.clear()
        self._replies += replies
        return 0 < self._unlooked < self._replies

    def spares(self, addresses: Collection[bytes]) -> bool:
        """Say whether all of these clients are exempt: mostly so, and then a look is all it costs."""
        if self._spared.issuperset(addresses):
            return True
        if len(self._spared) > _MOST:
            self._spared.clear()
        self._spared.update(each for each in set(addresses) if not self._network(each))
        return self._spared.issuperset(addresses)

    def passed(self, address: bytes, query: bytes, reply: bytes) -> bytes:
        """Return what is to be sent instead of a reply (without its id); b"": nothing."""
        network = self._network(address)
        if not network:
            return reply
        # an answer is known by its question, in whatever letter case
        kind = reply[1:2] if reply[1] & 0xF else reply[10 : reply.find(0, 10) + 3].lower()
        place = (network, kind)
        count = self._counts[place] = self._counts.get(place, 0) + 1
        if len(self._counts) > _MOST:
            self._counts.clear()
        others = self._joint.others(b"".join(place), self._second, count) if self._joint else 0
        if count + others <= self.rate:
            return reply
        if cookie := message.cookie(query):
            if self.cookies.good(cookie, address):
                return reply
            self.challenged += 1
            return message.refusal(query, _BADCOOKIE, self.cookies.option(cookie, address))[2:]
        if self._slip and (count - self.rate) % self._slip == 0:
            self.slipped += 1
            return message.truncated(query)[2:]
        self.dropped += 1
        return b""

    def _network(self, address: bytes) -> bytes:
        """Return what of an address is counted together, b"" when it is exempt."""
        found = self._networks.get(address)
        if found is not None:
            return found
        if len(self._networks) > _MOST:
            self._networks.clear()
        known = ipaddress.ip_address(address)
        if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is not None:
            known = known.ipv4_mapped
        packed = known.packed
        found = packed[:3] if len(packed) == 4 else packed[:7]
        if any(known.version == network.version and known in network for network in self._exempt):
            found = b""
        self._networks[address] = found
        return found
