# SPDX-License-Identifier: Apache-2.0
"""Questions that are not ours: answered from the cache or by the name servers, never left without an answer.

::

    Ask ─► special name? ─► all kept? ─► reply at once, no task, as quick as the loop comes round
                              │ no
                              └─► asking: a race of servers ─► reply; nobody: what has run out, else SERVFAIL

When all servers have failed the client gets what the cache still holds (RFC 8767), else SERVFAIL
and an extended error, where the original said nothing at all (trap 19).

Equal questions at the same time are asked once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from skydns import ede, message, names, relayed, rrs, special
from skydns.addresses import Server
from skydns.asking import Asking, Said
from skydns.cache import Cache, Hit, Key
from skydns.circles import Circles
from skydns.compiled import Answers, Ask
from skydns.exchange import Sent
from skydns.message import Body, Query
from skydns.reply import Reply, Wanted
from skydns.rrs import Question
from skydns.upstream import Routes, Upstream

HELP: Final = 1.0  # seconds for addresses that an answer is useful without
_MOST_BODIES: Final = 4096
_MOST_CLIENTS: Final = 10_000


class Found(NamedTuple):
    """What came of asking: a message or None.

    Attributes:
        kept, stale: it is from the cache; it had run out.
        refused: more is under way than the route allows.
    """

    octets: bytes | None
    kept: bool = False
    stale: bool = False
    refused: bool = False


class Answered(NamedTuple):
    """A whole reply and SkyDNS's word for where it came from (specs/skydns.md §14.1)."""

    octets: bytes
    system: str


def _tell_nobody(event: str, server: Server) -> None:
    """Take what happens to a server."""


