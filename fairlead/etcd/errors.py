# SPDX-License-Identifier: Apache-2.0
"""etcd's refusals as types: the classes of specs/etcd.md §5.3."""

from __future__ import annotations

from fairlead.errors import StoreError
from fairlead.etcd.types import Revision


class Unavailable(StoreError):
    """No endpoint answered, or the one in use cannot serve now; the next try may work."""

    transient = True


class Timeout(Unavailable):
    """The deadline passed; the connection was dropped as suspect."""


class Unclear(StoreError):
    """A write whose outcome is unknown: the caller reads back before it goes on (§5.4)."""

    transient = True


class Busy(StoreError):
    """etcd asks for patience: "too many requests"."""

    transient = True


class Compacted(StoreError):
    """The revision asked for is gone; list again from the present.

    Attributes:
        compact_revision: the oldest revision that still answers; 0 where unknown.
    """

    transient = True

    def __init__(self, reason: str, compact_revision: Revision = Revision(0)) -> None:
        super().__init__(reason)
        self.compact_revision = compact_revision


class FutureRevision(StoreError):
    """The server is older than we think: another or a restored cluster; list again."""

    transient = True


class LeaseLost(StoreError):
    """The lease is gone; grant again and put the keys again."""

    transient = True


class LeaseExists(StoreError):
    """A lease with that id stands already."""


class Invalid(StoreError):
    """The request itself is wrong and will stay so."""


class TooLarge(Invalid):
    """The request is larger than the server takes."""


class NoSpace(StoreError):
    """etcd's database is full: writes fail, reads and watches go on (alarm NOSPACE)."""

    transient = True


class TokenExpired(StoreError):
    """The auth token is not (any more) known; the client renews it once by itself."""

    transient = True


class Denied(StoreError):
    """The user may not do this; the message names the call and the key."""


class BadLogin(StoreError):
    """User name or password is wrong."""


class Corrupt(StoreError):
    """The cluster reports corruption."""


class Unimplemented(StoreError):
    """This server does not have that call."""


class NotSent(Unavailable):
    """The request surely did nothing: its connection never came up, or refused its stream."""


class TLSFailed(NotSent):
    """The TLS handshake failed; certificates, names or settings have to be mended."""


# What a text of etcd's means; the first that the message contains decides (specs/etcd.md §5.3).
# Texts come before codes: `etcd grpc-proxy` passes every error on as code 2 with the same text.
TEXTS: tuple[tuple[str, type[StoreError]], ...] = (
    ("required revision has been compacted", Compacted),
    ("required revision is a future revision", FutureRevision),
    ("requested lease not found", LeaseLost),
    ("lease already exists", LeaseExists),
    ("too large lease TTL", Invalid),
    ("key is not provided", Invalid),
    ("duplicate key given in txn request", Invalid),
    ("too many operations in txn request", Invalid),
    ("request is too large", TooLarge),
    ("received message larger than max", TooLarge),
    ("database space exceeded", NoSpace),
    ("too many requests", Busy),
    ("invalid auth token", TokenExpired),
    ("user name is empty", TokenExpired),
    ("revision of auth store is old", TokenExpired),
    ("permission denied", Denied),
    ("authentication failed, invalid user ID or password", BadLogin),
    ("no leader", Unavailable),
    ("leader changed", Unavailable),
    ("request timed out", Unavailable),
    ("server stopped", Unavailable),
    ("unhealthy cluster", Unavailable),
    ("corrupt cluster", Corrupt),
    ("rpc not supported for learner", Unavailable),
    ("not capable", Unavailable),
    ("context deadline exceeded", Unavailable),
    ("authentication is not enabled", Invalid),
)

# What a gRPC status means where no text matched.
CODES: dict[int, type[StoreError]] = {
    1: Unavailable,  # CANCELLED: the server gave the stream up
    3: Invalid,  # INVALID_ARGUMENT
    4: Timeout,  # DEADLINE_EXCEEDED
    5: Invalid,  # NOT_FOUND
    6: Invalid,  # ALREADY_EXISTS
    7: Denied,  # PERMISSION_DENIED
    8: Busy,  # RESOURCE_EXHAUSTED
    9: Invalid,  # FAILED_PRECONDITION
    11: Invalid,  # OUT_OF_RANGE
    12: Unimplemented,  # UNIMPLEMENTED
    15: Corrupt,  # DATA_LOSS
    16: TokenExpired,  # UNAUTHENTICATED
}


def from_status(code: int, text: str) -> StoreError:
    """Return the error for a gRPC status: its text decides, then its code, else Unavailable."""
    for part, kind in TEXTS:
        if part in text:
            return kind(text)
    return CODES.get(code, Unavailable)(text or f"gRPC status {code} without a message")
