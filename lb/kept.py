# SPDX-License-Identifier: Apache-2.0
"""What came of a request's body, for another try (specs/vulcand.md §3.3, MaxMemBodyBytes).

::

    add ─► pieces in memory ── more than `memory` ──► an unlinked file ── more than `file` ──► given up
                  └──────────── all ────────────────────────┘ mapped, so that it is not read into memory
"""

from __future__ import annotations

import mmap
import tempfile
from io import FileIO

Piece = bytes | memoryview


class Kept:
    """See the module's words.

    Args:
        memory: bytes that stay in memory.
        file: bytes that may go to a file in all; 0: none goes there.
    """

    __slots__ = ("_file", "_most", "_pieces", "_room", "size")

    def __init__(self, memory: int, file: int = 0) -> None:
        self._room = memory
        self._most = file
        self._pieces: list[bytes] = []
        self._file: FileIO | None = None
        self.size = 0

    def add(self, data: bytes) -> bool:
        """Keep bytes; false when there is no room for them: nothing is kept any more."""
        self.size += len(data)
        if self.size <= self._room:
            self._pieces.append(data)
            return True
        try:
            return self.size <= self._most and self._write(data)
        except OSError:  # the disk is full: the request goes on, it just cannot be sent again
            return False

    def _write(self, data: bytes) -> bool:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (lives as long as this)
            data, self._pieces = b"".join((*self._pieces, data)), []
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        return True

    def all(self) -> list[Piece]:
        """Return everything."""
        if self._file is None:
            return list(self._pieces)
        return [memoryview(mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_READ))]

    def close(self) -> None:
        """Let the file go; what `all` returned stays readable."""
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        self.close()  # a request ends in many ways; its body goes with the last who holds it
