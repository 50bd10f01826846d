# SPDX-License-Identifier: Apache-2.0
"""Netlink messages: a header and attributes, the same for every family of the kernel's. Pure.

::

    size type flags sequence port │ the family's own header │ attributes: size kind data, …

Layouts: linux/netlink.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ERROR, DONE = 2, 3

F_REQUEST, F_ACK, F_DUMP_INTR = 0x1, 0x4, 0x10
F_REPLACE, F_EXCL, F_CREATE, F_DUMP = 0x100, 0x200, 0x400, 0x300
F_CAPPED, F_ACK_TLVS = 0x100, 0x200

_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")
_U16, _U32 = struct.Struct("=H"), struct.Struct("=I")
_NLA_TYPE = 0x3FFF

HEADER_SIZE = _HEADER.size
_FLAGS_AT, _SEQUENCE_AT = 6, 8
NOTHING = memoryview(b"")


class Reply(NamedTuple):
    """One message as it came: `body` begins behind the header."""

    type: int
    flags: int
    sequence: int
    port: int
    body: memoryview


def message(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    """Return a request; its sequence number can be set later by `numbered` or `batch`."""
    return _HEADER.pack(HEADER_SIZE + len(body), kind, flags | F_REQUEST, sequence, 0) + body


def numbered(request: bytes, sequence: int, *, ack: bool = False) -> bytes:
    """Return `request` with a sequence number, and asking for an answer when `ack`."""
    size, kind, flags, _, port = _HEADER.unpack_from(request)
    if ack:
        flags |= F_ACK
    return _HEADER.pack(size, kind, flags, sequence, port) + request[HEADER_SIZE:]


def batch(requests: Sequence[bytes], first: int) -> bytearray:
    """Return requests as one datagram, numbered from `first`; only the last asks for an answer.

    Every other one is silent unless it is refused.
    """
    data = bytearray(b"".join(requests))
    at = last = 0
    for sequence, request in enumerate(requests, first):
        _U32.pack_into(data, at + _SEQUENCE_AT, sequence)
        last, at = at, at + len(request)
    (flags,) = _U16.unpack_from(data, last + _FLAGS_AT)
    _U16.pack_into(data, last + _FLAGS_AT, flags | F_ACK)
    return data


def attribute(kind: int, data: bytes) -> bytes:
    """Return an attribute, padded to four bytes."""
    return _ATTR.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def u32(kind: int, value: int) -> bytes:
    """Return an attribute that is a number of four bytes."""
    return attribute(kind, _U32.pack(value))


def replies(data: bytes) -> Iterator[Reply]:
    """Yield the messages of one datagram."""
    view = memoryview(data)
    at = 0
    while at + HEADER_SIZE <= len(data):
        size, kind, flags, sequence, port = _HEADER.unpack_from(data, at)
        if size < HEADER_SIZE:
            return
        yield Reply(kind, flags, sequence, port, view[at + HEADER_SIZE : at + size])
        at += size + (-size & 3)


def refusal(reply: Reply) -> tuple[int, str]:
    """Return errno (0: none) and the kernel's words, where it gave any, of an ERROR or DONE."""
    if len(reply.body) < 4:
        return 0, ""
    errno = -int.from_bytes(reply.body[:4], sys.byteorder, signed=True)
    if not reply.flags & F_ACK_TLVS or reply.type != ERROR:
        return errno, ""
    at = 4 + HEADER_SIZE
    if not reply.flags & F_CAPPED:
        size = _U32.unpack_from(reply.body, 4)[0]
        at = 4 + size + (-size & 3)
    words = attributes(reply.body, at).get(1)
    return errno, "" if words is None else bytes(words).rstrip(b"\0").decode("utf-8", "replace")


def attributes(body: memoryview, at: int) -> dict[int, memoryview]:
    """Return the attributes from `at` on by number; of several with one number the last."""
    found = {}
    while at + 4 <= len(body):
        size, kind = _ATTR.unpack_from(body, at)
        if size < 4:
            break
        found[kind & _NLA_TYPE] = body[at + 4 : at + size]
        at += size + (-size & 3)
    return found


def number(data: memoryview) -> int:
    """Return an attribute's data as a number in this machine's order of bytes."""
    return int.from_bytes(data, sys.byteorder)


def string(data: memoryview) -> str:
    """Return an attribute's data as text."""
    return bytes(data).rstrip(b"\0").decode("utf-8", "replace")
