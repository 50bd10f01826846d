# SPDX-License-Identifier: Apache-2.0
"""The operator's commands as objects: run when what they stand for comes, and when it goes.

What a command did cannot be seen, so this remembers which were run; a new process runs them all
again, as the original does. Words are split before variables are put in, and no shell is near:
what a peer wrote into its lease can never become a command (specs/flannel.md §10.7, trap T18).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fairlead import process
from fairlead.errors import ActionError
from flannelpy.plan import Action, Delete, Put
from flannelpy.state import Key, Kind, Object

Words = tuple[str, ...]
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LIMIT = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Command:
    """What is run for one thing.

    Attributes:
        what: a subnet, or "start".
        comes: the command when it comes; none: nothing is run.
        goes: the command when it goes.
        variables: what both find in their environment.
        data: what both read.
    """

    what: str
    comes: Words
    goes: Words = ()
    variables: tuple[tuple[str, str], ...] = ()
    data: str = ""

    @property
    def key(self) -> Key:
        """What it is for."""
        return Key(Kind.COMMAND, self.what)

    def __str__(self) -> str:
        return f"command for {self.what}: {shlex.join(self.comes) or 'none'}"


def split(text: str) -> Words:
    """Return a command's words, quoted as in a shell.

    Raises:
        ValueError: a quote does not end.
    """
    return tuple(shlex.split(text))


def expand(words: Words, environ: Mapping[str, str]) -> Words:
    """Put variables into words that stand already; one that is not set is empty."""
    return tuple(_VARIABLE.sub(lambda it: environ.get(it[1] or it[2], ""), word) for word in words)


async def run(words: Words, variables: Mapping[str, str], data: str = "") -> str:
    """Run a command; return what it wrote, trimmed.

    Raises:
        ActionError: it could not be started, or failed.
    """
    environ = {**os.environ, **variables}
    argv = expand(words, environ)
    done = await process.run(argv, timeout=_LIMIT, environ=environ, stdin=f"{data}\n".encode())
    output = done.output.decode("utf-8", "replace").strip()
    if not done.ok:
        last = output.splitlines()[-1:] or [""]
        raise ActionError(shlex.join(argv), f"{done.reason}: {last[0]}", transient=False)
    return output


class Commands:
    """The part of the host that they are."""

    kinds = frozenset({Kind.COMMAND})

    def __init__(self) -> None:
        self._done: dict[Key, Command] = {}

    async def observe(self, keys: Collection[Key] | None) -> Sequence[Object]:
        """Return the commands that were run, for what is still there."""
        return [it for key, it in self._done.items() if keys is None or key in keys]

    async def carry_out(self, actions: Sequence[Action]) -> Sequence[ActionError]:
        """Run them, one after the other; of one that differs first what undoes the old."""
        refused = []
        for action in actions:
            try:
                match action:
                    case Put(Command() as wanted, there):
                        if isinstance(there, Command):
                            await self._undo(there)
                        if wanted.comes:
                            await run(wanted.comes, dict(wanted.variables), wanted.data)
                        self._done[wanted.key] = wanted
                    case Delete(Command() as gone):
                        await self._undo(gone)
                    case _:
                        raise TypeError(action)
            except ActionError as error:
                reason = f"{error.action}: {error.reason}"
                refused.append(ActionError(action, reason, transient=error.transient))
        return refused

    async def _undo(self, gone: Command) -> None:
        self._done.pop(gone.key, None)  # run once, whatever comes of it
        if gone.goes:
            await run(gone.goes, dict(gone.variables), gone.data)
