# SPDX-License-Identifier: Apache-2.0
"""From a resource's prefix and keys to etcd's ranges and back (specs/confd.md §4). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from confd.paths import clean, join
from fairlead.etcd.types import KeyRange
from fairlead.gotemplate.values import from_bytes, to_bytes


def effective_prefix(common: str, own: str, mode: str) -> str:
    """Return the prefix that counts, with a leading slash and none at the end ("/" for none).

    Args:
        common: `-prefix`.
        own: the resource's.
        mode: "override": the common one replaces the own (0.13 and later); "join": both (0.12
            and the fork).
    """
    if mode == "join":
        return join("/", common, own)
    return join("/", common or own)


def fetch_key(prefix: str, key: str) -> str:
    """Return the etcd key that `key` names: `keys = ["/app/"]` is "/app"."""
    return join("/", prefix, key)


def ranges(keys: Iterable[str]) -> tuple[KeyRange, ...]:
    """Return what to read for fetch keys: each key itself and all below it, none twice.

    Two ranges a key, not one prefix, so that a role limited to `/app/` suffices and `/appx`
    costs nothing.
    """
    wanted = sorted(set(keys), key=lambda key: (key.count("/"), key))
    trees: list[KeyRange] = []
    singles: list[KeyRange] = []
    for key in wanted:
        text = to_bytes(key)
        if any(tree.holds(text) for tree in trees):
            continue
        below = KeyRange.prefix(b"/" if key == "/" else text + b"/")
        if key != "/":
            singles.append(KeyRange(text))
        trees.append(below)
    # `/a` stands within no tree of another, or it would have been skipped
    return (*trees, *singles)


def store_name(prefix: str, key: bytes) -> str:
    """Return the name a template sees: the etcd key without the prefix, cleaned."""
    name = from_bytes(key)
    if prefix != "/":
        name = name.removeprefix(prefix)
    if name.startswith("/") and not name.endswith("/") and "//" not in name and "/." not in name:
        return name  # clean already, as nearly all are: 0.2 µs instead of 2
    return clean("/" + name)
