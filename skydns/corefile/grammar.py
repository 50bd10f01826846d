# SPDX-License-Identifier: Apache-2.0
"""A CoreDNS user's file → server blocks (specs/skydns.md §15.2). Pure but for `import`.

Tokens are words, quoted strings and braces, each with its line; `{$VAR}` and `{%VAR%}` stand for
the environment; `(name) { … }` is a snippet for `import name`, other imports are files.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

PORT: Final = 53
PORTS: Final = {"dns": PORT, "tls": 853, "https": 443}
"""Where each scheme is spoken when a block names no port."""
_MOST_IMPORTS: Final = 10_000
_TOKEN: Final = re.compile(
    r'[ \t\r]*(?:#[^\n]*|(?P<quoted>"(?:\\.|[^"\\])*")|(?P<word>[^\s"#][^\s]*)|(?P<line>\n))'
)
_VARIABLE: Final = re.compile(r"\{\$(\w+)\}|\{%(\w+)%\}")


class CorefileError(ValueError):
    """The file cannot be used; the text says where and why."""


class Token(NamedTuple):
    """A word and where it stands; `first`: it begins a line."""

    text: str
    line: int
    first: bool
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Directive:
    """A plugin or one of its properties: a name, arguments, and what its braces hold."""

    name: str
    args: tuple[str, ...]
    line: int
    properties: tuple[Directive, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A server block.

    Attributes:
        scheme: "dns", "tls" or "https".
        zones: as written, without scheme and port.
        port: 0: not given.
    """

    scheme: str
    zones: tuple[str, ...]
    port: int
    line: int
    plugins: tuple[Directive, ...]

    def all(self, name: str) -> tuple[Directive, ...]:
        """Return the directives of this name."""
        return tuple(plugin for plugin in self.plugins if plugin.name == name)


def parse(text: str, environ: Mapping[str, str], base: Path) -> tuple[Block, ...]:
    """Return the server blocks of a file.

    Args:
        base: the directory that imported files are relative to.

    Raises:
        CorefileError: its grammar is broken, or an import cannot be read.
    """
    parser = _Parser(list(tokens(text, environ)), environ, base)
    return parser.blocks()


def tokens(text: str, environ: Mapping[str, str]) -> Iterator[Token]:
    """Yield the tokens of a file.

    Raises:
        CorefileError: a quoted string does not end.
    """
    line, first, at = 1, True, 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            if not text[at:].strip():
                return
            raise CorefileError(f"line {line}: a quoted string does not end")
        at = found.end()
        if found["line"]:
            line, first = line + 1, True
        elif found["quoted"] is not None:
            yield Token(re.sub(r'\\(")', r"\1", found["quoted"][1:-1]), line, first, quoted=True)
            line, first = line + found["quoted"].count("\n"), False
        elif found["word"] is not None:
            word = _VARIABLE.sub(lambda name: environ.get(name[1] or name[2], ""), found["word"])
            if word:
                yield Token(word, line, first)
                first = False


