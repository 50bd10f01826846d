# SPDX-License-Identifier: Apache-2.0
"""Tokens → nodes (specs/go-template.md §3). Pure.

A recursive descent with unlimited look-ahead over a lazily filled token list. Messages carry
the line of the furthest token read, as Go's do. Variables are tracked only to refuse names
that were never declared; what a name means at run time is the evaluator's business.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Final, NoReturn

from fairlead.gotemplate.errors import TemplateError
from fairlead.gotemplate.lex import Kind, Token, lex, quote
from fairlead.gotemplate.literals import parse_float, parse_int, runes, unquote
from fairlead.gotemplate.nodes import (
    Action,
    Bool,
    Call,
    Chain,
    Command,
    Control,
    Dot,
    Field,
    Identifier,
    Jump,
    List,
    Nil,
    Node,
    Number,
    Operand,
    Pipe,
    String,
    Text,
    Tree,
    Variable,
    is_blank,
)

MAX_NESTING: Final = 150
"""Parentheses and controls within each other; Go allows 10,000, Python's stack does not."""

_OPERANDS: Final = frozenset(
    (
        Kind.BOOL,
        Kind.CHAR_CONSTANT,
        Kind.DOT,
        Kind.FIELD,
        Kind.IDENT,
        Kind.NUMBER,
        Kind.NIL,
        Kind.RAW_STRING,
        Kind.STRING,
        Kind.VARIABLE,
        Kind.OPEN,
    )
)
_CONTROLS: Final = {Kind.IF: "if", Kind.WITH: "with", Kind.RANGE: "range"}


def parse(
    name: str, text: str, functions: Container[str], *, left: str = "{{", right: str = "}}"
) -> Tree:
    """Parse a template file.

    Args:
        name: the file's base name; the name of its own template, and in errors.
        text: the file, UTF-8 decoded with surrogateescape.
        functions: the names that may be called.
        left: left delimiter; "" is the default one.
        right: right delimiter; "" is the default one.

    Raises:
        TemplateError: with Go's message and line.
    """
    loop_words = "break" not in functions and "continue" not in functions
    tokens = lex(text, left or "{{", right or "}}", loop_words=loop_words)
    return _Parser(name, _Tokens(tokens), functions).file(text)


class _Tokens:
    """A token stream with look-ahead."""

    def __init__(self, source: Iterator[Token]) -> None:
        self._source = source
        self._ahead: list[Token] = []
        self._last: Token | None = None  # EOF or ERROR, given again and again

    def _pull(self) -> Token:
        if self._last is None:
            token = next(self._source)
            if token.kind in (Kind.EOF, Kind.ERROR):
                self._last = token
            self.line = token.line
            return token
        return self._last

    def peek(self, skip_space: bool = False) -> Token:
        """Return the next token and leave it; with `skip_space` the spaces before it go."""
        while True:
            if not self._ahead:
                self._ahead.append(self._pull())
            token = self._ahead[0]
            if not skip_space or token.kind is not Kind.SPACE:
                return token
            del self._ahead[0]

    def next(self, skip_space: bool = False) -> Token:
        """Take the next token; with `skip_space` the next one that is not a space."""
        self.peek(skip_space)
        return self._ahead.pop(0)

    def back(self, *tokens: Token) -> None:
        """Give tokens back, the first to be read first."""
        self._ahead[:0] = tokens


