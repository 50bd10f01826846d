# SPDX-License-Identifier: Apache-2.0
"""The subset of Go's expressions in which vulcand writes routes, failover and breaker conditions.

::

    Host("a.example.org") && PathRegexp(`^/v[12]/`)      text ─► tokens ─► Call, And, Or, Not, Compare, Literal

A pure reader: what the names mean, and which of the forms are allowed, is decided by
`route.parse` (calls and `&&` only, specs/vulcand.md §6) and `predicate` (§4.4, §7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


class ExpressionError(ValueError):
    """The text is no expression; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, an integer or a float as written."""

    value: str | int | float


@dataclass(frozen=True, slots=True)
class Call:
    """`name(args…)`."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class And:
    """`left && right`."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Or:
    """`left || right`."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Not:
    """`!operand`."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Compare:
    """`left op right`, op one of == != < <= > >=."""

    op: str
    left: Node
    right: Node


Node = Literal | Call | And | Or | Not | Compare

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    | (?P<float>\d+\.\d*(?:[eE][+-]?\d+)?|\.\d+|\d+[eE][+-]?\d+)
    | (?P<int>\d+)
    | (?P<raw>`[^`]*`)
    | (?P<text>"(?:[^"\\\n]|\\.)*")
    | (?P<op>&&|\|\||==|!=|<=|>=|[<>!(),])
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)
_SIMPLE: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
}
_DEPTH: Final = 100  # nested parentheses; deeper text is a mistake or an attack


def parse(text: str) -> Node:
    """Return the tree of `text`.

    Raises:
        ExpressionError: not in the subset; says at which character.
    """
    parser = _Parser(text)
    node = parser.either(0)
    parser.expect("end", "")
    return node


class _Parser:
    """Recursive descent over one text; Go's precedence: || < && < comparison < !."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.kind = self.value = ""
        self.start = 0
        self._next()

    def _next(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            rest = self._text[self._at :].lstrip()
            raise ExpressionError(
                f'unexpected "{rest[:12]}" at character {len(self._text) - len(rest) + 1}'
            )
        self.kind = str(found.lastgroup)
        self.value = found[self.kind]
        self.start = found.start(self.kind)
        self._at = found.end()

    def _take(self) -> str:
        value = self.value
        self._next()
        return value

    def expect(self, kind: str, value: str) -> None:
        if self.kind != kind or self.value != value:
            seen = self.value or "the end"
            raise ExpressionError(f'unexpected "{seen}" at character {self.start + 1}')
        if kind != "end":
            self._next()

    def either(self, depth: int) -> Node:
        if depth > _DEPTH:
            raise ExpressionError(f"nested deeper than {_DEPTH}")
        node = self._both(depth)
        while self.value == "||" and self.kind == "op":
            self._next()
            node = Or(node, self._both(depth))
        return node

    def _both(self, depth: int) -> Node:
        node = self._compare(depth)
        while self.value == "&&" and self.kind == "op":
            self._next()
            node = And(node, self._compare(depth))
        return node

    def _compare(self, depth: int) -> Node:
        node = self._unary(depth)
        while self.kind == "op" and self.value in ("==", "!=", "<", "<=", ">", ">="):
            op = self._take()
            node = Compare(op, node, self._unary(depth))
        return node

    def _unary(self, depth: int) -> Node:
        if self.kind == "op" and self.value == "!":
            if depth > _DEPTH:
                raise ExpressionError(f"nested deeper than {_DEPTH}")
            self._next()
            return Not(self._unary(depth + 1))
        if self.kind == "op" and self.value == "(":
            self._next()
            node = self.either(depth + 1)
            self.expect("op", ")")
            return node
        return self._primary(depth)

    def _primary(self, depth: int) -> Node:
        kind = self.kind
        if kind == "name":
            name = self._take()
            self.expect("op", "(")
            args: list[Node] = []
            while not (self.kind == "op" and self.value == ")"):
                if args:
                    self.expect("op", ",")
                args.append(self.either(depth + 1))
            self._next()
            return Call(name, tuple(args))
        if kind == "int":
            return Literal(int(self._take()))
        if kind == "float":
            return Literal(float(self._take()))
        if kind == "raw":
            return Literal(self._take()[1:-1].replace("\r", ""))  # as Go's raw strings
        if kind == "text":
            return Literal(_unquote(self._take()[1:-1]))
        seen = self.value or "the end"
        raise ExpressionError(f'unexpected "{seen}" at character {self.start + 1}')


def _unquote(body: str) -> str:
    def one(found: re.Match[str]) -> str:
        code = found[1] or found[2] or found[3]
        number = int(code, 16) if code else int(found[4], 8) if found[4] else None
        if number is not None:
            if number > 0x10FFFF or 0xD800 <= number < 0xE000 or (found[4] and number > 255):
                raise ExpressionError(f'bad escape "{found[0]}"')
            return chr(number)
        try:
            return _SIMPLE[found[5]]
        except KeyError:
            raise ExpressionError(f'bad escape "{found[0]}"') from None

    return _ESCAPE.sub(one, body)
