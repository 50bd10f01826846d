# SPDX-License-Identifier: Apache-2.0
"""The plugin `tsig`: keys that queries may be signed with, and what must be."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from skydns import sharedkeys
from skydns.addresses import Peers
from skydns.corefile.grammar import Block, CorefileError, Directive
from skydns.corefile.said import Said, one, refused, zones_of

_TRANSFERS: Final = frozenset(("AXFR", "IXFR"))


def tsig(plugin: Directive, block: Block, said: Said) -> None:
    """Take over keys; of what can be required to be signed only transfers."""
    required = False
    for each in plugin.properties:
        try:
            match each.name:
                case "secret" if len(each.args) == 2:
                    key = sharedkeys.made(each.args[0], "", each.args[1])
                    said.keys[key.name] = key
                case "secrets":
                    said.keys |= sharedkeys.read(one(each))
                case "require" if each.args == ("none",):
                    required = False
                case "require" if each.args and _TRANSFERS.issuperset(map(str.upper, each.args)):
                    required = True
                case "require":
                    raise _too_much(each)
                case _:
                    raise refused(plugin, each)
        except CorefileError:
            raise
        except ValueError as error:
            raise CorefileError(f"line {each.line}: tsig: {error}") from error
    for zone in zones_of(plugin, plugin.args, block) if required else ():
        said.peers[zone] = replace(said.peers.get(zone, Peers()), signed=True)


def _too_much(each: Directive) -> CorefileError:
    return CorefileError(
        f"line {each.line}: tsig: require takes AXFR, IXFR or none: other queries may be unsigned"
    )
