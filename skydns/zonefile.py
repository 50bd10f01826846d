# SPDX-License-Identifier: Apache-2.0
"""Zones from master files: the plugin `file` of a Corefile (specs/skydns.md §15.4).

::

    file ─► read ─► Zone (names, their RRsets) ─► Zone.answer(question) ─► Reply
                       │
                       └ a name exists when something stands at it or below (RFC 8020)

`dnspython` reads the file: $ORIGIN, $TTL, $INCLUDE, $GENERATE and every type are its business. The
answer is RFC 1034 §4.3.2 step by step: delegations end in a referral, aliases and DNAME are
followed inside the zone, `*` stands for names that do not exist (RFC 4592). Signatures in a file are
served to those who ask for them by type only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skydns import names, rrs
from skydns.reply import Reply
from skydns.rrs import RR, Question
from skydns.shown import ANY_ANSWER

if TYPE_CHECKING:  # 40 ms that only those with such a file pay
    import dns.rdata

DNAME: Final = 39
DS: Final = 43
_LINKS: Final = 16
_ONE_NAME: Final = (rrs.NS, rrs.CNAME, rrs.PTR)
_WITH_GLUE: Final = (rrs.NS, rrs.MX, rrs.SRV)


Stamp = tuple[int, int, int]
"""What changes when a file is written (`skydns.files.stamp`)."""


class ZonefileError(ValueError):
    """A file that is no zone; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Zonefile:
    """One `file` of a Corefile.

    Attributes:
        zones, fallthrough: folded.
        reload: seconds between two looks at the file; 0: none.
        by_time: a newer file is read whatever its serial.
        at_hand: what was read with the Corefile, by zone, for who takes it out first.
        seen: the file's stamp before that.
    """

    path: str
    zones: frozenset[bytes]
    reload: float = 60.0
    by_time: bool = False
    fallthrough: frozenset[bytes] = frozenset()
    at_hand: dict[bytes, Zone] = field(default_factory=dict, compare=False, repr=False)
    seen: Stamp | None = field(default=None, compare=False)


@dataclass(slots=True)
class Zone:
    """A zone's records.

    Attributes:
        sets: folded owner → type → RRset.
        inner: folded names that exist without records of their own.
    """

    origin: bytes
    sets: dict[bytes, dict[int, tuple[RR, ...]]] = field(default_factory=dict)
    inner: set[bytes] = field(default_factory=set)

    @property
    def soa(self) -> RR:
        """The zone's SOA."""
        return self.sets[self.origin][rrs.SOA][0]

    @property
    def serial(self) -> int:
        """The SOA's serial."""
        return int.from_bytes(self.soa.tail[:4], "big")

    def records(self) -> Iterator[RR]:
        """Yield every record but the SOA."""
        for sets in self.sets.values():
            for rtype, found in sets.items():
                if rtype != rrs.SOA:
                    yield from found

    def exists(self, name: bytes) -> bool:
        """Say whether something stands at a folded name or below it."""
        return name in self.sets or name in self.inner

    def answer(self, question: Question) -> Reply:
        """Return the answer to a question in the zone; `outside` is where an alias leads out of it."""
        answers: list[RR] = []
        name, owner = question.name, question.name
        for _ in range(_LINKS):
            if (cut := self._delegation(name, question.rtype)) and not answers:
                return self._referral(cut)
            sets = self.sets.get(name)
            if cut or (sets is None and name not in self.inner):
                made = self._renamed(name, owner) if not cut else None
                if made is not None:
                    answers += made
                    owner = made[-1].names[0]
                    name = owner.lower()
                    if names.below(name, self.origin):
                        continue
                    return self._found(question, answers, owner)
                sets = self._wildcard(name) if not cut else None
                if sets is None:
                    break
            sets = sets or {}
            if question.rtype == rrs.ANY and sets:
                return self._found(question, [*answers, ANY_ANSWER._replace(owner=owner)])
            if question.rtype not in sets and rrs.CNAME in sets:
                (link, *_) = sets[rrs.CNAME]
                answers.append(link._replace(owner=owner))
                owner = link.names[0]
                name = owner.lower()
                if names.below(name, self.origin):
                    continue
                return self._found(question, answers, owner)
            found = [rr._replace(owner=owner) for rr in sets.get(question.rtype, ())]
            if found:
                return self._found(question, [*answers, *found])
            return self._absent(rrs.NOERROR, answers)
        return self._absent(rrs.NXDOMAIN if not answers else rrs.NOERROR, answers)

    def _found(self, question: Question, answers: list[RR], outside: bytes = b"") -> Reply:
        return Reply(
            rrs.NOERROR, answer=tuple(answers), additional=self._glue(answers), zone=self.origin,
            reads=(question.name,), outside=outside, fixed=True,
        )  # fmt: skip

    def _absent(self, rcode: int, answers: list[RR]) -> Reply:
        """Return a reply with the SOA, its TTL as RFC 2308 §3 says."""
        soa = self.soa
        ttl = min(soa.ttl, int.from_bytes(soa.tail[-4:], "big"))
        return Reply(
            rcode, answer=tuple(answers), authority=(soa._replace(ttl=ttl),), zone=self.origin,
            fixed=True,
        )  # fmt: skip

    def _referral(self, cut: bytes) -> Reply:
        servers = self.sets[cut][rrs.NS]
        return Reply(
            rrs.NOERROR, authoritative=False, authority=servers, additional=self._glue(servers),
            zone=self.origin, fixed=True,
        )  # fmt: skip

    def _delegation(self, name: bytes, rtype: int) -> bytes:
        """Return the highest name at or above `name` that other servers answer for, b"" for none.

        DS is asked of the parent's servers (RFC 4035 §3.1.4.1): at the cut itself it is ours.
        """
        found = b""
        for above in names.ancestors(name):
            if above == self.origin:
                break
            if rrs.NS in self.sets.get(above, ()) and not (above == name and rtype == DS):
                found = above
        return found

    def _renamed(self, name: bytes, owner: bytes) -> list[RR] | None:
        """Return a DNAME above a name and the alias made from it (RFC 6672), None for none."""
        for above in names.ancestors(names.parent(name)):
            if not names.below(above, self.origin):
                return None
            if (found := self.sets.get(above, {}).get(DNAME)) is not None:
                try:
                    target = names.from_labels(
                        (*list(names.labels(owner))[: -names.count(above) or None],
                         *names.labels(found[0].head))
                    )  # fmt: skip
                except ValueError:
                    return None
                return [found[0], RR(owner, rrs.CNAME, found[0].ttl, names=(target,))]
        return None

    def _wildcard(self, name: bytes) -> dict[int, tuple[RR, ...]] | None:
        """Return what stands at the `*` below the closest name that exists."""
        for above in names.ancestors(names.parent(name)):
            if self.exists(above) or above == self.origin:
                return self.sets.get(b"\x01*" + above)
        return None

    def _glue(self, answers: tuple[RR, ...] | list[RR]) -> tuple[RR, ...]:
        """Return the addresses that the zone has of the servers it names."""
        found: dict[RR, None] = {}
        for rr in answers:
            if rr.rtype in _WITH_GLUE:
                target = rr.head[6:] if rr.rtype == rrs.SRV else rr.names[0]
                sets = self.sets.get(target.lower(), {})
                for rtype in (rrs.A, rrs.AAAA):
                    found |= dict.fromkeys(sets.get(rtype, ()))
        return tuple(found)


