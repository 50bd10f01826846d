# SPDX-License-Identifier: Apache-2.0
"""What came of a request's body, for another try (specs/vulcand.md §3.3, MaxMemBodyBytes).

::

    add ─► pieces in memory ── more than `memory` ──► an unlinked file ── more than `file` ──► refused
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
        """Keep bytes; false when there is no room for them: what came before is still kept."""
        size = self.size + len(data)
        if size <= self._room:
            self._pieces.append(data)
        elif size > self._most:
            return False
        else:
            try:
                self._write(data)
            except OSError:  # the disk is full
                return False
        self.size = size
        return True

    def _write(self, data: bytes) -> None:
        if self._file is not None:
            _append(self._file, data)
            return
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (lives as long as this)
        _append(file, b"".join((*self._pieces, data)))
        self._file, self._pieces = file, []

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


def _append(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
