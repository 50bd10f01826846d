# SPDX-License-Identifier: Apache-2.0
"""What several processes count of the same in one second, in shared memory: for `-rrl` with workers.

Theory of operation
-------------------
A table in a memory file that parent and workers map. What is counted hashes to one row, and in it
each process has a cell that only it writes, so there is no lock::

    hash ─► row ─► │ hash 8 │ second 4 │ count 4 │ × seats

A cell counts for others only if hash and second are theirs. Two things in one row displace each
other: then a process knows its own count alone, which limits less, never more. A cell read while
it is written is off by one reply.
"""

from __future__ import annotations

import mmap
import os
import struct
from hashlib import blake2b
from typing import Final

ROWS: Final = 1 << 16
_CELL: Final = struct.Struct("=8sII")


class Joint:
    """The table, seen by one process.

    Args:
        descriptor: of the memory file; it is closed.
        seats: processes that count.
        seat: which of them this is.
        secret: what is counted is hashed with; nobody outside can aim at a row.
    """

    def __init__(self, descriptor: int, seats: int, seat: int, secret: bytes) -> None:
        self.seats = seats
        self._map = mmap.mmap(descriptor, 0)
        os.close(descriptor)
        self._row = struct.Struct("=" + "8sII" * seats)
        self._seat = seat
        self._secret = secret

    @staticmethod
    def make(seats: int) -> int:
        """Return the descriptor of an empty table; it takes memory as it is used."""
        descriptor = os.memfd_create("skydns-joint", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, ROWS * seats * _CELL.size)
        return descriptor

    @staticmethod
    def opened(pid: int, descriptor: int) -> int:
        """Return our descriptor of a memory file that our parent holds."""
        return os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)

    def others(self, what: bytes, second: int, count: int) -> int:
        """Note how often this process has counted something in a second; return the others' sum.

        Args:
            second: of a clock that all processes share.
        """
        digest = blake2b(what, digest_size=8, key=self._secret).digest()
        at = int.from_bytes(digest[:4], "little") % ROWS * self._row.size
        _CELL.pack_into(self._map, at + self._seat * _CELL.size, digest, second, count)
        cells = self._row.unpack_from(self._map, at)
        total: int = sum(
            cells[place + 2]
            for place in range(0, len(cells), 3)
            if cells[place] == digest and cells[place + 1] == second
        )
        return total - count
