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
