# SPDX-License-Identifier: Apache-2.0
"""Where vulcand keeps its objects in etcd; the only module that builds or takes apart such keys.

::

    <root>/backends/<id>/backend            <root>/frontends/<id>/frontend
    <root>/backends/<id>/servers/<id>       <root>/frontends/<id>/middlewares/<id>
    <root>/hosts/<name>/host                <root>/listeners/<id>
    <root>/autocert_cache/<name>            ours: see `lb.acme.entries`

The root is `vulcand` or `/vulcand`: etcd v2 knew only the second, vulcand on etcd v3 reads only
the first, and people have both (specs/vulcand.md §2). Keys are matched under the root, never by
their tail alone, so `/vulcand-staging/…` is nobody's business here (§2.1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fairlead.errors import RecordError
from fairlead.etcd.types import KeyRange

ROOTS: Final = ("/vulcand", "vulcand")
"""Read when `-etcdKey` is not given; the first wins where both hold an object (V1)."""


class Kind(StrEnum):
    """What an object is; the value is its name in messages."""

    HOST = "host"
    LISTENER = "listener"
    BACKEND = "backend"
    SERVER = "server"
    FRONTEND = "frontend"
    MIDDLEWARE = "middleware"
    ACME = "ACME entry"


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """One object's identity; `parent` is a server's backend or a middleware's frontend."""

    kind: Kind
    id: str
    parent: str = ""

    def __str__(self) -> str:
        path = f"{self.parent}/{self.id}" if self.parent else self.id
        return f'{self.kind} "{path}"'


_TAIL: Final = re.compile(
    rb"/(?:frontends/(?P<frontend>[^/]+)(?:/frontend)?"
    rb"|frontends/(?P<mw_of>[^/]+)/middlewares/(?P<middleware>[^/]+)"
    rb"|backends/(?P<backend>[^/]+)(?:/backend)?"
    rb"|backends/(?P<srv_of>[^/]+)/servers/(?P<server>[^/]+)"
    rb"|hosts/(?P<host>[^/]+)(?:/host)?"
    rb"|listeners/(?P<listener>[^/]+)(?:/.*)?"
    rb"|autocert_cache/(?P<acme>[^/]+))",
    re.DOTALL,
)
_SHAPES: Final = {
    Kind.HOST: "hosts/{id}/host",
    Kind.LISTENER: "listeners/{id}",
    Kind.BACKEND: "backends/{id}/backend",
    Kind.SERVER: "backends/{parent}/servers/{id}",
    Kind.FRONTEND: "frontends/{id}/frontend",
    Kind.MIDDLEWARE: "frontends/{parent}/middlewares/{id}",
    Kind.ACME: "autocert_cache/{id}",
}


def range_of(root: str) -> KeyRange:
    """Return what to read and watch: a root with its slash (§2.1, third trap)."""
    return KeyRange.prefix(f"{root.rstrip('/')}/".encode())


def parse(key: bytes, roots: Sequence[str]) -> Ref | None:
    """Return the object that `key` holds; None for a key of no object of ours.

    Raises:
        RecordError: the id is not UTF-8.
    """
    for root in roots:
        prefix = root.rstrip("/").encode()
        if not key.startswith(prefix + b"/"):
            continue
        found = _TAIL.fullmatch(key, len(prefix))
        if found is None:
            return None
        group = str(found.lastgroup)
        kind = Kind.ACME if group == "acme" else Kind(group)
        parent = found["mw_of"] or found["srv_of"] or b""
        try:
            return Ref(kind, found[group].decode(), parent.decode())
        except UnicodeDecodeError as error:
            raise RecordError(key, "the id is not UTF-8") from error
    return None


def build(root: str, ref: Ref) -> bytes:
    """Return the key under which `ref` is written."""
    tail = _SHAPES[ref.kind].format(id=ref.id, parent=ref.parent)
    return f"{root.rstrip('/')}/{tail}".encode()


def spellings(root: str, ref: Ref) -> tuple[bytes, ...]:
    """Return every key under which others may have written `ref`: `…/f1/frontend` and `…/f1`."""
    written = build(root, ref)
    if ref.kind in (Kind.HOST, Kind.BACKEND, Kind.FRONTEND):
        return written, written.rpartition(b"/")[0]
    return (written,)


def below(root: str, ref: Ref) -> tuple[KeyRange, ...]:
    """Return the ranges of what goes with an object: a backend's servers, a frontend's middlewares.

    With the closing slash: a delete of `f1` must not take `f10` along (§2.1, first trap). With a
    host goes the key that an ACME server certified.
    """
    if ref.kind is Kind.HOST:
        names = (ref.id, f"{ref.id}+failed")
        return tuple(KeyRange(build(root, Ref(Kind.ACME, name))) for name in names)
    if ref.kind not in (Kind.BACKEND, Kind.FRONTEND):
        return ()
    return (KeyRange.prefix(build(root, ref).rpartition(b"/")[0] + b"/"),)


def rank(key: bytes, roots: Sequence[str]) -> tuple[int, int, bytes]:
    """Order the spellings of one object: the smallest rank is the one in force.

    The first root wins, then the full spelling (`…/f1/frontend` over `…/f1`), then byte order.
    Listeners have no sub-key, so theirs is the short one.
    """
    place = next(
        i for i, root in enumerate(roots) if key.startswith(root.rstrip("/").encode() + b"/")
    )
    length = len(key) if b"/listeners/" in key else -len(key)
    return place, length, key
