# SPDX-License-Identifier: Apache-2.0
"""Why an answer is what it is: which keys made it, which were hidden and by which rule. Pure.

The answer comes from `answer` itself; the reasons follow its steps, so the first rule that keeps
a record out is the one that is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fairlead.errors import RecordError
from skydns import dnssec, keys, names, rrs
from skydns.answer import answer
from skydns.lookup import grouped, zone_of
from skydns.policy import Own, Policy
from skydns.records import NO_PORT, Service
from skydns.reply import Forward, Reply
from skydns.rrs import RR, Question
from skydns.state import Index, Served

TYPES: Final = {text: number for number, text in rrs.TYPES.items()} | {"DNSKEY": dnssec.DNSKEY}


@dataclass(frozen=True, slots=True)
class Part:
    """One key's part in an answer: `made` is what it put there, else `why` says what hid it."""

    key: str
    made: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer and where it comes from."""

    status: str
    zone: str
    answer: tuple[str, ...]
    additional: tuple[str, ...]
    parts: tuple[Part, ...]


def explain(
    question: Question, services: Iterable[Service], rejected: Iterable[RecordError], prefix: bytes, policy: Policy
) -> Explanation:  # fmt: skip
    """Return what is answered to a question, and why.

    Args:
        rejected: keys whose values cannot be used.
    """
    index = Index()
    for service in services:
        index.put(service)
    reply = answer(question, Served(index), policy, 0.0)
    bad = _broken(question.name, rejected, prefix)
    if isinstance(reply, Forward):
        zones = ", ".join(sorted(map(names.to_text, policy.zones)))
        said = f"not in our zones ({zones}; --domain): asked of the name servers, or REFUSED"
        return Explanation(said, "", (), (), bad)
    parts = _parts(question, reply, index, policy)
    return Explanation(
        rrs.RCODES.get(reply.rcode, str(reply.rcode)),
        names.to_text(reply.zone) if reply.zone else "",
        tuple(map(text, reply.answer)),
        tuple(map(text, reply.additional)),
        (*parts, *bad),
    )


def text(rr: RR) -> str:
    """Return a record as it stands in a zone file."""
    import dnslib

    wire = b"".join((rr.head, *rr.names, rr.tail))
    kind = rrs.TYPES.get(rr.rtype, f"TYPE{rr.rtype}")
    buffer = dnslib.DNSBuffer(wire)
    shape = dnslib.RDMAP.get(kind)
    data = str(shape.parse(buffer, len(wire))) if shape else wire.hex()
    return f"{names.to_text(rr.owner)} {rr.ttl} {kind} {data}"


def _broken(name: bytes, rejected: Iterable[RecordError], prefix: bytes) -> tuple[Part, ...]:
    """Return the keys below a name that cannot be used."""
    found = []
    for error in rejected:
        shown = error.key.decode("utf-8", "backslashreplace")
        try:
            meant = names.below(keys.name_of(prefix, error.key).lower(), name)
        except ValueError:  # no name at all: its path says what it was meant for
            meant = _lies_below(error.key, prefix, name)
        if meant:
            found.append(Part(shown, why=f"cannot be used: {error.reason}"))
    return tuple(found)


def _lies_below(key: bytes, prefix: bytes, name: bytes) -> bool:
    try:
        place = keys.key_of(prefix, name)
    except ValueError:
        return False
    return (key + b"/").startswith(place + b"/")


def _parts(question: Question, reply: Reply, index: Index, policy: Policy) -> tuple[Part, ...]:
    """Return the part of every key at or below the name, and of those an alias led to."""
    name = question.name
    node, shape = index.node(name), policy.shape(name)
    own = list(node.own) if node else []
    below = index.below(name)
    read: Sequence[Service]
    hidden: dict[bytes, str] = {}
    base = keys.wildcard_base(name)
    if base is not None:
        own, below = [], index.matching(base, name)
        read = below
    elif own and below and shape.own is Own.FIRST:
        read = own
        hidden = {each.key: "the name has a record of its own, which comes first" for each in below}
    elif own and below and shape.own is Own.CHILDREN and question.rtype not in {rrs.CNAME, rrs.PTR}:
        read = below
        hidden = {
            each.key: "the name has keys below it: they answer for it (trap 8)" for each in own
        }
    elif shape.own is Own.UNION:
        read = [*own, *below]
    else:
        read = own or below
    if base is None and shape.depth is not None:
        near = {each.key for each in index.below(name, depth=shape.depth)}
        deep = [each for each in below if each.key not in near]
        hidden |= {
            each.key: f"it lies more than {shape.depth} labels below (-depth)" for each in deep
        }
        read = [each for each in read if each.key not in hidden]
    kept = {service.key for service in grouped(read)}
    parts = []
    shown: dict[tuple[object, ...], str] = {}
    for service in (*own, *below):
        key = service.key.decode("utf-8", "backslashreplace")
        why = hidden.get(service.key, "")
        if not why and service.key not in kept:
            why = f'group "{service.group}" is not the one of the shallowest key (§4.4)'
        made = () if why else _made(service, question, reply)
        if not made and not why:
            why = _other_type(service, question, policy)
        if made:
            place = (made, service.port)
            if place in shown:
                made, why = (), f"the same as {shown[place]}"
            else:
                shown[place] = key
        parts.append(Part(key, made, why))
    used = {service.key for service in (*own, *below)}
    for rr in reply.answer:  # what aliases led to
        node = index.node(rr.owner.lower())
        for service in (*(node.own if node else ()), *index.below(rr.owner.lower())):
            if service.key not in used and (made := _made(service, question, reply)):
                used.add(service.key)
                parts.append(Part(service.key.decode("utf-8", "backslashreplace"), made))
    holders = index.holders(names.address_of(name)) if question.rtype == rrs.PTR else []
    parts += [
        Part(service.key.decode("utf-8", "backslashreplace"), made)
        for service in holders
        if (made := _made(service, question, reply))
    ]
    return tuple(parts)


def _made(service: Service, question: Question, reply: Reply) -> tuple[str, ...]:
    """Return the records of the answer that a key's record is in."""
    target = names.strip(service.target or service.name, service.targetstrip).lower()
    found = []
    for rr in reply.answer:
        match rr.rtype:
            case rrs.A | rrs.AAAA:
                of_it = bool(service.address) and rr.head == service.address
            case rrs.TXT:
                of_it = bool(service.text) and rr.head[1:].startswith(service.text[:255])
            case rrs.CNAME | rrs.PTR:
                wanted = service.target.lower() or (target if rr.rtype == rrs.PTR else b"")
                of_it = bool(wanted) and rr.names[0].lower() == wanted
            case rrs.SRV:
                of_it = (
                    rr.head[6:].lower() == target
                    and int.from_bytes(rr.head[4:6], "big") == service.port & 0xFFFF
                )
            case rrs.MX | rrs.NS:
                of_it = rr.names[0].lower() == target and (rr.rtype == rrs.NS or service.mail)
            case _:
                of_it = False
        if of_it:
            found.append(text(rr))
    return tuple(found)


