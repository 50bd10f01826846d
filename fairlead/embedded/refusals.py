# SPDX-License-Identifier: Apache-2.0
"""etcd's refusals, word for word: text → gRPC code and our error class.

Clients match on the texts (specs/etcd.md §5.3), Go's client even compares them whole, so they are
kept to the letter; the code is what etcd answers with the text.
"""

from __future__ import annotations

from enum import Enum

from fairlead.errors import StoreError
from fairlead.etcd.errors import (
    BadLogin,
    Busy,
    Compacted,
    Corrupt,
    Denied,
    FutureRevision,
    Invalid,
    LeaseExists,
    LeaseLost,
    NoSpace,
    TokenExpired,
    TooLarge,
    Unavailable,
    Unimplemented,
)
from fairlead.etcd.types import Revision


class Refusal(Enum):
    """One refusal: (text, gRPC code, class)."""

    EMPTY_KEY = ("etcdserver: key is not provided", 3, Invalid)
    KEY_NOT_FOUND = ("etcdserver: key not found", 3, Invalid)
    VALUE_PROVIDED = ("etcdserver: value is provided", 3, Invalid)
    LEASE_PROVIDED = ("etcdserver: lease is provided", 3, Invalid)
    TOO_MANY_OPS = ("etcdserver: too many operations in txn request", 3, Invalid)
    DUPLICATE_KEY = ("etcdserver: duplicate key given in txn request", 3, Invalid)
    INVALID_SORT = ("etcdserver: invalid sort option", 3, Invalid)
    COMPACTED = ("etcdserver: mvcc: required revision has been compacted", 11, Compacted)
    FUTURE = ("etcdserver: mvcc: required revision is a future revision", 11, FutureRevision)
    NO_SPACE = ("etcdserver: mvcc: database space exceeded", 8, NoSpace)
    LEASE_NOT_FOUND = ("etcdserver: requested lease not found", 5, LeaseLost)
    LEASE_EXISTS = ("etcdserver: lease already exists", 9, LeaseExists)
    LEASE_TTL = ("etcdserver: too large lease TTL", 11, Invalid)
    REQUEST_TOO_LARGE = ("etcdserver: request is too large", 3, TooLarge)
    TOO_MANY_REQUESTS = ("etcdserver: too many requests", 8, Busy)
    STOPPED = ("etcdserver: server stopped", 14, Unavailable)
    TIMEOUT = ("etcdserver: request timed out", 14, Unavailable)
    NO_LEADER = ("etcdserver: no leader", 14, Unavailable)
    CORRUPT = ("etcdserver: corrupt cluster", 15, Corrupt)
    USER_EMPTY = ("etcdserver: user name is empty", 3, TokenExpired)
    BAD_LOGIN = (
        "etcdserver: authentication failed, invalid user ID or password",
        3,
        BadLogin,
    )
    AUTH_OFF = ("etcdserver: authentication is not enabled", 9, Invalid)
    BAD_TOKEN = ("etcdserver: invalid auth token", 16, TokenExpired)
    DENIED = ("etcdserver: permission denied", 7, Denied)

    def error(self, compact_revision: int = 0) -> StoreError:
        """Return a fresh exception that says it."""
        text, _, kind = self.value
        if kind is Compacted:
            return Compacted(text, Revision(max(0, compact_revision)))
        made: StoreError = kind(text)
        return made


_CODES: dict[str, int] = {refusal.value[0]: refusal.value[1] for refusal in Refusal}
_BY_CLASS: tuple[tuple[type[StoreError], int], ...] = (
    (TooLarge, 3),
    (Invalid, 3),
    (Compacted, 11),
    (FutureRevision, 11),
    (LeaseLost, 5),
    (LeaseExists, 9),
    (NoSpace, 8),
    (Busy, 8),
    (TokenExpired, 16),
    (Denied, 7),
    (BadLogin, 3),
    (Corrupt, 15),
    (Unimplemented, 12),
    (Unavailable, 14),
)


def code(error: StoreError) -> int:
    """Return the gRPC code that goes with `error`: by its text, else by its class."""
    known = _CODES.get(str(error))
    if known is not None:
        return known
    return next((number for kind, number in _BY_CLASS if isinstance(error, kind)), 2)
