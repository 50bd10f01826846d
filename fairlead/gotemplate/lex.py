# SPDX-License-Identifier: Apache-2.0
"""Template text → tokens. Pure.

Theory of operation
-------------------
Outside actions everything up to the next left delimiter is one TEXT token; white space beside
a trim marker (`{{- ` and ` -}}`) is dropped from it here, so the parser never hears of it.
Inside an action one regular expression reads the common tokens; what it does not match is an
error token, and an error token is always the last one::

    "a {{- .b | f 1 -}} c"  →  TEXT "a" · LEFT · FIELD ".b" · SPACE · PIPE · SPACE · IDENT "f" …

Positions are character offsets in the text as decoded; whoever reports a column turns them
into byte offsets (specs/go-template.md §2, §11).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

SPACES: Final = " \t\r\n"


class Kind(Enum):
    """What a token is."""

    ERROR = auto()
    EOF = auto()
    TEXT = auto()
    LEFT = auto()
    RIGHT = auto()
    SPACE = auto()
    BOOL = auto()
    CHAR = auto()  # a stray printable character, the comma among them
    CHAR_CONSTANT = auto()
    STRING = auto()
    RAW_STRING = auto()
    NUMBER = auto()
    IDENT = auto()
    FIELD = auto()
    VARIABLE = auto()
    ASSIGN = auto()
    DECLARE = auto()
    PIPE = auto()
    OPEN = auto()
    CLOSE = auto()
    # below: shown as <word> in messages
    DOT = auto()
    NIL = auto()
    BLOCK = auto()
    BREAK = auto()
    CONTINUE = auto()
    DEFINE = auto()
    ELSE = auto()
    END = auto()
    IF = auto()
    RANGE = auto()
    TEMPLATE = auto()
    WITH = auto()


KEYWORDS: Final = {
    kind.name.lower(): kind
    for kind in (
        Kind.NIL,
        Kind.BLOCK,
        Kind.BREAK,
        Kind.CONTINUE,
        Kind.DEFINE,
        Kind.ELSE,
        Kind.END,
        Kind.IF,
        Kind.RANGE,
        Kind.TEMPLATE,
        Kind.WITH,
    )
}
_WORDS: Final = frozenset((*KEYWORDS.values(), Kind.DOT))


class Token(NamedTuple):
    """One token: `pos` in characters, `line` 1-based, both of its first character."""

    kind: Kind
    pos: int
    text: str
    line: int

    def __str__(self) -> str:
        if self.kind is Kind.EOF:
            return "EOF"
        if self.kind is Kind.ERROR:
            return self.text
        if self.kind in _WORDS:
            return f"<{self.text}>"
        if len(self.text) > 10:
            return f"{quote(self.text[:10])}..."
        return quote(self.text)


_ESCAPES: Final = {
    7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\",
}  # fmt: skip


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """Return `text` as a Go literal in `mark`s; surrogate escapes are shown as bytes."""
    plain = mark not in text and "\\" not in text and text.isprintable()
    if plain and (not ascii_only or text.isascii()):
        return f"{mark}{text}{mark}"
    out = [mark]
    for char in text:
        code = ord(char)
        if char == mark:
            out.append("\\" + mark)
        elif code in _ESCAPES:
            out.append(_ESCAPES[code])
        elif char.isprintable() and (code < 0x80 or not ascii_only):
            out.append(char)
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}" if mark == '"' else "\ufffd")
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(f"\\U{code:08x}")
    out.append(mark)
    return "".join(out)


def rune(char: str) -> str:
    """Return a character as `%#U` shows it: U+007D '}'."""
    code = 0xFFFD if "\udc80" <= char <= "\udcff" else ord(char)
    shown = f" '{chr(code)}'" if chr(code).isprintable() else ""
    return f"U+{code:04X}{shown}"


_SCAN: Final = re.compile(
    # the alternatives are tried in order; each accepts as much as Go's scanner does
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?"
    r"|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_STRING: Final = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"', re.DOTALL)
_CHAR: Final = re.compile(r"'(?:[^'\\\n]|\\[^\n])*'", re.DOTALL)
_SIMPLE: Final = {"=": Kind.ASSIGN, "|": Kind.PIPE}


def is_word(char: str) -> bool:
    """Say whether `char` may stand in a name: `_`, a letter (L*) or a digit (Nd)."""
    return char == "_" or char.isalpha() or char.isdecimal()


def lex(text: str, left: str, right: str, *, loop_words: bool = True) -> Iterator[Token]:
    """Yield the tokens of `text`; the last one is EOF or ERROR.

    Args:
        text: the template, UTF-8 decoded with surrogateescape.
        left: left delimiter, not empty.
        right: right delimiter, not empty.
        loop_words: false when a function is named `break` or `continue`.
    """
    pos, line, end = 0, 1, len(text)
    while True:
        # text up to the next action
        opening = text.find(left, pos)
        stop = end if opening < 0 else opening
        after = stop + len(left)
        trim_left = text.startswith("-", after) and after + 1 < end and text[after + 1] in SPACES
        literal = text[pos:stop]
        shown = literal.rstrip(SPACES) if trim_left and opening >= 0 else literal
        if shown:
            yield Token(Kind.TEXT, pos, shown, line)
        line += literal.count("\n")
        if opening < 0:
            yield Token(Kind.EOF, end, "", line)
            return
        inner = after + 2 if trim_left else after
        if text.startswith("/*", inner):
            close = text.find("*/", inner + 2)
            if close < 0:
                yield Token(Kind.ERROR, stop, "unclosed comment", line)
                return
            close += 2
            trim_right = text[close : close + 1] in tuple(SPACES) and text.startswith(
                "-" + right, close + 1
            )
            if not trim_right and not text.startswith(right, close):
                yield Token(Kind.ERROR, stop, "comment ends before closing delimiter", line)
                return
            pos = close + (2 if trim_right else 0) + len(right)
            line += text.count("\n", stop, close)
        else:
            yield Token(Kind.LEFT, stop, left, line)
            line += text.count("\n", after, inner)
            token = None
            for token in _action(text, inner, line, right, loop_words=loop_words):
                yield token
            if token is None or token.kind is not Kind.RIGHT:
                return
            trim_right = token.text.startswith("-")
            pos, line = token.pos + len(token.text), token.line
        if trim_right:
            begun = pos
            while pos < end and text[pos] in SPACES:
                pos += 1
            line += text.count("\n", begun, pos)


def _action(text: str, pos: int, line: int, right: str, *, loop_words: bool) -> Iterator[Token]:
    """Yield the tokens of one action; the last is RIGHT (its text has a leading `-` when it trims) or ERROR."""
    depth, end = 0, len(text)
    trimming = "-" + right

    def terminated(at: int) -> bool:
        return at >= end or text[at] in " \t\r\n.,|:()" or text.startswith(right, at)

    while True:
        # a trim marker needs white space before it, so it is found at the last space of a run
        if text.startswith(right, pos):
            if depth:
                yield Token(Kind.ERROR, pos, "unclosed left paren", line)
            else:
                yield Token(Kind.RIGHT, pos, right, line)
            return
        if pos >= end:
            yield Token(Kind.ERROR, pos, "unclosed action", line)
            return
        begun, at_line, char = pos, line, text[pos]
        kind: Kind | None
        if char in SPACES:
            while pos < end and text[pos] in SPACES:
                pos += 1
            line += text.count("\n", begun, pos)
            if text.startswith(trimming, pos):
                # the marker's own white space belongs to it
                if pos - begun > 1:
                    yield Token(Kind.SPACE, begun, text[begun : pos - 1], at_line)
                if depth:
                    yield Token(Kind.ERROR, pos, "unclosed left paren", line)
                else:
                    yield Token(Kind.RIGHT, pos, trimming, line)
                return
            kind = Kind.SPACE
        elif char in _SIMPLE:
            pos += 1
            kind = _SIMPLE[char]
        elif char == ":":
            if not text.startswith("=", pos + 1):
                yield Token(Kind.ERROR, pos, "expected :=", line)
                return
            pos += 2
            kind = Kind.DECLARE
        elif char in "\"'":
            found = (_STRING if char == '"' else _CHAR).match(text, pos)
            if found is None:
                what = "quoted string" if char == '"' else "character constant"
                yield Token(Kind.ERROR, pos, f"unterminated {what}", line)
                return
            pos = found.end()
            kind = Kind.STRING if char == '"' else Kind.CHAR_CONSTANT
        elif char == "`":
            close = text.find("`", pos + 1)
            if close < 0:
                yield Token(Kind.ERROR, pos, "unterminated raw quoted string", line)
                return
            pos = close + 1
            line += text.count("\n", begun, pos)
            kind = Kind.RAW_STRING
        elif char in "+-0123456789" or (
            char == "." and text[pos + 1 : pos + 2] in tuple("0123456789")
        ):
            token = _number(text, pos, line)
            yield token
            if token.kind is Kind.ERROR:
                return
            pos += len(token.text)
            continue
        elif char in ".$" or is_word(char):
            pos += 1
            while pos < end and is_word(text[pos]):
                pos += 1
            if not terminated(pos):
                yield Token(Kind.ERROR, begun, f"bad character {rune(text[pos])}", line)
                return
            kind = _word_kind(text[begun:pos], loop_words=loop_words)
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth < 0:
                yield Token(Kind.ERROR, pos, "unexpected right paren", line)
                return
            pos += 1
            kind = Kind.OPEN if char == "(" else Kind.CLOSE
        elif char.isascii() and char.isprintable():
            pos += 1
            kind = Kind.CHAR
        else:
            yield Token(Kind.ERROR, pos, f"unrecognized character in action: {rune(char)}", line)
            return
        yield Token(kind, begun, text[begun:pos], at_line)


def _word_kind(word: str, *, loop_words: bool) -> Kind:
    if word[0] == "$":
        return Kind.VARIABLE
    if word[0] == ".":
        return Kind.DOT if word == "." else Kind.FIELD
    if word in ("break", "continue") and not loop_words:
        return Kind.IDENT
    if word in ("true", "false"):
        return Kind.BOOL
    return KEYWORDS.get(word, Kind.IDENT)


def _scan(text: str, pos: int) -> tuple[int, bool]:
    """Return where the number at `pos` ends and whether that is a fit place to end."""
    found = _SCAN.match(text, pos)
    stop = found.end() if found else pos
    if stop < len(text) and is_word(text[stop]):
        return stop + 1, False
    return stop, True


def _number(text: str, pos: int, line: int) -> Token:
    stop, good = _scan(text, pos)
    if good and stop < len(text) and text[stop] in "+-":  # complex: 1+2i
        stop, good = _scan(text, stop)
        good = good and text[stop - 1] == "i"
    if not good:
        return Token(Kind.ERROR, pos, f"bad number syntax: {quote(text[pos:stop])}", line)
    return Token(Kind.NUMBER, pos, text[pos:stop], line)
