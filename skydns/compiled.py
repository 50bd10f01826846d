# SPDX-License-Identifier: Apache-2.0
"""Answers as ready octets: made when first asked, kept until what they were made from changes.

Theory of operation
-------------------
Four look-ups, each for what the one before missed, all keyed by the query's octets without its id::

    ready   query octets ────────────────► reply octets        the hot loop looks here itself,
            the same with a lower-case name                    for 0x20 and careless clients too
    near    the octets without the first label ► NXDOMAIN      and here: floods of missing names
    kept    (name, type, class) ─► Body ─► finish              other flags, EDNS, options
            answer() ─► encode ─► Body                         the first time

The whole query is the key, so flags, EDNS size and DO need no test on the way: another query is
another key. Whatever an option may change is not kept (`Query.plain`).

`near` is what makes floods cheap (`skydns.flood` takes whole batches of them): once one name below an existing `parent` was found missing,
every other question of that shape is answered from the parent's children alone: no parsing, no
memory per name. Its reply is the template with the question put in; SOA pointers depend only on
the first label's length, which is in the key.

Invalidation: an entry knows the names it read (`Reply.reads`). A changed key drops the entries
that read its name or one above it, which are exactly those that can differ; all others stay. The
SOA serial changes with every change of a zone, so negative replies do not hold it: they are
joined around the zone's present serial (60 ns) rather than all dropped.

Most answers read nothing but the name asked for. Of these only the `ready` reply is kept, 0.3 KiB:
what drops it is the name itself, put into each of the few *shapes* that queries have (header, name,
type and class, OPT). Their entries, twice as large, are kept for the latest few only (`brief`).

Rotation: addresses of one RRset are equally long, so a reply's turn is one slice of the doubled
block (70 ns), not a shuffle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from skydns import catalog, ede, keys, message, names, rrs
from skydns.answer import answer
from skydns.counting import Counts
from skydns.lookup import zone_of
from skydns.message import Body, Query
from skydns.policy import Policy
from skydns.ready import (
    ABOVE,
    HEADER,
    LABEL,
    LEAST,
    NAME,
    STAR,
    Cell,
    Near,
    Negative,
    Payload,
    Turning,
)
from skydns.reply import Forward, Reply
from skydns.rrs import Question
from skydns.signing import Signing
from skydns.state import Served
from skydns.tsig import Keyring, Opened, Seal
from skydns.zonefile import Zone

_SOAS: Final = (rrs.SOA, rrs.IXFR)
"""Types whose answers hold the zone's serial."""

MOST_KEPT: Final = 400_000  # entries in `ready`; 0.4 KiB each
MOST_BRIEF: Final = 4096  # entries of answers that read only their own name
MOST_SHAPES: Final = 64  # a changed name costs a look-up for each
MOST_ABSENT: Final = 10_000  # names that do not exist kept one by one
MOST_NEAR: Final = 10_000  # NXDOMAIN templates; 1.3 KiB each


class Ask(NamedTuple):
    """A query that needs the name servers.

    Attributes:
        reply: what there is already; it says what it wants to know (`Reply.wanted`).
        seal: signs the whole reply; None: the query was not signed.
        options: EDNS options for the servers.
    """

    query: Query
    reply: Reply | None
    options: bytes = b""
    seal: Seal | None = None


class Ahead(Protocol):
    """What answers names ahead of the store (`skydns.ahead`)."""

    @property
    def zones(self) -> Mapping[bytes, Zone]:
        """The zones of files, by folded name."""
        ...

    def answer(self, question: Question) -> Reply | None:
        """Return an answer, None when the store has to say."""
        ...

    def completed(self, reply: Reply, question: Question) -> Reply:
        """Return the store's reply with what is known of an alias's target outside it."""
        ...


class Entry:
    """One kept answer and where it is kept."""

    __slots__ = ("body", "expires", "key", "nears", "readies", "reads", "reply", "zone")

    def __init__(self, key: tuple[bytes, int, int], body: Body, reply: Reply) -> None:
        self.key = key
        self.body = body
        self.reads = reply.reads
        self.zone = reply.zone
        self.expires = reply.expires
        self.reply = reply if reply.waits else None
        self.readies: tuple[bytes, ...] = ()  # tuples: an empty list is 56 octets an entry
        self.nears: tuple[bytes, ...] = ()


