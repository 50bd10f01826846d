# SPDX-License-Identifier: Apache-2.0
"""Tables of others that drop by policy; part of `fairlead net doctor`.

In nftables a packet has to pass every table: an accept in flanneld's does not help against a
chain elsewhere whose policy is to drop. What is known to deal with the overlay is left out:
flanneld's own tables, iptables' (flanneld's rules stand in them) and firewalld's (`firewalld`).
`judge` is told what `nft -j list ruleset` prints.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from flannelpy.nouns.finding import Finding
from flannelpy.state import IPNetwork, lies_in
from flannelpy.tools import tool

_KNOWN = ("flannel-", "firewalld")
_IPTABLES = frozenset({"filter", "nat", "mangle", "raw", "security"})  # of the families ip and ip6
_FAMILIES = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}


def examine(row: Mapping[str, Any]) -> Iterator[Finding]:
    """Look at this host's tables for the sake of one flanneld; nothing where nft cannot tell."""
    program = tool("nft")
    if program is None:
        return
    done = subprocess.run(  # noqa: S603  (the system's own program)
        [program, "-j", "-t", "list", "ruleset"], capture_output=True, check=False, timeout=10
    )
    if done.returncode == 0:
        yield from judge(row, json.loads(done.stdout)["nftables"])


def judge(row: Mapping[str, Any], ruleset: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Say which chains drop what nobody accepts, and have no rule for the overlay."""
    rules = [it["rule"] for it in ruleset if "rule" in it]
    chains = [it["chain"] for it in ruleset if "chain" in it]
    hooked = {(it["family"], it["table"], it["name"]) for it in chains if "hook" in it}
    for chain in chains:
        versions = _FAMILIES.get(chain["family"], ())
        if chain.get("policy") != "drop" or not versions or _dealt_with(chain):
            continue
        elsewhere = hooked - {(chain["family"], chain["table"], chain["name"])}
        accepting = [
            rule["expr"]
            for rule in rules
            if (rule["family"], rule["table"]) == (chain["family"], chain["table"])
            and (rule["family"], rule["table"], rule["chain"]) not in elsewhere
            and {"accept": None} in rule["expr"]
        ]
        missing = list(_missing(row, chain.get("hook"), versions, accepting))
        if missing:
            where = f"{chain['family']} {chain['table']} {chain['name']}"
            text = f"chain {where} drops by policy, and no rule it leads to names {missing[0][0]}"
            fix = "; ".join(f"nft insert rule {where} {match} accept" for _, match in missing)
            yield Finding("warning", "nftables", text, fix)


def _dealt_with(chain: Mapping[str, Any]) -> bool:
    table: str = chain["table"]
    return table.startswith(_KNOWN) or (chain["family"] != "inet" and table in _IPTABLES)


def _missing(
    row: Mapping[str, Any], hook: str | None, versions: Sequence[int], accepting: Sequence[Any]
) -> Iterator[tuple[str, str]]:
    """Yield what of the overlay no rule accepts at a hook, and what a rule for it would match."""
    if hook == "forward":
        for network in map(ip_network, row["networks"]):
            if network.version in versions and not any(
                _names(expr, network, row["devices"]) for expr in accepting
            ):
                family = "ip" if network.version == 4 else "ip6"
                for side in ("saddr", "daddr"):
                    yield str(network), f"{family} {side} {network}"
    elif hook == "input":
        for port in row["ports"]:
            if not any(port in _values(expr) for expr in accepting):
                yield f"UDP port {port}", f"udp dport {port}"


def _names(expr: object, network: IPNetwork, devices: Sequence[str]) -> bool:
    for value in _values(expr):
        if isinstance(value, str) and value in devices:
            return True
        if isinstance(value, tuple) and lies_in(network, ip_network(value)):
            return True
    return False


def _values(expr: object) -> Iterator[object]:
    """Yield the texts, numbers and prefixes (address, length) in an expression."""
    if isinstance(expr, dict):
        if "prefix" in expr:
            yield expr["prefix"]["addr"], expr["prefix"]["len"]
            return
        for value in expr.values():
            yield from _values(value)
    elif isinstance(expr, list):
        for value in expr:
            yield from _values(value)
    elif expr is not None:
        yield expr
