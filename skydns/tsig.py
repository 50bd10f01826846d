# SPDX-License-Identifier: Apache-2.0
"""Signed messages: who asks for a zone proves it by a shared key (RFC 8945). Pure.

::

    query ─► opened: the query without its TSIG, and a Seal ─► Seal(reply) ─► signed reply
                └─► Refusal: the reply that says what is wrong with the signature

A TSIG is the last record of a message. Its MAC is taken over the message without it, and over its own
fields; a reply's also over its query's MAC, each further message of a transfer over the one before.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from skydns import message, names, rrs
from skydns.sharedkeys import ALGORITHMS, Key, Keys

FUDGE: Final = 300  # seconds that clocks may differ (RFC 8945 §10)
NOTAUTH: Final = 9
BADSIG: Final = 16
BADKEY: Final = 17
BADTIME: Final = 18
BADTRUNC: Final = 22

MARK: Final = b"\0\xfa\0\xff\0\0\0\0"  # type, class and TTL of every TSIG


class _Signature(NamedTuple):
    """The TSIG of a message, and where it begins."""

    start: int
    name: bytes
    algorithm: bytes
    time: int
    fudge: int
    mac: bytes
    number: bytes
    error: int
    other: bytes


@dataclass(slots=True)
class Seal:
    """Signs what answers one query, message by message.

    Args:
        key: of the query.
        before: MAC of the query.
        now: seconds since 1970.

    Attributes:
        previous: MAC of the message signed last; b"": none was.
    """

    key: Key
    before: bytes
    now: int
    previous: bytes = b""

    def __call__(self, reply: bytes, error: int = 0, other: bytes = b"") -> bytes:
        """Return a reply with its signature."""
        timers = self.now.to_bytes(6, "big") + FUDGE.to_bytes(2, "big")
        fields = timers if self.previous else _variables(self.key, timers, error, other)
        self.previous = self.key.mac((_counted(self.previous or self.before), reply, fields))
        return _with_tsig(reply, self.key.name, self.key.algorithm, timers, self.previous, error, other)  # fmt: skip

    def anew(self) -> Seal:
        """Return one that has signed nothing yet."""
        return Seal(self.key, self.before, self.now)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that are good here, and the clock that signatures go by.

    Attributes:
        wall: seconds since 1970.
    """

    keys: Keys
    wall: Callable[[], float]

    def opened(self, data: bytes) -> Opened | bytes | None:
        """Check a query's signature: `opened`, now."""
        return opened(data, self.keys, int(self.wall())) if MARK in data else None


class Opened(NamedTuple):
    """A signed query: without its signature, and what signs the reply."""

    data: bytes
    seal: Seal


