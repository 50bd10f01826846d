# SPDX-License-Identifier: Apache-2.0
"""What flannel before 0.20 left in iptables: rules without a chain of their own. Pure.

They stand in POSTROUTING and FORWARD themselves (specs/flannel.md §11.1) and go when ours come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from flannelpy.firewall.iptables import program
from flannelpy.state import IPNetwork, Key, Kind, lies_in


@dataclass(frozen=True, slots=True)
class Legacy:
    """Rules that a daemon before 0.20 left; `inputs` for iptables-restore delete them."""

    family: int
    inputs: tuple[str, ...]

    @property
    def key(self) -> Key:
        """They have no name of their own."""
        return Key(Kind.RULES, f"{program(self.family)} before 0.20", self.family)

    def __str__(self) -> str:
        count = sum(text.count("\n-D ") for text in self.inputs)
        return f"{program(self.family)} rules of flannel before 0.20 ({count})"


def inputs(saved: str, network: IPNetwork) -> tuple[str, ...]:
    """Return the inputs that delete what daemons before 0.20 left: rules without a chain.

    They stand in POSTROUTING and FORWARD themselves and are known by `network` alone.
    """
    c = re.escape(str(network))
    mine = {
        "nat": re.compile(
            rf"-A POSTROUTING (-s {c} -d {c} -j RETURN"
            rf"|-s {c} ! -d 224\.0\.0\.0/4 -j MASQUERADE( --random-fully)?"
            rf"|! -s {c} -d \S+ -j RETURN"
            rf"|! -s {c} -d {c} -j MASQUERADE( --random-fully)?)"
        ),
        "filter": re.compile(rf"-A FORWARD (-s {c}|-d {c}) -j ACCEPT"),
    }
    table, found = "", {"nat": list[str](), "filter": list[str]()}
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif table in mine and mine[table].fullmatch(line) and _within(line, network):
            found[table].append("-D" + line.removeprefix("-A"))
    return tuple(_restore(name, lines) for name, lines in found.items() if lines)


def _within(line: str, network: IPNetwork) -> bool:
    """Say whether the destination of a RETURN rule lies in `network`: then it is the subnet."""
    if not line.startswith("-A POSTROUTING ! -s") or not line.endswith("RETURN"):
        return True
    try:
        dest = ip_network(line.split(" -d ")[1].split()[0])
    except ValueError:
        return False
    return lies_in(dest, network)


def _restore(table: str, lines: Iterable[str]) -> str:
    return "\n".join([f"*{table}", *lines, "COMMIT", ""])
