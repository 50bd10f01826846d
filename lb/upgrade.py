# SPDX-License-Identifier: Apache-2.0
"""Bytes from one plain socket to another by the kernel alone: `splice` through a pipe.

::

    server's socket ──splice──► pipe ──splice──► client's socket        nothing is copied to user space
          ▲ readable                                   ▲ writable again

For upgraded connections and for large bodies. The transports stop reading meanwhile; the loop
watches duplicates of their descriptors, because it refuses to watch one that a transport owns.

A `Flow` is one direction. It ends with its count of bytes, or with the end of the stream.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_PIPE: Final = 1 << 20  # bytes; the largest that the kernel lets everybody have
_ONCE: Final = 1 << 20
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_TURNS: Final = 8  # of one flow before others get theirs
_SPARE: Final = 64
LARGE: Final = 128 << 10
"""Bytes of a body from which on a flow is cheaper than to read and write: it costs 15 µs to set up."""
BULK: Final = 32 << 10
"""Bytes in one read that show that an upgraded connection carries bulk; small messages are cheaper copied."""
_spare: list[tuple[int, int]] = []  # empty pipes: to make one costs 20 µs


def _pipe() -> tuple[int, int]:
    if _spare:
        return _spare.pop()
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with suppress(OSError):  # more than this user may have: a smaller pipe does too
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE)
    return read, write


class Flow:
    """One direction from one socket to another.

    Args:
        source, target: descriptors of plain sockets; duplicated here.
        count: bytes to move; None up to the end of the stream.
        done: called once with the bytes moved and what went wrong (None: nothing).
    """

    __slots__ = (
        "_blocked",
        "_done",
        "_held",
        "_left",
        "_loop",
        "_pipe",
        "_source",
        "_target",
        "moved",
        "touched",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: int,
        target: int,
        count: int | None,
        done: Callable[[int, OSError | None], None],
    ) -> None:
        self._loop = loop
        self._left = count
        self._done: Callable[[int, OSError | None], None] | None = done
        self._held = 0  # bytes in the pipe
        self._blocked = False  # the target takes nothing now
        self.moved = 0
        self.touched = True  # something moved since the last sweep
        self._source = os.dup(source)
        self._target = os.dup(target)
        self._pipe = _pipe()
        loop.add_reader(self._source, self._turn)

    @property
    def stuck(self) -> bool:
        """Whether the target took nothing since the last sweep, and something waits for it."""
        return self._blocked and not self.touched

    def _turn(self) -> None:
        """Move what there is."""
        try:
            for _ in range(_TURNS):
                if not self._blocked and self._held == 0 and self._left == 0:
                    self._end(None)
                    return
                if self._held == 0:
                    most = _ONCE if self._left is None else min(_ONCE, self._left)
                    try:
                        got = os.splice(self._source, self._pipe[1], most, flags=_FLAGS)
                    except BlockingIOError:
                        return
                    if got == 0:
                        self._end(None)
                        return
                    self._held = got
                    if self._left is not None:
                        self._left -= got
                try:
                    sent = os.splice(self._pipe[0], self._target, self._held, flags=_FLAGS)
                except BlockingIOError:
                    if not self._blocked:
                        self._blocked = True
                        self._loop.remove_reader(self._source)
                        self._loop.add_writer(self._target, self._turn)
                    return
                self.touched = True
                self._held -= sent
                self.moved += sent
                if self._blocked and not self._held:
                    self._blocked = False
                    self._loop.remove_writer(self._target)
                    self._loop.add_reader(self._source, self._turn)
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        self.close()
        done(self.moved, error)

    def close(self) -> None:
        """Stop; what is in the pipe is lost."""
        self._done = None
        if self._source < 0:
            return
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._target)
        os.close(self._source)
        os.close(self._target)
        self._source = self._target = -1
        if self._held or len(_spare) >= _SPARE:
            os.close(self._pipe[0])
            os.close(self._pipe[1])
        else:
            _spare.append(self._pipe)