def read(path: str, origin: bytes) -> Zone:
    """Read a master file.

    Args:
        origin: the zone, folded.

    Raises:
        ZonefileError: it cannot be read, or is no zone.
    """
    import dns.exception
    import dns.name
    import dns.zone

    try:
        text = Path(path).read_text("utf-8")
        found = dns.zone.from_text(
            text, dns.name.Name([*names.labels(origin), b""]), relativize=False, filename=path,
            allow_include=True, check_origin=False,
        )  # fmt: skip
    except (OSError, ValueError, dns.exception.DNSException) as error:
        text = str(error)  # dnspython's begin with file and line
        raise ZonefileError(text if text.startswith(path) else f'"{path}": {text}') from error
    zone = Zone(origin)
    for owner, ttl, rdata in found.iterate_rdatas():
        rr = _record(names.from_labels(owner.labels[:-1]), ttl, rdata)
        sets = zone.sets.setdefault(rr.owner.lower(), {})
        sets[rr.rtype] = (*sets.get(rr.rtype, ()), rr)
    if rrs.SOA not in zone.sets.get(origin, {}):
        raise ZonefileError(f'"{path}": no SOA record of {names.to_text(origin)}')
    for name in zone.sets:
        zone.inner.update(above for above in names.ancestors(name) if above not in zone.sets)
    zone.inner = {name for name in zone.inner if names.below(name, origin)}
    return zone


def _record(owner: bytes, ttl: int, rdata: dns.rdata.Rdata) -> RR:
    """Return dnspython's record as ours, its names apart where they may be compressed."""
    data = rdata.to_wire()
    assert data is not None  # noqa: S101  (without a file it is what comes back)
    rtype = int(rdata.rdtype)
    if rtype in _ONE_NAME:
        return RR(owner, rtype, ttl, names=(data,))
    if rtype == rrs.MX:
        return RR(owner, rtype, ttl, data[:2], names=(data[2:],))
    if rtype == rrs.SOA:
        mname = data[: names.end(data, 0)]
        return RR(owner, rtype, ttl, names=(mname, data[len(mname) : -20]), tail=data[-20:])
    return RR(owner, rtype, ttl, data)
