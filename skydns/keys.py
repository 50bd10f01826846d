# SPDX-License-Identifier: Apache-2.0
"""etcd keys ↔ names: the only place that builds or takes apart our paths (specs/skydns.md §1).

::

    web.east.skydns.local.  ↔  /skydns/local/skydns/east/web

The labels stand in reverse below the prefix, which may be nested (`/skydns/ka2`); all of it is
taken off again on the way back (trap 14: the originals take off one part, whatever the prefix).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from skydns import names

WILDCARDS = (b"*", b"any")
"""Labels that match any label, in questions only (§3.1, trap 17)."""


def clean(prefix: str) -> bytes:
    """Return a prefix in its one form: `skydns`, `/skydns` and `//skydns/` → b"/skydns"."""
    return b"".join(b"/" + part for part in prefix.encode().split(b"/") if part)


def below(prefix: bytes) -> bytes:
    """Return what every key of ours begins with; the slash keeps siblings out (trap 12)."""
    return prefix + b"/"


def config(prefix: bytes) -> bytes:
    """Return the key of the daemon's configuration."""
    return prefix + b"/config"


def name_of(prefix: bytes, key: bytes) -> bytes:
    """Return the name that a key stands for, in the key's own letter case.

    Args:
        prefix: as `clean` gives it.
        key: lies below `prefix`; a trailing slash is dropped.

    Raises:
        ValueError: no name maps to this key; says which part is wrong.
    """
    path = key[len(prefix) + 1 :]
    above, slash, last = (path[:-1] if path.endswith(b"/") else path).rpartition(b"/")
    if slash and not above:
        raise ValueError('part "" cannot be a label')  # a doubled slash after the prefix
    if last in {b"", b".", b".."} or b"\0" in last:
        shown = last.decode("utf-8", "backslashreplace")
        raise ValueError(f'part "{shown}" cannot be a label')
    parent = _name_above(above)
    if len(last) <= names.MOST_LABEL and len(last) + len(parent) < names.MOST_NAME:
        return b"%c%b%b" % (len(last), last, parent)
    return names.from_labels((last, *names.labels(parent)))  # says what is too long


@lru_cache(1024)  # most keys stand beside others
def _name_above(path: bytes) -> bytes:
    """Return the name of a path, the root's of none.

    Raises:
        ValueError: as `name_of`.
    """
    if not path:
        return names.ROOT
    parts = path.split(b"/")
    for part in parts:
        if part in {b"", b".", b".."} or b"\0" in part:
            shown = part.decode("utf-8", "backslashreplace")
            raise ValueError(f'part "{shown}" cannot be a label')
    return names.from_labels(reversed(parts))


def key_of(prefix: bytes, name: bytes) -> bytes:
    """Return the key of a name, folded.

    Raises:
        ValueError: a label holds what a key part cannot (`/`, NUL, `.` or `..`).
    """
    parts = list(names.labels(name.lower()))
    for part in parts:
        if part in {b".", b".."} or b"/" in part or b"\0" in part:
            raise ValueError("no key maps to this name")
    return b"/".join((prefix, *reversed(parts)))


def wildcard_base(name: bytes) -> bytes | None:
    """Return the part of a folded name on the root's side of all its wildcards; None: has none.

    `prod.*.skydns.test.` → `skydns.test.`: what has to be read to answer it (§3.1, 2).
    """
    base, at = None, 0
    while length := name[at]:
        end = at + 1 + length
        if name[at + 1 : end] in WILDCARDS:
            base = name[end:]
        at = end
    return base


def matches(name: bytes, question: bytes) -> bool:
    """Say whether a stored name answers a question with wildcards (§3.1, 4): both folded.

    Compared from the root's side; a name longer than the question matches as well.
    """
    wanted = list(names.labels(question))[::-1]
    have = list(names.labels(name))[::-1]
    return len(have) >= len(wanted) and all(
        want in WILDCARDS or want == label for want, label in zip(wanted, have, strict=False)
    )


def zones(text: str) -> tuple[bytes, ...]:
    """Return the zones of a comma list, folded: names, and CIDRs as their reverse zones.

    Raises:
        ValueError: an element is neither; names it.
    """
    found: dict[bytes, None] = {}
    for element in filter(None, map(str.strip, text.split(","))):
        try:
            if "/" in element:
                found.update(dict.fromkeys(_reverse_zones(element)))
            else:
                found[names.from_text(element).lower()] = None
        except ValueError as error:
            raise ValueError(f'"{element}" is neither a domain name nor a CIDR: {error}') from error
    return tuple(found)


def _reverse_zones(cidr: str) -> Iterable[bytes]:
    """Return the reverse zones that cover a network: more than one when it ends inside a label."""
    network = ipaddress.ip_network(cidr, strict=False)
    step = 8 if network.version == 4 else 4
    whole = -(-network.prefixlen // step) * step  # rounded up to a label
    for part in network.subnets(new_prefix=whole) if whole else (network,):
        text = part.network_address.reverse_pointer.encode().split(b".")
        kept = whole // step
        yield names.from_labels(text[network.max_prefixlen // step - kept :])
