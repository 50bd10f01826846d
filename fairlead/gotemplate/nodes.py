# SPDX-License-Identifier: Apache-2.0
"""The parsed template: frozen nodes whose `str()` is the canonical text that errors show.

`pos` is a character offset in the file's text: of the token, or of the first operand of a
pipeline or command, or of the *second* component of a chain such as `$x.a` (§11).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from fairlead.gotemplate.lex import quote


class Text(Struct, frozen=True):
    """Literal text outside actions, trimmed."""

    pos: int
    text: str

    def __str__(self) -> str:
        return self.text


class Number(Struct, frozen=True):
    """A number or character constant with every reading it allows.

    Attributes:
        integer: its value as int or uint; None when it has none.
        real: its value as float64; None for a complex number with an imaginary part.
        imaginary: set for a literal written with `i`.
    """

    pos: int
    text: str
    integer: int | None
    real: float | None
    imaginary: complex | None = None

    def __str__(self) -> str:
        return self.text


class Bool(Struct, frozen=True):
    """`true` or `false`."""

    pos: int
    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


class String(Struct, frozen=True):
    """A string, its escapes resolved; `text` is the original spelling."""

    pos: int
    text: str
    value: str

    def __str__(self) -> str:
        return self.text


class Nil(Struct, frozen=True):
    """The word `nil`."""

    pos: int

    def __str__(self) -> str:
        return "nil"


class Dot(Struct, frozen=True):
    """`.`: the value in focus."""

    pos: int

    def __str__(self) -> str:
        return "."


class Field(Struct, frozen=True):
    """`.a.b`: fields of dot."""

    pos: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join("." + name for name in self.names)


class Variable(Struct, frozen=True):
    """`$x.a.b`: a variable and fields of it."""

    pos: int
    name: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name + "".join("." + name for name in self.names)


class Identifier(Struct, frozen=True):
    """The name of a function."""

    pos: int
    name: str

    def __str__(self) -> str:
        return self.name


class Chain(Struct, frozen=True):
    """`(pipeline).a.b` or `function.a.b`."""

    pos: int
    of: Pipe | Identifier
    names: tuple[str, ...]

    def __str__(self) -> str:
        head = f"({self.of})" if isinstance(self.of, Pipe) else str(self.of)
        return head + "".join("." + name for name in self.names)


class Command(Struct, frozen=True):
    """One stage of a pipeline: operands, at least one."""

    pos: int
    args: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join(f"({arg})" if isinstance(arg, Pipe) else str(arg) for arg in self.args)


class Pipe(Struct, frozen=True):
    """Commands joined by `|`, with the variables it declares or assigns."""

    pos: int
    variables: tuple[Variable, ...]
    assigns: bool
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        text = " | ".join(map(str, self.commands))
        if not self.variables:
            return text
        sign = " = " if self.assigns else " := "
        return ", ".join(map(str, self.variables)) + sign + text


Operand = Pipe | Number | Bool | String | Nil | Dot | Field | Variable | Identifier | Chain


class Action(Struct, frozen=True):
    """`{{pipeline}}`: prints its value, unless it declares or assigns."""

    pos: int
    pipe: Pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


class Control(Struct, frozen=True):
    """`if`, `with` or `range`; an `else if` is a Control alone in `otherwise`."""

    pos: int
    word: str
    pipe: Pipe
    body: List
    otherwise: List | None

    def __str__(self) -> str:
        tail = "" if self.otherwise is None else f"{{{{else}}}}{_join(self.otherwise)}"
        return f"{{{{{self.word} {self.pipe}}}}}{_join(self.body)}{tail}{{{{end}}}}"


class Jump(Struct, frozen=True):
    """`break` or `continue`."""

    pos: int
    word: str

    def __str__(self) -> str:
        return f"{{{{{self.word}}}}}"


class Call(Struct, frozen=True):
    """`{{template "name" pipeline}}`."""

    pos: int
    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        data = "" if self.pipe is None else f" {self.pipe}"
        return f"{{{{template {quote(self.name)}{data}}}}}"


Node = Text | Action | Control | Jump | Call
List = tuple[Node, ...]


def _join(nodes: List) -> str:
    return "".join(map(str, nodes))


def is_blank(nodes: List) -> bool:
    """Say whether a body is only white space, so that it overrides no other definition."""
    return all(isinstance(node, Text) and not node.text.strip() for node in nodes)


class Tree(Struct, frozen=True):
    """A parsed file: its templates by name, the file's own among them.

    Attributes:
        name: base name of the file.
        text: what was parsed; positions are offsets in it.
        bodies: name → nodes.
    """

    name: str
    text: str
    bodies: Mapping[str, List]

    def line(self, pos: int) -> int:
        """Return the 1-based line of a position."""
        return self.text.count("\n", 0, pos) + 1

    def column(self, pos: int) -> int:
        """Return the 0-based byte offset of a position in its line."""
        begun = self.text.rfind("\n", 0, pos) + 1
        return len(self.text[begun:pos].encode("utf-8", "surrogateescape"))
