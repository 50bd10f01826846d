# SPDX-License-Identifier: Apache-2.0
"""What several processes count together: tokens of rate limits, requests under way. In shared memory.

Theory of operation
-------------------
A table in a memory file that parent and workers map. An entry belongs to the hash of a key; its
set of WAYS entries is found by the hash, and in a full set the entry that was used longest ago
makes room::

    hash ─► set ─► │ 16 octets of hash │ last used │ 8 × seats octets: numbers │ × WAYS

A set is read and changed under a record lock of the kernel (fcntl), which takes 2 µs, is let go
of when a process dies, and is ours alone nearly always: sums are exact at every moment, no
request waits for another process's loop, and nothing is lost with a worker. Lending parcels of a
limit to workers instead would refuse clients at one worker what another still holds.

Where a lock cannot be had within a few milliseconds (its holder was stopped by a signal in those
2 µs) the change is made without: one token may then be counted twice or not at all.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from lb.middleware.ratelimit import Rate

WAYS: Final = 8
SETS: Final = 8192
RATES: Final = 5
"""Rates of one source that are kept; of more the shortest periods count."""
_HASH: Final = 16
_LOCK_TRIES: Final = 2000


class _Table:
    """Sets of entries; `width` octets of numbers in each."""

    def __init__(self, descriptor: int, width: int) -> None:
        self.descriptor = descriptor
        self.size = _HASH + 8 + width
        self.map = mmap.mmap(descriptor, 0)

    @staticmethod
    def make(name: str, width: int) -> int:
        """Return the descriptor of an empty one; it takes memory as it is used."""
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        os.ftruncate(descriptor, SETS * WAYS * (_HASH + 8 + width))
        return descriptor

    def lock(self, key: bytes) -> tuple[int, bytes]:
        """Lock a key's set; return its number and the key's hash."""
        digest = blake2b(key, digest_size=_HASH).digest()
        number = int.from_bytes(digest[:4], "little") % SETS
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except OSError:
                os.sched_yield()
            else:
                break
        return number, digest

    def unlock(self, number: int) -> None:
        """Let others at a set."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, number)

    def find(self, number: int, digest: bytes) -> int:
        """Return where a key's entry begins, -1 if it has none; under the lock."""
        start = number * WAYS * self.size
        end = start + WAYS * self.size
        at = self.map.find(digest, start, end)
        while at >= 0 and (at - start) % self.size:  # the same octets by chance, elsewhere
            at = self.map.find(digest, at + 1, end)
        return at

    def entries(self, number: int) -> range:
        """Return where the entries of a set begin."""
        start = number * WAYS * self.size
        return range(start, start + WAYS * self.size, self.size)

    def used(self, at: int) -> float:
        """Return when an entry was used last."""
        return float(_LAST.unpack_from(self.map, at + _HASH)[0])


_LAST: Final = struct.Struct("=d")
_TOKENS: Final = struct.Struct(f"={_HASH}sd{RATES}d")


class Tokens:
    """Token buckets; see `lb.middleware.ratelimit` for the rule."""

    def __init__(self, descriptor: int) -> None:
        self.table = _Table(descriptor, RATES * 8)

    @staticmethod
    def make() -> int:
        """Return the descriptor of an empty table."""
        return _Table.make("lb-tokens", RATES * 8)

    def take(self, key: bytes, rates: Sequence[Rate], now: float) -> float:
        """Take a token of every bucket of a key and return 0; or none, and return the seconds to wait.

        Args:
            key: of limit and source; other rates make another source.
            now: monotonic seconds, the same in all processes.
        """
        rates = rates[:RATES]
        table = self.table
        number, digest = table.lock(b"%b %a" % (key, rates))
        try:
            at = table.find(number, digest)
            if at < 0:
                at = min(table.entries(number), key=table.used)
                last, left = now, [float(rate.burst) for rate in rates]
            else:
                _, last, *left = _TOKENS.unpack_from(table.map, at)
            since = max(0.0, now - last)
            waits = 0.0
            for i, rate in enumerate(rates):
                per_second = rate.requests / rate.period
                left[i] = min(float(rate.burst), left[i] + since * per_second)
                if left[i] < 1.0 - 1e-9:
                    waits = max(waits, (1.0 - left[i]) / per_second)
            if not waits:
                left = [each - 1.0 for each in left]
            left += [0.0] * (RATES - len(left))
            _TOKENS.pack_into(table.map, at, digest, max(now, last), *left)
        finally:
            table.unlock(number)
        return waits


