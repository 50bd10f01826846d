# SPDX-License-Identifier: Apache-2.0
"""A batch of missing names, answered whole.

Who floods a server with names that do not exist asks in one form: one zone, one type, random labels
of one length. Query by query such a name costs half as much again as an existing one (its label cut
out, looked for among its brothers, its reply joined), so a batch that is all alike is taken apart by
two calls for all of its queries, and its labels are compared with the brothers by one::

    heads   ┌ header ┬ length, label ┬ the rest ┬ ┐ × 64       headers and rests: all the same
            └ 10     ┴ 1 + n         ┴          ┴ ┘            labels: none among the children

Up to a quarter of the batch may have labels of other lengths (those of numbered names have): these
are cut out one by one. Any other difference, and the hot loop answers the batch one by one.

What runs once a batch runs cold, after 60 system calls' worth of the kernel's code: each further
step costs three times what it takes in a loop of its own. So the steps are few.
"""

from __future__ import annotations

import struct
from typing import Final

from skydns.places import HEAD
from skydns.ready import LEAST, LONGEST_STAR, NAME, STAR, Near

FEWEST: Final = 2
"""Queries that make a batch worth a look."""

PATIENCE: Final = 32
"""Batches at most that are not looked at after mixed ones: a look costs a fifth of its answers. One after the
first, then twice as many each time: in a flood of numbered names one small batch in twenty is mixed."""

_MOST_SHAPES: Final = 1024

_shapes: dict[tuple[int, int, int], struct.Struct] = {}


def replies(
    near: dict[bytes, Near], heads: bytes, sizes: tuple[int, ...]
) -> tuple[bytes, list[int]] | None:
    """Return the replies to a batch without their ids, joined, and how long each is.

    None when it is no flood of one form.
    """
    size = _usual(sizes)
    if size is None:
        return None
    count, first = len(sizes), sizes.index(size)
    length = heads[first * HEAD + 2 + NAME]
    if not LEAST <= size <= HEAD or not LONGEST_STAR < length < size - LEAST:
        return None
    fields = list(_shape(count, size, length).unpack_from(heads))
    headers, labels, rests = fields[::3], fields[1::3], fields[2::3]
    header, rest = headers[first], rests[first]
    found = near.get(header + labels[first][:1] + rest)
    if found is None or headers.count(header) != count:
        return None
    others: dict[int, tuple[bytes, Near]] = {}
    if sizes.count(size) < count:
        for place, other in enumerate(sizes):
            if other != size:
                cut = _other(near, heads, place, other, header, rest)
                if cut is None:
                    return None
                others[place], labels[place], rests[place] = cut, cut[0], rest
    usual = count - len(others)
    lengths = heads[2 + NAME :: HEAD]  # those of the others are known, and differ
    text = b"".join(labels)
    if (
        rests.count(rest) != count
        or lengths.count(length) != usual
        or text.lower() != text
        or not found.children.keys().isdisjoint(labels)
    ):
        return None
    found.cell[0] += usual
    return _joined(found, labels, length, others)


def _joined(
    found: Near, labels: list[bytes], length: int, others: dict[int, tuple[bytes, Near]]
) -> tuple[bytes, list[int]]:
    """Return the replies for these labels, and how long each is.

    Args:
        found: answers those of the usual length.
        others: by place, a label of another length and what answers it.
    """
    between = found.present() + found.flags
    sizes = [1 + length + len(between)] * len(labels)
    if not others:
        return found.flags + between.join(labels) + found.after, sizes
    parts = [between] * (1 + 2 * len(labels))
    parts[0] = found.flags
    parts[1::2] = labels
    for place, (label, each) in others.items():
        each.cell[0] += 1
        parts[2 + 2 * place] = after = each.present() + each.flags
        sizes[place] = len(label) + len(after)
    parts[-1] = parts[-1][:-NAME]
    return b"".join(parts), sizes


def _other(
    near: dict[bytes, Near], heads: bytes, place: int, size: int, header: bytes, rest: bytes
) -> tuple[bytes, Near] | None:
    """Return the label of a query of another size, and what answers it; None: it differs in more."""
    begin = place * HEAD + 2 + NAME
    end = place * HEAD + size - len(rest)
    label = heads[begin:end]
    if size > HEAD or not label or label[0] + 1 != len(label) or label in STAR:
        return None
    found = near.get(header + label[:1] + rest)
    return (label, found) if found is not None and heads.startswith(rest, end) else None


def _usual(sizes: tuple[int, ...]) -> int | None:
    """Return the size of three quarters of the queries or more; None: there is none.

    Three are tried: of numbered names nine in ten have the same digits, so one in a thousand
    batches is not seen for what it is.
    """
    for size in sizes[:3]:
        if sizes.count(size) * 4 >= len(sizes) * 3:
            return size
    return None


def _shape(count: int, size: int, length: int) -> struct.Struct:
    """Return what cuts so many queries of one size and label into header, label, rest."""
    found = _shapes.get((count, size, length))
    if found is None:
        if len(_shapes) >= _MOST_SHAPES:
            _shapes.clear()
        label = 1 + length
        place = f"2x{NAME}s{label}s{size - 2 - NAME - label}s{HEAD - size}x"
        found = _shapes[count, size, length] = struct.Struct(place * count)
    return found