def _other_type(service: Service, question: Question, policy: Policy) -> str:
    """Say why a record that was read is not in the answer."""
    rtype = rrs.TYPES.get(question.rtype, str(question.rtype))
    if question.rtype in {rrs.A, rrs.AAAA}:
        if service.address:
            return f"its host is an address of the other family, {rtype} was asked"
        if service.target:
            folded = service.target.lower()
            apex = question.name in policy.zones  # below it lies everything (§5.2)
            if folded == question.name or (names.below(folded, question.name) and not apex):
                return "its host leads back to the name itself (§5.2)"
            if not zone_of(folded, policy):
                return "its host is a name outside our zones beside other records: the name servers are asked for its addresses"
            return "its host is a name that has no data of this type, is one alias too many, or leads to addresses that are there already"
        return "it has no host, only text"
    if question.rtype == rrs.TXT:
        return "it has no text"
    if question.rtype == rrs.MX and not service.mail:
        return "it is no MX: mail is not true"
    if question.rtype in {rrs.SRV, rrs.MX} and not (service.address or service.target):
        return "it has no host"
    if question.rtype == rrs.SRV and service.port == NO_PORT:
        return "its port is -1: it is in no SRV (§5.3)"
    if question.rtype in {rrs.CNAME, rrs.PTR}:
        return f"{rtype} is the exact key's, and its host must be a name (trap 9)"
    return f"no record of ours is a {rtype}"