def opened(data: bytes, keys: Keys, now: int) -> Opened | bytes | None:
    """Check a query's signature.

    Returns:
        The query without it; the reply to one that is not good; None for what has none or is no query.

    Args:
        now: seconds since 1970.
    """
    found = _signature(data) if len(data) >= message.HEADER and not data[2] & 0x80 else None
    if found is None:
        return None
    plain = _without(data, found)
    if found is _BROKEN:
        return message.rejected(plain, rrs.FORMERR)
    key = keys.get(found.name)
    if key is not None and not key.algorithm and found.algorithm in ALGORITHMS:
        key = replace(key, algorithm=found.algorithm)
    if key is None or key.algorithm != found.algorithm:
        return _unsigned(plain, found, BADKEY)
    if len(found.mac) != key.size:
        if len(found.mac) < max(10, key.size // 2) or len(found.mac) > key.size:
            return message.rejected(plain, rrs.FORMERR)
        return _unsigned(plain, found, BADTRUNC)
    timers = found.time.to_bytes(6, "big") + found.fudge.to_bytes(2, "big")
    wanted = key.mac((found.number, plain[2:], _variables(key, timers, found.error, found.other)))
    if not hmac.compare_digest(wanted, found.mac):
        return _unsigned(plain, found, BADSIG)
    if abs(now - found.time) > found.fudge:
        # signed with the client's time, so that it can be believed; ours stands beside it
        seal = Seal(key, found.mac, found.time)
        return seal(message.rejected(plain, NOTAUTH), BADTIME, now.to_bytes(6, "big"))
    return Opened(plain, Seal(key, found.mac, now))


def signed(data: bytes, key: Key, now: int) -> tuple[bytes, bytes]:
    """Return a query of ours with its signature, and the MAC in it.

    Args:
        key: with an algorithm.
    """
    timers = now.to_bytes(6, "big") + FUDGE.to_bytes(2, "big")
    mac = key.mac((data, _variables(key, timers, 0, b"")))
    return _with_tsig(data, key.name, key.algorithm, timers, mac, 0, b""), mac


def answers(reply: bytes, key: Key, mac: bytes) -> bool:
    """Say whether a reply to a query of ours with this MAC is signed by the key."""
    found = _signature(reply)
    if found is None or found is _BROKEN or found[1:3] != (key.name, key.algorithm):
        return False
    timers = found.time.to_bytes(6, "big") + found.fudge.to_bytes(2, "big")
    fields = _variables(key, timers, found.error, found.other)
    plain = _without(reply, found)
    wanted = key.mac((_counted(mac), found.number, plain[2:], fields))
    return hmac.compare_digest(wanted, found.mac)


# ── octets

_BROKEN: Final = _Signature(0, b"", b"", 0, 0, b"", b"", 0, b"")


def _signature(data: bytes) -> _Signature | None:
    """Return a message's signature, None when it has none, `_BROKEN` for one in a wrong place or form."""
    at = message.question_end(data) if data[4:6] == b"\0\1" else message.HEADER
    total = sum(int.from_bytes(data[place : place + 2], "big") for place in (6, 8, 10))
    if not at or data[4] or data[5] > 1:
        return None
    for left in range(total, 0, -1):
        start = at
        record = message.record(data, at)
        if record is None:
            return None
        _, kind, rclass, ttl, begin, at = record
        if kind == rrs.TSIG:
            last = left == 1 and at == len(data) and data[10:12] != b"\0\0"
            last &= (rclass, ttl) == (rrs.ANY_CLASS, 0)
            return (_read(data, start, begin, at) if last else None) or _BROKEN
    return None


def _read(data: bytes, start: int, begin: int, end: int) -> _Signature | None:
    """Return the fields of a TSIG record; None: it is cut, or its names are compressed."""
    name, at = _name(data, start)
    algorithm, place = _name(data, begin)
    if name is None or algorithm is None or at + 10 != begin or place + 10 > end:
        return None
    time = int.from_bytes(data[place : place + 6], "big")
    fudge = int.from_bytes(data[place + 6 : place + 8], "big")
    size = int.from_bytes(data[place + 8 : place + 10], "big")
    rest = place + 10 + size
    if rest + 6 > end or rest + 6 + int.from_bytes(data[rest + 4 : rest + 6], "big") != end:
        return None
    return _Signature(
        start, name, algorithm, time, fudge, data[place + 10 : rest], data[rest : rest + 2],
        int.from_bytes(data[rest + 2 : rest + 4], "big"), data[rest + 6 : end],
    )  # fmt: skip


def _name(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Return an uncompressed name, folded, and where it ends."""
    begin = at
    while at < len(data) and (length := data[at]):
        if length > names.MOST_LABEL:
            return None, at
        at += length + 1
    if at >= len(data) or at + 1 - begin > names.MOST_NAME:
        return None, at
    return data[begin : at + 1].lower(), at + 1


def _without(data: bytes, found: _Signature) -> bytes:
    """Return a message without its signature, which is the last of its additional records."""
    if found is _BROKEN:
        return data
    number = int.from_bytes(data[10:12], "big") - 1
    return data[:10] + number.to_bytes(2, "big") + data[message.HEADER : found.start]


def _variables(key: Key, timers: bytes, error: int, other: bytes) -> bytes:
    """Return a TSIG's own fields as they are signed (RFC 8945 §4.3.3)."""
    return b"".join((
        key.name, b"\0\xff\0\0\0\0", key.algorithm, timers, error.to_bytes(2, "big"),
        len(other).to_bytes(2, "big"), other,
    ))  # fmt: skip


def _counted(mac: bytes) -> bytes:
    return len(mac).to_bytes(2, "big") + mac


def _with_tsig(
    data: bytes, name: bytes, algorithm: bytes, timers: bytes, mac: bytes, error: int, other: bytes
) -> bytes:
    """Return a message with a signature as its last record."""
    rdata = b"".join((
        algorithm, timers, _counted(mac), data[:2], error.to_bytes(2, "big"),
        len(other).to_bytes(2, "big"), other,
    ))  # fmt: skip
    number = int.from_bytes(data[10:12], "big") + 1
    return b"".join((
        data[:10], number.to_bytes(2, "big"), data[12:], name, b"\0\xfa\0\xff\0\0\0\0",
        len(rdata).to_bytes(2, "big"), rdata,
    ))  # fmt: skip


def _unsigned(plain: bytes, found: _Signature, error: int) -> bytes:
    """Return the reply to a query that nobody we know has signed: NOTAUTH, and why (RFC 8945 §5.2)."""
    timers = found.time.to_bytes(6, "big") + found.fudge.to_bytes(2, "big")
    reply = message.rejected(plain, NOTAUTH)
    return _with_tsig(reply, found.name, found.algorithm, timers, b"", error, b"")
