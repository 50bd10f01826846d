# SPDX-License-Identifier: Apache-2.0
"""Long work in pieces, so that whoever has an event loop can let others have their turn between two."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import TypeVar

Thing = TypeVar("Thing")


def pieces(of: Collection[Thing], most: int) -> Iterator[tuple[Thing, ...]]:
    """Give what a collection holds now, at most so many at once; it may change meanwhile."""
    left = iter(tuple(of))
    while some := tuple(islice(left, most)):
        yield some