class Answers:
    """Replies to queries, from what is served under a policy.

    Args:
        clock: monotonic seconds, for leases.

    Attributes:
        ahead: answers names ahead of the store; None: nobody does.
        keyring: of keys that queries may be signed with; None: signatures are not looked at.
        counts: of queries.
        faults: answers that could not be made for a fault of ours.
        on_fault: told of each, with the query; None: it is raised.
    """

    def __init__(self, served: Served, policy: Policy, clock: Callable[[], float]) -> None:
        self.served = served
        self.policy = policy
        self.loaded = False
        self.signing: Signing | None = None
        self.ahead: Ahead | None = None
        self.keyring: Keyring | None = None
        self.faults = 0
        self.on_fault: Callable[[bytes, Exception], None] | None = None
        self.now = clock
        self._clock = clock
        self.ready: dict[bytes, tuple[Payload, Cell, int]] = {}  # and where the key's name ends
        self.near: dict[bytes, Near] = {}
        self._watching: dict[bytes, Entry] = {}  # for each template what drops it
        self._kept: dict[tuple[bytes, int, int], Entry] = {}
        self._brief: dict[tuple[bytes, int, int], Entry] = {}
        self._absent: dict[tuple[bytes, int, int], Entry] = {}
        self._shapes: dict[tuple[bytes, bytes], None] = {}  # what stands before and after the name
        self._readers: dict[bytes, Entry | set[Entry]] = {}
        self._fading: set[Entry] = set()
        self._sealed: dict[bytes, set[Entry]] = {}  # by zone: its serial is under a signature
        self._serials: dict[bytes, list[bytes]] = {}
        self.counts = Counts()

    @property
    def beside(self) -> Mapping[bytes, Zone]:
        """Zones that are not the store's: of master files, and the one that lists ours."""
        found = dict(self.ahead.zones) if self.ahead is not None else {}
        if name := self.policy.catalog:
            found[name] = catalog.zone(name, self.policy.zones, self.served.serial(name))
        return found

    # ── queries

    def quick(self, data: bytes) -> bytes | None:
        """Return the reply to a query as far as it is ready, None when it has to be made.

        The hot loops have this written out again, to save the call: octets without the id.
        """
        key = data[2:]
        if (hit := self.ready.get(key)) is not None:
            payload, cell, _ = hit
            cell[0] += 1
            return data[:2] + (payload if isinstance(payload, bytes) else payload())
        if len(data) < LEAST:
            return None
        folded = key.lower()
        if folded != key:
            hit = self.ready.get(folded)
            if hit is not None:
                payload, cell, end = hit
                if folded[end:] == key[end:]:  # type 65 is no letter
                    cell[0] += 1
                    octets = payload if isinstance(payload, bytes) else payload()
                    return data[:2] + octets[:NAME] + key[NAME:end] + octets[end:]
            end = key.find(b"\0", NAME)
            folded = folded[:end] + key[end:]
        length = key[NAME]
        near = self.near.get(folded[HEADER] + folded[ABOVE[length]])
        if near is None or (label := folded[LABEL[length]]) in near.children or label in STAR:
            return None
        near.cell[0] += 1
        return data[:2] + near.to(key)

    def reply(self, data: bytes, *, udp: bool = True) -> bytes | Ask | None:
        """Return the reply to a query that `quick` has none for; None: drop it."""
        if (opened := self.opened(data)) is not None:
            return self._signed(opened, udp)
        begun = self._clock()
        query = message.parse(data)
        if not isinstance(query, Query):
            if query is not None:
                seconds = self._clock() - begun
                self.counts.ours(b"", 0, query[3] & 0xF, data, query, udp=udp, seconds=seconds)
            return query
        try:
            return self._careful(data, query, udp, begun)
        except Exception as fault:
            # one query must not cost the 63 others of its batch their answers
            if self.on_fault is None:
                raise
            self.faults += 1
            self.on_fault(data, fault)
            return message.failure(
                query, rrs.SERVFAIL, recursion=self._recursion, trouble=ede.OTHER
            )

    def opened(self, data: bytes) -> Opened | bytes | None:
        """Return a signed query without its signature; the reply to one that is not good; None: unsigned."""
        return self.keyring.opened(data) if self.keyring is not None else None

    def _signed(self, opened: Opened | bytes, udp: bool) -> bytes | Ask | None:
        """Return the signed reply to a signed query."""
        if isinstance(opened, bytes):
            return opened
        made = self.reply(opened.data, udp=udp)
        if not isinstance(made, bytes):
            return made._replace(seal=opened.seal) if made else None
        whole = opened.seal(made)
        query = message.parse(opened.data)
        if udp and isinstance(query, Query) and len(whole) > min(query.size, self.policy.bufsize):
            return opened.seal.anew()(message.truncated(opened.data))
        return whole

    def close(self, query: Query, reply: Reply, *, udp: bool) -> bytes:
        """Return the octets of a reply made elsewhere."""
        return self.finish(self.body(query, reply), query, udp=udp)

    def body(self, query: Query, reply: Reply) -> Body:
        """Return the records of a reply made elsewhere, signed where that is wanted."""
        return self._encoded(query.name, reply, query)[0]

    def _careful(self, data: bytes, query: Query, udp: bool, begun: float) -> bytes | Ask:
        """Answer a parsed query, which came at `begun`, from what is kept, or make the answer."""
        if udp and query.rtype == rrs.AXFR:  # needs a stream (RFC 5936 §4.2)
            reply = message.failure(query, rrs.FORMERR, recursion=self._recursion)
            self._count(b"", rrs.FORMERR, query, data, reply, udp, begun)
            return reply
        kind = query.rclass | (query.do + query.co) << 16 if self.signing else query.rclass
        key = (query.name, query.rtype, kind)
        entry = self._kept.get(key) or self._brief.get(key) or self._absent.get(key)
        if entry is None:
            question = Question(query.name, query.rtype, query.rclass)
            if self.ahead is not None and (local := self.ahead.answer(question)) is not None:
                entry = self._keep(key, local, query)
        if entry is None:
            question = Question(query.name, query.rtype, query.rclass)
            made = answer(question, self.served, self.policy, self._clock())
            if self.ahead is not None and isinstance(made, Reply):
                made = self.ahead.completed(made, question)
            if self.signing is not None and isinstance(made, Reply):
                made = self.signing.complete(
                    question, made, self.served, self.policy, self._clock()
                )
            if isinstance(made, Forward):
                if self.policy.forwarding or made.stub:
                    return Ask(query, None)
                made = Reply(
                    rrs.REFUSED,
                    authoritative=False,
                    reads=made.reads,
                    trouble=ede.NOT_AUTHORITATIVE,
                )
            if not self.loaded and made.zone:
                # nothing was ever read: neither "no such name" nor "no data" would be true
                reply = message.failure(
                    query, rrs.SERVFAIL, recursion=self._recursion, trouble=ede.NETWORK
                )
                self._count(made.zone, rrs.SERVFAIL, query, data, reply, udp, begun)
                return reply
            entry = self._keep(key, made, query)
        if entry.reply is not None and self.policy.chasing:
            return Ask(query, entry.reply)
        reply = self.finish(entry.body, query, udp=udp)
        if entry.body.serial:
            reply = self._with_serial(reply, entry, query)
        system = _system(query, entry)
        cell = self._count(entry.zone, entry.body.rcode, query, data, reply, udp, begun, system)
        if udp and query.plain:
            self._ready(data, query, entry, reply, cell)
        return reply

    def _count(
        self, zone: bytes, rcode: int, query: Query, data: bytes, reply: bytes, udp: bool,
        begun: float, system: str = "auth",
    ) -> Cell:  # fmt: skip
        """Count a parsed query, which came at `begun`."""
        seconds = self._clock() - begun
        return self.counts.ours(
            zone, query.rtype, rcode, data, reply, system=system, do=query.do, udp=udp, seconds=seconds
        )  # fmt: skip

    def finish(
        self, body: Body, query: Query, *, udp: bool, recursion: bool | None = None
    ) -> bytes:
        """Return a whole reply: these records behind a header and the question.

        Args:
            recursion: set RA; None: as for our own names.
        """
        limit = min(query.size, self.policy.bufsize) if udp else message.TCP_SIZE
        if recursion is None:
            recursion = self._recursion
        reply = message.finish(body, query, limit, recursion=recursion, nsid=self.policy.nsid)
        # a query with options may have a cookie, which who knows the client's address looks at
        if self.policy.minimal_tc and query.plain and reply[2] & message.TC >> 8:
            return message.emptied(reply)
        return reply

    @property
    def _recursion(self) -> bool:
        """Whether RA is set."""
        return self.policy.forwarding or self.policy.profile.always_ra

    # ── keeping

    def _keep(self, key: tuple[bytes, int, int], reply: Reply, query: Query) -> Entry:
        """Keep an answer under its question."""
        absent = reply.rcode == rrs.NXDOMAIN or not reply.zone
        entry = Entry(key, *self._encoded(key[0], reply, query))
        if key[2] >> 16:
            self._sealed.setdefault(reply.zone, set()).add(entry)
        if absent:
            # names that are not: as many as somebody cares to invent, so only the latest stay
            if len(self._absent) >= MOST_ABSENT:
                self._drop(next(iter(self._absent.values())))
            self._absent[key] = entry
        elif _reads_itself(entry):
            if len(self._brief) >= MOST_BRIEF:
                self._drop(next(iter(self._brief.values())))
            self._brief[key] = entry
        else:
            if len(self._kept) >= MOST_KEPT:
                self.clear()
            self._kept[key] = entry
        for name in entry.reads:
            self._read(name, entry)
        if entry.expires != math.inf:
            self._fading.add(entry)
        return entry

    def _encoded(self, name: bytes, reply: Reply, query: Query) -> tuple[Body, Reply]:
        """Return a reply's octets, signed where that is wanted and we have the keys."""
        if self.signing is None or not query.do or reply.zone not in self.signing.signers:
            return message.encode(name, reply), reply
        question = Question(name, query.rtype, query.rclass)
        signed = self.signing.sign(
            question, reply, self.served, self.policy, self._clock(), compact_ok=query.co
        )
        return replace(message.encode(name, signed), serial=0), signed

    def _read(self, name: bytes, entry: Entry) -> None:
        """Note that an entry depends on a name."""
        present = self._readers.get(name)
        if present is None:
            self._readers[name] = entry  # a set for each name would be 200 octets more a record
        elif isinstance(present, set):
            present.add(entry)
        else:
            self._readers[name] = {present, entry}

    def _ready(self, query_octets: bytes, query: Query, entry: Entry, reply: bytes, cell: Cell) -> None:  # fmt: skip
        """Keep a reply under its query's octets, where every later one is found by one look-up.

        Kept with the name in lower case, whatever case it came in. A query with the reserved bit
        set is not kept: it would make an octet of the header look like a letter.
        """
        if query_octets[3] & 0x40:
            return
        name_end = NAME + len(query.name)
        key = query_octets[2:12] + query.name + query_octets[2 + name_end :]
        octets = reply[2:12] + query.name + reply[2 + name_end :]
        if entry.body.rcode == rrs.NXDOMAIN and self._remember_near(key, query, entry, octets, cell):  # fmt: skip
            return
        if len(self.ready) >= MOST_KEPT:
            self.clear()
            return
        body = entry.body
        records = name_end + 4
        complete = int.from_bytes(octets[4:6], "big") == body.answers
        payload: Payload = octets
        order = self.policy.order
        if body.turn is not None and self.policy.rotate and complete and not order.client:
            start, step = body.turn
            payload = Turning(octets, records + start, step, body.turns)
            if order:
                payload = order.payload(query.name, octets, records + start, step, body.turns)
        elif body.serial and octets[6:8] == b"\0\x01":
            payload = Negative(octets, records + body.serial, self._serial(entry.zone))
        self.ready[key] = (payload, cell, name_end - 1)
        if entry.key in self._brief:
            shape = (key[:NAME], key[name_end:])
            if shape in self._shapes or len(self._shapes) < MOST_SHAPES:
                self._shapes[shape] = None
                return
        entry.readies += (key,)

    def _remember_near(
        self, key: bytes, query: Query, entry: Entry, payload: bytes, cell: Cell
    ) -> bool:
        """Make the template for the brothers of a name that does not exist, if it has any."""
        above = names.parent(query.name)
        policy = self.policy
        if (
            policy.shape(above).catch_all
            or self.ahead is not None  # may know a brother
            or not entry.zone
            or not entry.body.serial
            or keys.wildcard_base(query.name) is not None
            or above.startswith(b"\x03dns")  # ns.dns and local.dns may be made up
            or zone_of(above, policy) != entry.zone
            or any(names.parent(zone) == above for zone in (*policy.zones, *policy.stubs))
            or entry.reads != (query.name,)
        ):
            return False
        node = self.served.index.node(above)
        if node is None and above not in policy.zones:
            return False
        if len(self.near) >= MOST_NEAR:
            self._drop(next(iter(self._watching.values())))
        label, end = NAME + 1 + key[NAME], NAME + len(query.question)
        at = end + entry.body.serial
        key = key[: NAME + 1] + key[label:]
        self.near[key] = Near(
            (node.children if node else None) or {}, (payload[:NAME], payload[label:at], payload[at + 4 :]),
            end - label, self._serial(entry.zone), cell,
        )  # fmt: skip
        # the template depends on the parent, which this entry did not read: one that does
        watcher = Entry(
            (above, -1, 0), entry.body, Reply(rrs.NXDOMAIN, zone=entry.zone, reads=(above,))
        )
        watcher.nears = (key,)
        self._watching[key] = watcher
        self._read(above, watcher)
        self._drop(entry)
        return True

    def _with_serial(self, reply: bytes, entry: Entry, query: Query) -> bytes:
        """Return a negative reply with its zone's present serial."""
        at = message.HEADER + len(query.question) + entry.body.serial
        if reply[8:10] == b"\0\0":  # the SOA did not fit
            return reply
        return reply[:at] + self._serial(entry.zone)[0] + reply[at + 4 :]

    def _serial(self, zone: bytes) -> list[bytes]:
        """Return the cell that holds a zone's serial as it stands in a message."""
        cell = self._serials.get(zone)
        if cell is None:
            cell = self._serials[zone] = [self.served.serial(zone).to_bytes(4, "big")]
        return cell

    # ── dropping

    def begin(self, start_serial: int, serials: Mapping[bytes, int]) -> None:
        """Go on from another process's serials: a zone must not have one in each."""
        self.served.start_serial = start_serial
        self.served.serials |= serials
        self.clear()

    def touch(self, changed: Iterable[bytes]) -> int:
        """Drop what was made from these (folded) names, the serial of their zones; how many."""
        dropped = 0
        for name in changed:
            for above in names.ancestors(name):
                for before, after in self._shapes:
                    self.ready.pop(before + above + after, None)
                readers = self._readers.pop(above, None)
                if readers is None:
                    continue
                for entry in tuple(readers) if isinstance(readers, set) else (readers,):
                    self._drop(entry)
                    dropped += 1
            zone = zone_of(name, self.policy)
            if not zone:
                continue
            if cell := self._serials.get(zone):
                cell[0] = self.served.serial(zone).to_bytes(4, "big")
            for rclass in (rrs.IN, rrs.ANY_CLASS):
                for rtype in _SOAS:
                    if soa := self._kept.get((zone, rtype, rclass)):
                        self._drop(soa)
            for sealed in self._sealed.pop(zone, ()):
                self._drop(sealed)
        return dropped

    def sweep(self) -> None:
        """Drop what holds a TTL that is no longer right; called about once a second."""
        now = self._clock()
        for entry in [entry for entry in self._fading if entry.expires <= now]:
            self._drop(entry)

    def clear(self) -> None:
        """Drop everything: a new policy, the first load, or no room."""
        self.ready.clear()
        self.near.clear()
        self._watching.clear()
        self._kept.clear()
        self._brief.clear()
        self._shapes.clear()
        self._absent.clear()
        self._readers.clear()
        self._fading.clear()
        self._sealed.clear()
        self._serials.clear()

    def _drop(self, entry: Entry) -> None:
        """Forget one entry wherever it is kept."""
        self._kept.pop(entry.key, None)
        self._brief.pop(entry.key, None)
        self._absent.pop(entry.key, None)
        self._fading.discard(entry)
        if entry.key[2] >> 16 and (sealed := self._sealed.get(entry.zone)):
            sealed.discard(entry)
        for key in entry.readies:
            self.ready.pop(key, None)
        for key in entry.nears:
            self.near.pop(key, None)
            self._watching.pop(key, None)
        for name in entry.reads:
            present = self._readers.get(name)
            if present is entry:
                del self._readers[name]
            elif isinstance(present, set):
                present.discard(entry)
                if not present:
                    del self._readers[name]

    def sizes(self) -> dict[str, int]:
        """Return how much is kept, for status and metrics."""
        return {
            "ready": len(self.ready), "near": len(self.near), "kept": len(self._kept) + len(self._brief),
            "absent": len(self._absent), "readers": len(self._readers),
        }  # fmt: skip


def _reads_itself(entry: Entry) -> bool:
    """Say whether nothing but a change of the name asked for makes an answer stale."""
    name, rtype, kind = entry.key
    return (
        entry.reads == (name,)
        and entry.expires == math.inf
        and rtype not in _SOAS
        and not kind >> 16  # so may a signature
    )


def _system(query: Query, entry: Entry) -> str:
    """Return SkyDNS's word for where an answer came from (§14.1)."""
    return "reverse" if query.rtype == rrs.PTR and entry.zone.endswith(b"\x04arpa\0") else "auth"
