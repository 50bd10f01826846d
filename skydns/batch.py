# SPDX-License-Identifier: Apache-2.0
"""Datagrams by the batch: `recvmmsg` and `sendmmsg` of the C library, by ctypes.

What makes `recvfrom` and `sendto` dear in Python is not the kernel but the sender's address: a
tuple is made of it, and taken apart again. Here it stays where the kernel put it, and the reply
is sent to the same octets; so are the control data that tell which address of ours was asked.

::

    kernel ─recvmmsg─► senders   [place × 28]   ◄── the reply's message points here too
                       controls  [place × 64]   ◄──
                       heads     [place × 128]  the first octets of a query; its id goes back from here
                       rests     [place × 3968] the others, hardly ever used
    replies, joined ─► out ─sendmmsg─► kernel

Places are fixed, so nothing is filled in again but where each reply lies in `out` and how long
it is: two strided copies a batch.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import sys
from array import array
from itertools import accumulate
from typing import Any, Final

from skydns.places import CONTROL, HEAD, PLACES, QUERY, SENDER, Places, by_count
from skydns.tally import Tally

REPLY: Final = 4096
OFFSETS: Final = range(0, PLACES * HEAD, HEAD)
CUTS: Final = tuple(
    tuple(slice(start + 2, start + size) for size in range(HEAD + 1)) for start in OFFSETS
)
"""By place and size, what cuts a query out of the heads, without its id: 60 ns less than to make it."""

_REST: Final = QUERY - HEAD


class Vector(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Message(ctypes.Structure):
    """`struct mmsghdr` where pointers have 8 octets and numbers their low octet first."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_int),  # msghdr ends here, at 56
        ("size", ctypes.c_uint),
    )


_SIZES: Final = by_count("56xI4x")


def _found() -> Any:
    """Return the C library when it has the calls and `Message` is its layout, else None."""
    if sys.platform != "linux" or sys.byteorder != "little" or ctypes.sizeof(Message) != 64:
        return None
    # PyDLL keeps the interpreter's lock: the calls never wait (the sockets do not block), and beside a
    # thread that computes, who gives the lock away gets it back 5 ms later (sys.getswitchinterval)
    library = ctypes.PyDLL(None, use_errno=True)
    if not (hasattr(library, "recvmmsg") and hasattr(library, "sendmmsg")):
        return None
    library.recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)  # fmt: skip
    library.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    return library


LIBRARY: Final = _found()


class Batch(Places):
    """The places of one socket, and the calls.

    Args:
        tally: where replies are counted that the kernel refused.
    """

    def __init__(self, sock: socket.socket, tally: Tally, *, wildcard: bool) -> None:
        super().__init__(sock, wildcard=wildcard)
        self._tally = tally
        self._fd = sock.fileno()
        self._memory = {
            "senders": self.senders, "controls": self.controls, "heads": bytearray(PLACES * HEAD),
            "rests": bytearray(PLACES * _REST), "out": bytearray(PLACES * REPLY),
        }  # fmt: skip
        self._held = {
            name: (ctypes.c_char * len(part)).from_buffer(part)
            for name, part in self._memory.items()
        }
        self._at = {name: ctypes.addressof(held) for name, held in self._held.items()}
        self._in = (Message * PLACES)()
        self._out = (Message * PLACES)()
        self._in_vectors = (Vector * (2 * PLACES))()
        self._out_vectors = (Vector * (2 * PLACES))()
        self._lay_out()
        self._in_octets = memoryview(self._in).cast("B")
        self._fresh = bytes(self._in_octets)
        self._used = 0  # places of the last batch
        self._vectors = memoryview(self._out_vectors).cast("B").cast("Q")
        self._heads_view = memoryview(self._memory["heads"])
        self._in_at = ctypes.addressof(self._in)
        self._out_at = ctypes.addressof(self._out)

    def _lay_out(self) -> None:
        """Fill in what stays."""
        at = self._at
        control_size = (32 if self.v4 else 40) if self.wildcard else 0
        for place in range(PLACES):
            first, second = self._in_vectors[2 * place], self._in_vectors[2 * place + 1]
            first.base, first.size = at["heads"] + place * HEAD, HEAD
            second.base, second.size = at["rests"] + place * _REST, _REST
            number = self._out_vectors[2 * place]
            number.base, number.size = at["heads"] + place * HEAD, 2
            for messages, vectors in ((self._in, self._in_vectors), (self._out, self._out_vectors)):
                message = messages[place]
                message.name = at["senders"] + place * SENDER
                message.name_size = self.size_of_sender
                message.vectors = ctypes.addressof(vectors) + 2 * place * ctypes.sizeof(Vector)
                message.vector_count = 2
                if control_size:
                    message.control = at["controls"] + place * CONTROL
                    message.control_size = control_size

    def receive(self) -> tuple[bytes, tuple[int, ...]]:
        """Return the heads of what is queued, and how long each query is; no sizes when nothing is."""
        if self.wildcard:  # the kernel writes there how much control data it gave
            used = self._used * 64
            self._in_octets[:used] = self._fresh[:used]
        count = self._used = max(LIBRARY.recvmmsg(self._fd, self._in_at, PLACES, 0, None), 0)
        if not count:
            return b"", ()
        return bytes(self._heads_view[: count * HEAD]), _SIZES[count].unpack_from(self._in_octets)

    def whole(self, place: int, size: int) -> bytes:
        """Return a query, however long it is."""
        start, rest = place * HEAD, place * _REST
        if size <= HEAD:
            return bytes(self._heads_view[start : start + size])
        return bytes(
            self._memory["heads"][start : start + HEAD]
            + self._memory["rests"][rest : rest + size - HEAD]
        )

    def send(self, octets: bytes, sizes: list[int]) -> None:
        """Send to each sender of what came last its reply, without the id; size 0: none.

        Args:
            octets: the replies, one after another.
            sizes: how long each is, for all places of the batch.
        """
        self._memory["out"][: len(octets)] = octets
        starts = array("Q", accumulate(sizes[:-1], initial=self._at["out"]))
        count = len(sizes)
        self._vectors[2 : 4 * count : 4] = memoryview(starts)
        self._vectors[3 : 4 * count : 4] = memoryview(array("Q", sizes))
        if self.wildcard:
            self._go_back()
        begin = 0
        while 0 in sizes[begin:]:
            hole = sizes.index(0, begin)
            self._send(begin, hole)
            begin = hole + 1
        self._send(begin, count)

    def _send(self, begin: int, end: int) -> None:
        while begin < end:
            sent = LIBRARY.sendmmsg(self._fd, self._out_at + begin * 64, end - begin, 0)
            if sent > 0:
                begin += sent
                continue
            if ctypes.get_errno() in {errno.EAGAIN, errno.ENOBUFS}:
                self._tally.unsent += end - begin  # the queries are repeated
                return
            self._tally.unsent += 1  # this client cannot be reached, the next may
            begin += 1

    def _go_back(self) -> None:
        """Have replies leave from the address asked, by whatever interface leads there."""
        if self.v4:  # struct in_pktinfo { int ifindex; in_addr spec_dst; in_addr addr; }
            controls = self.controls
            for octet in range(16, 20):
                controls[octet::CONTROL] = bytes(PLACES)
