# SPDX-License-Identifier: Apache-2.0
"""EDNS options of replies over streams: how long a connection may be idle, and padding. Pure."""

from __future__ import annotations

from typing import Final

from skydns import message

_KEEPALIVE: Final = 11  # RFC 7828
_PADDING: Final = 12  # RFC 7830
_BLOCK: Final = 468  # octets that a padded reply is a multiple of (RFC 8467 §4.1)


def completed(query: bytes, reply: bytes, *, idle: float | None, encrypted: bool) -> bytes:
    """Return a reply with the options of streams that its query asks for.

    Args:
        idle: seconds of silence after which the connection is closed; None: not said.
        encrypted: the reply's size is all that a stranger sees of it.
    """
    if query[10:12] == b"\0\0":  # no OPT
        return reply
    if idle is not None and message.option(query, _KEEPALIVE) is not None:
        reply = message.with_option(reply, _option(_KEEPALIVE, int(idle * 10).to_bytes(2, "big")))
    if encrypted and message.option(query, _PADDING) is not None:
        reply = message.with_option(reply, _option(_PADDING, bytes(-(len(reply) + 4) % _BLOCK)))
    return reply


def _option(number: int, data: bytes) -> bytes:
    return number.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data
