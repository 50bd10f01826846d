# SPDX-License-Identifier: Apache-2.0
"""A batch of missing names, answered whole.

Who floods a server with names that do not exist asks in one form: one zone, one type, random labels
of one length. Query by query such a name costs three times an existing one (its label cut out,
looked for among its brothers, its reply joined), so a batch that is all alike is taken apart by
two calls for all of its queries, and its labels are compared with the brothers by one::

    heads   ┌ header ┬ label ┬ the rest ┬ ┐ × 64       headers and rests: all the same
            └ 11     ┴ n     ┴          ┴ ┘            labels: none among the children

Up to a quarter of the batch may be of other sizes (numbered names are): these are answered one by
one between the others. Any other difference, and the hot loop answers the batch one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from skydns.places import HEAD
from skydns.ready import LEAST, NAME, STAR, Near

FEWEST: Final = 2
"""Queries that make a batch worth a look."""

PATIENCE: Final = 32
"""Batches at most that are not looked at after mixed ones: a look costs a fifth of its answers. One after the
first, then twice as many each time: in a flood of numbered names one small batch in twenty is mixed."""

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
    near: dict[bytes, Near],
    heads: bytes,
    sizes: tuple[int, ...],
    other: Callable[[int], bytes],
) -> tuple[bytes, list[int]] | None:
    """Return the replies to a batch without their ids, joined, and how long each is.

    None when it is no flood of one form.

    Args:
        other: gives the reply at a place whose query has another size than most.
    """
    count = len(sizes)
    size = _usual(sizes)
    if size is None:
        return None
    if sizes.count(size) == count:
        octets = _alike(near, heads, count, size)
        return None if octets is None else (octets, [len(octets) // count] * count)
    odd = [place for place, each in enumerate(sizes) if each != size]
    parts, begin = [], 0
    for place in odd:
        parts.append(heads[begin * HEAD : place * HEAD])
        begin = place + 1
    parts.append(heads[begin * HEAD :])
    usual = count - len(odd)
    octets = _alike(near, b"".join(parts), usual, size)
    if octets is None:
        return None
    length = len(octets) // usual
    lengths = [length] * count
    parts, at, begin = [], 0, 0
    for place in odd:
        end = at + (place - begin) * length
        reply = other(place)
        parts += octets[at:end], reply
        lengths[place] = len(reply)
        at, begin = end, place + 1
    parts.append(octets[at:])
    return b"".join(parts), lengths


def _usual(sizes: tuple[int, ...]) -> int | None:
    """Return the size of three quarters of the queries or more; None: there is none.

    Three are tried: of numbered names nine in ten have the same digits, so one in a thousand
    batches is not seen for what it is.
    """
    for size in sizes[:3]:
        if sizes.count(size) * 4 >= len(sizes) * 3:
            return size
    return None


def _alike(near: dict[bytes, Near], heads: bytes, count: int, size: int) -> bytes | None:
    """Return the replies to queries that are alike but for their labels, joined, else None."""
    length = heads[NAME + 2]
    if not LEAST <= size <= HEAD or not _LONGEST_STAR < length < size - LEAST:
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
    octets: bytes = begin + (end + begin).join(labels) + end
    return octets
