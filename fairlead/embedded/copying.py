# SPDX-License-Identifier: Apache-2.0
"""`fairlead etcd export` and `import`: all keys and leases of a store, to and from a file.

The file has one JSON object a line: first the store, then its leases, then its keys, all at one
revision. Bytes are base64. Revisions and versions start anew in the store that imports; a lease
keeps its id and what remained of its TTL::

    {"format": "fairlead-etcd-export", "version": 1, "revision": 812, "keys": 2, "leases": 1}
    {"lease": 7587869, "ttl_seconds": 51}
    {"key": "L3NreWRucy9h", "value": "e30=", "lease": 7587869}
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from fairlead.errors import FairleadError
from fairlead.etcd.store import Store
from fairlead.etcd.types import NO_LEASE, KeyRange, LeaseID, Put, Range

FORMAT = "fairlead-etcd-export"
_BATCH = 100  # puts in a transaction; etcd takes 128
_BATCH_BYTES = 1024 * 1024  # etcd takes 1.5 MiB
_ALL = KeyRange.prefix(b"")


class BadExport(FairleadError):
    """The file is not an export, or the store cannot take it; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Copied:
    """How much was copied."""

    keys: int
    leases: int


async def export_lines(store: Store) -> AsyncIterator[str]:
    """Return the lines of an export of `store`, each with its end."""
    leases = [await store.time_to_live(lease) for lease in await store.leases()]
    leases = [lease for lease in leases if lease.ttl_seconds > 0]
    known = {lease.id for lease in leases}
    head = await store.range(Range(_ALL, count_only=True))
    yield _line(
        format=FORMAT,
        version=1,
        revision=head.header.revision,
        keys=head.count,
        leases=len(leases),
    )
    for lease in leases:
        yield _line(lease=lease.id, ttl_seconds=lease.ttl_seconds)
    async for page in store.pages(_ALL, revision=head.header.revision):
        for kv in page.kvs:
            if kv.lease and kv.lease not in known:
                continue  # its lease has just run out, and it with it
            fields: dict[str, Any] = {"key": _text(kv.key), "value": _text(kv.value)}
            yield _line(**fields, **({"lease": kv.lease} if kv.lease else {}))


async def import_lines(store: Store, lines: Iterable[str], *, merge: bool = False) -> Copied:
    """Write an export into `store`.

    Args:
        merge: write over what stands; otherwise a store that is not empty is left alone.

    Raises:
        BadExport: a line is no part of an export, or the store is not empty. What is written
            before a bad line stays.
    """
    numbered = ((number, text) for number, text in enumerate(lines, 1) if text.strip())
    _check_head(next(numbered, None))
    if not merge and (count := (await store.range(Range(_ALL, count_only=True))).count):
        raise BadExport(f"the store holds {count} keys; give -merge to write over them")
    keys = leases = size = 0
    batch: list[Put] = []
    for number, text in numbered:
        match _decode(number, text):
            case Put() as put:
                size += len(put.key) + len(put.value)
                if len(batch) >= _BATCH or (batch and size > _BATCH_BYTES):
                    await store.txn(success=batch, repeatable=True)
                    batch, size = [], len(put.key) + len(put.value)
                batch.append(put)
                keys += 1
            case (lease, ttl):
                await store.revoke(lease)  # one of that id from an import before
                await store.grant(ttl, lease)
                leases += 1
    if batch:
        await store.txn(success=batch, repeatable=True)
    return Copied(keys, leases)


def _check_head(first: tuple[int, str] | None) -> None:
    try:
        head = json.loads(first[1]) if first else None
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise BadExport(f'line 1: not an export: "format" is not "{FORMAT}"')
    if head.get("version") != 1:
        raise BadExport(f"line 1: version {head.get('version')!r}; this program reads 1")


def _decode(number: int, text: str) -> Put | tuple[LeaseID, int]:
    try:
        value = json.loads(text)
        if "key" in value:
            key, data = _bytes(value["key"]), _bytes(value["value"])
            return Put(key, data, LeaseID(int(value.get("lease", NO_LEASE))))
        return LeaseID(int(value["lease"])), int(value["ttl_seconds"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadExport(f"line {number}: neither key nor lease: {error!r}") from error


def _line(**fields: object) -> str:
    return json.dumps(fields) + "\n"


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)
