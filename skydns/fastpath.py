# SPDX-License-Identifier: Apache-2.0
"""The hot loop: datagram → ready reply → datagram.

Called when the socket is readable; takes what is queued, up to a limit so that the control plane
gets its turns, and answers in the same breath. No asyncio protocol, no future, no object per
query: what the loop does beside the two system calls is one slice, one look-up, one count. Where
the C library has `recvmmsg` (Linux, 64 bits) 64 datagrams share the calls (`skydns.batch`); else
each is received and sent by itself. docs/performance.md has what `make bench-dns` measured.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from itertools import accumulate
from time import monotonic, perf_counter
from typing import Any, Final

from skydns import flood
from skydns.batch import CUTS, LIBRARY, Batch
from skydns.compiled import Answers, Ask
from skydns.limit import Limiter
from skydns.places import HEAD, PLACES, QUERY
from skydns.querylog import QueryLog
from skydns.ready import ABOVE, HEADER, LABEL, LEAST, LONGEST_STAR, STAR
from skydns.tally import Tally

BATCH: Final = 256
"""Datagrams taken in one turn at most."""

TURN: Final = 0.001
"""Seconds after which a turn ends early (answers being made take ten times a ready one's): what
20k queries/s delay a change by, a few turns on its way, is far below 20 ms."""

NO_CLIENTS: Final = frozenset((0, 7, 19))
"""Ports (none, echo, chargen) that no client asks from; an error sent there would come back."""

Started = Callable[[Ask, bytes, Any], None]
"""Takes a query that needs the name servers, its octets and its sender."""

Joined = tuple[bytes, list[int]]
"""Replies without their ids, one after another, and how long each is."""


class Loop:
    """Serves one UDP socket.

    Args:
        sock: bound, non-blocking.
        forward: called with what cannot be answered at once.
        limiter: what is sent to whom, and how much; None: all.
        log: gets the replies that are due; None: none are written.
        wildcard: the socket is bound to every address, so that a reply must be told to leave from
            the address the query came to (a host with several would else answer from another).
        tally: where replies are counted that the kernel refused: full buffer, unreachable client.

    Attributes:
        drain: to be called when the socket is readable.
    """

    def __init__(
        self,
        sock: socket.socket,
        answers: Answers,
        forward: Started,
        limiter: Limiter | None = None,
        log: QueryLog | None = None,
        *,
        wildcard: bool = False,
        tally: Tally | None = None,
    ) -> None:
        self.tally = tally or Tally()
        self.sock = sock
        self.answers = answers
        self.forward = forward
        self.limiter = limiter
        self.log = log
        self.wildcard = wildcard
        self._missed = False  # the latest batch had names that do not exist
        self._mixed = 0  # batches that were not looked at after the latest one that was mixed
        self._patience = 0  # batches to go until one is looked at as a whole again
        if wildcard:
            _ask_for_destination(sock)
        self.drain: Callable[[], None]
        if LIBRARY is not None:
            self.batch = Batch(sock, self.tally, wildcard=wildcard)
            self.drain = self._drain_batches
        else:
            self.drain = self._drain_any if wildcard else self._drain

    def _drain_batches(self) -> None:
        """Answer what is queued, a batch at a time."""
        batch, limiter, log = self.batch, self.limiter, self.log
        until = monotonic() + TURN
        for _ in range(0, BATCH, PLACES):
            heads, sizes = batch.receive()
            if not sizes:
                return
            begun = perf_counter() if log is not None else 0.0
            octets, lengths = self._flooded(heads, sizes) or self._replies(heads, sizes)
            if (
                limiter is not None
                and limiter.pressed(len(sizes))
                and not limiter.spares(batch.addresses(len(sizes)))
            ):
                octets, lengths = self._passed(limiter, octets, lengths, sizes)
            batch.send(octets, lengths)
            if log is not None:
                self._note(log, parted(octets, lengths), sizes, perf_counter() - begun)
            if len(sizes) < PLACES or monotonic() > until:
                return

    def _flooded(self, heads: bytes, sizes: tuple[int, ...]) -> Joined | None:
        """Return the replies to a batch of nothing but missing names of one form, else None."""
        if not self._missed or len(sizes) < flood.FEWEST:
            return None
        if self._patience:
            self._patience -= 1
            return None
        replies = flood.replies(self.answers.near, heads, sizes)
        if replies is None:
            self._mixed = min(2 * self._mixed or 1, flood.PATIENCE)
            self._patience = self._mixed
        else:
            self._mixed = 0
        return replies

    def _replies(self, heads: bytes, sizes: tuple[int, ...]) -> Joined:
        """Return the replies to a batch, without ids; none, of length 0, where none is sent now.

        One function, with what could be three: a call costs 60 ns, a reply 350 beside the kernel.
        """
        ready, near_to = self.answers.ready.get, self.answers.near.get
        replies: list[bytes] = []
        append = replies.append
        near = None
        for cut, size in zip(CUTS, sizes, strict=False):
            if not LEAST <= size <= HEAD:
                append(self._slow_batch(cut[0].start // HEAD, size))
                continue
            key = heads[cut[size]]
            hit = ready(key)
            if hit is not None:
                payload, cell, _ = hit
                cell[0] += 1
                # isinstance costs 30 ns
                append(payload if payload.__class__ is bytes else payload())  # type: ignore[operator]
                continue
            folded = key.lower()
            if folded != key:  # a name in mixed case is answered from its lower-case twin
                hit = ready(folded)
                if hit is not None:
                    payload, cell, name_end = hit
                    if folded[name_end:] == key[name_end:]:  # type 65 is no letter
                        cell[0] += 1
                        octets: bytes = payload if payload.__class__ is bytes else payload()  # type: ignore[operator]
                        append(octets[:10] + key[10:name_end] + octets[name_end:])
                        continue
                name_end = key.find(0, 10)
                folded = folded[:name_end] + key[name_end:]
            length = key[10]
            near = near_to(folded[HEADER] + folded[ABOVE[length]])
            if near is not None:
                label = folded[LABEL[length]]
                if label not in near.children and (length > LONGEST_STAR or label not in STAR):
                    near.cell[0] += 1
                    if folded == key:
                        after = near.after if near.seen is near.serial[0] else near.renew()
                        append(near.flags + label + after)
                    else:
                        append(near.to(key))
                    continue
            append(self._slow_batch(cut[0].start // HEAD, size))
        self._missed = near is not None
        return b"".join(replies), list(map(len, replies))

    def _passed(
        self, limiter: Limiter, octets: bytes, lengths: list[int], sizes: tuple[int, ...]
    ) -> Joined:
        """Return what the limiter makes of a batch's replies."""
        batch, passed = self.batch, []
        for place, reply in enumerate(parted(octets, lengths)):
            query = batch.whole(place, min(sizes[place], HEAD))
            passed.append(reply and limiter.passed(batch.address(place), query, reply))
        return b"".join(passed), list(map(len, passed))

    def _note(
        self, log: QueryLog, replies: list[bytes], sizes: tuple[int, ...], seconds: float
    ) -> None:
        """Write the replies of a batch that are due."""
        batch = self.batch
        for place, (reply, size) in enumerate(zip(replies, sizes, strict=True)):
            if reply and log.due():
                query = batch.whole(place, size)
                peer = batch.sender(place)
                client = shown(peer[0] if self.wildcard else peer)
                log.put(query, query[:2] + reply, client, "udp", seconds)

    def _slow_batch(self, place: int, size: int) -> bytes:
        """Answer what is not ready, without the id; b"" when nothing is to be sent now."""
        data = self.batch.whole(place, size)
        made = self.answers.reply(data)
        if isinstance(made, Ask):
            self.forward(made, data, self.batch.sender(place))
            return b""
        if made is None or (made[3] & 0xF and self.batch.port(place) in NO_CLIENTS):
            return b""
        if self.limiter is not None:
            made = self.limiter.cookies.completed(data, made, self.batch.address(place))
        return made[2:]

    def _drain(self) -> None:
        """Answer what is queued, one by one."""
        receive, send = self.sock.recvfrom, self.sock.sendto
        try:
            for _ in range(BATCH):
                data, peer = receive(QUERY)
                reply = self._answer(data, peer)
                if reply and (reply := self._limited(data, reply, peer)):
                    send(reply, peer)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error for an earlier reply, or no buffer: the query is repeated
            self.tally.unsent += 1

    def _drain_any(self) -> None:
        """Answer what is queued on a socket bound to every address: the control data cost a third."""
        receive, send = self.sock.recvmsg, self.sock.sendmsg
        try:
            for _ in range(BATCH):
                data, control, _, peer = receive(QUERY, 64)
                way = [back(*item) for item in control]
                reply = self._answer(data, (peer, way))
                if reply and (reply := self._limited(data, reply, peer)):
                    send((reply,), way, 0, peer)
        except BlockingIOError:
            return
        except OSError:
            self.tally.unsent += 1

    def _answer(self, data: bytes, peer: Any) -> bytes | None:
        """Return the whole reply to one query, None when nothing is to be sent now."""
        return self.answers.quick(data) or self.slow(data, peer)

    def slow(self, data: bytes, peer: Any) -> bytes | None:
        """Answer what has to be made; None when nothing is to be sent now."""
        made = self.answers.reply(data)
        if isinstance(made, Ask):
            self.forward(made, data, peer)
            return None
        host, port = (peer[0] if self.wildcard else peer)[:2]
        if made is None or (made[3] & 0xF and port in NO_CLIENTS):
            return None
        if self.limiter is not None:
            made = self.limiter.cookies.completed(data, made, packed(host))
        return made

    def _limited(self, data: bytes, reply: bytes, peer: Any) -> bytes:
        """Return what is to be sent instead of a reply; b"": nothing."""
        if self.limiter is None or not self.limiter.pressed(1):
            return reply
        found = self.limiter.passed(packed(peer[0]), data, reply[2:])
        return reply[:2] + found if found else b""

    def send(self, reply: bytes, peer: Any) -> None:
        """Send a reply that came later, to the `peer` given to `forward`."""
        try:
            if not self.wildcard:
                self.sock.sendto(reply, peer)
            else:
                address, way = peer
                self.sock.sendmsg((reply,), way, 0, address)
        except OSError:
            self.tally.unsent += 1


def parted(octets: bytes, lengths: list[int]) -> list[bytes]:
    """Return joined replies one by one."""
    ends = list(accumulate(lengths))
    return [octets[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def shown(peer: tuple[Any, ...]) -> str:
    """Return a client as the query log shows it."""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


def packed(host: str) -> bytes:
    """Return an address as octets, one of IPv4 as 4 whatever the socket says."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).packed


def _ask_for_destination(sock: socket.socket) -> None:
    """Have the kernel say to which of our addresses a datagram came."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


_IP_PKTINFO: Final = getattr(
    socket, "IP_PKTINFO", 8
)  # Linux's number; Python 3.11 has no name for it


def back(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """Return the control message that sends a reply from where its query came to."""
    if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
        # struct in_pktinfo { int ifindex; in_addr spec_dst; in_addr addr; }: source = spec_dst
        return level, kind, b"\0\0\0\0" + data[4:8] + b"\0\0\0\0"
    return level, kind, data
