# SPDX-License-Identifier: Apache-2.0
"""Questions changed on their way in and replies on their way out: a Corefile's `rewrite`. Pure.

::

    query ─► rules of its server block, in order ─► Change ─► the changed query is answered
                                                      │
    reply with the client's own question ◄────────────┘ `Change.restored`

A rule that matches changes name, type, class or EDNS of the question, and may leave behind what is
to be done to the reply; that is done in the reverse order of the rules. `stop` rules end the list.
Names are matched as text, in lower case and with the final dot, as the original does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import dnslib

from skydns import message, names, rrs

_NAMED: Final = {
    "CNAME": "label", "DNAME": "label", "SRV": "target", "MX": "label", "NAPTR": "replacement", "NS": "label",
    "PTR": "label",
}  # fmt: skip


class Pattern(Protocol):
    """A regular expression (RE2's syntax)."""

    def search(self, text: str) -> Any:
        """Return the first match, None for none."""
        ...


@dataclass(frozen=True, slots=True)
class Match:
    """How a name is matched, and what it becomes.

    Attributes:
        kind: exact, prefix, suffix, substring or regex.
        pattern: of `regex`.
        to: the replacement; `{1}` stands for a group of a regex.
    """

    kind: str
    text: str
    to: str = ""
    pattern: Pattern | None = None

    def apply(self, name: str) -> str | None:
        """Return what a name becomes; None: it does not match."""
        match self.kind:
            case "exact":
                return self.to if name == self.text else None
            case "prefix":
                found = name.startswith(self.text)
                return self.to + name[len(self.text) :] if found else None
            case "suffix":
                found = name.endswith(self.text)
                return name[: len(name) - len(self.text)] + self.to if found else None
            case "substring":
                return name.replace(self.text, self.to) if self.text in name else None
            case _:
                groups = self.pattern.search(name) if self.pattern is not None else None
                return _filled(self.to, groups) if groups else None


def _filled(text: str, groups: Any) -> str:
    """Put the groups of a match in their places."""
    for at, value in enumerate((groups.group(0), *groups.groups())):
        text = text.replace(f"{{{at}}}", value or "")
    return text


class Undo(Protocol):
    """What is done to a reply."""

    def __call__(self, reply: dnslib.DNSRecord) -> None:
        """Change it in place."""
        ...


@dataclass(frozen=True, slots=True)
class Renamed:
    """Names in the reply go through a match; where none is found they stay.

    Attributes:
        owners, values: of records, and in their data.
    """

    match: Match
    owners: bool = True
    values: bool = True

    def __call__(self, reply: dnslib.DNSRecord) -> None:
        """Change the names."""
        for rr in (*reply.rr, *reply.auth, *reply.ar):
            if rr.rtype == rrs.OPT:
                continue
            if self.owners:
                rr.rname = self._new(rr.rname)
            if not self.values:
                continue
            if rr.rtype == rrs.SOA:  # its other name is a mailbox
                rr.rdata.mname = self._new(rr.rdata.mname)
            elif place := _NAMED.get(rrs.TYPES.get(rr.rtype, "")):
                setattr(rr.rdata, place, self._new(getattr(rr.rdata, place)))

    def _new(self, label: dnslib.DNSLabel) -> dnslib.DNSLabel:
        found = self.match.apply(names.to_text(names.from_labels(label.label)).lower())
        if found is None:
            return label
        try:
            return dnslib.DNSLabel(list(names.labels(names.from_text(found))))
        except ValueError:  # what comes out is no name
            return label


@dataclass(frozen=True, slots=True)
class Restored:
    """A name and what lies below it become another: what `answer auto` does."""

    source: str
    to: str

    def __call__(self, reply: dnslib.DNSRecord) -> None:
        """Change the names."""
        for kind, source, to in (
            ("exact", self.source, self.to),
            ("suffix", f".{self.source}", f".{self.to}"),
        ):
            Renamed(Match(kind, source, to))(reply)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """TTLs are brought between two bounds."""

    least: int
    most: int

    def __call__(self, reply: dnslib.DNSRecord) -> None:
        """Change the TTLs."""
        for rr in (*reply.rr, *reply.auth, *reply.ar):
            if rr.rtype != rrs.OPT:
                rr.ttl = min(max(rr.ttl, self.least), self.most)


@dataclass(frozen=True, slots=True)
class Code:
    """One rcode becomes another."""

    source: int
    to: int

    def __call__(self, reply: dnslib.DNSRecord) -> None:
        """Change the rcode."""
        if reply.header.rcode == self.source:
            reply.header.rcode = self.to


@dataclass(slots=True)
class Change:
    """A query being rewritten.

    Attributes:
        question: as it came: name, type, class.
        name: as text, in lower case.
        client: its address, packed.
        options: EDNS options for the name servers that may be asked, by code.
        undo: what is done to the reply, last first.
        aliases: of rules for aliases' targets.
    """

    question: bytes
    name: str
    rtype: int
    rclass: int
    client: bytes
    proto: str = "udp"
    options: dict[int, bytes] = field(default_factory=dict)
    undo: list[Undo] = field(default_factory=list)
    aliases: list[Match] = field(default_factory=list)

    def query(self, data: bytes) -> bytes | None:
        """Return the query with the changed question; None: it is no name any more."""
        try:
            name = names.from_text(self.name)
        except ValueError:
            return None
        asked = name + self.rtype.to_bytes(2, "big") + self.rclass.to_bytes(2, "big")
        return data[: message.HEADER] + asked + data[message.HEADER + len(self.question) :]

    def restored(self, reply: bytes) -> bytes:
        """Return the reply to the changed query as one to the client's own.

        Raises:
            DNSError: it cannot be read.
        """
        parsed = dnslib.DNSRecord.parse(reply)
        for undo in reversed(self.undo):
            undo(parsed)
        labels = list(names.labels(self.question[:-4]))
        rtype, rclass = (
            int.from_bytes(part, "big") for part in (self.question[-4:-2], self.question[-2:])
        )
        parsed.questions = [dnslib.DNSQuestion(dnslib.DNSLabel(labels), rtype, rclass)]
        return bytes(parsed.pack())

    def redirected(self, reply: bytes) -> tuple[int, bytes] | None:
        """Return which answer is an alias that a rule changes, and its new target (folded).

        Raises:
            DNSError, ValueError: the reply cannot be read, or the new target is no name.
        """
        for at, rr in enumerate(dnslib.DNSRecord.parse(reply).rr if self.aliases else ()):
            if rr.rtype != rrs.CNAME:
                continue
            target = names.to_text(names.from_labels(rr.rdata.label.label)).lower()
            for match in self.aliases:
                if (new := match.apply(target)) is not None:
                    return at, names.from_text(new).lower()
        return None


def joined(reply: bytes, at: int, target: bytes, rest: bytes) -> bytes:
    """Return a reply whose alias at `at` leads to `target`, and what `rest` answers for that.

    Raises:
        DNSError: a message cannot be read.
    """
    parsed, other = dnslib.DNSRecord.parse(reply), dnslib.DNSRecord.parse(rest)
    parsed.rr[at].rdata.label = dnslib.DNSLabel(list(names.labels(target)))
    parsed.rr = [*parsed.rr[: at + 1], *other.rr]
    parsed.header.rcode = other.header.rcode
    return bytes(parsed.pack())


class Rule(Protocol):
    """One rule; `stop`: no rule after it is looked at when it matched."""

    @property
    def stop(self) -> bool:
        """Whether it ends the list."""
        ...

    def apply(self, change: Change) -> bool:
        """Change the question; False: the rule does not match."""
        ...


@dataclass(frozen=True, slots=True)
class Name:
    """`rewrite name`: the question's name, and what is done to the answer's.

    Attributes:
        auto: names in the answer go back to what was asked; an `exact` rule always does that.
        undo: beside it.
    """

    match: Match
    stop: bool = True
    auto: bool = False
    undo: tuple[Undo, ...] = ()

    def apply(self, change: Change) -> bool:
        """Change the name."""
        new = self.match.apply(change.name)
        if new is None:
            return False
        new = new if new.endswith(".") else f"{new}."
        if self.auto and self.match.kind == "suffix":
            change.undo.append(Renamed(Match("suffix", self.match.to, self.match.text)))
        elif self.auto or self.match.kind == "exact":
            change.undo.append(Restored(new, change.name))
        change.undo += self.undo
        change.name = new
        return True


@dataclass(frozen=True, slots=True)
class Number:
    """`rewrite type` and `rewrite class`."""

    place: str
    source: int
    to: int
    stop: bool = True

    def apply(self, change: Change) -> bool:
        """Change type or class."""
        if getattr(change, self.place) != self.source:
            return False
        setattr(change, self.place, self.to)
        return True


@dataclass(frozen=True, slots=True)
class Later:
    """`rewrite ttl` and `rewrite rcode`: names that match have something done to their replies."""

    match: Match
    undo: Undo
    stop: bool = True

    def apply(self, change: Change) -> bool:
        """Note what is to be done."""
        if self.match.apply(change.name) is None:
            return False
        change.undo.append(self.undo)
        return True


@dataclass(frozen=True, slots=True)
class Alias:
    """`rewrite cname`: an alias's target in the answer, whatever was asked."""

    match: Match
    stop: bool = True

    def apply(self, change: Change) -> bool:
        """Note what is to be done."""
        change.aliases.append(self.match)
        return True


@dataclass(frozen=True, slots=True)
class Option:
    """`rewrite edns0`: an option for the name servers.

    Attributes:
        action: set, append, replace or unset.
        data: octets; `{client_ip}` and the like as text.
        prefixes: of a client subnet (RFC 7871), for IPv4 and IPv6; else None.
    """

    action: str
    code: int
    data: bytes = b""
    prefixes: tuple[int, int] | None = None
    stop: bool = True

    def apply(self, change: Change) -> bool:
        """Change the options."""
        there = self.code in change.options
        if self.action == "unset":
            return change.options.pop(self.code, None) is not None
        if (self.action == "append" and there) or (self.action == "replace" and not there):
            return False
        change.options[self.code] = self._octets(change)
        return True

    def _octets(self, change: Change) -> bytes:
        if self.prefixes is not None:
            return subnet(change.client, self.prefixes[len(change.client) == 16])
        if self.data in _VARIABLES:
            return _VARIABLES[self.data](change)
        return self.data


def subnet(client: bytes, prefix: int) -> bytes:
    """Return the data of a client subnet option (RFC 7871 §6)."""
    octets = bytearray(client[: (prefix + 7) // 8])
    if prefix % 8:
        octets[-1] &= 0xFF << (8 - prefix % 8) & 0xFF
    family = 1 if len(client) == 4 else 2
    return family.to_bytes(2, "big") + bytes((prefix, 0)) + bytes(octets)


_VARIABLES: Final[Mapping[bytes, Callable[[Change], bytes]]] = {
    b"{qname}": lambda change: change.name.encode(),
    b"{qtype}": lambda change: change.rtype.to_bytes(2, "big"),
    b"{client_ip}": lambda change: change.client,
    b"{protocol}": lambda change: change.proto.encode(),
}


class Rewriter:
    """Applies the rules of the server block whose zone has the name, the longest first.

    Args:
        blocks: folded zone → rules.
    """

    def __init__(self, blocks: Mapping[bytes, Sequence[Rule]]) -> None:
        self._blocks = blocks

    def change(self, data: bytes, client: bytes, proto: str) -> Change | None:
        """Return what becomes of a query; None: no rule is about it.

        Args:
            client: its address, packed.
        """
        end = message.question_end(data) if len(data) > message.HEADER else 0
        if not end or data[2] & 0xF8:  # no query: what it is told does not depend on us
            return None
        question = data[message.HEADER : end]
        name = question[:-4].lower()
        zone = names.longest(name, self._blocks)
        if not zone or not self._blocks[zone]:
            return None
        rtype, rclass = int.from_bytes(question[-4:-2], "big"), int.from_bytes(question[-2:], "big")
        change = Change(question, names.to_text(name), rtype, rclass, client, proto)
        matched = False
        for rule in self._blocks[zone]:
            if rule.apply(change):
                matched = True
                if rule.stop:
                    break
        return change if matched else None


def rewriter(blocks: Mapping[bytes, Sequence[Rule]]) -> Rewriter | None:
    """Return what applies the rules, None when there are none."""
    return Rewriter(blocks) if any(blocks.values()) else None
