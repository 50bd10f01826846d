# SPDX-License-Identifier: Apache-2.0
"""What this host remembers of its own lease, so that it knows it again under another address.

Leases are found by PublicIP; a host whose address changed while it was down would get another
subnet and leave its old lease behind for a day. The id of an etcd lease is handed out once and
to us alone, so a key that still has it is ours. Nothing is added to the lease's value, which
stays byte for byte the original's. The uplink's MAC is remembered too: a cloned machine starts
with our memory, but with another MAC, and must not take the subnet of the one it was cloned from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fairlead.runtime import Runtime, state_dir
from flannelpy.allocate import Mark
from flannelpy.apply import replace_file


class Own(msgspec.Struct, frozen=True):
    """The file's content."""

    key: str
    lease: int
    uplink: str


class Memory:
    """The file, in the state directory; one for each etcd and prefix."""

    def __init__(self, path: Path | None, runtime: Runtime, uplink: str) -> None:
        self._path = path
        self._log = runtime.log
        self._uplink = uplink
        self._last: Own | None = None

    @classmethod
    def of(cls, runtime: Runtime, prefix: str, uplink: str) -> Memory:
        """Return the memory of this daemon; without a state directory, or with -plan, it keeps nothing.

        Args:
            uplink: MAC of the interface that faces the other hosts.
        """
        directory = state_dir(runtime.program, runtime.values, runtime.environ)
        if directory is None or runtime.planning:
            return cls(None, runtime, uplink)
        return cls(directory / _name(runtime.endpoints, prefix), runtime, uplink)

    def recall(self) -> Mark | None:
        """Return what marks our former lease, or None."""
        if self._path is None:
            return None
        try:
            own = msgspec.json.decode(self._path.read_bytes(), type=Own)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self._log.warning("own lease not remembered", file=self._path, reason=str(error))
            return None
        if own.uplink != self._uplink:
            self._log.warning(
                "own lease not remembered: another interface card; is this machine a clone?",
                was=own.uplink,
                now=self._uplink,
            )
            return None
        return Mark(own.key.encode(), own.lease)

    def keep(self, key: bytes, lease: int) -> None:
        """Remember; a file that cannot be written costs the memory, not the overlay."""
        own = Own(key.decode("utf-8", "backslashreplace"), lease, self._uplink)
        if self._path is None or own == self._last:
            return
        try:
            replace_file(self._path, msgspec.json.encode(own).decode() + "\n")
        except OSError as error:
            self._log.warning("own lease not written down", file=self._path, reason=str(error))
            return
        self._last = own


def _name(endpoints: Sequence[str], prefix: str) -> str:
    what = f"{sorted(endpoints)} {prefix}".encode()
    return f"own-{hashlib.sha256(what).hexdigest()[:12]}.json"
