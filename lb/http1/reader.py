# SPDX-License-Identifier: Apache-2.0
"""The heads of one connection: read by what its last ones had in common. No IO.

Theory of operation
-------------------
A client's heads mostly differ in the first line and in the values of a few fields: Cookie,
Referer, an id. A reader learns which, and from then on compares what stands between them as
long pieces::

    ⏎Host: a⏎User-Agent: …⏎Cookie:│ value │⏎Accept: …⏎X-Request-Id:│ value │
    └──────── fixed[0] ───────────┘       └──────── fixed[1] ──────┘       └ fixed[2] = ""

    fits: every piece is where it was, and the values are of permitted bytes
          ─► the same Fields, kept = kept[0] + value + kept[1] + value + kept[2]
    else: read as a whole (`request.parse_request`), compared with the last, learnt

Only the values of fields that mean nothing to a proxy may vary; a head with another Host or
Connection, or with more lines, is read as a whole. Invariant: what a reader returns is what
`parse_request` returns (property-tested).

1.5 µs for a head of 12 fields with three that vary, where reading it takes 5.
"""

from __future__ import annotations

from typing import Final

from lb.http1 import request
from lb.http1.request import Fields, Request

_MOST: Final = 8  # fields that vary
_PATIENCE: Final = 16  # heads in a row that did not fit until only some are learnt from
_LARGEST: Final = 16 << 10  # bytes of a block; to learn one costs 0.5 µs a line
_VALUE: Final = bytes([9, *range(32, 127), *range(128, 256)])


class Reader:
    """See the module's words."""

    __slots__ = ("_block", "_fields", "_fixed", "_kept", "_lengths", "_misses", "_rest", "_varying")

    def __init__(self) -> None:
        self._fields: Fields | None = None
        self._block = b""  # of the head that was learnt from last
        self._fixed = b""  # the piece before the first value, and what is kept of it
        self._kept = b""
        # of each value: the piece behind it, its length, what is kept of it
        self._rest: tuple[tuple[bytes, int, bytes], ...] = ()
        self._lengths: list[int] = []  # of the last values
        self._varying: frozenset[int] = frozenset()  # lines of the block
        self._misses = 0

    def forget(self) -> None:
        """Hold nothing."""
        self._fields = None
        self._block = b""
        self._fixed = self._kept = b""
        self._rest = ()
        self._varying = frozenset()
        self._misses = 0

    def whole(self, data: bytes, limit: int) -> Request | None:
        """Return the head that all of `data` is; None says that it is something else.

        Raises:
            RemoteProtocolError: refused; `hint` is the status.
        """
        end = len(data) - 4
        if end > limit or not data.endswith(b"\r\n\r\n"):
            return None
        if self._fields is not None:
            fitting = self._fitting(data, end)
            if fitting is not None:
                return fitting
        return self._anew(data, end) if data.find(b"\r\n\r\n") == end else None

    def read(self, data: bytes, end: int) -> Request:
        """Return the head in data[:end], where `end` is what `find_head` gave.

        Raises:
            RemoteProtocolError: refused; `hint` is the status.
        """
        if self._fields is not None:
            fitting = self._fitting(data, end)
            if fitting is not None:
                return fitting
        return self._anew(data, end)

    def _anew(self, data: bytes, end: int) -> Request:
        """Return the head in data[:end], read as a whole, and mostly learn from it."""
        found = request.parse_request(data, end)
        self._misses += 1
        if self._misses <= _PATIENCE or not self._misses % _PATIENCE:
            self._learn(found)
        return found

    def _fitting(self, data: bytes, end: int) -> Request | None:
        """Return the head in data[:end] if its fields are as before."""
        begin = at = data.find(b"\r\n", 0, end)
        first = self._fixed
        if begin < 0 or not data.startswith(first, begin):
            return None
        at += len(first)
        values = []
        parts = [self._kept]
        lengths = self._lengths
        for i, (piece, size, kept) in enumerate(self._rest):
            stop = at + lengths[i]  # most values are as long as the last ones
            if not data.startswith(piece, stop) or stop > end or (not size and stop != end):
                stop = data.find(b"\r\n", at, end)
                if stop < 0:
                    stop = end
                if not data.startswith(piece, stop):
                    return None
                lengths[i] = stop - at
            value = data[at:stop]
            values.append(value)
            parts.append(value)
            parts.append(kept)
            at = stop + size
        if at != end or (values and b"".join(values).translate(None, _VALUE)):
            return None
        self._misses = 0
        fields = self._fields
        assert fields is not None  # noqa: S101  (the caller looked)
        return request.with_fields(data, begin, fields, data[begin:end], b"".join(parts))

    def _learn(self, found: Request) -> None:
        """Take note of a head that was read as a whole."""
        fields, block, before = found.fields, found.block, self._block
        if fields.nominated or len(block) > _LARGEST:  # what is kept depends on more than the names
            self.forget()
            return
        self._varying = self._differing(before, block) if self._fields is not None else frozenset()
        self._fields, self._block = fields, block
        if not self._varying:
            self._fixed, self._kept, self._rest = block, found.kept, ()
            return
        fixed, kept = [b""], [b""]
        for i, line in enumerate(block.split(b"\r\n")):
            text = b"\r\n" + line if i else line
            if i in self._varying:
                name = text[: text.index(b":") + 1]
                fixed[-1] += name
                kept[-1] += name
                fixed.append(b"")
                kept.append(b"")
                continue
            fixed[-1] += text
            if not i or request.is_plain(line):
                kept[-1] += text
        self._fixed, self._kept = fixed[0], kept[0]
        self._rest = tuple((f, len(f), k) for f, k in zip(fixed[1:], kept[1:], strict=True))
        self._lengths = [0] * len(self._rest)

    def _differing(self, before: bytes, block: bytes) -> frozenset[int]:
        """Return the lines whose values vary, those known to among them; none when more differs."""
        old, new = before.split(b"\r\n"), block.split(b"\r\n")
        if len(old) != len(new):
            return frozenset()
        varying = self._varying | {
            i for i, (one, other) in enumerate(zip(old, new, strict=True)) if one != other
        }
        for i in varying:
            line = new[i]
            name = line[: line.find(b":") + 1]
            if not old[i].startswith(name) or not request.is_plain(line):
                return frozenset()
        return varying if len(varying) <= _MOST else frozenset()
