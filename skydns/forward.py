# SPDX-License-Identifier: Apache-2.0
"""Questions that are not ours: asked of the name servers, never left without an answer.

::

    Ask ─► special name? ─► kept? ─────────────► relayed ─► reply
                              │ no                  ▲
                              └─► race of servers ──┘ nobody: what has run out, else SERVFAIL

The servers of a route are tried in turn, those that failed lately last; one that is silent for
`hedge` seconds gets company by the next, and whoever answers first has answered. SERVFAIL and
REFUSED are tried on the next server too. When all have failed the client gets what the cache
still holds (RFC 8767), else SERVFAIL and an extended error, where the original said nothing at
all (trap 19).

Equal questions at the same time are asked once. EDNS is hop by hop (RFC 6891): the client's
options do not go on, the server's OPT does not come back.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

import dnslib

from fairlead import tls
from skydns import ede, message, names, rrs, special
from skydns.addresses import Server
from skydns.cache import Cache, Key
from skydns.compiled import Answers, Ask
from skydns.exchange import Habits, Sent, exchange
from skydns.health import Health
from skydns.https import ALPN
from skydns.message import Query
from skydns.reply import Reply, Wanted
from skydns.rrs import RR, Question
from skydns.seen import moment
from skydns.streams import Streams, Way
from skydns.upstream import Probe, Routes, Upstream

HELP: Final = 1.0  # seconds for addresses that an answer is useful without
DEADLINE: Final = 4.5  # seconds for all servers together: stub resolvers give up after 5
LOOKING: Final = 30.0  # seconds after the start in which a loop is looked for
_FAILURES = (OSError, TimeoutError, asyncio.IncompleteReadError)


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


Said = Callable[[str, Server], None]
"""Told what happens to a server: an event and the server."""


class Forwarder:
    """Asks the servers.

    Args:
        said: told when a server goes down, comes back, or leads back to us.
    """

    def __init__(self, routes: Routes | Upstream, said: Said = lambda event, server: None) -> None:
        self.routes = routes if isinstance(routes, Routes) else Routes(routes)
        self.cache = Cache(self.routes.bounds)
        self.health = Health(self._alive, said)
        self.asked = 0
        self.failed = 0
        self.rejected = 0
        self.took: Counter[tuple[str, str, float]] = Counter()  # server, rcode, upper bound
        self.looping: set[Server] = set()
        self._said = said
        self._turn = 0
        self._habits: dict[Server, Habits] = {}
        self.streams = Streams()
        self._contexts: dict[tuple[tuple[str, str, str], bool], ssl.SSLContext] = {}
        self._under_way: Counter[Upstream] = Counter()
        self._pending: dict[Sent, asyncio.Task[bytes | None]] = {}
        self._clients: Counter[str] = Counter()
        self._looked_for: dict[bytes, Server] = {}

    @property
    def strays(self) -> int:
        """Messages that answered no question of ours."""
        return sum(habits.strays for habits in self._habits.values())

    @property
    def upstream(self) -> Upstream:
        """The route of names that no other is for."""
        return self.routes.default

    def use(self, routes: Routes) -> None:
        """Ask by other routes from now on; what is kept stays unless its bounds differ."""
        if routes.bounds != self.routes.bounds:
            self.cache = Cache(routes.bounds)
        self.health.forget(self.routes.servers - routes.servers)
        self.routes = routes

    async def aclose(self) -> None:
        """Stop asking and probing."""
        pending = tuple(self._pending.values())
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self.health.aclose()
        self.streams.close()

    # ── replies

    async def answer(self, ask: Ask, answers: Answers, host: str, *, udp: bool) -> Answered:
        """Return the whole reply to a query that needs the servers."""
        query = ask.query
        if ask.reply is not None:
            whole = completed(ask.reply, query, await self._told(ask, ask.reply, host))
            return Answered(answers.close(query, whole, udp=udp), "auth")
        upstream = self.routes.upstream(query.name)
        system = "stub" if upstream.stub else "recursive"
        if (refusal := self._at_once(query, upstream, answers, host, udp=udp)) is not None:
            return Answered(refusal, system)
        found = await self._resolve(_sent(ask, upstream), upstream, host)
        if found.refused:
            return Answered(message.failure(query, rrs.REFUSED, recursion=True), system)
        if found.octets is None:
            cut_off = all(self._habit(server).unreachable for server in upstream.servers)
            trouble = ede.NETWORK if cut_off else ede.NO_SERVER
            failed = message.failure(query, rrs.SERVFAIL, recursion=True, trouble=trouble)
            return Answered(failed, system)
        limit = min(query.size, answers.policy.bufsize) if udp else message.TCP_SIZE
        stale = ede.STALE if found.stale else None
        octets = relayed(
            query, found.octets, limit, kept=found.kept, trouble=stale, nsid=answers.policy.nsid
        )
        return Answered(octets, "cache" if found.kept else system)

    async def _told(self, ask: Ask, reply: Reply, host: str) -> dict[Wanted, bytes]:
        """Return what is said of the names outside our zones that a reply of ours leads to.

        Glue is a help only, and so is what comes beside addresses of our own: it is waited for a
        second, and not at all when its servers are down.
        """
        wanted = reply.wanted(ask.query.rtype)
        helpful = set(reply.glue)
        if reply.answer:
            helpful |= {target for target, _ in reply.absorbed}

        async def one(each: Wanted) -> bytes | None:
            name, rtype = each
            upstream = self.routes.upstream(name.lower())
            help_only = name in helpful
            if not upstream.servers or not upstream.serves(host):
                return None
            if help_only and self.health.all_down(upstream.servers):
                return None
            # a target of ours must be resolved, whatever the client wants
            sent = _sent(ask, upstream)
            sent = Sent(name.lower(), rtype, rrs.IN, sent.flags | message.RD, *sent[4:])
            with suppress(TimeoutError):
                async with asyncio.timeout(HELP if help_only else None):
                    return (await self._resolve(sent, upstream, host)).octets
            return None

        found = await asyncio.gather(*map(one, wanted))
        return {
            each: octets for each, octets in zip(wanted, found, strict=True) if octets is not None
        }

    def _at_once(
        self, query: Query, upstream: Upstream, answers: Answers, host: str, *, udp: bool
    ) -> bytes | None:
        """Return the reply to what no server is asked about; None: ask."""
        if query.name in self._looked_for:
            self._leads_back(self._looked_for[query.name])
            return message.failure(query, rrs.SERVFAIL, recursion=True, trouble=ede.OTHER)
        if not upstream.serves(host):
            return message.failure(query, rrs.REFUSED, recursion=False, trouble=ede.PROHIBITED)
        if query.looped:  # an answer, where the original sends none: RFC 8906, and nobody waits
            for server in upstream.servers[:1]:
                self._said("asks us what we ask it: a stub zone leads in a circle", server)
            return message.failure(query, rrs.SERVFAIL, recursion=True, trouble=ede.OTHER)
        if upstream.local_names:
            question = Question(query.name, query.rtype, query.rclass)
            made = special.answer(question, upstream.servers)
            if made is not None:
                return answers.close(query, made, udp=udp)
        if (
            not upstream.servers
            or names.count(query.name) < upstream.ndots
            or any(above in upstream.excepted for above in names.ancestors(query.name))
        ):
            return message.failure(query, rrs.SERVFAIL, recursion=True, trouble=ede.OTHER)
        return None

    async def _resolve(self, sent: Sent, upstream: Upstream, host: str) -> Found:
        """Return the answer from the cache or the servers."""
        now = asyncio.get_running_loop().time()
        checking = bool(sent.flags & message.CD)
        key = Key(sent.name, sent.rtype, sent.rclass, sent.do, checking, sent.options)
        hit = self.cache.get(key, now)
        if hit is not None and hit.left >= 0:
            if hit.due and sent not in self._pending and self._asking(sent, upstream, key, ""):
                self.cache.prefetched += 1
            return Found(hit.octets, kept=True)
        bounds = self.routes.bounds
        if hit is not None and self.cache.failed_lately(key, now):
            self.cache.stale += 1
            return Found(hit.octets, kept=True, stale=True)
        if sent not in self._pending and 0 < upstream.concurrent <= self._under_way[upstream]:
            self.rejected += 1
            return Found(hit.octets, kept=True, stale=True) if hit else Found(None, refused=True)
        task = self._asking(sent, upstream, key, host)
        octets: bytes | None = None
        if task is not None:
            hopeless = hit is not None and self.health.all_down(upstream.servers)
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

    # ── servers

    async def _exchange(self, sent: Sent, upstream: Upstream, key: Key) -> bytes | None:
        """Ask, and keep the answer."""
        self.asked += 1
        found = await self._race(sent, upstream)
        route: Upstream | None = upstream
        while route is not None and found is not None and route.passes_on(found):
            if (route := route.following) is not None:
                found = await self._race(sent, route)
        now = asyncio.get_running_loop().time()
        if found is None:
            self.failed += 1
            self.cache.failed(key, now)
        else:
            self.cache.put(key, found, now)
        return found

    async def _race(self, sent: Sent, upstream: Upstream) -> bytes | None:
        """Ask one server after the other, the next when one fails or takes its time."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + DEADLINE
        order = self._order(upstream)
        if upstream.failfast and order and self.health.all_down(order):
            return None
        attempts = upstream.attempts or 2 * len(order)  # a lost datagram, a server that came back
        waiting = deque((*order, *order)[:attempts])
        running: dict[asyncio.Task[bytes | None], tuple[Server, float]] = {}
        unwell: bytes | None = None
        following = 0.0  # when the next may be asked
        try:
            while (waiting or running) and (now := loop.time()) < ends:
                if waiting and (not running or now >= following):
                    server = waiting.popleft()
                    task = asyncio.ensure_future(self._ask_one(server, sent, upstream, ends))
                    running[task] = server, now
                    following = now + upstream.hedge
                until = min(ends, following) if waiting else ends
                done, _ = await asyncio.wait(
                    running, timeout=max(until - now, 0.0), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    server, _ = running.pop(task)
                    found = task.result()
                    if found is not None and found[3] & 0xF not in upstream.failover:
                        return found
                    unwell = unwell or found
                    following = 0.0
        finally:
            for task, (server, begun) in running.items():
                task.cancel()
                if loop.time() - begun >= upstream.hedge:  # others were faster, again
                    self.health.failed(server, upstream.fails, upstream.probe)
        return unwell

    async def _ask_one(
        self, server: Server, sent: Sent, upstream: Upstream, ends: float
    ) -> bytes | None:
        """Return one server's answer, None when it gave none in its time."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        try:
            async with asyncio.timeout_at(min(now + upstream.timeout, ends)):
                found = await exchange(
                    server, sent, self._habit(server), self.streams, self._way(server, upstream)
                )
        except _FAILURES as error:
            self._habit(server).unreachable = not isinstance(error, TimeoutError)
            self.health.failed(server, upstream.fails, upstream.probe)
            return None
        self.health.well(server)
        rcode = rrs.RCODES.get(found[3] & 0xF, str(found[3] & 0xF))
        self.took[str(server), rcode, moment(loop.time() - now)] += 1
        return found

    async def _alive(self, server: Server, probe: Probe) -> bool:
        """Say whether a server answers anything at all."""
        flags = message.RD if probe.recursive else 0
        sent = Sent(probe.name, rrs.NS, rrs.IN, flags, do=False)
        try:
            async with asyncio.timeout(2.0):
                await exchange(server, sent, self._habit(server), self.streams, self._way(server))
        except _FAILURES:
            return False
        return True

    def _habit(self, server: Server) -> Habits:
        return self._habits.setdefault(server, Habits())

    def _way(self, server: Server, upstream: Upstream | None = None) -> Way:
        """Return how a server is spoken to; without a route as the first that has it says."""
        if upstream is None:
            upstream = next(each for each in self.routes.every if server in each.servers)
        context = self._tls(upstream.files, https=server.https) if server.tls else None
        return Way(
            upstream.tcp, context, upstream.source, upstream.expire, upstream.idle, upstream.get
        )

    def _tls(self, files: tuple[str, str, str], *, https: bool) -> ssl.SSLContext:
        if (made := self._contexts.get((files, https))) is None:
            made = self._contexts[files, https] = tls.client_context(*files)
            if https:
                made.set_alpn_protocols([ALPN])
        return made

    def _order(self, upstream: Upstream) -> list[Server]:
        """Return the servers as they are to be asked: in turn, those that are down last."""
        servers = [server for server in upstream.servers if server not in self.looping]
        if upstream.rotate and servers:
            self._turn += 1
            turn = self._turn % len(servers)
            servers = servers[turn:] + servers[:turn]
        return sorted(servers, key=self.health.down.__contains__)

    # ── loops

    async def look_for_loops(self) -> None:
        """Ask each server for a name nobody else knows; one by which it reaches us leads back."""
        probes = {
            names.from_labels(
                (secrets.token_hex(8).encode(), secrets.token_hex(8).encode())
            ): server
            for server in sorted(self.routes.servers)
        }
        self._looked_for |= probes
        try:
            async with asyncio.timeout(LOOKING):
                await asyncio.gather(*(self._look(name, server) for name, server in probes.items()))
        except TimeoutError:
            return
        finally:
            for name in probes:
                del self._looked_for[name]

    async def _look(self, name: bytes, server: Server) -> None:
        sent = Sent(name, rrs.HINFO, rrs.IN, message.RD, do=False)
        while server not in self.looping:
            try:
                async with asyncio.timeout(5.0):
                    await exchange(
                        server, sent, self._habit(server), self.streams, self._way(server)
                    )
            except _FAILURES:
                await asyncio.sleep(2.0)
                continue
            return

    def _leads_back(self, server: Server) -> None:
        """Stop asking a server that asks us; the original ends the whole program here."""
        if server not in self.looping:
            self.looping.add(server)
            self._said("leads back to us, not asked any more", server)


def _sent(ask: Ask, upstream: Upstream) -> Sent:
    """Return the question for the servers: the client's RD and CD, nothing else of it."""
    query = ask.query
    flags = query.flags & (message.RD | message.CD)
    return Sent(query.name, query.rtype, query.rclass, flags, query.do, upstream.stub, ask.options)


def relayed(
    query: Query,
    found: bytes,
    limit: int,
    *,
    kept: bool = False,
    trouble: int | None = None,
    nsid: bytes = b"",
) -> bytes:
    """Return a server's answer as ours: the client's id, letter case and EDNS; RA set, AD not.

    Args:
        kept: it is from the cache, so AA is not set: that is for who has the zone (RFC 1035 §4.1.1).
    """
    body = _without_opt(found, message.HEADER + len(query.question))
    if body is None:
        return message.failure(query, rrs.SERVFAIL, recursion=True, trouble=ede.OTHER)
    records, counts = body
    name = nsid if query.nsid else b""
    opt = message.opt(query.do, trouble=trouble, nsid=name) if query.edns else b""
    bits = int.from_bytes(found[2:4], "big")
    flags = message.QR | (query.flags & (message.RD | message.CD)) | message.RA
    flags |= bits & ((0 if kept else message.AA) | message.TC | 0xF)
    if message.HEADER + len(query.question) + len(records) + len(opt) > limit:
        records, counts, flags = b"", (0, 0, 0), flags | message.TC
    return b"".join((
        query.id.to_bytes(2, "big"), flags.to_bytes(2, "big"), b"\0\x01",
        counts[0].to_bytes(2, "big"), counts[1].to_bytes(2, "big"), (counts[2] + bool(opt)).to_bytes(2, "big"),
        query.question, records, opt,
    ))  # fmt: skip


def completed(reply: Reply, query: Query, told: Mapping[Wanted, bytes]) -> Reply:
    """Return a reply with what the servers say about its names outside; of any rcode (§5.2)."""
    question = Question(query.name, query.rtype, query.rclass)
    return reply.joined(question, {each: _records(octets) for each, octets in told.items()})


def _records(found: bytes) -> tuple[RR, ...]:
    """Return the answer in a server's message; none when it cannot be read."""
    try:
        parsed = dnslib.DNSRecord.parse(found)
        return tuple(rr for record in parsed.rr if (rr := _translated(record)) is not None)
    except (dnslib.DNSError, ValueError, IndexError):
        return ()


def _translated(record: dnslib.RR) -> RR | None:
    """Return dnslib's record as ours; None for a kind that no chain has."""
    owner = names.from_labels(record.rname.label)
    if record.rtype == rrs.CNAME:
        target = names.from_labels(record.rdata.label.label)
        return RR(owner, rrs.CNAME, record.ttl, names=(target,))
    if record.rtype in {rrs.A, rrs.AAAA, rrs.TXT}:
        buffer = dnslib.DNSBuffer()
        record.rdata.pack(buffer)
        return RR(owner, record.rtype, record.ttl, bytes(buffer.data))
    return None


def _without_opt(found: bytes, start: int) -> tuple[bytes, tuple[int, int, int]] | None:
    """Return the records of a message without its OPT, and their counts; None: unreadable."""
    an, ns, ar = (int.from_bytes(found[at : at + 2], "big") for at in (6, 8, 10))
    at = start
    for place in range(an + ns + ar):
        record = message.record(found, at)
        if record is None:
            return None
        _, kind, _, _, _, end = record
        if kind == rrs.OPT:
            if place != an + ns + ar - 1:  # what follows may be pointed at: written anew
                return _rewritten(found)
            return found[start:at], (an, ns, ar - 1)
        at = end
    return found[start:at], (an, ns, ar)


def _rewritten(found: bytes) -> tuple[bytes, tuple[int, int, int]] | None:
    """Return the records without an OPT that others follow, by way of dnslib."""
    try:
        parsed = dnslib.DNSRecord.parse(found)
        parsed.ar = [record for record in parsed.ar if record.rtype != rrs.OPT]
        octets = parsed.pack()
    except (dnslib.DNSError, ValueError):
        return None
    return octets[message.question_end(octets) :], (
        len(parsed.rr),
        len(parsed.auth),
        len(parsed.ar),
    )
