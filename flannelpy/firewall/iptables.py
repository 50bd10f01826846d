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

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final

from flannelpy.firewall.docker import USER
from flannelpy.firewall.rules import (
    FORWARDED,
    KUBE_MARK,
    MASQUERADED,
    IPNetwork,
    Match,
    Rule,
    Verdict,
)
from flannelpy.state import Key, Kind

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
        family: 4 or 6.
        user: how many rules of Docker's own chain for the operator, DOCKER-USER, lead to our
            chain; None: there is no such chain. Docker calls it before its own rules, which
            since Docker 28 drop what is routed to a container.
        user_at: where in it the operator's own rules end; 0: at its end.
    """

    place: Place
    rules: tuple[Rule, ...]
    jumps: int = 1
    strange: bool = False
    family: int = 4
    user: int | None = None
    user_at: int = field(default=0, compare=False)

    @property
    def key(self) -> Key:
        """Program, table and chain."""
        name = f"{program(self.family)} {self.place.table} {self.place.chain}"
        return Key(Kind.RULES, name, self.family)

    def __str__(self) -> str:
        place = self.place
        return f"{program(self.family)} {place.table} {place.chain} ({len(self.rules)} rules)"


def program(family: int) -> str:
    """Return the name of the family's program."""
    return "iptables" if family == 4 else "ip6tables"


def render(wanted: Rules, there: Rules | None) -> str:
    """Return the input for `iptables-restore --noflush` that makes our chain `wanted`.

    A jump that stands keeps its place; superfluous ones are deleted; a missing one is appended,
    where the original puts it. In Docker's chain it goes behind the operator's rules, whose
    drops count, but before a last RETURN.
    """
    place = wanted.place
    jumps = 0 if there is None else there.jumps
    jump = _jump(place)
    user = (0 if there is None else there.user or 0) if wanted.user else 1
    return "\n".join(
        [
            f"*{place.table}",
            f":{place.chain} - [0:0]",  # makes or empties it
            *(f"-A {place.chain} {_line(rule, place.comment)}" for rule in wanted.rules),
            *[f"-D {jump}"] * max(0, jumps - 1),
            *[f"-A {jump}"] * (jumps == 0),
            *[f"-D {_jump(place, USER)}"] * max(0, user - 1),
            *[_into_user(wanted)] * (user == 0),
            "COMMIT",
            "",
        ]
    )


def _into_user(wanted: Rules) -> str:
    words = _jump(wanted.place, USER).removeprefix(USER)
    return f"-I {USER} {wanted.user_at}{words}" if wanted.user_at else f"-A {USER}{words}"


def remove(there: Rules) -> str:
    """Return the input that takes our chain and every jump to it away."""
    place = there.place
    lines = [f"*{place.table}", *[f"-D {_jump(place)}"] * there.jumps]
    lines += [f"-D {_jump(place, USER)}"] * (there.user or 0)
    return "\n".join([*lines, f"-F {place.chain}", f"-X {place.chain}", "COMMIT", ""])


def _jump(place: Place, parent: str = "") -> str:
    return f'{parent or place.parent} -m comment --comment "{place.comment}" -j {place.chain}'


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


def parse(saved: str, place: Place, family: int = 4) -> Rules | None:
    """Return what stands in `place`, from the text of `iptables-save`; None: no chain of ours."""
    table, found, strange, jumps = "", False, False, 0
    user: int | None = None
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
        elif line.startswith(f":{USER} "):
            user = 0
        elif line == f"-A {_jump(place, USER)}":
            user = (user or 0) + 1
    return Rules(place, tuple(rules), jumps, strange, family, user) if found else None


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
