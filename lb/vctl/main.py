# SPDX-License-Identifier: Apache-2.0
"""The words of a command line → a command, its verdict, an exit status.

Exit 0: done; 1: the API refused (the original gives 0, V14); 2: the command line is wrong.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from fairlead.errors import FairleadError
from fairlead.flags import Settings, UsageError, nearest, usage
from lb.vctl import views
from lb.vctl.client import ApiError, Client
from lb.vctl.command import Command
from lb.vctl.commands import COMMANDS

_HELP: Final = frozenset({"help", "-h", "-help", "--help"})
DEFAULT_API: Final = "http://localhost:8182"


class _WrongLineError(FairleadError):
    """The command line is wrong."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run vctl."""
    words = list(sys.argv[1:] if argv is None else argv)
    out, err = sys.stdout, sys.stderr
    if words and words[-1] in _HELP and len(words) < 3:  # of all, or of one noun
        noun = words[0]
        of = {noun: COMMANDS[noun]} if noun in COMMANDS else COMMANDS
        if "" not in of.get(noun, {}):
            out.write(_usage(of) + "\n")
            return 0
    try:
        api, words = _take(words, "vulcan", DEFAULT_API)
        as_json, words = _take_flag(words, "json")
        noun, verb, command, rest = _command(words)
    except _WrongLineError as error:
        err.write(f"{error}\n")
        return 2
    settings = Settings(f"vctl {noun} {verb}".strip(), command.flags, summary=command.help)
    try:
        values = settings.parse(rest, {})
    except UsageError as error:
        if error.help_asked:
            err.write(usage(settings))
            return 0
        err.write("".join(f"{fault}\n" for fault in error.faults) + usage(settings))
        return 2
    if values.args and not command.words:
        err.write(f'unexpected "{values.args[0]}"\n')
        return 2
    colour = out.isatty() and "NO_COLOR" not in os.environ
    try:
        outcome = command.run(Client(api, os.environ), values)
    except ApiError as error:
        if (
            "ignore-missing" in values
            and values.flag("ignore-missing")
            and "not found" in str(error)
        ):
            out.write(views.verdict("nothing to remove", good=True, colour=colour) + "\n")
            return 0
        out.write(views.verdict(str(error), good=False, colour=colour) + "\n")
        return 1
    if outcome.done:
        return 0
    if as_json:
        out.write(json.dumps(outcome.raw) + "\n")
    elif outcome.text:
        out.write(outcome.text)
    else:
        out.write(views.verdict(outcome.message, good=outcome.good, colour=colour) + "\n")
    return 0 if outcome.good else 1


def _take(words: list[str], name: str, default: str) -> tuple[str, list[str]]:
    """Take a global flag from anywhere on the line."""
    rest = []
    at = 0
    while at < len(words):
        word, at = words[at], at + 1
        flag, equals, value = word.partition("=")
        if flag not in (f"-{name}", f"--{name}"):
            rest.append(word)
        elif equals:
            default = value
        elif at < len(words):
            default, at = words[at], at + 1
        else:
            raise _WrongLineError(f"flag needs an argument: -{name}")
    return default, rest


def _take_flag(words: list[str], name: str) -> tuple[bool, list[str]]:
    rest = [word for word in words if word not in (f"-{name}", f"--{name}")]
    return len(rest) < len(words), rest


def _command(words: list[str]) -> tuple[str, str, Command, list[str]]:
    if not words:
        raise _WrongLineError(_usage(COMMANDS))
    noun, *rest = words
    verbs = COMMANDS.get(noun)
    if verbs is None:
        near = nearest(noun, COMMANDS)
        hint = f'; did you mean "{near}"?' if near else ""
        raise _WrongLineError(f'vctl: no command "{noun}"{hint}; `vctl help` lists all')
    if "" in verbs:
        return noun, "", verbs[""], rest
    if not rest or rest[0] not in verbs:
        asked = f'no command "{noun} {rest[0]}"' if rest else f"{noun}: a verb is wanted"
        raise _WrongLineError(f"vctl: {asked}\n{_usage({noun: verbs})}")
    return noun, rest[0], verbs[rest[0]], rest[1:]


def _usage(of: Mapping[str, Mapping[str, Command]]) -> str:
    rows = [
        [f"  vctl {noun} {verb}".rstrip(), command.help]
        for noun, verbs in of.items()
        for verb, command in verbs.items()
    ]
    return (
        "usage: vctl [--vulcan http://localhost:8182] [--json] noun verb [flags]\n\n"
        + views.table(rows)
        + "\n\nThe API's token and TLS: VCTL_TOKEN_FILE, VCTL_CACERT, VCTL_CERT, VCTL_KEY."
    )