class Forwarder:
    """Answers what the servers, or their answers kept, have a part in.

    Args:
        said: told when a server goes down, comes back, or leads back to us.
    """

    def __init__(self, routes: Routes | Upstream, said: Said = _tell_nobody) -> None:
        self.routes = routes if isinstance(routes, Routes) else Routes(routes)
        self.cache = Cache(self.routes.bounds)
        self.asking = Asking(self.routes, said)
        self.circles = Circles(self.asking, said)
        self.asked = 0
        self.failed = 0
        self.rejected = 0
        self._said = said
        self._under_way: Counter[Upstream] = Counter()
        self._pending: dict[Sent, asyncio.Task[bytes | None]] = {}
        self._clients: Counter[str] = Counter()
        self._served: dict[tuple[int, str], bool] = {}
        self._bodies: dict[Key | int, tuple[object, object, Body]] = {}
        self._turns = 0

    @property
    def upstream(self) -> Upstream:
        """The route of names that no other is for."""
        return self.routes.default

    def use(self, routes: Routes) -> None:
        """Ask by other routes from now on; what is kept stays unless its bounds differ."""
        if routes.bounds != self.routes.bounds:
            self.cache = Cache(routes.bounds)
        self._served.clear()
        self.asking.use(routes)
        self.routes = routes

    async def aclose(self) -> None:
        """Stop asking and probing."""
        pending = tuple(self._pending.values())
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self.asking.aclose()

    # ── replies

    async def answer(self, ask: Ask, answers: Answers, host: str, *, udp: bool) -> Answered:
        """Return the whole reply to a query that needs the servers."""
        at_hand = self.at_hand(ask, answers, host, udp=udp)
        return at_hand or await self.ask_others(ask, answers, host, udp=udp)

    def at_hand(self, ask: Ask, answers: Answers, host: str, *, udp: bool) -> Answered | None:
        """Return the reply that nobody has to be asked for; None: there is none."""
        query, now = ask.query, asyncio.get_running_loop().time()
        if ask.reply is not None:
            parts = self._parts(ask, ask.reply, host)
            if not all(self.cache.fresh(_key(sent), now) for sent, _ in parts.values()):
                return None
            told = {
                each: self._looked_up(sent, upstream, now).octets
                for each, (sent, upstream) in parts.items()
            }
            return self._completed(ask.reply, query, told, answers, udp=udp)
        upstream = self.routes.upstream(query.name)
        if (refusal := self._at_once(query, upstream, answers, host, udp=udp)) is not None:
            return Answered(refusal, _system(upstream))
        sent = _sent(ask, upstream)
        key = _key(sent)
        if not self.cache.fresh(key, now):
            return None
        octets = self._looked_up(sent, upstream, now).octets
        body = self._body(key, octets, None)
        if body is None:
            body = relayed.body(octets, kept=True)
            if body is None:
                return Answered(_failure(query), "cache")
            self._remember(key, octets, None, body)
        return Answered(self._finished(body, query, answers, recursion=True, udp=udp), "cache")

    async def ask_others(self, ask: Ask, answers: Answers, host: str, *, udp: bool) -> Answered:
        """Return the reply to a query that `at_hand` has none for."""
        query = ask.query
        if ask.reply is not None:
            told = await self._told(ask, ask.reply, host)
            return self._completed(ask.reply, query, told, answers, udp=udp)
        upstream = self.routes.upstream(query.name)
        system = _system(upstream)
        found = await self._resolve(_sent(ask, upstream), upstream, host)
        if found.refused:
            return Answered(message.failure(query, rrs.REFUSED, recursion=True), system)
        if found.octets is None:
            cut_off = self.asking.cut_off(upstream)
            return Answered(_failure(query, ede.NETWORK if cut_off else ede.NO_SERVER), system)
        limit = min(query.size, answers.policy.bufsize) if udp else message.TCP_SIZE
        octets = relayed.relayed(
            query, found.octets, limit, kept=found.kept,
            trouble=ede.STALE if found.stale else None, nsid=answers.policy.nsid,
        )  # fmt: skip
        return Answered(octets, "cache" if found.kept else system)

    def _at_once(
        self, query: Query, upstream: Upstream, answers: Answers, host: str, *, udp: bool
    ) -> bytes | None:
        """Return the reply to what no server is asked about; None: ask."""
        if self.circles.closes(query.name):
            return _failure(query)
        if not self._serves(upstream, host):
            return message.failure(query, rrs.REFUSED, recursion=False, trouble=ede.PROHIBITED)
        if query.looped:  # an answer, where the original sends none: RFC 8906, and nobody waits
            for server in upstream.servers[:1]:
                self._said("asks us what we ask it: a stub zone leads in a circle", server)
            return _failure(query)
        if upstream.local_names:
            question = Question(query.name, query.rtype, query.rclass)
            made = special.answer(question, upstream.servers)
            if made is not None:
                return answers.close(query, made, udp=udp)
        if (
            not upstream.servers
            or names.count(query.name) < upstream.ndots
            or (upstream.excepted and names.longest(query.name, upstream.excepted))
        ):
            return _failure(query)
        return None

    def _serves(self, upstream: Upstream, host: str) -> bool:
        """Say whether we ask for a client: looked up, for networks are compared in 10 µs."""
        place = id(upstream.clients), host
        found = self._served.get(place)
        if found is None:
            if len(self._served) >= _MOST_CLIENTS:
                self._served.clear()
            found = self._served[place] = upstream.serves(host)
        return found

    # ── our replies, with what others say of names outside our zones

    def _parts(self, ask: Ask, reply: Reply, host: str) -> dict[Wanted, tuple[Sent, Upstream]]:
        """Return what a reply of ours lacks, as far as somebody can be asked for this client."""
        found = {}
        for each in reply.wanted(ask.query.rtype):
            name, rtype = each[0].lower(), each[1]
            upstream = self.routes.upstream(name)
            if upstream.servers and self._serves(upstream, host):
                # a target of ours must be resolved, whatever the client wants
                sent = _sent(ask, upstream)
                sent = Sent(name, rtype, rrs.IN, sent.flags | message.RD, *sent[4:])
                found[each] = sent, upstream
        return found

    async def _told(self, ask: Ask, reply: Reply, host: str) -> dict[Wanted, bytes]:
        """Return what is said of the names outside our zones that a reply of ours leads to.

        Glue is a help only, and so is what comes beside addresses of our own: it is waited for a
        second, and not at all when its servers are down.
        """
        helpful = set(reply.glue)
        if reply.answer:
            helpful |= {target for target, _ in reply.absorbed}

        async def one(sent: Sent, upstream: Upstream, *, help_only: bool) -> bytes | None:
            if help_only and self.asking.health.all_down(upstream.servers):
                return None
            with suppress(TimeoutError):
                async with asyncio.timeout(HELP if help_only else None):
                    return (await self._resolve(sent, upstream, host)).octets
            return None

        parts = self._parts(ask, reply, host)
        found = await asyncio.gather(
            *(one(*part, help_only=each[0] in helpful) for each, part in parts.items())
        )
        return {
            each: octets for each, octets in zip(parts, found, strict=True) if octets is not None
        }

    def _completed(
        self,
        reply: Reply,
        query: Query,
        told: Mapping[Wanted, bytes],
        answers: Answers,
        *,
        udp: bool,
    ) -> Answered:
        """Return a reply of ours joined with what was said: the same octets while that stays the same."""
        body = self._body(id(reply), reply, told)
        if body is None:
            body = answers.body(query, relayed.completed(reply, query, told))
            self._remember(id(reply), reply, told, body)
        return Answered(self._finished(body, query, answers, recursion=None, udp=udp), "auth")

    # ── octets, kept while what they were made of stays: dnslib takes 100 µs to read two addresses

    def _body(self, place: Key | int, first: object, then: object) -> Body | None:
        """Return what was made of these."""
        kept = self._bodies.get(place)
        if kept is None or kept[0] is not first or kept[1] != then:
            return None
        return kept[2]

    def _remember(self, place: Key | int, first: object, then: object, body: Body) -> None:
        if len(self._bodies) >= _MOST_BODIES:
            self._bodies.clear()
        self._bodies[place] = first, then, body

    def _finished(
        self, body: Body, query: Query, answers: Answers, *, recursion: bool | None, udp: bool
    ) -> bytes:
        """Return a whole reply, with another address first each time."""
        reply = answers.finish(body, query, udp=udp, recursion=recursion)
        policy = answers.policy
        complete = int.from_bytes(reply[6:8], "big") == body.answers
        if body.turn is None or not complete or not policy.rotate or policy.order.client:
            return reply
        self._turns += 1
        start = message.HEADER + len(query.question) + body.turn[0]
        place = (start, body.turn[1], body.turns)
        return policy.order.turned(query.name, reply, place, self._turns)

    # ── the cache, and asking

    def _looked_up(self, sent: Sent, upstream: Upstream, now: float) -> Hit:
        """Return what is kept for a question, and fresh; what is asked for often is asked anew in time."""
        key = _key(sent)
        hit = self.cache.use(key, now)
        if hit.due and sent not in self._pending and self._asking(sent, upstream, key, ""):
            self.cache.prefetched += 1
        return hit

    async def _resolve(self, sent: Sent, upstream: Upstream, host: str) -> Found:
        """Return the answer from the cache or the servers."""
        now = asyncio.get_running_loop().time()
        key = _key(sent)
        if self.cache.fresh(key, now):
            return Found(self._looked_up(sent, upstream, now).octets, kept=True)
        hit, bounds = self.cache.get(key, now), self.routes.bounds
        if hit is not None and self.cache.failed_lately(key, now):
            self.cache.stale += 1
            return Found(hit.octets, kept=True, stale=True)
        if sent not in self._pending and 0 < upstream.concurrent <= self._under_way[upstream]:
            self.rejected += 1
            return Found(hit.octets, kept=True, stale=True) if hit else Found(None, refused=True)
        task = self._asking(sent, upstream, key, host)
        octets: bytes | None = None
        if task is not None:
            hopeless = hit is not None and self.asking.health.all_down(upstream.servers)
            at_once = hopeless or bounds.stale_first
            patience = None if hit is None else 0.0 if at_once else bounds.patience
            try:
                async with asyncio.timeout(patience):
                    octets = await asyncio.shield(task)
            except TimeoutError:
                octets = None
        if hit is not None and (octets is None or self.cache.worth_less(octets, hit.octets)):
            self.cache.stale += 1
            return Found(hit.octets, kept=True, stale=True)
        return Found(octets)

    def _asking(
        self, sent: Sent, upstream: Upstream, key: Key, host: str
    ) -> asyncio.Task[bytes | None] | None:
        """Return the task that asks this, under way or new; None: too much is under way."""
        task = self._pending.get(sent)
        if task is not None:
            return task
        if (
            len(self._pending) >= self.routes.concurrent
            or self._clients[host] >= self.routes.by_client
        ):
            self.rejected += 1
            return None
        task = asyncio.ensure_future(self._exchange(sent, upstream, key))
        self._pending[sent] = task
        self._clients[host] += 1
        self._under_way[upstream] += 1

        def ended(_: object) -> None:
            del self._pending[sent]
            self._under_way[upstream] -= 1
            self._clients[host] -= 1
            if not self._clients[host]:
                del self._clients[host]

        task.add_done_callback(ended)
        return task

    async def _exchange(self, sent: Sent, upstream: Upstream, key: Key) -> bytes | None:
        """Ask, and keep the answer."""
        self.asked += 1
        found = await self.asking.answer(sent, upstream)
        now = asyncio.get_running_loop().time()
        if found is None:
            self.failed += 1
            self.cache.failed(key, now)
        else:
            self.cache.put(key, found, now)
        return found


def _system(upstream: Upstream) -> str:
    return "stub" if upstream.stub else "recursive"


def _failure(query: Query, trouble: int = ede.OTHER) -> bytes:
    return message.failure(query, rrs.SERVFAIL, recursion=True, trouble=trouble)


def _sent(ask: Ask, upstream: Upstream) -> Sent:
    """Return the question for the servers: the client's RD and CD, nothing else of it."""
    query = ask.query
    flags = query.flags & (message.RD | message.CD)
    return Sent(query.name, query.rtype, query.rclass, flags, query.do, upstream.stub, ask.options)


def _key(sent: Sent) -> Key:
    """Return what a question's answer is kept under."""
    checking = bool(sent.flags & message.CD)
    return Key(sent.name, sent.rtype, sent.rclass, sent.do, checking, sent.options)
