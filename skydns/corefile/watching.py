# SPDX-License-Identifier: Apache-2.0
"""The plugins `log` and `errors`."""

from __future__ import annotations

from skydns import names
from skydns.corefile.grammar import Block, CorefileError, Directive
from skydns.corefile.said import Said, refused, seconds, zones
from skydns.logformat import CLASSES, COMBINED, COMMON, Format


def log(plugin: Directive, block: Block, said: Said) -> None:
    """Take over which queries are written down, and how: `log [NAMES...] [FORMAT]`."""
    args, text = list(plugin.args), COMMON
    if args and "{" in args[-1]:
        text = args.pop().replace("{common}", COMMON).replace("{combined}", COMBINED)
    places = frozenset(folded for arg in args for folded in zones(arg, plugin.line))
    classes: set[str] = set()
    for each in plugin.properties:
        if each.name != "class" or not each.args:
            raise refused(plugin, each)
        for word in each.args:
            if word not in {*CLASSES, "all"}:
                raise CorefileError(f'line {each.line}: log: "{word}" is no class of replies')
            classes |= CLASSES if word == "all" else {word}
    found = Format(places or frozenset((names.ROOT,)), text, frozenset(classes) or CLASSES)
    for place in said.block(block):
        place.log.append(found)
    said.settings["verbose"] = True


def errors(plugin: Directive, block: Block, said: Said) -> None:
    """Take over `errors`: our log always has them, with tracebacks, and holds back repeated ones."""
    del block
    for each in plugin.properties:
        if each.name == "consolidate":
            if len(each.args) < 2:
                raise CorefileError(f"line {each.line}: consolidate DURATION REGEXP [LEVEL]")
            seconds(each.args[0], each.line)
            said.without_effect(
                each.line, "errors: consolidate: the log holds back what is repeated"
            )
        elif each.name != "stacktrace":
            raise refused(plugin, each)
