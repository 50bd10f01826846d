# SPDX-License-Identifier: Apache-2.0
"""Rules ↔ nftables: a table of our own per address family. Pure.

::

    table ip flannel-ipv4   chain postrtg   nat, postrouting: masquerade
                            chain forward   filter, forward: accept
                            chain guard     filter, input: who may send to the tunnel's port
                            set   peers     their public addresses, one element a lease

Tables and the first two chains have the original's names, so that each takes over the other's.
`render` gives one transaction that makes the table so whatever it held, and leaves the set's
elements alone: those are `elements`' business. `parse` reads `nft -j list table` back into the
same values, so that a rule deleted, added or changed by hand shows as a difference. A daemon of
another network has tables with a suffix of its own (trap T27).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from flannelpy.firewall.rules import KUBE_MARK, IPNetwork, Match, Rule, Verdict
from flannelpy.state import Key, Kind

PEERS: Final = "peers"


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a chain is hung in; `priority` as a number, as the kernel keeps it."""

    type: str
    hook: str
    priority: int


POSTROUTING: Final = Hook("nat", "postrouting", 100)
FORWARD: Final = Hook("filter", "forward", 0)
INPUT: Final = Hook("filter", "input", -10)  # before a filter chain counts or answers it


@dataclass(frozen=True, slots=True)
class Guard:
    """Drop what comes in on `iface` for UDP `port` from an address that is not in the set."""

    iface: str
    port: int


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain with policy accept, and its rules in order.

    Attributes:
        strange: rules that we could not have written stand in it: it differs from any of ours.
    """

    name: str
    hook: Hook
    rules: tuple[Rule | Guard, ...]
    strange: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A whole table but for the elements of its set.

    Attributes:
        family: 4 or 6, of the addresses it looks at.
        chains: sorted by name.
        suffix: "" for the default network.
    """

    family: int
    chains: tuple[Chain, ...]
    suffix: str = ""

    @property
    def name(self) -> str:
        """As the original names it."""
        return table_name(self.family, self.suffix)

    @property
    def key(self) -> Key:
        """Family and name."""
        return Key(Kind.RULES, f"nft {self.name}", self.family)

    @property
    def nft_family(self) -> str:
        """Nft's word for the family."""
        return "ip" if self.family == 4 else "ip6"

    def __str__(self) -> str:
        rules = sum(len(chain.rules) for chain in self.chains)
        chains = " ".join(chain.name for chain in self.chains)
        return f"table {self.nft_family} {self.name} ({chains}; {rules} rules)"


def table_name(family: int, suffix: str = "") -> str:
    """Return the name of our table."""
    return f"flannel-ipv{family}{suffix}"


def table(
    family: int,
    *,
    suffix: str = "",
    postrtg: tuple[Rule, ...] = (),
    forward: tuple[Rule, ...] = (),
    guard: Guard | None = None,
) -> Table:
    """Return the table that holds these rules; a chain without any is left out."""
    chains = [
        Chain("forward", FORWARD, forward),
        Chain("guard", INPUT, () if guard is None else (guard,)),
        Chain("postrtg", POSTROUTING, postrtg),
    ]
    return Table(family, tuple(chain for chain in chains if chain.rules), suffix)


def render(wanted: Table, there: Table | None) -> str:
    """Return the transaction, for `nft -f -`, that makes the table `wanted`.

    Chains of `there` that should not be are deleted; one whose hook differs is made anew, which
    nft allows within a transaction.
    """
    where = f"{wanted.nft_family} {wanted.name}"
    lines = [f"add table {where}"]
    hooks = {chain.name: chain.hook for chain in there.chains} if there is not None else {}
    keep = {chain.name: chain.hook for chain in wanted.chains}
    lines += [
        f"delete chain {where} {name}"
        for name, hook in sorted(hooks.items())
        if keep.get(name) != hook
    ]
    type_ = "ipv4_addr" if wanted.family == 4 else "ipv6_addr"
    lines.append(f"add set {where} {PEERS} {{ type {type_}; flags timeout; }}")
    for chain in wanted.chains:
        hook = chain.hook
        lines += [
            f"add chain {where} {chain.name} {{ type {hook.type} hook {hook.hook} "
            f"priority {hook.priority}; policy accept; }}",
            f"flush chain {where} {chain.name}",
        ]
        lines += [
            f"add rule {where} {chain.name} {_rule(rule, wanted.nft_family)}"
            for rule in chain.rules
        ]
    return "\n".join(lines) + "\n"


