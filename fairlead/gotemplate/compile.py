# SPDX-License-Identifier: Apache-2.0
"""Nodes → closures, once; closures → text, at every render (specs/go-template.md §4–§6).

Theory of operation
-------------------
Each node becomes a Python closure over a *frame*, a plain list. Names are resolved to frame
slots when the template is compiled, dot too: the body of a `with` or `range` has a dot slot of
its own, so nothing is saved and restored at run time::

    frame = [ current node, write, run, dot, $, … one slot a variable, one a dot … ]

    {{range $i, $e := .l}}{{$e.x}}{{end}}    range: frame[5], frame[6], frame[7] = i, e, e
                                             $e.x:  frame[6] → field "x" → write

An expression closure returns its value; a statement closure returns None, or BREAK or CONTINUE
when its body holds such a word. Each expression notes the node it enters in frame[0], which is
what Go calls the current node and what errors show; a note costs 20 ns. Failures travel as
`Fail` up to the body being executed, which knows the file and the template's name.

Bounds: nested templates (`depth`), iterations and template calls (`steps`), text (`output`).
With them no template runs for ever; `RecursionError` ends as a TemplateError too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.gotemplate.closures import (
    constant_of,
    entered,
    failing,
    field_of,
    invocation,
    invoked,
    jump_signal,
    jumps,
    literal_argument,
    made,
    may_be_nil,
    mismatch,
    no_step,
    number_value,
    one_field,
    print_field,
    printable,
    slot_field,
    slot_value,
    text_step,
    unboxed,
)
from fairlead.gotemplate.errors import Fail
from fairlead.gotemplate.lex import quote
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
)
from fairlead.gotemplate.printf import format_value, sprint
from fairlead.gotemplate.rows import rows
from fairlead.gotemplate.run import (
    BREAK,
    DOT,
    FIRST,
    NODE,
    ROOT,
    RUN,
    WRITE,
    Body,
    Expr,
    Frame,
    Step,
)
from fairlead.gotemplate.values import (
    ANY,
    MISSING,
    RAW,
    Func,
    Slice,
    Struct,
    Type,
    Uint8,
    Value,
    Whole,
    convert,
    go_type,
    sorted_keys,
    truth,
)


def compile_tree(
    tree: Tree, functions: Mapping[str, Func], special: frozenset[str], missing_key: str
) -> dict[str, Body]:
    """Return a file's templates, compiled; they call each other by name at run time."""
    bodies = {name: Body(tree, name) for name in tree.bodies}
    for name, nodes in tree.bodies.items():
        compiler = _Compiler(bodies, functions, special, missing_key)
        scope = _Scope({"$": (ROOT, None)}, DOT, None)
        bodies[name].steps = compiler.steps(nodes, scope)
        bodies[name].slots = compiler.slots
    return bodies


@dataclass(slots=True)
class _Scope:
    """What names mean at a place of the text.

    Attributes:
        names: variable → (slot, slot that says whether the value is an element of an `any`
            collection, or None). Go shows such an element's type as `interface {}`.
        dot: slot of dot.
        boxed: as for a variable.
    """

    names: dict[str, tuple[int, int | None]]
    dot: int
    boxed: int | None

    def inner(self) -> _Scope:
        return _Scope(dict(self.names), self.dot, self.boxed)


