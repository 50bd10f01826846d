# SPDX-License-Identifier: Apache-2.0
r"""A route expression → its matchers (specs/vulcand.md §6).

::

    Host("a.example.org") && Path("/users/<id>")   ─►   Route(text, (Matcher(HOST, …), Matcher(PATH, …)))

Grammar: calls with string literals, `&&`, parentheses; nothing else. A pattern of the four
plain matchers may hold parameters (`<name>`, `<int:name>`, `<path:name>`) and must match its
whole subject; a `…Regexp` matches anywhere in it, in RE2's syntax.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

import re2

from lb import expr
from lb.expr import And, Call, ExpressionError, Literal, Node
from lb.regexp import RegexpError, compiled


class Subject(Enum):
    """What a matcher looks at; the value is where a `<name>` of its patterns stops."""

    HOST = "."
    PATH = "/"
    METHOD = " "
    HEADER = "/ "  # "/" as well; two enum members may not share a value

    @property
    def separator(self) -> str:
        """The character up to which a `<name>` reaches."""
        return self.value[0]


@dataclass(frozen=True, slots=True)
class Matcher:
    """One call of a route.

    Attributes:
        pattern: the literal as written; of a Host lower-cased.
        regexp: whether it came from a `…Regexp`.
        header: the lower-cased header name of a HEADER matcher, else "".
    """

    subject: Subject
    pattern: str
    regexp: bool = False
    header: str = ""

    @property
    def literal(self) -> str | None:
        """The only text this matches; None when it has parameters or is a regexp."""
        return None if self.regexp or _PARAMETER.search(self.pattern) else self.pattern


@dataclass(frozen=True, slots=True)
class Route:
    """A parsed expression; `text` as written, which is what vulcand sorts by (§6.2)."""

    text: str
    matchers: tuple[Matcher, ...]


_NAMES: Final = {
    "Host": (Subject.HOST, False),
    "HostRegexp": (Subject.HOST, True),
    "Path": (Subject.PATH, False),
    "PathRegexp": (Subject.PATH, True),
    "Method": (Subject.METHOD, False),
    "MethodRegexp": (Subject.METHOD, True),
    "Header": (Subject.HEADER, False),
    "HeaderRegexp": (Subject.HEADER, True),
}
_PARAMETER: Final = re.compile(r"<([^>]+)>")  # "<>" is text, as in the original
_REGEXP_BYTES: Final = 1 << 20  # what one compiled expression may take in RE2


@lru_cache(maxsize=1024)
def parse(text: str) -> Route:
    """Return the route that `text` spells.

    Raises:
        ExpressionError: not an expression of the language; the message says why.
    """
    return Route(text, tuple(_matchers(expr.parse(text))))


def _matchers(node: Node) -> list[Matcher]:
    if isinstance(node, And):
        return [*_matchers(node.left), *_matchers(node.right)]
    if isinstance(node, Call):
        return [_matcher(node)]
    raise ExpressionError("only matchers, && and parentheses make a route")


def _matcher(call: Call) -> Matcher:
    try:
        subject, regexp = _NAMES[call.name]
    except KeyError:
        raise ExpressionError(
            f'unknown matcher "{call.name}"; known: {", ".join(_NAMES)}'
        ) from None
    wanted = 2 if subject is Subject.HEADER else 1
    texts = [
        arg.value for arg in call.args if isinstance(arg, Literal) and isinstance(arg.value, str)
    ]
    if len(texts) != len(call.args) or len(texts) != wanted:
        raise ExpressionError(f"{call.name} takes {wanted} string{'s' * (wanted > 1)}")
    pattern = texts[-1]
    if subject is Subject.HOST and not regexp:
        pattern = _lower_outside_parameters(pattern)
    if not pattern and not regexp:
        raise ExpressionError(f"{call.name}: empty pattern")
    matcher = Matcher(subject, pattern, regexp, texts[0].lower() if wanted == 2 else "")
    if wanted == 2 and not texts[0]:
        raise ExpressionError(f"{call.name}: empty header name")
    if matcher.literal is None:
        compile_matcher(matcher)
    return matcher


def _lower_outside_parameters(pattern: str) -> str:
    return "".join(
        part if part.startswith("<") and part.endswith(">") else part.lower()
        for part in re.split(r"(<[^>]*>)", pattern)
    )


def pattern_source(pattern: str, separator: str) -> tuple[bytes, bool]:
    """Return the regular expression (of the whole subject, over bytes) of a pattern with parameters.

    The flag says whether a backtracking engine matches it in linear time: at most one parameter
    between two separators, and at most one that crosses them.

    Source: specs/vulcand.md §6.1. `<int:n>` at the end of a pattern matches there (its third trap).

    Raises:
        ExpressionError: a parameter of an unknown type.
    """
    parts = []
    at = crossing = 0
    linear = True
    for found in _PARAMETER.finditer(pattern):
        between = pattern[at : found.start()]
        if at and separator not in between:
            linear = False
        parts.append(re.escape(between.encode()))
        kind, colon, _ = found[1].rpartition(":")
        if (colon and not kind) or ":" in kind:
            raise ExpressionError(f'bad parameter "{found[0]}"')
        if not colon or kind == "string":
            parts.append(b"[^%s]*" % re.escape(separator.encode()))
        elif kind == "path":
            parts.append(b".*")
            crossing += 1
        elif kind == "int":
            parts.append(b"[0-9]+")
        else:
            raise ExpressionError(f'unknown parameter type "{kind}"; known: string, int, path')
        at = found.end()
    parts.append(re.escape(pattern[at:].encode()))
    return b"".join(parts), linear and crossing <= 1


Test = Callable[[bytes], object]
"""Says (by truth) whether a subject's bytes match."""


@lru_cache(maxsize=4096)
def compile_matcher(matcher: Matcher) -> Test:
    """Return the test of a matcher with parameters or of a regexp.

    Time is linear in the subject whatever the pattern. RE2 does the regexps (Go's syntax); a
    plain pattern goes to `re`, 0.2 µs a call where RE2's binding takes 1.8 µs.

    Raises:
        ExpressionError: RE2 refuses it.
    """
    if not matcher.regexp:
        source, linear = pattern_source(matcher.pattern, matcher.subject.separator)
        if linear:
            return re.compile(source, re.DOTALL).fullmatch
        latin1 = re2.Options.Encoding.LATIN1
        whole: Test = compiled(source, _REGEXP_BYTES, encoding=latin1, dot_nl=True).fullmatch
        return whole
    # not by lower-casing the pattern, which would turn \S into \s (§6, Host's trap)
    exact = matcher.subject is not Subject.HOST
    try:
        search: Test = compiled(matcher.pattern, _REGEXP_BYTES, case_sensitive=exact).search
    except RegexpError as error:
        raise ExpressionError(f'bad regexp "{matcher.pattern}": {error}') from error

    def test(subject: bytes) -> object:
        if subject.isascii():
            return search(subject)
        # as Go: a byte that is no UTF-8 counts as U+FFFD, where RE2 would match nothing
        return search(subject.decode("utf-8", "replace").encode())

    return test
