# SPDX-License-Identifier: Apache-2.0
"""DNS cookies (RFC 7873) in the form that servers share (RFC 9018). Pure but for the clock.

A cookie proves that a client got an earlier reply of ours at the address it asks from. Ours are
16 octets: version 1, three of 0, seconds, SipHash-2-4 over client cookie, these and the address.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from skydns import message

_OPTION: Final = b"\0\x0a"
_PAST: Final = 3600  # seconds a cookie is good for (RFC 9018 §4.3)
_AHEAD: Final = 300  # of clocks that go wrong
_ANEW: Final = 1800  # a good one that is older comes back as a new one
_MASK: Final = (1 << 64) - 1


class Cookies:
    """Makes and knows cookies.

    Args:
        secret: 16 octets, the same for all servers that answer on one address.
        wall: seconds since 1970.
        minimal: a cut reply to who has no good cookie loses its records.
    """

    def __init__(self, secret: bytes, wall: Callable[[], float], *, minimal: bool = False) -> None:
        self.minimal = minimal
        self._secret = secret
        self._wall = wall

    def server(self, client: bytes, address: bytes, stamp: int) -> bytes:
        """Return the server's part for a client's part, an address and a time."""
        head = b"\1\0\0\0" + (stamp & 0xFFFFFFFF).to_bytes(4, "big")
        return head + siphash(self._secret, client + head + address)

    def good(self, cookie: bytes, address: bytes) -> bool:
        """Say whether a query's cookie is one of ours, for this address, and not too old."""
        if len(cookie) != 24 or cookie[8:12] != b"\1\0\0\0":
            return False
        stamp = int.from_bytes(cookie[12:16], "big")
        age = self._age(stamp)
        return -_AHEAD <= age <= _PAST and cookie[8:] == self.server(cookie[:8], address, stamp)

    def option(self, cookie: bytes, address: bytes) -> bytes:
        """Return the option that answers a query's cookie."""
        stamp = int(self._wall())
        if self.good(cookie, address):
            held = int.from_bytes(cookie[12:16], "big")
            if 0 <= self._age(held) <= _ANEW:
                stamp = held
        whole = cookie[:8] + self.server(cookie[:8], address, stamp)
        return _OPTION + len(whole).to_bytes(2, "big") + whole

    def completed(self, query: bytes, reply: bytes, address: bytes) -> bytes:
        """Return a whole reply with the cookie that its query asks for, if it does."""
        cookie = message.cookie(query) if _OPTION in query else b""
        if self.minimal and reply[2] & message.TC >> 8 and not self.good(cookie, address):
            reply = message.emptied(reply)
        return message.with_option(reply, self.option(cookie, address)) if cookie else reply

    def _age(self, stamp: int) -> int:
        """Return how old a time is, in the arithmetic of serials (RFC 1982)."""
        return (int(self._wall()) - stamp + 0x80000000 & 0xFFFFFFFF) - 0x80000000


@lru_cache(4096)
def siphash(key: bytes, data: bytes) -> bytes:
    """Return SipHash-2-4 of `data`, its low octet first as RFC 9018 has it; 10 µs."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    whole = data + bytes(7 - len(data) % 8) + bytes((len(data) & 0xFF,))
    words = [int.from_bytes(whole[at : at + 8], "little") for at in range(0, len(whole), 8)]
    for word, rounds in (*((word, 2) for word in words), (None, 4)):
        if word is None:
            v2 ^= 0xFF
        else:
            v3 ^= word
        for _ in range(rounds):
            v0 = v0 + v1 & _MASK
            v1 = (v1 << 13 | v1 >> 51) & _MASK ^ v0
            v0 = (v0 << 32 | v0 >> 32) & _MASK
            v2 = v2 + v3 & _MASK
            v3 = (v3 << 16 | v3 >> 48) & _MASK ^ v2
            v0 = v0 + v3 & _MASK
            v3 = (v3 << 21 | v3 >> 43) & _MASK ^ v0
            v2 = v2 + v1 & _MASK
            v1 = (v1 << 17 | v1 >> 47) & _MASK ^ v2
            v2 = (v2 << 32 | v2 >> 32) & _MASK
        if word is not None:
            v0 ^= word
    return (v0 ^ v1 ^ v2 ^ v3).to_bytes(8, "little")
