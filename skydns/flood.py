# SPDX-License-Identifier: Apache-2.0
"""A batch of missing names, answered whole.

Who floods a server with names that do not exist asks in one form: one zone, one type, random labels
of one length. Query by query such a name costs three times an existing one (its label cut out,
looked for among its brothers, its reply joined), so a batch that is all alike is taken apart by
two calls for all of its queries, and its labels are compared with the brothers by one::

    heads   ┌ header ┬ label ┬ the rest ┬ ┐ × 64       headers and rests: all the same
            └ 11     ┴ n     ┴          ┴ ┘            labels: none among the children

What is not alike, be it one query, is answered one by one by the hot loop, from the same template.
"""

from __future__ import annotations

import struct
from typing import Final

from skydns.compiled import LEAST, NAME, STAR, Near
from skydns.places import HEAD

FEWEST: Final = 2
"""Queries that make a batch worth a look."""

PATIENCE: Final = 32
"""Batches that are not looked at after one that was mixed: a look costs a fifth of its answers."""

_MOST_SHAPES: Final = 1024
_LONGEST_STAR: Final = max(map(len, STAR))

_shapes: dict[tuple[int, int, int], struct.Struct] = {}


def _shape(count: int, size: int, length: int) -> struct.Struct:
    """Return what cuts so many queries of one size and label into header, label, rest."""
    found = _shapes.get((count, size, length))
    if found is None:
        if len(_shapes) >= _MOST_SHAPES:
            _shapes.clear()
        rest = size - 2 - (NAME + 1) - length
        place = f"2x{NAME + 1}s{length}s{rest}s{HEAD - size}x"
        found = _shapes[count, size, length] = struct.Struct(place * count)
    return found


def replies(
    near: dict[bytes, Near], heads: bytes, sizes: tuple[int, ...]
) -> tuple[bytes, list[int]] | None:
    """Return the replies to a batch without their ids, joined, and how long each is.

    None when it is no flood of one form.
    """
    count, size, length = len(sizes), sizes[0], heads[NAME + 2]
    if (
        not LEAST <= size <= HEAD
        or not _LONGEST_STAR < length < size - LEAST
        or sizes.count(size) != count
    ):
        return None
    fields = _shape(count, size, length).unpack_from(heads)
    headers, labels, rests = fields[::3], fields[1::3], fields[2::3]
    found = near.get(headers[0] + rests[0])
    text = b"".join(labels)
    if (
        found is None
        or headers.count(headers[0]) != count
        or rests.count(rests[0]) != count
        or text.lower() != text
        or not found.children.keys().isdisjoint(labels)
    ):
        return None
    found.cell[0] += count
    begin = found.flags + headers[0][NAME:]
    end = rests[0][: found.question.stop] + found.present()
    octets = begin + (end + begin).join(labels) + end
    return octets, [len(octets) // count] * count
