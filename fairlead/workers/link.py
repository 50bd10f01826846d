# SPDX-License-Identifier: Apache-2.0
"""One end of a socket pair: messages and file descriptors, in order, both ways.

The kernel hands descriptors over no later than the octets they were sent with, and never mixes
those of two sends in one receive; so they wait in a queue until the frame that counts them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from fairlead.workers.messages import Message, Unframer, frame

MOST_DESCRIPTORS: Final = 250  # in one message; the kernel's SCM_MAX_FD is 253
_OCTETS: Final = 1 << 18


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends, non-blocking and not inherited."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one.setblocking(False)
    other.setblocking(False)
    return one, other


class Link:
    """Sends and receives on one end, on the running loop.

    Args:
        sock: ours from now on.
        received: called with each message and the descriptors that came with it, which are the
            callee's to close.
        closed: called once, when the other end is gone or spoke nonsense; not by `close`.

    Attributes:
        waiting: octets not yet taken by the kernel: the other end is slow, or stuck.
    """

    def __init__(
        self,
        sock: socket.socket,
        received: Callable[[Message, list[int]], None],
        closed: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._received = received
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._out: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._unframer = Unframer()
        self._descriptors: deque[int] = deque()
        self.waiting = 0
        self._open = True
        self._loop.add_reader(sock, self._read)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message, at once or as soon as the other end takes it; after `close` nothing is.

        Args:
            descriptors: duplicated for the other end; the caller's stay open and the caller's.
        """
        if not self._open:
            return
        octets = frame(message, len(descriptors))
        # what has to wait must not depend on the caller's descriptors staying open
        kept = [os.dup(each) for each in descriptors]
        self._out.append((memoryview(octets), kept))
        self.waiting += len(octets)
        if len(self._out) == 1:
            self._write()

    def close(self) -> None:
        """Let go of the socket, and of descriptors that nobody took."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for each in (*self._descriptors, *(fd for _, fds in self._out for fd in fds)):
            os.close(each)
        self._descriptors.clear()
        self._out.clear()

    def _write(self) -> None:
        while self._out:
            octets, descriptors = self._out[0]
            try:
                sent = socket.send_fds(self._sock, [octets], descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._write)
                return
            except OSError:  # the other end is gone; `_read` sees it too
                self._gone()
                return
            for each in descriptors:
                os.close(each)
            self.waiting -= sent
            if sent < len(octets):
                self._out[0] = (octets[sent:], ())
            else:
                self._out.popleft()
        self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            octets, descriptors, _, _ = socket.recv_fds(
                self._sock, _OCTETS, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self._gone()
            return
        self._descriptors += descriptors
        if not octets:
            self._gone()
            return
        for message, count in self._unframer.feed(octets):
            self._received(message, [self._descriptors.popleft() for _ in range(count)])
            if not self._open:
                return

    def _gone(self) -> None:
        if self._open:
            self.close()
            self._closed()