class _Parser:
    def __init__(self, given: list[Token], environ: Mapping[str, str], base: Path) -> None:
        self._tokens = given
        self._at = 0
        self._environ = environ
        self._base = base
        self._snippets: dict[str, tuple[Token, ...]] = {}
        self._imports = 0

    def blocks(self) -> tuple[Block, ...]:
        found: list[Block] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.text.startswith("(") and token.text.endswith(")"):
                self._at += 1
                self._snippets[token.text[1:-1]] = self._braced(token)
                continue
            if token.text == "import":
                self._import()
                continue
            found.append(self._block())
        return tuple(found)

    def _braced(self, opener: Token) -> tuple[Token, ...]:
        """Return the tokens between braces, which begin here."""
        if self._at >= len(self._tokens) or self._tokens[self._at].text != "{":
            raise CorefileError(f'line {opener.line}: "{opener.text}" has no {{')
        depth, start = 0, self._at
        while self._at < len(self._tokens):
            text = self._tokens[self._at].text
            depth += (text == "{") - (text == "}")
            self._at += 1
            if not depth:
                return tuple(self._tokens[start + 1 : self._at - 1])
        raise CorefileError(f'line {opener.line}: the {{ of "{opener.text}" is not closed')

    def _import(self) -> None:
        """Replace an import by what it stands for."""
        self._imports += 1
        line = self._tokens[self._at].line
        end = self._at + 1
        while end < len(self._tokens) and not self._tokens[end].first:
            end += 1
        args = [token.text for token in self._tokens[self._at + 1 : end]]
        if len(args) != 1 or self._imports > _MOST_IMPORTS:
            raise CorefileError(f"line {line}: import takes one argument, and ends somewhere")
        if args[0] in self._snippets:
            inside: Sequence[Token] = self._snippets[args[0]]
        else:
            paths = sorted(glob.glob(str(self._base / args[0])))
            if not paths and not glob.has_magic(args[0]):
                raise CorefileError(f'line {line}: import "{args[0]}": no such file or snippet')
            try:
                inside = [
                    token
                    for path in paths
                    for token in tokens(Path(path).read_text(), self._environ)
                ]
            except OSError as error:
                raise CorefileError(f'line {line}: import "{args[0]}": {error}') from error
        self._tokens[self._at : end] = inside

    def _block(self) -> Block:
        opener = self._tokens[self._at]
        places: list[str] = []
        more = True
        while self._at < len(self._tokens) and self._tokens[self._at].text != "{":
            token = self._tokens[self._at]
            if token.first and places and not more:
                break
            more = token.text.endswith(",")
            places += filter(None, token.text.split(","))
            self._at += 1
        braces = self._at < len(self._tokens) and self._tokens[self._at].text == "{"
        if braces:
            self._at += 1
        plugins = self._directives(opener, braces=braces)
        schemes, zones, ports = set(), [], set()
        for place in places:
            scheme, zone, port = _place(place, opener.line)
            schemes.add(scheme)
            zones.append(zone)
            ports.add(port)
        if len(schemes) > 1 or len(ports) > 1:
            raise CorefileError(
                f"line {opener.line}: one block, several schemes or ports: write a block for each"
            )
        return Block(schemes.pop(), tuple(zones), ports.pop(), opener.line, plugins)

    def _directives(self, opener: Token, *, braces: bool) -> tuple[Directive, ...]:
        """Return the directives up to the closing brace, or the end of the file without."""
        found: list[Directive] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.text == "}" and not token.quoted:
                if not braces:
                    raise CorefileError(f"line {token.line}: }} closes nothing")
                self._at += 1
                return tuple(found)
            if token.text == "import":
                self._import()
                continue
            self._at += 1
            args: list[str] = []
            properties: tuple[Directive, ...] = ()
            while self._at < len(self._tokens) and not (following := self._tokens[self._at]).first:
                self._at += 1
                if following.text == "{" and not following.quoted:
                    properties = self._directives(token, braces=True)
                    break
                args.append(following.text)
            found.append(Directive(token.text, tuple(args), token.line, properties))
        if braces:
            raise CorefileError(f'line {opener.line}: the {{ of "{opener.text}" is not closed')
        return tuple(found)


def _place(text: str, line: int) -> tuple[str, str, int]:
    """Return scheme, zone and port of `tls://example.org:853`."""
    scheme, found, rest = text.rpartition("://")
    scheme = scheme if found else "dns"
    if scheme not in PORTS:
        raise CorefileError(f'line {line}: "{text}": scheme {scheme} is not supported')
    zone, colon, port = rest.rpartition(":")
    if not colon or "/" in port:  # a network of IPv6 has colons too
        zone, port = rest, ""
    elif port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise CorefileError(f'line {line}: "{text}": port {port} is not within 1 and 65535')
    return scheme, zone or ".", int(port or 0)