@dataclass(slots=True)
class _Compiler:
    """Compiles one body; `slots` grows with each variable and dot."""

    bodies: dict[str, Body]
    functions: Mapping[str, Func]
    special: frozenset[str]
    missing_key: str
    slots: int = FIRST

    def slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    # statements

    def steps(self, nodes: List, scope: _Scope) -> tuple[Step, ...]:
        return tuple(self.step(node, scope) for node in nodes)

    def walk(self, nodes: List, scope: _Scope) -> Step:
        """Return one closure for a body in a scope of its own."""
        inner = scope.inner()
        steps = self.steps(nodes, inner)
        if len(steps) == 1:
            return steps[0]
        if jumps(nodes):

            def guarded(frame: Frame) -> str | None:
                for step in steps:
                    if (signal := step(frame)) is not None:
                        return signal
                return None

            return guarded

        def plain(frame: Frame) -> None:
            for step in steps:
                step(frame)

        return plain

    def step(self, node: Node, scope: _Scope) -> Step:
        match node:
            case Text():
                return text_step(node.text)
            case Action():
                return self.action(node, scope)
            case Jump():
                return jump_signal(node.word)
            case Call():
                return self.call(node, scope)
            case Control(word="range"):
                return self.range(node, scope.inner())
            case Control():
                return self.choice(node, scope.inner())

    def action(self, node: Action, scope: _Scope) -> Step:
        value_of = self.pipeline(node.pipe, scope, printed=not node.pipe.variables)
        if node.pipe.variables:

            def quiet(frame: Frame) -> None:
                value_of(frame)

            return quiet

        slot = self.field_slot(node.pipe, scope)
        if slot is not None:
            field = node.pipe.commands[0].args[0]
            return print_field(slot, field, value_of, node)

        def printed(frame: Frame) -> None:
            value = value_of(frame)
            frame[WRITE](value if type(value) is str else printable(value, node, frame))

        return printed

    def field_slot(self, pipe: Pipe, scope: _Scope) -> int | None:
        """Return the slot when a pipeline is one field of dot or of a variable, by default rules."""
        if len(pipe.commands) != 1 or len(pipe.commands[0].args) != 1:
            return None
        node = pipe.commands[0].args[0]
        if self.missing_key != "default" or not isinstance(node, Field | Variable):
            return None
        if len(node.names) != 1:
            return None
        if isinstance(node, Field):
            return scope.dot
        entry = scope.names.get(node.name)
        return None if entry is None else entry[0]

    def choice(self, node: Control, scope: _Scope) -> Step:
        """`if` and `with`."""
        value_of = self.pipeline(node.pipe, scope)
        inner = scope
        dot = -1
        if node.word == "with":
            inner = scope.inner()
            inner.dot = dot = self.slot()
            inner.boxed = None
        then = self.walk(node.body, inner)
        otherwise = no_step if node.otherwise is None else self.walk(node.otherwise, scope)
        if node.word == "if":

            def choose(frame: Frame) -> str | None:
                value = value_of(frame)
                if value if type(value) is bool else truth(value):
                    return then(frame)
                return otherwise(frame)

            return choose

        def focus(frame: Frame) -> str | None:
            value = value_of(frame)
            if truth(value):
                frame[dot] = value
                return then(frame)
            return otherwise(frame)

        return focus

    def range(self, node: Control, scope: _Scope) -> Step:
        value_of = self.pipeline(node.pipe, scope)
        named = [scope.names.get(variable.name) for variable in node.pipe.variables]
        slots = [entry[0] for entry in named if entry is not None]
        inner = scope.inner()
        dot, boxed = self.slot(), self.slot()
        inner.dot, inner.boxed = dot, boxed
        if slots and not node.pipe.assigns:
            name = node.pipe.variables[-1].name
            inner.names[name] = (slots[-1], boxed)
        index_slot = slots[0] if len(slots) == 2 else dot
        value_slot = slots[-1] if slots else dot
        body = self.walk(node.body, inner)
        otherwise = no_step if node.otherwise is None else self.walk(node.otherwise, scope)
        two = len(slots) == 2
        in_rows = None
        if not node.pipe.assigns:
            in_rows = rows(node.body, node.pipe.variables[-1].name if slots else "")

        def loop(frame: Frame) -> str | None:
            value = value_of(frame)
            run = frame[RUN]
            kind = type(value)
            if kind is int or isinstance(value, Whole):
                if two:
                    raise Fail(
                        f"can't use {sprint([value])} to iterate over more than one variable"
                    )
                count = int(value)
                frame[boxed] = False
                for number in range(count):
                    run.spend(1)
                    frame[value_slot] = frame[dot] = number
                    if (signal := body(frame)) is BREAK:
                        break
                    del signal
                return otherwise(frame) if count <= 0 else None
            pairs: Any
            if isinstance(value, list):
                frame[boxed] = kind is list
                pairs = enumerate(value)
            elif isinstance(value, dict):
                frame[boxed] = kind is dict
                pairs = [(key, value[key]) for key in sorted_keys(value)]
            elif kind is bytes:
                frame[boxed] = False
                pairs = enumerate(map(Uint8, value))
            elif value is None or value is MISSING:
                return otherwise(frame)
            else:
                raise Fail(f"range can't iterate over {format_value(value)}")
            if not value:
                return otherwise(frame)
            run.spend(len(value))
            if in_rows is not None and isinstance(value, Slice) and in_rows(frame, value):
                return None
            for index, item in pairs:
                frame[index_slot] = index
                frame[value_slot] = frame[dot] = item
                if body(frame) is BREAK:
                    break
            return None

        return loop

    def call(self, node: Call, scope: _Scope) -> Step:
        value_of = None if node.pipe is None else self.pipeline(node.pipe, scope)
        bodies, name = self.bodies, node.name

        def template(frame: Frame) -> None:
            frame[NODE] = node
            body = bodies.get(name)
            if body is None:
                raise Fail(f"template {quote(name)} not defined")
            run = frame[RUN]
            if run.depth >= run.limits.depth:
                raise Fail(f"exceeded maximum template depth ({run.limits.depth})")
            run.spend(1)
            dot = MISSING if value_of is None else value_of(frame)
            run.depth += 1
            body.execute(run, dot)
            run.depth -= 1

        return template

    # pipelines

    def pipeline(self, pipe: Pipe, scope: _Scope, *, printed: bool = False) -> Expr:
        """Return a closure for a pipeline's value; a nil in an `any` has become MISSING.

        Args:
            pipe: the pipeline.
            scope: what names mean here.
            printed: both kinds of nothing print alike, so the last conversion is spared.
        """
        value_of: Expr | None = None
        for command in pipe.commands:
            value_of = self.command(command, scope, pipe, value_of)
            if may_be_nil(command) and not (printed and command is pipe.commands[-1]):
                value_of = unboxed(value_of)
        if value_of is None:
            raise AssertionError("the parser lets no empty pipeline through")
        for variable in pipe.variables:
            value_of = self.stored(variable, pipe, scope, value_of)
        return value_of

    def stored(self, variable: Variable, pipe: Pipe, scope: _Scope, value_of: Expr) -> Expr:
        if not pipe.assigns:
            scope.names[variable.name] = (self.slot(), None)
        entry = scope.names.get(variable.name)
        if entry is None:
            return failing(value_of, f"undefined variable: {variable.name}")
        slot = entry[0]

        def store(frame: Frame) -> Value:
            value = frame[slot] = value_of(frame)
            return value

        return store

    def command(self, command: Command, scope: _Scope, pipe: Pipe, final: Expr | None) -> Expr:
        first, rest = command.args[0], command.args[1:]
        match first:
            case Identifier():
                return self.function(first, command, rest, scope, final)
            case Field() | Chain():
                return self.chain(first, rest, scope, final)
            case Variable() if first.names:
                return self.chain(first, rest, scope, final)
        if rest or final is not None:
            refused = f"can't give argument to non-function {first}"
            if isinstance(first, Pipe):
                return failing(final, refused, pipe if final is None else None)
            return failing(final, refused, first)
        if isinstance(first, Nil):
            return failing(None, "nil is not a command", first)
        if isinstance(first, Pipe):
            return self.pipeline(first, scope)
        return self.operand(first, scope)

    def operand(self, node: Operand, scope: _Scope) -> Expr:
        """Return a closure for an operand's own value, literals with their default types."""
        match node:
            case Pipe():
                return self.pipeline(node, scope)
            case Identifier():
                return self.function(node, node, (), scope, None)
            case Field() | Chain():
                return self.chain(node, (), scope, None)
            case Variable() if node.names:
                return self.chain(node, (), scope, None)
            case Variable():
                entry = scope.names.get(node.name)
                if entry is None:
                    return failing(None, f"undefined variable: {node.name}", node)
                return slot_value(entry[0], node)
            case Dot():
                return slot_value(scope.dot, node)
            case Nil():
                return failing(None, "nil is not a command", node)
            case Number():
                return number_value(node)
            case Bool() | String():
                return constant_of(node.value, node)

    # fields

    def chain(
        self,
        node: Field | Variable | Chain,
        args: Sequence[Operand],
        scope: _Scope,
        final: Expr | None,
    ) -> Expr:
        boxed: int | None = None
        slot: int | None = None
        start: Expr
        match node:
            case Field():
                slot, boxed = scope.dot, scope.boxed
                start = slot_value(slot, node)
            case Variable():
                entry = scope.names.get(node.name)
                if entry is None:
                    return failing(final, f"undefined variable: {node.name}", node)
                slot, boxed = entry
                start = slot_value(slot, node)
            case Chain():
                start = self.operand(node.of, scope)
        names = node.names
        strict = self.missing_key == "error"
        zero = self.missing_key == "zero"
        if not args and final is None:
            if len(names) == 1 and not strict and not zero:
                if slot is None:
                    return one_field(start, node, names[0], boxed)
                return slot_field(slot, node, names[0], boxed)

            def walk(frame: Frame) -> Value:
                frame[NODE] = node
                value = start(frame)
                plain = boxed is not None and frame[boxed]
                for name in names:
                    value, plain = field_of(value, name, plain, strict=strict, zero=zero)
                return value

            return walk
        return self.method(node, args, scope, start, final, boxed)

    def method(
        self,
        node: Field | Variable | Chain,
        args: Sequence[Operand],
        scope: _Scope,
        start: Expr,
        final: Expr | None,
        boxed: int | None,
    ) -> Expr:
        """Return a closure for a chain with arguments: only a method at its end takes them."""
        *walked, last = node.names
        strict, zero = self.missing_key == "error", self.missing_key == "zero"
        # a method's parameters are known only at run time, so its arguments are compiled for each
        # way they may be wanted, once
        compiled: dict[tuple[Type, ...], list[Expr]] = {}

        def invoke(frame: Frame) -> Value:
            piped = [] if final is None else [final(frame)]
            frame[NODE] = node
            value = start(frame)
            plain = boxed is not None and frame[boxed]
            for name in walked:
                value, plain = field_of(value, name, plain, strict=strict, zero=zero)
            found = value.METHODS.get(last) if isinstance(value, Struct) else None
            if found is None:
                got = field_of(value, last, plain, strict=strict, zero=zero)[0]
                if got is MISSING and value is MISSING:
                    return MISSING
                if isinstance(value, Struct):
                    raise Fail(f"{last} has arguments but cannot be invoked as function")
                raise Fail(f"{last} is not a method but has arguments")
            wanted = found.params[1:]
            given = len(args) + len(piped)
            if given != len(wanted):
                raise Fail(f"wrong number of args for {last}: want {len(wanted)} got {given}")
            if wanted not in compiled:
                compiled[wanted] = [
                    self.argument(arg, want, scope) for arg, want in zip(args, wanted, strict=False)
                ]
            values = [argument(frame) for argument in compiled[wanted]]
            values += [convert(item, wanted[-1]) for item in piped]
            return invoked(found.call, (value, *values), last, node, frame)

        return invoke

    # functions

    def function(
        self,
        name_node: Identifier,
        whole: Command | Identifier,
        args: Sequence[Operand],
        scope: _Scope,
        final: Expr | None,
    ) -> Expr:
        name = name_node.name
        func = self.functions[name]
        given = len(args) + (final is not None)
        fixed = len(func.params)
        if func.rest is None and given != fixed:
            reason = f"wrong number of args for {name}: want {fixed} got {given}"
            return failing(final, reason, name_node)
        if given < fixed:
            reason = f"wrong number of args for {name}: want at least {fixed} got {len(args)}"
            return failing(final, reason, name_node)
        if name in self.special:
            if name == "call":
                return self.call_value(name_node, whole, args, scope, final)
            return self.deciding(name_node, args, scope, final, stop=name == "or")
        wanted = (*func.params, *((func.rest,) * (given - fixed) if func.rest is not None else ()))
        arguments = [
            self.argument(arg, want, scope) for arg, want in zip(args, wanted, strict=False)
        ]
        last = wanted[-1] if final is not None else None
        return invocation(func.call, arguments, final, last, name_node, whole)

    def deciding(
        self,
        name_node: Identifier,
        args: Sequence[Operand],
        scope: _Scope,
        final: Expr | None,
        *,
        stop: bool,
    ) -> Expr:
        """`and`, `or`: the first argument that decides, or the last one."""
        arguments = [self.argument(arg, RAW, scope) for arg in args]

        def decide(frame: Frame) -> Value:
            piped = final(frame) if final is not None else None
            frame[NODE] = name_node
            value: Value = MISSING
            for argument in arguments:
                value = argument(frame)
                if truth(value) is stop:
                    return value
            return value if final is None else piped

        return decide

    def call_value(
        self,
        name_node: Identifier,
        whole: Command | Identifier,
        args: Sequence[Operand],
        scope: _Scope,
        final: Expr | None,
    ) -> Expr:
        """`call`: a function that came as a value."""
        arguments = [self.argument(arg, RAW, scope) for arg in args]
        shown = str(args[0]) if args else None

        def invoke(frame: Frame) -> Value:
            piped = [] if final is None else [final(frame)]
            frame[NODE] = name_node
            called, *values = [argument(frame) for argument in arguments] + piped
            what = shown
            if what is None:
                what = called if isinstance(called, str) else f"<{go_type(called)} Value>"
            if isinstance(called, Func):
                reason = mismatch(called, values, what)
                if reason is None:
                    return invoked(called.call, values, "call", whole, frame)
            elif called is None or called is MISSING:
                reason = "call of nil"
            else:
                reason = f"non-function {what} of type {go_type(called)}"
            frame[NODE] = whole
            raise Fail(f"error calling call: {reason}")

        return invoke

    def argument(self, node: Operand, want: Type, scope: _Scope) -> Expr:
        """Return a closure for an argument, converted to the parameter's type."""
        match node:
            case Nil():
                if want.zero is None:
                    return failing(None, f"cannot assign nil to {want.name}", node)
                zero = want.zero
                return made(zero, node)
            case Number() | Bool() | String():
                return literal_argument(node, want)
        value_of = self.operand(node, scope)
        if isinstance(node, Identifier | Chain):
            value_of = entered(value_of, node)
        if want is RAW:
            return value_of
        if want is ANY:

            def any_value(frame: Frame) -> Value:
                value = value_of(frame)
                return None if value is MISSING else value

            return any_value
        accepts = want.accepts

        def checked(frame: Frame) -> Value:
            value = value_of(frame)
            return value if type(value) in accepts else convert(value, want)

        return checked
