# SPDX-License-Identifier: Apache-2.0
"""What to answer: (question, what is served, policy, now) → Reply | Forward. Pure.

Theory of operation
-------------------
A name stands for *all records below it* (its own only when there are none): that is what makes
`/skydns/local/skydns/db/x1`, `x2`, … a pool called `db` (specs/skydns.md §3.4). So every answer
begins with `skydns.lookup`: folded name → records in the order of their keys, or None when the
name does not exist. Then, by type asked, records become RRs (§5, `skydns.shown`); at the end every
RRset gets one TTL (RFC 2181 §5.2), no RR stands twice in a section, and an answer without data gets
the zone's SOA (RFC 2308).

A Reply also says what it was made from, so that it can be kept: `reads` are the names whose
records (or absence) went into it; a record that comes or goes at or below one of them makes the
reply stale, nothing else does. `expires` is set only where a lease's remaining time shows in a TTL.

A name that is not ours is a Forward. An alias that leads out of our zones gives a Reply with
`outside` set: with servers to ask, the caller asks them for that name and appends what they say;
without, the alias alone is the answer. So it is with `absorbed` and `glue` (`Reply.wanted`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from skydns import catalog, chaos, ede, keys, names, rrs
from skydns.lookup import NS, Lookup, grouped, in_stub, zone_of
from skydns.policy import Policy
from skydns.records import NO_PORT, Service
from skydns.reply import Forward, Reply
from skydns.rrs import RR, Question
from skydns.shown import ANY_ANSWER, character_strings, rrsets, share_of, srv_weight, target_of
from skydns.state import Served

_LOCAL = b"\x05local\x03dns"
_REVERSE = (names.from_text("in-addr.arpa."), names.from_text("ip6.arpa."))
_TRANSFERS = (rrs.AXFR, rrs.IXFR)
_META = (249, rrs.TSIG, 253, 254)  # TKEY, TSIG, MAILB, MAILA: no server's data
MOST_ASKED = 8  # names outside, for one answer


def answer(question: Question, served: Served, policy: Policy, now: float) -> Reply | Forward:
    """Return what to answer.

    Args:
        question: its name folded.
        now: seconds on the monotonic clock, for the leases.
    """
    if question.rclass == rrs.CHAOS:
        return chaos.answer(question, policy)
    if question.rclass not in {rrs.IN, rrs.ANY_CLASS}:
        return Reply(rrs.REFUSED, authoritative=False)
    if question.rtype == rrs.OPT:
        return Reply(rrs.FORMERR, authoritative=False)
    if question.rtype in _META:
        return Reply(rrs.NOTIMP, authoritative=False)
    if policy.catalog and names.below(question.name, policy.catalog):
        return _of_catalog(question, served, policy)
    zone = zone_of(question.name, policy)
    if policy.stubs and in_stub(question.name, zone, policy):
        return Forward(stub=True)
    making = _Making(served, policy, now, zone)
    if not making.zone:
        return making.reverse(question)
    if question.rtype == rrs.IXFR and question.name == zone:
        # what is no stream has the SOA alone: "ask by TCP, if this is not yours" (RFC 1995 §2)
        return Reply(rrs.NOERROR, answer=(making.soa(),), zone=zone, reads=(zone,))
    if question.rtype in _TRANSFERS:
        return Reply(rrs.REFUSED, authoritative=False, zone=zone)
    reply = making.reply(question)
    if reply.rcode == rrs.NXDOMAIN and making.zone in policy.fallthrough:
        return Forward(reply.reads)
    return reply


def _of_catalog(question: Question, served: Served, policy: Policy) -> Reply:
    """Return what the zone that lists ours has; a secondary asks for its SOA."""
    if question.rtype == rrs.AXFR:
        return Reply(rrs.REFUSED, authoritative=False, zone=policy.catalog)
    listed = catalog.zone(policy.catalog, policy.zones, served.serial(policy.catalog))
    asked = question._replace(rtype=rrs.SOA) if question.rtype == rrs.IXFR else question
    return listed.answer(asked)


@dataclass(slots=True)
class _Making:
    """One answer in the making."""

    served: Served
    policy: Policy
    now: float
    zone: bytes
    lookup: Lookup = field(init=False)
    expires: float = math.inf
    outside: bytes = b""
    absorbed: dict[bytes, bytes] = field(default_factory=dict)  # name outside → owner of its data
    glue: dict[bytes, bytes] = field(default_factory=dict)  # folded → as it is shown
    failed: bool = False

    def __post_init__(self) -> None:
        self.lookup = Lookup(self.served, self.policy, self.zone)

    # ── the whole reply

    def reply(self, question: Question) -> Reply:
        """Return the answer to a question in one of our zones."""
        policy, name, rtype = self.policy, question.name, question.rtype
        if policy.local and name == _LOCAL + self.zone:
            self.lookup.reads[name] = None
            name = policy.local
        if rtype == rrs.ANY and policy.profile.refuse_any:
            return Reply(rrs.REFUSED, authoritative=False, zone=self.zone)
        found: list[RR] | None
        additional: list[RR] = []
        match rtype:
            case rrs.A | rrs.AAAA | rrs.TXT:
                found = self.data(name, rtype, question.name, (question.name,))
            case rrs.SRV:
                found = self.srv(name, question.name, additional)
            case rrs.MX:
                found = self.mx(name, question.name, additional)
            case rrs.CNAME:
                found = self.cname(name, question.name)
            case rrs.PTR:
                found = self.ptr(name, question.name)
            case rrs.NS:
                found = self.ns(name, additional)
            case rrs.SOA if name == self.zone:
                found = [self.soa()]
            case rrs.ANY:
                found = self.lookup.existence(name)
                if found is not None:
                    found = [ANY_ANSWER._replace(owner=question.name)]
            case _:
                found = self.lookup.existence(name)
        if found is None and self.zone.endswith(b"\x04arpa\0") and self.auto_ptr(name, name):
            found = []  # the name exists, if only by its PTR
        if self.failed and not found:
            return self._done(rrs.SERVFAIL, (), (), trouble=ede.OTHER)
        if found:
            return self._done(rrs.NOERROR, found, additional)
        rcode = rrs.NXDOMAIN if found is None else rrs.NOERROR
        return self._done(rcode, (), ())

    def reverse(self, question: Question) -> Reply | Forward:
        """Return the answer to a name outside our zones: PTR records we hold, else Forward."""
        if question.rtype == rrs.PTR and any(names.below(question.name, zone) for zone in _REVERSE):
            found = self.ptr(question.name, question.name)
            if found:
                return self._done(rrs.NOERROR, found, (), authoritative=False)
        return Forward(tuple(self.lookup.reads))

    def _done(
        self,
        rcode: int,
        found: Iterable[RR],
        additional: Iterable[RR],
        *,
        trouble: int | None = None,
        authoritative: bool = True,
    ) -> Reply:
        """Put the reply together: one TTL an RRset, nothing twice, SOA where there is no data."""
        answers = self.policy.order.arranged(rrsets(found))
        minimal = self.policy.minimal and bool(answers)
        extra = () if minimal else rrsets(additional)
        if extra:
            shown = set(answers)
            extra = tuple(rr for rr in extra if rr not in shown)
        authority: tuple[RR, ...] = ()
        if not answers and self.zone and rcode in {rrs.NOERROR, rrs.NXDOMAIN}:
            authority = (self.soa(),)
        return Reply(
            rcode, authoritative and rcode != rrs.SERVFAIL, answers, authority, extra,
            self.zone, tuple(self.lookup.reads), self.expires, self.outside, trouble,
            absorbed=tuple(self.absorbed.items()), glue=() if minimal else tuple(self.glue.values()),
        )  # fmt: skip

    # ── A, AAAA, TXT and the aliases before them (§5.1, §5.2, §5.5)

    def data(
        self, name: bytes, rtype: int, owner: bytes, seen: tuple[bytes, ...]
    ) -> list[RR] | None:
        """Return the RRs of `name` under `owner`, alias first; None when it does not exist.

        Args:
            seen: the names that led here, the question's first.
        """
        if self.lookup.is_our_ns(name):
            self.lookup.reads[name] = None
            size = {rrs.A: 4, rrs.AAAA: 16}.get(rtype)
            return [
                RR(owner, rtype, self.policy.ttl, address)
                for address in self.policy.addresses
                if len(address) == size
            ]
        services = self.lookup.find(name, rtype)
        if services is None:
            return None
        found = [rr for service in services if (rr := self._own(service, rtype, owner))]
        aliases = self._aliases(services, rtype, name, seen[0])
        if not aliases or (found and rtype == rrs.TXT):
            return found
        beside = any(service.address for service in services)
        apex = name in self.policy.zones  # has an SOA, so no alias beside it (RFC 2181 §10.1)
        if self.policy.profile.flatten and (beside or apex or len(aliases) > 1):
            for target in aliases:
                found += self._flattened(target, rtype, owner, seen)
            if found or beside or apex:
                self._absorb(aliases, owner)
                return found
        elif found:
            return found  # one alias among addresses: an alias stands alone (RFC 2181 §10.1)
        target, ttl = self._one_of(aliases)
        return self._alias(owner, target, ttl, rtype, seen)

    def _own(self, service: Service, rtype: int, owner: bytes) -> RR | None:
        """Return the RR that one record is by itself, None for none of this type."""
        if rtype == rrs.TXT:
            if not service.text:
                return None
            return RR(owner, rtype, self.ttl(service), character_strings(service.text))
        if len(service.address) != (4 if rtype == rrs.A else 16):
            return None
        return RR(owner, rtype, self.ttl(service), service.address)

    def _aliases(
        self, services: Iterable[Service], rtype: int, name: bytes, asked: bytes
    ) -> dict[bytes, int]:
        """Return the targets of the records whose host is a name, with the TTL of each.

        One that leads back to the name or below it is left out (§5.2: direct loop); below a zone's
        own name lies everything, so there only the name itself counts.
        """
        found: dict[bytes, tuple[bytes, int]] = {}
        loops = False
        for service in services:
            if not service.target or (rtype == rrs.TXT and service.text):
                continue
            folded = service.target.lower()
            if folded in {name, asked} or any(
                names.below(folded, place) and place not in self.policy.zones
                for place in (name, asked)
            ):
                loops = True
                continue
            found.setdefault(folded, (service.target, self.ttl(service)))
        if loops and not found:
            self.failed |= self.policy.profile.strict
        return dict(found.values())

    def _alias(
        self, owner: bytes, target: bytes, ttl: int, rtype: int, seen: tuple[bytes, ...]
    ) -> list[RR]:
        """Return a CNAME and what its target gives; nothing when that is in our zones and empty."""
        folded = target.lower()
        link = RR(owner, rrs.CNAME, ttl, names=(target,))
        if not zone_of(folded, self.policy):
            self.outside = target
            return [link]
        if folded in seen or len(seen) > self.policy.profile.links:
            self.failed |= self.policy.profile.strict
            return []
        rest = self.data(folded, rtype, target, (*seen, folded))
        return [link, *rest] if rest else []

    def _one_of(self, aliases: Mapping[bytes, int]) -> tuple[bytes, int]:
        """Return the alias that stands for several: the lowest key's, or each in turn for a second."""
        several = list(aliases.items())
        if len(several) == 1 or not self.policy.rotate:
            return several[0]
        self.expires = min(self.expires, math.floor(self.now) + 1.0)
        return several[int(self.now) % len(several)]

    def _absorb(self, aliases: Iterable[bytes], owner: bytes) -> None:
        """Have the targets outside our zones asked for: no alias may stand beside other data."""
        if self.policy.chasing:
            for target in aliases:
                if not zone_of(target.lower(), self.policy) and len(self.absorbed) < MOST_ASKED:
                    self.absorbed[target] = owner

    def _flattened(
        self, target: bytes, rtype: int, owner: bytes, seen: tuple[bytes, ...]
    ) -> list[RR]:
        """Return the data at a target in our zones as `owner`'s, the aliases on the way dropped."""
        folded = target.lower()
        if (
            not zone_of(folded, self.policy)
            or folded in seen
            or len(seen) > self.policy.profile.links
        ):
            return []
        held, self.outside, self.absorbed = (self.outside, self.absorbed), b"", {}
        rest = self.data(folded, rtype, target, (*seen, folded)) or []
        away = [*self.absorbed, *filter(None, (self.outside,))]
        self.outside, self.absorbed = held
        self._absorb(away, owner)
        return [rr._replace(owner=owner) for rr in rest if rr.rtype == rtype]

    # ── the other types

    def srv(self, name: bytes, owner: bytes, additional: list[RR]) -> list[RR] | None:
        """Return SRV records (§5.3) and put the addresses of their targets into `additional`."""
        services = self.lookup.find(name, rrs.SRV)
        if services is None:
            return None
        portless = self.policy.profile.portless
        services = [each for each in services if portless or each.port != NO_PORT]
        shown: dict[tuple[bytes, int, int], Service] = {}
        for service in services:
            if service.address or service.target:
                place = (target_of(service).lower(), service.port, self.priority(service))
                shown.setdefault(place, service)
        totals: dict[int, int] = {}
        for (_, _, priority), service in shown.items():
            totals[priority] = totals.get(priority, 0) + share_of(service)
        found = []
        for (_, port, priority), service in shown.items():
            weight = max(
                srv_weight(share_of(service), totals[priority]), self.policy.profile.least_weight
            )
            numbers = (priority, weight, port & 0xFFFF)
            head = b"".join(part.to_bytes(2, "big") for part in numbers)
            # the target goes uncompressed: RFC 2782, "Target"
            found.append(RR(owner, rrs.SRV, self.ttl(service), head + target_of(service)))
        self._glue(shown.values(), services, additional)
        return found

    def mx(self, name: bytes, owner: bytes, additional: list[RR]) -> list[RR] | None:
        """Return MX records (§5.4); glue is owned by the name the MX shows (trap 15)."""
        services = self.lookup.find(name, rrs.MX)
        if services is None:
            return None
        mails = [
            service for service in services if service.mail and (service.address or service.target)
        ]
        found = [
            RR(owner, rrs.MX, self.ttl(service), self.priority(service).to_bytes(2, "big"), (target_of(service),))
            for service in mails
        ]  # fmt: skip
        self._glue(mails, mails, additional)
        return found

    def _glue(
        self, shown: Iterable[Service], services: Iterable[Service], additional: list[RR]
    ) -> None:
        """Add the addresses of targets: records' own, and those of names in our zones.

        Names outside are noted, for others to be asked about.
        """
        for service in services:
            if service.address:
                rtype = rrs.A if len(service.address) == 4 else rrs.AAAA
                additional.append(RR(target_of(service), rtype, self.ttl(service), service.address))
        asked: set[bytes] = set()
        outside, failed, absorbed = self.outside, self.failed, dict(self.absorbed)
        for service in shown:
            target = target_of(service)
            folded = target.lower()
            if service.address or folded in asked:
                continue
            asked.add(folded)
            if not zone_of(folded, self.policy):
                if self.policy.chasing and folded != names.ROOT and len(self.glue) < MOST_ASKED:
                    self.glue[folded] = target
                continue
            for rtype in (rrs.A, rrs.AAAA):
                additional += self.data(folded, rtype, target, (folded,)) or ()
            if len(additional) > 512:  # more do not help, and chains are not free
                break
        self.outside, self.failed, self.absorbed = outside, failed, absorbed

    def cname(self, name: bytes, owner: bytes) -> list[RR] | None:
        """Return the alias that stands at the exact name, or that its A answer would begin with.

        Trap 9: the originals say NXDOMAIN for an inner name; a name that exists gives NODATA.
        """
        node = self.served.index.node(name)
        exact = node.own[:1] if node and keys.wildcard_base(name) is None else ()
        self.lookup.reads[name] = None
        services: Sequence[Service] | None = exact
        if not exact:
            if self.lookup.existence(name) is None:
                return None
            services = self.lookup.find(name, rrs.CNAME)
            if services is None or len(services) != 1 or name in self.policy.zones:
                return []
        aliases = self._aliases(services or (), rrs.CNAME, name, name)
        return [RR(owner, rrs.CNAME, ttl, names=(target,)) for target, ttl in aliases.items()]

    def ptr(self, name: bytes, owner: bytes) -> list[RR] | None:
        """Return the names at the exact key; of an address's name those directly below it too (§7)."""
        self.lookup.reads[name] = None
        node = self.served.index.node(name)
        services = list(node.own) if node else []
        whole = bool(names.address_of(name))  # else what lies below are other addresses
        children = (node.children or {}) if node and whole else {}
        for label in sorted(children, key=lambda label: label[1:])[:64]:
            services += children[label].own
        found = [
            RR(owner, rrs.PTR, self.ttl(service), names=(service.target,))
            for service in services
            if service.target
        ]
        return found or self.auto_ptr(name, owner) or self.lookup.existence(name)

    def auto_ptr(self, name: bytes, owner: bytes) -> list[RR]:
        """Return the name of the record that has this address: lexically the first (§7)."""
        if not self.policy.auto_ptr or not (address := names.address_of(name)):
            return []
        shown = {
            target_of(service).lower(): service
            for service in reversed(self.served.index.holders(address))
            if zone_of(target_of(service).lower(), self.policy)
        }
        if not shown:
            return []
        first = shown[min(shown, key=names.to_text)]
        return [RR(owner, rrs.PTR, self.ttl(first), names=(target_of(first),))]

    def ns(self, name: bytes, additional: list[RR]) -> list[RR] | None:
        """Return the zone's name servers (§5.6, trap 10); asked elsewhere: no data."""
        if name != self.zone:
            return self.lookup.existence(name)
        index, place = self.served.index, NS + self.zone
        self.lookup.reads[place] = None
        node = index.node(place)
        if node is None:
            if not self.policy.addresses:
                return []
            for rtype in (rrs.A, rrs.AAAA):
                additional += self.data(place, rtype, place, (place,)) or ()
            return [RR(self.zone, rrs.NS, self.policy.ttl, names=(place,))]
        services = grouped([*node.own, *index.below(place)])
        shown = [service for service in services if service.address or service.target]
        self._glue((), shown, additional)
        return [
            RR(self.zone, rrs.NS, self.ttl(service), names=(target_of(service),))
            for service in shown
        ]

    def soa(self) -> RR:
        """Return the zone's SOA (§5.7): serial = the store's revision of its last change."""
        zone = self.zone
        rname = self.policy.hostmaster or b"\x0ahostmaster" + zone
        numbers = (self.served.serial(zone), 7200, 1800, 86400, self.policy.min_ttl)
        tail = b"".join(number.to_bytes(4, "big") for number in numbers)
        mname = self.policy.mname or NS + zone
        return RR(zone, rrs.SOA, self.policy.min_ttl, names=(mname, rname), tail=tail)

    # ── what a record shows

    def ttl(self, service: Service) -> int:
        """Return a record's TTL: its own or its lease's, whichever is less (§4.1)."""
        ttl = service.ttl
        if service.lease and (ends := self.served.leases.get(service.lease)) is not None:
            profile = self.policy.profile
            left = int(ends - self.now)
            clamped = min(max(left, profile.least_lease), profile.most_lease)
            if not ttl or clamped < ttl:
                ttl = clamped
                self.expires = min(self.expires, self.now + (1.0 if clamped == left else 5.0))
        return ttl or self.policy.ttl

    def priority(self, service: Service) -> int:
        """Return a record's priority or preference (§4.2); 0 cannot be expressed."""
        return (service.priority or self.policy.priority) & 0xFFFF
