# SPDX-License-Identifier: Apache-2.0
"""Rules ↔ iptables: a chain of our own and a jump to it, in nat and in filter. Pure.

::

    nat     POSTROUTING ─► FLANNEL-POSTRTG   masquerade
    filter  FORWARD     ─► FLANNEL-FWD       accept

The names and comments are the original's (specs/flannel.md §11.1), so that each takes over the
other's. `render` gives one `iptables-restore --noflush` input, applied as a whole: there is no
gap without rules. `parse` reads `iptables-save` back into the same values. IPv6 is the same
text for the ip6tables programs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from flannelpy.firewall.rules import (
    FORWARDED,
    KUBE_MARK,
    MASQUERADED,
    IPNetwork,
    Match,
    Rule,
    Verdict,
)

_TARGETS: Final = {
    Verdict.RETURN: "RETURN",
    Verdict.ACCEPT: "ACCEPT",
    Verdict.MASQUERADE: "MASQUERADE",
}
_VERDICTS: Final = {target: verdict for verdict, target in _TARGETS.items()}
_MARK: Final = f"{KUBE_MARK:#x}/{KUBE_MARK:#x}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where our rules of one kind stand.

    Attributes:
        table: "nat" or "filter".
        parent: the built-in chain that jumps to ours.
        chain: ours; another network's daemon on this host has a suffix of its own (trap T27).
    """

    table: str
    parent: str
    chain: str
    comment: str


def places(suffix: str = "") -> tuple[Place, Place]:
    """Return where masquerade and forward rules stand.

    Args:
        suffix: "" for the default network, else e.g. "-3f2a": a chain's name has at most 28
            characters (iptables' limit), ours leaves it 13.
    """
    return (
        Place("nat", "POSTROUTING", f"FLANNEL-POSTRTG{suffix}", MASQUERADED),
        Place("filter", "FORWARD", f"FLANNEL-FWD{suffix}", FORWARDED),
    )


@dataclass(frozen=True, slots=True)
class Rules:
    """Our rules in one place.

    Attributes:
        jumps: how many rules of the parent lead to our chain; 1 is right.
        strange: something stands in our chain that we could not have written.
    """

    place: Place
    rules: tuple[Rule, ...]
    jumps: int = 1
    strange: bool = False

    def __str__(self) -> str:
        return f"{self.place.table} {self.place.chain} ({len(self.rules)} rules)"


def render(wanted: Rules, there: Rules | None) -> str:
    """Return the input for `iptables-restore --noflush` that makes our chain `wanted`.

    A jump that stands keeps its place; superfluous ones are deleted; a missing one is appended,
    where the original puts it.
    """
    place = wanted.place
    jumps = 0 if there is None else there.jumps
    jump = _jump(place)
    return "\n".join(
        [
            f"*{place.table}",
            f":{place.chain} - [0:0]",  # makes or empties it
            *(f"-A {place.chain} {_line(rule, place.comment)}" for rule in wanted.rules),
            *[f"-D {jump}"] * max(0, jumps - 1),
            *[f"-A {jump}"] * (jumps == 0),
            "COMMIT",
            "",
        ]
    )


def remove(there: Rules) -> str:
    """Return the input that takes our chain and every jump to it away."""
    place = there.place
    jump = _jump(place)
    lines = [f"*{place.table}", *[f"-D {jump}"] * there.jumps]
    return "\n".join([*lines, f"-F {place.chain}", f"-X {place.chain}", "COMMIT", ""])


def _jump(place: Place) -> str:
    return f'{place.parent} -m comment --comment "{place.comment}" -j {place.chain}'


def _line(rule: Rule, comment: str) -> str:
    words = []
    for flag, match in (("-s", rule.src), ("-d", rule.dst)):
        if match is not None:
            words.append(f"{'! ' if match.negate else ''}{flag} {match.net}")
    if rule.marked:
        words.append(f"-m mark --mark {_MARK}")
    words.append(f'-m comment --comment "{comment}" -j {_TARGETS[rule.verdict]}')
    if rule.random:
        words.append("--random-fully")
    return " ".join(words)


def parse(saved: str, place: Place) -> Rules | None:
    """Return what stands in `place`, from the text of `iptables-save`; None: no chain of ours."""
    table, found, strange, jumps = "", False, False, 0
    rules: list[Rule] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif table != place.table:
            continue
        elif line.startswith(f":{place.chain} "):
            found = True
        elif line.startswith(f"-A {place.chain} "):
            rule = _read(shlex.split(line)[2:])
            strange = strange or rule is None
            rules += [] if rule is None else [rule]
        elif line == f"-A {_jump(place)}":
            jumps += 1
    return Rules(place, tuple(rules), jumps, strange) if found else None


def _read(words: Sequence[str]) -> Rule | None:
    """Return the rule that these words of iptables-save are, or None for one not of ours."""
    matches: dict[str, Match] = {}
    verdict, marked, random, negate = None, False, False, False
    rest = iter(words)
    for word in rest:
        if word == "!":
            negate = True
            continue
        if word in ("-s", "-d"):
            net = _network(next(rest, ""))
            if net is None:
                return None
            matches[word] = Match(net, negate)
        elif word == "-m":
            if next(rest, "") not in ("mark", "comment"):
                return None
        elif word == "--mark" and not negate:
            marked = next(rest, "") == _MARK
            if not marked:
                return None
        elif word == "--comment":
            next(rest, "")
        elif word == "-j":
            verdict = _VERDICTS.get(next(rest, ""))
        elif word == "--random-fully":
            random = True
        else:
            return None
        negate = False
    if verdict is None:
        return None
    return Rule(verdict, matches.get("-s"), matches.get("-d"), marked, random)


def _network(text: str) -> IPNetwork | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def legacy(saved: str, network: IPNetwork) -> tuple[str, ...]:
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
    dest = _network(line.split(" -d ")[1].split()[0])
    return (
        dest is not None
        and dest.version == network.version
        and int(network.network_address) <= int(dest.network_address)
        and int(dest.broadcast_address) <= int(network.broadcast_address)
    )


def _restore(table: str, lines: Iterable[str]) -> str:
    return "\n".join([f"*{table}", *lines, "COMMIT", ""])
