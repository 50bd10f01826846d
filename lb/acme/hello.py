# SPDX-License-Identifier: Apache-2.0
"""Which protocols a TLS client offers (RFC 8446 §4.1.2, RFC 7301 §3.1). Pure.

::

    type ─ length of 3 ─ version, random ─ session id ─ ciphers ─ compressions ─ extensions
                                                                                     │
                                  type 16 ─ length ─ list's length ─ (length ─ name)* ◄
"""

from __future__ import annotations

from typing import Final

_HEAD: Final = 4  # a handshake message's type, and its length
_FIXED: Final = 2 + 32  # version and random
_ALPN: Final = 16  # the extension's type


class _Reader:
    """Takes lengths and what they measure off a message; raises IndexError at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise IndexError("the message is cut")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))

    def __bool__(self) -> bool:
        return self._at < len(self._data)


def protocols(message: bytes) -> tuple[bytes, ...]:
    """Return the names in a ClientHello's ALPN extension; none where it is malformed.

    Args:
        message: the handshake message with its head of four bytes.
    """
    try:
        hello = _Reader(message)
        hello.take(_HEAD + _FIXED)
        for size in (1, 2, 1):
            hello.vector(size)
        extensions = _Reader(hello.vector(2))
        while extensions:
            kind, body = extensions.number(2), extensions.vector(2)
            if kind == _ALPN:
                return _names(_Reader(_Reader(body).vector(2)))
    except IndexError:
        return ()
    return ()


def _names(listed: _Reader) -> tuple[bytes, ...]:
    found = []
    while listed:
        found.append(listed.vector(1))
    return tuple(found)
