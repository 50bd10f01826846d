# SPDX-License-Identifier: Apache-2.0
"""Read a range in pages, all at one revision (specs/etcd.md §6.3). Pure but for `page`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from msgspec.structs import replace

from fairlead.etcd.types import KeyRange, Range, RangeResult


async def pages(
    page: Callable[[Range], Awaitable[tuple[RangeResult, int]]], first: Range, most_bytes: int
) -> AsyncIterator[RangeResult]:
    """Yield the pages of `first`, each starting right after the last key of the one before.

    Args:
        page: reads one page; returns it and its size in bytes.
        most_bytes: a page larger than this halves the keys of the next.
    """
    request = first
    while True:
        answer, size = await page(request)
        yield answer
        if not answer.more or not answer.kvs:
            return
        limit = max(1, request.limit // 2) if size > most_bytes else request.limit
        after = KeyRange(answer.kvs[-1].key + b"\x00", first.keys.end)
        revision = request.revision or answer.header.revision
        request = replace(request, keys=after, limit=limit, revision=revision)