def remove(family: int, suffix: str = "") -> str:
    """Return the transaction that takes our table of `family` away, there or not."""
    gone = Table(family, (), suffix)
    where = f"{gone.nft_family} {gone.name}"
    return f"add table {where}\ndelete table {where}\n"


def _rule(rule: Rule | Guard, family: str) -> str:
    if isinstance(rule, Guard):
        return f'iifname "{rule.iface}" udp dport {rule.port} {family} saddr != @{PEERS} drop'
    words = []
    if rule.marked:
        words.append(f"meta mark & {KUBE_MARK:#x} == {KUBE_MARK:#x}")
    for field, match in (("saddr", rule.src), ("daddr", rule.dst)):
        if match is not None:
            words.append(f"{family} {field} {'!= ' if match.negate else ''}{match.net}")
    words.append(rule.verdict.value)
    if rule.random:
        words.append("fully-random")
    return " ".join(words)


# ---------------------------------------------------------------------------- reading back


def parse(listing: Mapping[str, Any], family: int, suffix: str = "") -> Table | None:
    """Return our table from the decoded `nft -j list …`; None: it is not there.

    Rules we cannot read set `strange`; a chain of another name is one more chain: both differ
    from what we want.
    """
    ours = Table(family, (), suffix)
    found = False
    hooks: dict[str, Hook] = {}
    rules: dict[str, list[Rule | Guard]] = {}
    strange: set[str] = set()
    for entry in listing.get("nftables", ()):
        for kind, body in entry.items():
            if kind == "table":
                found = found or (body.get("family"), body.get("name")) == _where(ours)
            if (body.get("family"), body.get("table")) != _where(ours):
                continue
            if kind == "chain":
                name = body["name"]
                hooks[name] = Hook(
                    body.get("type", ""), body.get("hook", ""), _priority(body.get("prio", 0))
                )
                rules.setdefault(name, [])
                if body.get("policy", "accept") != "accept":
                    strange.add(name)
            elif kind == "rule":
                rule = _read(body.get("expr", ()), ours.nft_family)
                if rule is None:
                    strange.add(body["chain"])
                else:
                    rules.setdefault(body["chain"], []).append(rule)
    if not found:
        return None
    chains = (
        Chain(name, hooks[name], tuple(rules[name]), name in strange) for name in sorted(hooks)
    )
    return Table(family, tuple(chains), suffix)


def _where(ours: Table) -> tuple[str, str]:
    return ours.nft_family, ours.name


def _priority(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _read(expressions: Iterable[Any], family: str) -> Rule | Guard | None:
    """Return the rule that these expressions are, or None for one that is none of ours."""
    source = dest = None
    marked = random = guarded = False
    iface, port = "", 0
    verdict: Verdict | None = None
    for expression in expressions:
        match expression:
            case {"match": {"op": op, "left": {"payload": payload}, "right": right}}:
                where = payload.get("protocol"), payload.get("field")
                if where == (family, "saddr") and (op, right) == ("!=", f"@{PEERS}"):
                    guarded = True
                elif where == ("udp", "dport") and op == "==" and isinstance(right, int):
                    port = right
                elif where in ((family, "saddr"), (family, "daddr")) and op in ("==", "!="):
                    net = _network(right)
                    if net is None:
                        return None
                    if where[1] == "saddr":
                        source = Match(net, op == "!=")
                    else:
                        dest = Match(net, op == "!=")
                else:
                    return None
            case {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": str(name)}}:
                iface = name
            case {
                "match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, mask]}, "right": to}
            } if mask == to == KUBE_MARK:
                marked = True
            case {"return": None}:
                verdict = Verdict.RETURN
            case {"accept": None}:
                verdict = Verdict.ACCEPT
            case {"masquerade": flags}:
                verdict = Verdict.MASQUERADE
                random = isinstance(flags, dict) and flags.get("flags") == "fully-random"
            case {"drop": None} if guarded and iface and port:
                return Guard(iface, port)
            case _:
                return None
    if verdict is None or guarded or iface or port:
        return None
    return Rule(verdict, source, dest, marked, random)


def _network(right: Any) -> IPNetwork | None:
    try:
        match right:
            case {"prefix": {"addr": str(address), "len": int(length)}}:
                return ip_network(f"{address}/{length}")
            case str():
                return ip_network(ip_address(right))
    except ValueError:
        return None
    return None