@dataclass(slots=True)
class _Parser:
    """One template body being parsed; a `block` or `define` starts another on the same tokens."""

    name: str
    tokens: _Tokens
    functions: Container[str]
    bodies: dict[str, List] = field(default_factory=dict)
    variables: list[str] = field(default_factory=lambda: ["$"])
    loops: int = 0
    nesting: int = 0
    action_line: int = 0

    # errors

    def fail(self, reason: str) -> NoReturn:
        raise TemplateError(reason, name=self.name, line=self.tokens.line)

    def unexpected(self, token: Token, context: str) -> NoReturn:
        if token.kind is not Kind.ERROR:
            self.fail(f"unexpected {token} in {context}")
        if self.action_line in (0, token.line):
            self.fail(token.text)
        begun = f"started at {self.name}:{self.action_line}"
        between = " " if token.text.endswith(" action") else " in action "
        self.fail(f"{token.text}{between}{begun}")

    def expect(self, kind: Kind, context: str) -> Token:
        token = self.tokens.next(skip_space=True)
        if token.kind is not kind:
            self.unexpected(token, context)
        return token

    def deeper(self) -> None:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            self.fail("max expression depth exceeded")

    # bodies

    def file(self, text: str) -> Tree:
        nodes: list[Node] = []
        while self.tokens.peek().kind is not Kind.EOF:
            if self.tokens.peek().kind is Kind.LEFT:
                left = self.tokens.next()
                if self.tokens.peek(skip_space=True).kind is Kind.DEFINE:
                    self.tokens.next()
                    self.definition()
                    continue
                self.tokens.back(left)
            node = self.text_or_action()
            if isinstance(node, Token):
                self.fail(f"unexpected {{{{{node.text}}}}}")
            nodes.append(node)
        self.define(self.name, tuple(nodes))
        return Tree(self.name, text, self.bodies)

    def define(self, name: str, nodes: List) -> None:
        standing = self.bodies.get(name)
        if standing is None or is_blank(standing):
            self.bodies[name] = nodes
        elif not is_blank(nodes):
            self.fail(f"template: multiple definition of template {quote(name)}")

    def inner(self) -> _Parser:
        """Return a parser for a body that sees none of our variables and loops."""
        return _Parser(self.name, self.tokens, self.functions, self.bodies, nesting=self.nesting)

    def definition(self) -> None:
        context = "define clause"
        name = self.template_name(context)
        self.expect(Kind.RIGHT, context)
        inner = self.inner()
        nodes, ending = inner.body()
        if ending.kind is not Kind.END:
            inner.fail(f"unexpected {{{{{ending.text}}}}} in {context}")
        self.define(name, nodes)

    def body(self) -> tuple[List, Token]:
        """Read nodes up to the `end` or `else` that closes them; return that too."""
        self.deeper()
        nodes: list[Node] = []
        while True:
            if self.tokens.peek(skip_space=True).kind is Kind.EOF:
                self.fail("unexpected EOF")
            node = self.text_or_action()
            if isinstance(node, Token):
                self.nesting -= 1
                return tuple(nodes), node
            nodes.append(node)

    def text_or_action(self) -> Node | Token:
        """Read one node, or the `end` or `else` standing here."""
        token = self.tokens.next(skip_space=True)
        if token.kind is Kind.TEXT:
            return Text(token.pos, token.text)
        if token.kind is not Kind.LEFT:
            self.unexpected(token, "input")
        self.action_line = token.line
        node = self.action()
        self.action_line = 0
        return node

    def action(self) -> Node | Token:
        token = self.tokens.next(skip_space=True)
        match token.kind:
            case Kind.IF | Kind.WITH | Kind.RANGE:
                return self.control(token.kind)
            case Kind.END:
                self.expect(Kind.RIGHT, "end")
                return token
            case Kind.ELSE:
                # `{{else if …` and `{{else with …` are left to the control that knows its word
                if self.tokens.peek(skip_space=True).kind not in (Kind.IF, Kind.WITH):
                    self.expect(Kind.RIGHT, "else")
                return token
            case Kind.BREAK | Kind.CONTINUE:
                return self.jump(token)
            case Kind.TEMPLATE:
                return self.call()
            case Kind.BLOCK:
                return self.block()
            case _:
                self.tokens.back(token)
                return Action(token.pos, self.pipeline("command", Kind.RIGHT))

    def control(self, kind: Kind) -> Control:
        self.deeper()
        word, known = _CONTROLS[kind], len(self.variables)
        pipe = self.pipeline(word, Kind.RIGHT)
        self.loops += kind is Kind.RANGE
        nodes, ending = self.body()
        self.loops -= kind is Kind.RANGE
        otherwise: List | None = None
        if ending.kind is Kind.ELSE:
            if kind is not Kind.RANGE and self.tokens.peek().kind is kind:
                self.tokens.next()
                otherwise = (self.control(kind),)
            else:
                otherwise, ending = self.body()
                if ending.kind is not Kind.END:
                    self.fail(f"expected end; found {{{{{ending.text}}}}}")
        del self.variables[known:]
        self.nesting -= 1
        return Control(pipe.pos, word, pipe, nodes, otherwise)

    def jump(self, token: Token) -> Jump:
        word = f"{{{{{token.text}}}}}"
        after = self.tokens.next(skip_space=True)
        if after.kind is not Kind.RIGHT:
            self.unexpected(after, word)
        if not self.loops:
            self.fail(f"{word} outside {{{{range}}}}")
        return Jump(token.pos, token.text)

    def template_name(self, context: str) -> str:
        token = self.tokens.next(skip_space=True)
        if token.kind not in (Kind.STRING, Kind.RAW_STRING):
            self.unexpected(token, context)
        return self.unquoted(token)

    def call(self) -> Call:
        context = "template clause"
        pos = self.tokens.peek(skip_space=True).pos
        name = self.template_name(context)
        pipe = None
        if self.tokens.peek(skip_space=True).kind is Kind.RIGHT:
            self.tokens.next()
        else:
            pipe = self.pipeline(context, Kind.RIGHT)
        return Call(pos, name, pipe)

    def block(self) -> Call:
        context = "block clause"
        pos = self.tokens.peek(skip_space=True).pos
        name = self.template_name(context)
        pipe = self.pipeline(context, Kind.RIGHT)
        inner = self.inner()
        nodes, ending = inner.body()
        if ending.kind is not Kind.END:
            inner.fail(f"unexpected {{{{{ending.text}}}}} in {context}")
        self.define(name, nodes)
        return Call(pos, name, pipe)

    # pipelines

    def pipeline(self, context: str, until: Kind) -> Pipe:
        self.deeper()
        pos = self.tokens.peek(skip_space=True).pos
        variables, assigns = self.declarations(context)
        commands: list[Command] = []
        while True:
            token = self.tokens.next(skip_space=True)
            if token.kind is until:
                break
            if token.kind not in _OPERANDS:
                self.unexpected(token, context)
            self.tokens.back(token)
            commands.append(self.command())
        if not commands:
            self.fail(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.args[0], Bool | Dot | Nil | Number | String):
                self.fail(f"non executable command in pipeline stage {stage}")
        self.nesting -= 1
        return Pipe(pos, variables, assigns, tuple(commands))

    def declarations(self, context: str) -> tuple[tuple[Variable, ...], bool]:
        variables: list[Variable] = []
        while self.tokens.peek(skip_space=True).kind is Kind.VARIABLE:
            token = self.tokens.next()
            after = self.tokens.peek()
            sign = self.tokens.peek(skip_space=True)
            if sign.kind in (Kind.ASSIGN, Kind.DECLARE):
                self.tokens.next()
                variables.append(Variable(token.pos, token.text))
                self.variables.append(token.text)
                return tuple(variables), sign.kind is Kind.ASSIGN
            if sign.kind is not Kind.CHAR or sign.text != ",":
                self.tokens.back(*((token, after) if after.kind is Kind.SPACE else (token,)))
                break
            self.tokens.next()
            variables.append(Variable(token.pos, token.text))
            self.variables.append(token.text)
            if context != "range" or len(variables) > 1:
                self.fail(f"too many declarations in {context}")
            following = self.tokens.peek(skip_space=True).kind
            if following not in (Kind.VARIABLE, Kind.RIGHT, Kind.CLOSE):
                self.fail("range can only initialize variables")
        return tuple(variables), False

    def command(self) -> Command:
        pos = self.tokens.peek(skip_space=True).pos
        args: list[Operand] = []
        while True:
            self.tokens.peek(skip_space=True)
            operand = self.operand()
            if operand is not None:
                args.append(operand)
            token = self.tokens.next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.CLOSE):
                self.tokens.back(token)
            elif token.kind is not Kind.PIPE:
                self.unexpected(token, "operand")
            break
        if not args:
            self.fail("empty command")
        return Command(pos, tuple(args))

    def operand(self) -> Operand | None:
        node = self.term()
        if node is None or self.tokens.peek().kind is not Kind.FIELD:
            return node
        pos = self.tokens.peek().pos
        names: list[str] = []
        while self.tokens.peek().kind is Kind.FIELD:
            names.append(self.tokens.next().text[1:])
        if isinstance(node, Field):
            return Field(pos, (*node.names, *names))
        if isinstance(node, Variable):
            return Variable(pos, node.name, (*node.names, *names))
        if not isinstance(node, Pipe | Identifier):
            self.fail(f"unexpected . after term {quote(str(node))}")
        return Chain(pos, node, tuple(names))

    def term(self) -> Operand | None:
        token = self.tokens.next(skip_space=True)
        match token.kind:
            case Kind.IDENT:
                if token.text not in self.functions:
                    self.fail(f"function {quote(token.text)} not defined")
                return Identifier(token.pos, token.text)
            case Kind.DOT:
                return Dot(token.pos)
            case Kind.NIL:
                return Nil(token.pos)
            case Kind.VARIABLE:
                if token.text not in self.variables:
                    self.fail(f"undefined variable {quote(token.text)}")
                return Variable(token.pos, token.text)
            case Kind.FIELD:
                return Field(token.pos, (token.text[1:],))
            case Kind.BOOL:
                return Bool(token.pos, token.text == "true")
            case Kind.NUMBER | Kind.CHAR_CONSTANT:
                return self.number(token)
            case Kind.OPEN:
                return self.pipeline("parenthesized pipeline", Kind.CLOSE)
            case Kind.STRING | Kind.RAW_STRING:
                return String(token.pos, token.text, self.unquoted(token))
            case _:
                self.tokens.back(token)
                return None

    # literals

    def unquoted(self, token: Token) -> str:
        if token.kind is Kind.RAW_STRING:
            return token.text[1:-1].replace("\r", "")
        value = unquote(token.text)
        if value is None:
            self.fail("invalid syntax")
        return value

    def number(self, token: Token) -> Number:
        text = token.text
        if token.kind is Kind.CHAR_CONSTANT:
            value = unquote(text)
            if value is None or runes(value) != 1:
                self.fail(f"malformed character constant: {text}")
            code = ord(value)
            if "\udc80" <= value <= "\udcff":  # '\xff' is 255; a stray byte is no character
                code = code - 0xDC00 if text[1] == "\\" else 0xFFFD
            return Number(token.pos, text, code, float(code))
        if text.endswith("i"):
            return self.complex(token)
        integer = parse_int(text)
        if integer is not None:
            return Number(token.pos, text, integer, float(integer))
        real = parse_float(text)
        if real is None:
            self.fail(f"illegal number syntax: {quote(text)}")
        if not set(text) & set(".eEpP"):
            self.fail(f"integer overflow: {quote(text)}")
        if real.is_integer() and abs(real) < 2.0**63:
            integer = int(real)
        return Number(token.pos, text, integer, real)

    def complex(self, token: Token) -> Number:
        text = token.text[:-1]
        split = max(text.rfind(sign, 1) for sign in "+-")
        if split > 0 and text[split - 1] in "eEpP":
            split = max(text.rfind(sign, 1, split) for sign in "+-")
        parts = ("0", text) if split <= 0 else (text[:split], text[split:])
        real, imaginary = (parse_float(part) for part in parts)
        if real is None or imaginary is None:
            self.fail(f"illegal number syntax: {quote(token.text)}")
        if imaginary:
            return Number(token.pos, token.text, None, None, complex(real, imaginary))
        whole = int(real) if real.is_integer() and abs(real) < 2.0**63 else None
        return Number(token.pos, token.text, whole, real, complex(real, imaginary))
