# SPDX-License-Identifier: Apache-2.0
"""Our zones' answers under their keys: what the apex shows, and what denies what is not there.

`dnssec` knows how a reply is signed; this knows what there is to sign: the DNSKEY, CDS and CDNSKEY
of a zone's own name, the DS that a zone of ours has for another below it, and the types that a
name has, asked of `answer` itself, so that a denial never contradicts an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from skydns import dnssec, names, rrs
from skydns.answer import answer
from skydns.dnssec import Key, Signer
from skydns.lookup import zone_of
from skydns.policy import Policy
from skydns.reply import Reply
from skydns.rrs import RR, Question
from skydns.state import Served

_HELD: Final = 86400.0  # seconds a signed answer is kept at most; a signature has two days left
_TYPES: Final = (rrs.A, rrs.AAAA, rrs.TXT, rrs.SRV, rrs.MX, rrs.PTR)
_AT_APEX: Final = (rrs.NS, rrs.SOA)


class Signing:
    """Signs by zone.

    Args:
        keys: of any of our zones.
        wall: seconds since 1970.
        most: signatures kept, of each zone.
    """

    def __init__(
        self, keys: Iterable[Key], wall: Callable[[], float], most: int = dnssec.MOST
    ) -> None:
        by_zone: dict[bytes, list[Key]] = {}
        for key in keys:
            by_zone.setdefault(key.zone, []).append(key)
        self.keys: tuple[Key, ...] = tuple(key for some in by_zone.values() for key in some)
        self.signers: Mapping[bytes, Signer] = {
            zone: Signer(some, most) for zone, some in by_zone.items()
        }
        self._wall = wall

    def complete(
        self, question: Question, reply: Reply, served: Served, policy: Policy, now: float
    ) -> Reply:
        """Return a reply with what only keys bring: DNSKEY, CDS, CDNSKEY at an apex, DS above it."""
        name, rtype = question.name, question.rtype
        if reply.answer or name not in policy.zones:
            return reply
        if rtype == dnssec.DS:
            above = zone_of(names.parent(name), policy) if name != names.ROOT else b""
            if not above:
                return reply
            found: tuple[RR, ...] = ()
            if name in self.signers:
                found = self.signers[name].ds(policy.ttl)
            if not found:  # the denial of a DS is the parent's
                other = answer(Question(above, dnssec.DS), served, policy, now)
                if isinstance(other, Reply):
                    return replace(reply, zone=above, authority=other.authority)
            return replace(reply, zone=above, answer=found, authority=())
        signer = self.signers.get(name)
        found = signer.apex(rtype, policy.ttl) if signer else ()
        return replace(reply, answer=found, authority=()) if found else reply

    def sign(
        self,
        question: Question,
        reply: Reply,
        served: Served,
        policy: Policy,
        now: float,
        *,
        compact_ok: bool,
    ) -> Reply:
        """Return a reply of a zone with keys, signed.

        Args:
            now: monotonic, as `answer` takes it.
        """

        def types() -> Iterator[int]:
            return self._types(question, served, policy, now)

        signed = self.signers[reply.zone].reply(
            reply, question.name, types, self._wall(), compact_ok=compact_ok
        )
        return replace(signed, expires=min(signed.expires, now + _HELD))

    def _types(
        self, question: Question, served: Served, policy: Policy, now: float
    ) -> Iterator[int]:
        """Yield the types that a name has, the one asked aside.

        An alias counts as what it leads to: SRV and TXT may stand beside it here (specs/skydns.md
        §2.4), and a denial that lists CNAME would say that all types are answered by it.
        """
        name = question.name
        at_apex = name in policy.zones
        if at_apex and question.rtype == dnssec.DS:  # seen from above it is a delegation
            yield rrs.NS
            return
        for rtype in (*_TYPES, *(_AT_APEX if at_apex else ())):
            if rtype == question.rtype:
                continue
            made = answer(Question(name, rtype), served, policy, now)
            if isinstance(made, Reply) and made.answer:
                yield rtype
        if at_apex and name in self.signers:
            yield from (dnssec.DNSKEY, dnssec.CDS, dnssec.CDNSKEY)


def load(bases: Sequence[str], zones: Iterable[bytes]) -> tuple[Key, ...]:
    """Read the key pairs of these base names; "" and doubles are skipped.

    Raises:
        KeyFileError: a file is missing or damaged, or its key is of no zone of ours.
    """
    ours = set(zones)
    found = []
    for base in dict.fromkeys(filter(None, bases)):
        key = dnssec.load(base)
        if key.zone not in ours:
            shown = names.to_text(key.zone)
            raise dnssec.KeyFileError(f'"{base}": the key is of {shown}, which is no zone of ours')
        found.append(key)
    return tuple(found)
