# SPDX-License-Identifier: Apache-2.0
"""From a query and its client to the reply, wherever it has to come from; one for all sockets.

::

    query ─► rules that rewrite? ─► access list ─► answers ─► ready reply ───────────┐
                  │ inner, onward       │ refused     └─► Ask ─► the name servers ─► │ ─► order, cookie
                  └────────────────────►┴──────────────────────────────────────────►┘

The UDP loops do the first steps for themselves (`fastpath`, `attentive`) and come here for what is
answered later; streams come here for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from skydns import counting, message, rewriting, rrs, tsig
from skydns.acl import Screen
from skydns.compiled import Answers, Ask
from skydns.fastpath import packed, shown
from skydns.forward import Answered, Forwarder
from skydns.limit import Limiter
from skydns.querylog import QueryLog
from skydns.rewrite import Change, Rewriter
from skydns.seen import Seen, bucket, moment


class Client(NamedTuple):
    """Who asks, and how.

    Attributes:
        udp: by UDP; else over a stream.
    """

    host: str
    port: int = 0
    udp: bool = False

    @property
    def packed(self) -> bytes:
        """The address: 4 or 16 octets."""
        return packed(self.host)

    @property
    def proto(self) -> str:
        """The protocol, as the query log has it."""
        return "udp" if self.udp else "tcp"


def by_udp(peer: Any) -> Client:
    """Return the sender of a datagram, with or without the way back to it."""
    host, port = (peer if isinstance(peer[0], str) else peer[0])[:2]
    return Client(str(host), port, udp=True)


def by_stream(peer: Any) -> Client:
    """Return the other end of a connection; None: it is gone already."""
    return Client(str(peer[0]), peer[1]) if peer else Client("")


@dataclass(slots=True)
class Responder:
    """What replies are made by.

    Attributes:
        forwarder: asks the name servers; None: nobody does.
        log: where queries are written down; None: nowhere.
        limiter: knows cookies; None: there are none.
        screen: the access list; None: all is let through.
        rewriter: rules that change queries; None: none.
    """

    answers: Answers
    forwarder: Forwarder | None = None
    log: QueryLog | None = None
    limiter: Limiter | None = None
    screen: Screen | None = None
    rewriter: Rewriter | None = None

    async def respond(self, data: bytes, client: Client) -> bytes | None:
        """Return the reply to a query that came over a stream; None: it is none."""
        if change := self.change(data, client):
            return await self.rewritten(change, data, client) or None
        if (verdict := self.screened(data, client)) is not None:
            return verdict or None
        made = self.answers.reply(data, udp=client.udp)
        return await self.completed(made, data, client)

    async def completed(
        self, made: bytes | Ask | None, data: bytes, client: Client
    ) -> bytes | None:
        """Return what was made of a query as it is sent."""
        if isinstance(made, Ask):
            return await self.asked(made, data, client)
        return self.baked(data, made, client) if made else made

    def change(self, data: bytes, client: Client) -> Change | None:
        """Return what rules make of a query; None: they leave it as it is, as what is signed."""
        if self.rewriter is None or tsig.MARK in data:
            return None
        return self.rewriter.change(data, client.packed, client.proto)

    def screened(self, data: bytes, client: Client) -> bytes | None:
        """Return what is sent instead of an answer, b"" for nothing; None: the query may pass."""
        if self.screen is None:
            return None
        verdict = self.screen.verdict(data, client.packed, udp=client.udp)
        if verdict:
            self._note(data, verdict, client)
        return verdict

    async def rewritten(self, change: Change, data: bytes, client: Client) -> bytes:
        """Return the reply to a query that rules have changed, b"" for none."""
        query = message.parse(data)
        if not isinstance(query, message.Query):
            return query or b""
        begun = perf_counter()
        inner = partial(self._inner, client=client)
        reply = await rewriting.reply(change, query, data, inner, udp=client.udp)
        return self.baked(data, reply, client, perf_counter() - begun) if reply else reply

    async def _inner(self, data: bytes, options: bytes, *, client: Client) -> bytes:
        """Answer what a rule has made of a query, b"" for nothing."""
        if (verdict := self.screened(data, client)) is not None:
            return verdict
        made = self.answers.reply(data, udp=client.udp)
        if isinstance(made, Ask):
            return (await self._told(made._replace(options=options), data, client))[0]
        return made or b""

    async def asked(self, ask: Ask, data: bytes, client: Client) -> bytes:
        """Return the reply to a query that needs the name servers."""
        return self._sealed(ask, data, await self._told(ask, data, client), client)

    def at_hand(self, ask: Ask, data: bytes, client: Client) -> bytes | None:
        """Return such a reply where nobody has to be asked; None: `asked`."""
        if self.forwarder is None:
            return None
        begun = perf_counter()
        made = self.forwarder.at_hand(ask, self.answers, client.host, udp=client.udp)
        if made is None:
            return None
        return self._sealed(ask, data, self._counted(ask, data, client, made, begun), client)

    def _sealed(self, ask: Ask, data: bytes, told: tuple[bytes, float], client: Client) -> bytes:
        reply = self.baked(data, told[0], client, told[1])
        return ask.seal(reply) if ask.seal is not None else reply

    async def _told(self, ask: Ask, data: bytes, client: Client) -> tuple[bytes, float]:
        """Have the name servers asked, and count it; return the reply and the seconds it took."""
        if self.forwarder is None:
            return message.failure(ask.query, rrs.SERVFAIL, recursion=False), 0.0
        begun = perf_counter()
        made = await self.forwarder.answer(ask, self.answers, client.host, udp=client.udp)
        return self._counted(ask, data, client, made, begun)

    def _counted(
        self, ask: Ask, data: bytes, client: Client, made: Answered, begun: float
    ) -> tuple[bytes, float]:
        """Count a reply that others had a part in; return it and the seconds it took."""
        reply, system = made
        seconds = perf_counter() - begun
        rcode = reply[3] & 0xF
        self.answers.counts.add(Seen(
            counting.shown(ask.reply.zone) if ask.reply else ".",
            rrs.TYPES.get(ask.query.rtype, "other"), rrs.RCODES.get(rcode, str(rcode)),
            client.proto, ask.query.do, system, bucket(len(data)), bucket(len(reply)),
            bool(reply[2] & message.TC >> 8), moment(seconds),
        ))  # fmt: skip
        return reply, seconds

    def baked(self, data: bytes, reply: bytes, client: Client, seconds: float = 0.0) -> bytes:
        """Return a reply in this client's order, with the cookie that the query asks for; it is written down."""
        self._note(data, reply, client, seconds)
        policy = self.answers.policy
        if policy.by_client:
            reply = policy.order.for_client(reply, client.packed)
        if self.limiter is None:
            return reply
        return self.limiter.cookies.completed(data, reply, client.packed)

    def _note(self, data: bytes, reply: bytes, client: Client, seconds: float = 0.0) -> None:
        if self.log is not None:
            self.log.note(data, reply, shown(client[:2]), client.proto, seconds)
