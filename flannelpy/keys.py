# SPDX-License-Identifier: Apache-2.0
"""Where flannel's keys are: <prefix>/config and <prefix>/subnets/10.5.34.0-24 (specs/flannel.md §4).

The only module that builds or takes apart etcd paths. Nothing of ours ever goes under the
string `<prefix>/subnets`: Go peers would drop every route (trap T1).
"""

from __future__ import annotations

import posixpath
import re
from ipaddress import IPv4Network, IPv6Network

from msgspec import Struct

from fairlead.errors import RecordError
from fairlead.etcd.types import KeyRange
from flannelpy.fields import DOTTED, packed4

_LEAF = re.compile(rb"(%b)-(\d{1,9})(?:&([a-f\d:]+)-(\d{1,9}))?" % DOTTED)

MOST_V4 = 31  # five bits: the original cannot read a /32 key (trap T19)
MOST_V6 = 127  # seven bits: nor a /128 key


class Subnets(Struct, frozen=True, gc=False):
    """The slice of the overlay that one lease holds; at least one family is present.

    Attributes:
        v4: None for a lease of a v6-only network, whose key begins with 0.0.0.0-0.
        v6: None unless the network has IPv6.
    """

    v4: IPv4Network | None
    v6: IPv6Network | None = None

    def __str__(self) -> str:
        return "&".join(str(net) for net in (self.v4, self.v6) if net is not None)


def config(prefix: str) -> bytes:
    """Return the key of the network configuration."""
    return _join(prefix, "config")


def subnets(prefix: str) -> KeyRange:
    """Return the range of all lease keys; with the slash, so that no sibling is in it."""
    return KeyRange.prefix(_join(prefix, "subnets") + b"/")


def lease(prefix: str, own: Subnets) -> bytes:
    """Return the key of a lease, byte for byte the original's."""
    v4 = "0.0.0.0-0" if own.v4 is None else f"{own.v4.network_address}-{own.v4.prefixlen}"
    v6 = "" if own.v6 is None else f"&{own.v6.network_address}-{own.v6.prefixlen}"
    return _join(prefix, "subnets") + b"/" + (v4 + v6).encode()


def parse_lease(key: bytes) -> Subnets:
    """Return the subnets that a lease key names.

    Args:
        key: the whole key; what stands before the last slash is not looked at.

    Raises:
        RecordError: the key is not one the original could read, or has host bits set.
    """
    match = _LEAF.fullmatch(key, key.rfind(b"/") + 1)
    if match is None:
        raise RecordError(key, "not a lease key; one looks like 10.5.34.0-24")
    address4, length4, address6, length6 = match.groups()
    if int(length4) > MOST_V4:
        raise RecordError(key, f"IPv4 prefix length {int(length4)} is over {MOST_V4}")
    if length6 is not None and int(length6) > MOST_V6:
        raise RecordError(key, f"IPv6 prefix length {int(length6)} is over {MOST_V6}")
    try:
        v4 = IPv4Network((packed4(address4), int(length4)))
        v6 = None if address6 is None else IPv6Network((address6.decode(), int(length6)))
    except ValueError as error:
        raise RecordError(key, str(error)) from error
    if v4.prefixlen == 0:
        if v6 is None:
            raise RecordError(key, "names no subnet")
        return Subnets(None, v6)
    return Subnets(v4, v6)


def _join(prefix: str, leaf: str) -> bytes:
    """Join as Go's path.Join does: doubled and trailing slashes vanish."""
    path = posixpath.normpath(f"{prefix}/{leaf}" if prefix else leaf)
    if path.startswith("//"):  # POSIX keeps exactly two leading slashes, Go does not
        path = path[1:]
    return path.encode()
