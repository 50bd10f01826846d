# SPDX-License-Identifier: Apache-2.0
"""Netlink sockets: requests in batches, questions, dumps, transactions, notifications.

Requests go in batches: many in one datagram, of which only the last asks for an answer, so that
the kernel answers just that one and the ones it refuses. A netlink request is carried out while
`send` runs and its answer lies ready when it returns, so nothing here waits for anything; between
batches the event loop gets its turn.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fairlead.errors import FairleadError
from flannelpy import nlmsg
from flannelpy.nlmsg import Reply

ROUTE, GENERIC, NETFILTER = 0, 16, 12  # NETLINK_*
BATCH = 128  # requests in one datagram: about 7 KiB; routes among 5,000 take the kernel 17 ms
_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK, _STRICT = 10, 11, 12
_BUFFER = 8 << 20  # bytes; a refused batch needs about 1 KiB of kernel memory a request
_ABSENT = frozenset(
    {errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENETUNREACH}
)
_HOPELESS = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL})


class KernelError(FairleadError):
    """The kernel refused; `errno` says how, `absent` that the thing is not there."""

    def __init__(self, number: int, words: str = "") -> None:
        text = os.strerror(number) if number else "no answer"
        super().__init__(f"{text}{': ' + words if words else ''}")
        self.errno = number
        self.transient = number not in _HOPELESS

    @property
    def absent(self) -> bool:
        """Say whether what was asked for or to be deleted is not there."""
        return self.errno in _ABSENT


class Netlink:
    """One socket to one of the kernel's families."""

    def __init__(self, requests: socket.socket) -> None:
        self._socket = requests
        self._sequence = itertools.count(1)
        self.port: int = requests.getsockname()[0]
        """Notifications with this port tell of our own changes."""

    async def do(self, request: bytes) -> None:
        """Carry out one request.

        Raises:
            KernelError: refused.
        """
        (error,) = await self.batch([request])
        if error is not None:
            raise error

    async def batch(self, requests: Sequence[bytes]) -> list[KernelError | None]:
        """Carry out many requests in order; return for each what was refused, or None."""
        results: list[KernelError | None] = []
        for start in range(0, len(requests), BATCH):
            results += self._batch(requests[start : start + BATCH])
            await asyncio.sleep(0)
        return results

    def _batch(self, requests: Sequence[bytes]) -> list[KernelError | None]:
        first = next(self._sequence)
        last = first + len(requests) - 1
        self._sequence = itertools.count(last + 1)
        self._socket.send(nlmsg.batch(requests, first))
        results: list[KernelError | None] = [None] * len(requests)
        for reply in self._replies(first, last):
            if reply.type == nlmsg.ERROR:
                number, words = nlmsg.refusal(reply)
                if number:
                    results[reply.sequence - first] = KernelError(number, words)
                if reply.sequence == last:
                    break
        return results

    async def ask(self, requests: Sequence[bytes]) -> list[Reply | None]:
        """Ask for single objects; return for each the answer, or None when it is not there.

        Raises:
            KernelError: refused for another reason.
        """
        answers: list[Reply | None] = []
        for n, request in enumerate(requests):
            answers.append(self._ask(request))
            if n % 64 == 63:
                await asyncio.sleep(0)
        return answers

    def _ask(self, request: bytes) -> Reply | None:
        sequence = next(self._sequence)
        self._socket.send(nlmsg.numbered(request, sequence, ack=True))
        found: Reply | None = None
        for reply in self._replies(sequence, sequence):
            if reply.type != nlmsg.ERROR:
                found = reply
                continue
            number, words = nlmsg.refusal(reply)
            error = KernelError(number, words)
            if number and not error.absent:
                raise error
            break
        return found

    async def dump(self, request: bytes) -> list[Reply]:
        """Return all answers to a dump, again from its start when the table changed meanwhile.

        Raises:
            KernelError: refused.
        """
        for _ in range(5):
            replies = self._dump(request)
            await asyncio.sleep(0)
            if replies is not None:
                return replies
        raise KernelError(errno.EINTR, "the table changed during five dumps on end")

    def _dump(self, request: bytes) -> list[Reply] | None:
        sequence = next(self._sequence)
        self._socket.send(nlmsg.numbered(request, sequence))
        found: list[Reply] = []
        whole = True
        for reply in self._replies(sequence, sequence):
            whole = whole and not reply.flags & nlmsg.F_DUMP_INTR
            if reply.type in (nlmsg.DONE, nlmsg.ERROR):
                number, words = nlmsg.refusal(reply)
                if number and number != errno.ENOENT:
                    raise KernelError(number, words)
                break
            found.append(reply)
        return found if whole else None

    def _replies(self, first: int, last: int) -> Iterator[Reply]:
        """Yield what answers the requests `first` to `last`; what is left of older ones is dropped."""
        while True:
            try:
                data = self._socket.recv(1 << 18)
            except TimeoutError as error:
                raise KernelError(0, "netlink was silent for 5 s") from error
            except OSError as error:
                raise KernelError(error.errno or 0) from error
            for reply in nlmsg.replies(data):
                if first <= reply.sequence <= last:
                    yield reply

    def transaction(self, begin: bytes, requests: Sequence[bytes], end: bytes) -> None:
        """Carry out requests of nfnetlink, all or none.

        Raises:
            KernelError: the first refusal; nothing was changed.
        """
        first = next(self._sequence)
        last = first + len(requests)
        self._sequence = itertools.count(last + 2)
        data = [nlmsg.numbered(begin, first)]
        data += [
            nlmsg.numbered(it, first + 1 + n, ack=first + 1 + n == last)
            for n, it in enumerate(requests)
        ]
        data.append(nlmsg.numbered(end, last + 1))
        self._socket.send(b"".join(data))
        refused: KernelError | None = None
        for reply in self._replies(first, last):
            if reply.type == nlmsg.ERROR:
                number, words = nlmsg.refusal(reply)
                if number and refused is None:
                    refused = KernelError(number, words)
                if reply.sequence in (first, last):
                    break
        if refused is not None:
            raise refused


@contextmanager
def changes(
    protocol: int,
    groups: int,
    heard: Callable[[Sequence[Reply]], None],
    lost: Callable[[], None],
) -> Iterator[None]:
    """Call `heard` with the kernel's notifications while the block runs.

    Args:
        lost: called when some did not fit into the buffer: anything may have changed.
    """
    loop = asyncio.get_running_loop()
    with opened(protocol) as listener:
        listener.setblocking(False)
        listener.bind((0, groups))

        def read() -> None:
            got: list[Reply] = []
            for _ in range(64):
                try:
                    data = listener.recv(1 << 18)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    lost()
                    continue
                got.extend(nlmsg.replies(data))
            if got:
                heard(got)

        loop.add_reader(listener, read)
        try:
            yield
        finally:
            loop.remove_reader(listener)


@contextmanager
def opened(protocol: int) -> Iterator[socket.socket]:
    """Open a socket to one of the kernel's families; it is not bound yet."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as it:
        it.settimeout(5.0)
        try:
            it.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE, needs CAP_NET_ADMIN
            it.setsockopt(socket.SOL_SOCKET, 32, _BUFFER)  # SO_SNDBUFFORCE
        except PermissionError:
            it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            it.setsockopt(_SOL_NETLINK, option, 1)
        yield it
