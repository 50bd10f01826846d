# SPDX-License-Identifier: Apache-2.0
"""Memory that one process writes and another reads, whenever it likes and without asking.

The reader never waits for the writer's loop, and what a killed worker had counted can still be
read. A checksum tells whether what is read is one whole write; in the middle of one, and when
the writer died there, the reader has what it read before::

    length (8 octets) │ CRC-32 (4 octets) │ the octets, `length` of them
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final
from zlib import crc32

_HEAD: Final = struct.Struct("<QI")
_FIRST: Final = 1 << 16
_TRIES: Final = 100


class Page:
    """One page; it grows as needed, and takes no memory beyond what was written."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, 0)
        self._last = b""

    @classmethod
    def make(cls) -> Page:
        """Make one that can be handed on by its `descriptor`."""
        descriptor = os.memfd_create("fairlead-worker", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _FIRST)
        return cls(descriptor)

    def write(self, octets: bytes) -> None:
        """Replace what the page holds; for its one writer."""
        end = _HEAD.size + len(octets)
        self._fit(end)
        _HEAD.pack_into(self._map, 0, len(octets), crc32(octets))
        self._map[_HEAD.size : end] = octets

    def read(self) -> bytes:
        """Return what was written last; b"" before the first write."""
        for _ in range(_TRIES):
            length, checksum = _HEAD.unpack_from(self._map)
            end = _HEAD.size + length
            if end > len(self._map) and not self._grown(end):
                continue
            octets = self._map[_HEAD.size : end]
            if crc32(octets) == checksum:
                self._last = octets
                break
        return self._last

    def close(self) -> None:
        """Let go of the memory."""
        self._map.close()
        os.close(self.descriptor)

    def _grown(self, size: int) -> bool:
        """Map what the writer has added; say whether it is `size` octets in all."""
        there = os.fstat(self.descriptor).st_size
        if there > len(self._map):
            self._map.close()
            self._map = mmap.mmap(self.descriptor, there)
        return there >= size

    def _fit(self, size: int) -> None:
        """Make room for `size` octets."""
        if size > len(self._map):
            os.ftruncate(self.descriptor, 1 << (size - 1).bit_length())
            self._grown(size)