class Counts:
    """How many of something there are at once, by key; each process counts its own.

    Args:
        seat: which process this is; None for one that only looks.
        seats: how many there are.
    """

    def __init__(self, descriptor: int, seats: int, seat: int | None = None) -> None:
        self.table = _Table(descriptor, seats * 4 + seats % 2 * 4)
        self._seats = struct.Struct(f"={seats}I")
        self._own = (seat or 0) * 4
        self._seat = seat

    @staticmethod
    def make(seats: int) -> int:
        """Return the descriptor of an empty table."""
        return _Table.make("lb-counts", seats * 4 + seats % 2 * 4)

    def enter(self, key: bytes, most: int, now: float) -> bool:
        """Count one more if there are fewer than `most`; whether it was counted.

        More keys in use at once than a set holds are not counted, and let in.
        """
        table = self.table
        number, digest = table.lock(key)
        try:
            at = table.find(number, digest)
            if at < 0:
                at = self._free(number)
                if at < 0:
                    return True
                table.map[at : at + table.size] = digest + bytes(table.size - _HASH)
            numbers = at + _HASH + 8
            if sum(self._seats.unpack_from(table.map, numbers)) >= most:
                return False
            _LAST.pack_into(table.map, at + _HASH, now)
            own = numbers + self._own
            (count,) = _NUMBER.unpack_from(table.map, own)
            _NUMBER.pack_into(table.map, own, count + 1)
        finally:
            table.unlock(number)
        return True

    def leave(self, key: bytes) -> None:
        """Count one less."""
        table = self.table
        number, digest = table.lock(key)
        try:
            at = table.find(number, digest)
            if at >= 0:
                own = at + _HASH + 8 + self._own
                (count,) = _NUMBER.unpack_from(table.map, own)
                if count:
                    _NUMBER.pack_into(table.map, own, count - 1)
        finally:
            table.unlock(number)

    def count(self, key: bytes) -> int:
        """Return how many there are in all processes."""
        table = self.table
        number, digest = table.lock(key)
        try:
            at = table.find(number, digest)
            return sum(self._seats.unpack_from(table.map, at + _HASH + 8)) if at >= 0 else 0
        finally:
            table.unlock(number)

    def clear(self, seat: int) -> None:
        """Forget what a process counted that is gone."""
        view = memoryview(self.table.map).cast("I")
        stride = self.table.size // 4
        column = view[(_HASH + 8) // 4 + seat :: stride]
        for at, count in enumerate(column):
            if count:
                column[at] = 0
        column.release()
        view.release()

    def _free(self, number: int) -> int:
        """Return the entry of a set that nobody is counted in, used longest ago; -1 for none."""
        table = self.table
        free = [
            at
            for at in table.entries(number)
            if not any(self._seats.unpack_from(table.map, at + _HASH + 8))
        ]
        return min(free, key=table.used, default=-1)


_NUMBER: Final = struct.Struct("=I")


class Ledger:
    """Both tables."""

    def __init__(self, descriptors: tuple[int, int], seats: int, seat: int | None = None) -> None:
        self.descriptors = descriptors
        self.tokens = Tokens(descriptors[0])
        self.counts = Counts(descriptors[1], seats, seat)

    @classmethod
    def make(cls, seats: int) -> Ledger:
        """Make empty ones; for the parent."""
        return cls((Tokens.make(), Counts.make(seats)), seats)

    def close(self) -> None:
        """Let go of the memory."""
        for table in (self.tokens.table, self.counts.table):
            table.map.close()
            os.close(table.descriptor)

    @classmethod
    def of(cls, pid: int, descriptors: tuple[int, int], seats: int, seat: int) -> Ledger:
        """Open those of another process, which must be ours."""
        opened = [
            os.open(f"/proc/{pid}/fd/{each}", os.O_RDWR | os.O_CLOEXEC) for each in descriptors
        ]
        return cls((opened[0], opened[1]), seats, seat)
