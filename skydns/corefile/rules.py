# SPDX-License-Identifier: Apache-2.0
"""The plugin `rewrite`: its arguments → rules (`skydns.rewrite`)."""

from __future__ import annotations

from typing import Final

from skydns.corefile.grammar import Block, CorefileError, Directive
from skydns.corefile.said import Said, rcode, rtype
from skydns.rewrite import (
    Alias,
    Code,
    Later,
    Lifetimes,
    Match,
    Name,
    Number,
    Option,
    Renamed,
    Rule,
    Undo,
)

_KINDS: Final = frozenset(("exact", "prefix", "suffix", "substring", "regex"))
_CLASSES: Final = {"IN": 1, "CH": 3, "HS": 4, "NONE": 254, "ANY": 255}
_ACTIONS: Final = frozenset(("set", "append", "replace", "unset"))
_NSID: Final = 3
_SUBNET: Final = 8


def rewrite(plugin: Directive, block: Block, said: Said) -> None:
    """Take over one rule, written on the line or between braces."""
    words = list(plugin.args)
    for each in plugin.properties:
        words += (each.name, *each.args)
    rule = _Words(words, plugin.line).rule()
    for place in said.block(block):
        place.rewrite.append(rule)


class _Words:
    """The arguments of one rule, read from the front."""

    def __init__(self, words: list[str], line: int) -> None:
        self._words = words
        self._line = line

    def rule(self) -> Rule:
        stop = True
        if self._words[:1] in (["continue"], ["stop"]):
            stop = self._next() == "stop"
        match kind := self._next().lower():
            case "name":
                found: Rule = self._name(stop)
            case "type":
                found = Number("rtype", self._rtype(), self._rtype(), stop)
            case "class":
                found = Number("rclass", self._rclass(), self._rclass(), stop)
            case "ttl":
                match = self._match(with_to=False)
                found = Later(match, self._ttls(), stop)
            case "rcode":
                match = self._match(with_to=False)
                code = Code(rcode(self._next(), self._line), rcode(self._next(), self._line))
                found = Later(match, code, stop)
            case "cname":
                found = Alias(self._match(with_to=True), stop)
            case "edns0":
                found = self._option(stop)
            case _:
                raise self._fault(f'"{kind}" is no field that can be rewritten')
        if self._words:
            raise self._fault(f'"{self._words[0]}" is too much')
        return found

    def _fault(self, text: str) -> CorefileError:
        return CorefileError(f"line {self._line}: rewrite: {text}")

    def _next(self) -> str:
        if not self._words:
            raise self._fault("too few arguments")
        return self._words.pop(0)

    def _match(self, *, with_to: bool) -> Match:
        """Read `[KIND] FROM [TO]`; without a kind it is exact."""
        kind = (
            self._next().lower()
            if self._words[:1] and self._words[0].lower() in _KINDS
            else "exact"
        )
        source = self._next()
        to = self._next().lower() if with_to else ""
        if kind == "regex":
            return self._regex(source, to)
        source = source.lower()
        if kind in {"exact", "suffix"}:
            source = source if source.endswith(".") else f"{source}."
            to = to if to.endswith(".") or not with_to else f"{to}."
        return Match(kind, source, to)

    def _regex(self, source: str, to: str) -> Match:
        import re2  # 15 ms, and few files need it

        try:
            pattern = re2.compile(source)
        except re2.error as error:
            raise self._fault(f'"{source}": {error}') from error
        if any(f"{{{at}}}" in to for at in range(pattern.groups + 1, 100)):
            raise self._fault(f'"{to}" has more groups than "{source}"')
        return Match("regex", source, to, pattern)

    def _name(self, stop: bool) -> Rule:
        match = self._match(with_to=True)
        auto, undo = False, list[Undo]()
        first = True
        while self._words:
            word = self._next()
            if word == "answer":
                word = self._next()
            elif first:
                raise self._fault(f'"{word}" is too much')
            first = False
            match word:
                case "auto":
                    auto = True
                case "name" | "value":
                    if self._words[:1] == ["auto"]:  # `answer name auto`, as its manual has it
                        self._next()
                        auto = True
                        continue
                    names_ = word == "name"
                    pattern = self._regex(self._next(), self._next().lower())
                    undo.append(Renamed(pattern, owners=names_, values=not names_))
                case _:
                    raise self._fault(f'answer "{word}" is neither auto, name nor value')
        if auto and any(isinstance(each, Renamed) and each.owners for each in undo):
            raise self._fault("answer auto and answer name exclude each other")
        return Name(match, stop, auto, tuple(undo))

    def _rtype(self) -> int:
        return rtype(self._next(), self._line)

    def _rclass(self) -> int:
        text = self._next()
        found = _CLASSES.get(text.upper())
        if found is None:
            raise self._fault(f'"{text}" is no class')
        return found

    def _ttls(self) -> Lifetimes:
        """Read `SECONDS`, `MIN-MAX`, `MIN-` or `-MAX`."""
        text = self._next()
        low, dash, high = text.partition("-")
        least, most = low or "0", (high or str(2**31 - 1)) if dash else low
        if not (least.isdecimal() and most.isdecimal()) or int(least) > int(most):
            raise self._fault(f'ttl "{text}" is neither SECONDS nor MIN-MAX')
        return Lifetimes(int(least), int(most))

    def _option(self, stop: bool) -> Rule:
        """Read `local|nsid|subnet set|append|replace|unset …`."""
        kind, action = self._next().lower(), self._next().lower()
        if action not in _ACTIONS:
            raise self._fault(f'edns0: "{action}" is neither set, append, replace nor unset')
        code, data, prefixes = _NSID, b"", None
        if kind == "local":
            code = self._code()
            data = self._data() if action != "unset" else b""
        elif kind == "subnet":
            code = _SUBNET
            if action != "unset":
                prefixes = (self._prefix(32), self._prefix(128))
        elif kind != "nsid":
            raise self._fault(f'edns0: "{kind}" is neither local, nsid nor subnet')
        if self._words[:1] == ["revert"]:  # no option of ours reaches the client anyway
            self._next()
        return Option(action, code, data, prefixes, stop)

    def _code(self) -> int:
        text = self._next()
        try:
            return int(text, 0) & 0xFFFF
        except ValueError:
            raise self._fault(f'edns0: "{text}" is no code') from None

    def _data(self) -> bytes:
        text = self._next()
        if text.startswith("0x"):
            try:
                return bytes.fromhex(text[2:])
            except ValueError as error:
                raise self._fault(f'edns0: "{text}": {error}') from error
        if text.startswith("{") and text not in {"{qname}", "{qtype}", "{client_ip}", "{protocol}"}:
            raise self._fault(f'edns0: "{text}" is not known here')
        return text.encode()

    def _prefix(self, most: int) -> int:
        text = self._next()
        if not text.isdecimal() or int(text) > most:
            raise self._fault(f'edns0 subnet: "{text}" is not within 0 and {most}')
        return int(text)
