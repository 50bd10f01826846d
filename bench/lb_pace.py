# SPDX-License-Identifier: Apache-2.0
"""Requests at a given rate, whether answers come or not, and how late the answers were.

Arrivals are Poisson's: the gaps between them are exponential, as of many clients who know nothing
of each other. A request is due at its time; when no connection is free, it waits, and that counts
(no "coordinated omission"). Connections are opened, and have had an answer each, before it begins,
and the first second is left out: what is measured is a proxy that is at work, not its start.
"""

from __future__ import annotations

import ctypes
import gc
import random
import select
import socket
import time
from collections import deque

_PR_SET_TIMERSLACK = 29
_WARM = 0.5  # seconds left out


def late(port: int, request: bytes, rate: float, connections: int, seconds: float) -> list[float]:
    """Return the ms from when each request was due until its answer was there, sorted.

    Args:
        rate: requests a second.
    """
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # wake up when asked to
    poller = select.epoll()
    socks = {sock.fileno(): sock for sock in _open(port, request, connections)}
    for fd in socks:
        poller.register(fd, select.EPOLLIN)
    free, waiting = deque(socks), deque[float]()
    under_way: dict[int, float] = {}
    found = []
    clock = time.perf_counter
    gap = random.Random(7).expovariate
    due = clock()
    first = due + _WARM
    end = first + seconds
    gc.disable()
    while due < end or under_way or waiting:
        now = clock()
        while due <= now and due < end:
            waiting.append(due)
            due += gap(rate)
        while waiting and free:
            fd = free.popleft()
            under_way[fd] = waiting.popleft()
            socks[fd].send(request)
        left = due - clock() if due < end else 0.1
        if left > 0:  # epoll's own limit is in whole ms
            select.select([poller], [], [], left)
        for fd, _ in poller.poll(0):
            if not socks[fd].recv(1 << 16).startswith(b"HTTP/1.1 200"):
                raise SystemExit("an answer that is none")
            was = under_way.pop(fd)
            if was >= first:
                found.append((clock() - was) * 1000)
            free.append(fd)
    gc.enable()
    poller.close()
    for sock in socks.values():
        sock.close()
    return sorted(found)


def _open(port: int, request: bytes, connections: int) -> list[socket.socket]:
    socks = []
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request)
        sock.recv(1 << 16)
        sock.setblocking(False)
        socks.append(sock)
    return socks
