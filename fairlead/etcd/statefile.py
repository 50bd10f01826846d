# SPDX-License-Identifier: Apache-2.0
r"""The octets of a last-known-good file. Pure.

::

    "fairlead state 2\n"   magic
    {json}\n               name, ranges, revision, keys
    chunk …                u32 length, msgpack list of [key, value, create, mod, version, lease]
    u32 0, sha256          of everything before it
    addition …             u32 length, msgpack [revision, rows put, keys gone],
                           sha256 of the sum before it and of these

An addition that is cut short, or the last one when its sum is wrong, was being written when the
machine stopped: what stands before it counts. A wrong sum anywhere else refuses the file. Version
1 had no additions.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from fairlead.etcd.types import KeyValue, LeaseID, Revision

MAGIC = b"fairlead state 2\n"
OLD_MAGIC = b"fairlead state 1\n"
CHUNK = 100  # keys; less than 0.1 ms of the interpreter
SUM = 32  # octets
_LENGTH = struct.Struct("!I")
_Row = tuple[bytes, bytes, int, int, int, int]
_rows = msgspec.msgpack.Decoder(list[_Row])
_additions = msgspec.msgpack.Decoder(tuple[int, list[_Row], list[bytes]])
_encode = msgspec.msgpack.Encoder().encode


class Head(msgspec.Struct, frozen=True):
    """What a file is of; `keys`: how many its base has."""

    name: str
    ranges: list[tuple[str, str]]
    revision: int
    keys: int


class Content(msgspec.Struct, frozen=True):
    """What a file holds: its head, and the keys at `revision`."""

    head: Head
    kvs: tuple[KeyValue, ...]
    revision: Revision


def base(head: Head, kvs: Sequence[KeyValue]) -> Iterator[bytes]:
    """Give the parts of a file without additions, but for its sum."""
    yield MAGIC + msgspec.json.encode(head) + b"\n"
    for at in range(0, len(kvs), CHUNK):
        body = _encode([_row(kv) for kv in kvs[at : at + CHUNK]])
        yield _LENGTH.pack(len(body)) + body
    yield _LENGTH.pack(0)


def addition(
    before: bytes, revision: Revision, put: Iterable[KeyValue], gone: Iterable[bytes]
) -> tuple[bytes, bytes]:
    """Return the octets that add changes to a file, and the new sum.

    Args:
        before: the sum of the base, or of the addition before.
    """
    body = _encode((revision, [_row(kv) for kv in put], list(gone)))
    total = hashlib.sha256(before + body).digest()
    return _LENGTH.pack(len(body)) + body + total, total


def _row(kv: KeyValue) -> _Row:
    return kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease


def parse(body: bytes) -> Content:
    """Return what a file holds.

    Raises:
        ValueError: it cannot be used; the reason.
    """
    if not body.startswith((MAGIC, OLD_MAGIC)):
        raise ValueError("is not a state file of this version")
    try:
        chunks, end = _chunks(body)
        total = body[end : end + SUM]
        if hashlib.sha256(body[:end]).digest() != total:
            raise ValueError("is damaged: its checksum does not match")
        head = msgspec.json.decode(body[len(MAGIC) : body.index(b"\n", len(MAGIC))], type=Head)
        rows = [row for begin, stop in chunks for row in _rows.decode(body[begin:stop])]
        if len(rows) != head.keys:
            raise ValueError(f"is damaged: {len(rows)} keys, {head.keys} announced")
        kvs = {row[0]: row for row in rows}
        revision = _add(kvs, body, end + SUM, total) or head.revision
    except (struct.error, msgspec.MsgspecError) as error:
        raise ValueError(f"is damaged: {error}") from error
    return Content(head, tuple(map(_kv, kvs.values())), Revision(revision))


def _chunks(body: bytes) -> tuple[list[tuple[int, int]], int]:
    """Return where the chunks lie, and where the base's sum begins."""
    found = []
    at = body.find(b"\n", len(MAGIC)) + 1
    if not at:
        raise ValueError("is damaged: it has no head")
    while size := _LENGTH.unpack_from(body, at)[0]:
        found.append((at + 4, at + 4 + size))
        at += 4 + size
    return found, at + 4


def _add(kvs: dict[bytes, _Row], body: bytes, at: int, total: bytes) -> int:
    """Carry out the additions; return the last one's revision, 0 when there is none."""
    revision = 0
    while at + 4 <= len(body):
        begin, stop = at + 4, at + 4 + _LENGTH.unpack_from(body, at)[0]
        part, at = body[begin:stop], stop + SUM
        total = hashlib.sha256(total + part).digest()
        if body[stop:at] != total:
            if at >= len(body) or not any(body[begin - 4 :]):
                break  # it was being written
            raise ValueError("is damaged: the checksum of a change does not match")
        revision, put, gone = _additions.decode(part)
        kvs.update((row[0], row) for row in put)
        for key in gone:
            kvs.pop(key, None)
    return revision


def _kv(row: _Row) -> KeyValue:
    key, value, create, mod, version, lease = row
    return KeyValue(key, value, Revision(create), Revision(mod), version, LeaseID(lease))
