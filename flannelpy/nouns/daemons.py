# SPDX-License-Identifier: Apache-2.0
"""What the flannelds of this host say: `fairlead net status` and `peers`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fairlead.ask import ask
from fairlead.noun import found

# columns of /proc/net/dev, which unlike /sys is always of our own network namespace
_STATISTICS = {
    "rx_packets": 1,
    "rx_bytes": 0,
    "rx_dropped": 3,
    "tx_packets": 9,
    "tx_bytes": 8,
    "tx_errors": 10,
}


def asked(named: Sequence[Path], page: str) -> list[tuple[Path, Any]]:
    """Return each flanneld's answer; of one that is not well, why."""
    answers: list[tuple[Path, Any]] = []
    for path in found(named):
        if not named and not path.stem.startswith("flanneld"):
            continue
        reply = ask(path, page)
        told = reply.json() if reply.status == 200 else {"error": reply.error or reply.status}
        answers.append((path, told))
    return answers


def status(named: Sequence[Path]) -> list[dict[str, Any]]:
    """Return each daemon's account of itself, with its devices' counters."""
    told = []
    for path, state in asked(named, "/debug/state"):
        row: dict[str, Any] = {"socket": str(path)}
        if "error" in state:
            told.append({**row, "ready": False, "error": state["error"]})
            continue
        own = state["state"].get("network", {})
        plan = state["plan"].get("overlay", [])
        stale = max((mirror["stale_seconds"] for mirror in state["mirrors"]), default=0.0)
        told.append(
            {
                **row,
                "ready": state["ready"],
                "pid": state["pid"],
                **own,
                "stale_seconds": stale,
                "drift": plan if isinstance(plan, list) else [str(plan)],
                "counters": {dev: counters(dev) for dev in own.get("devices", ())},
                "conditions": {c["name"]: c["why"] for c in state["conditions"] if not c["holds"]},
            }
        )
    return told


def counters(dev: str, table: Path = Path("/proc/net/dev")) -> dict[str, int]:
    """Return what went through a device; nothing for one that is not there."""
    for line in table.read_text().splitlines():
        name, colon, rest = line.partition(":")
        if colon and name.strip() == dev:
            words = rest.split()
            return {name: int(words[at]) for name, at in _STATISTICS.items()}
    return {}


def print_status(told: Sequence[dict[str, Any]]) -> None:
    """Write it for people: a block a daemon."""
    console = _console()
    for it in told:
        console.print(f"[bold]{it['socket']}[/]", highlight=False)
        for name, text in lines(it):
            console.print(f"  {name:<10} {text}", markup=False, soft_wrap=True)


def lines(it: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of one daemon: a name and what there is to say."""
    if "error" in it:
        return [("error", str(it["error"]))]
    if "subnet" not in it:
        why = "; ".join(f"{name}: {reason}" for name, reason in it["conditions"].items())
        return [("waiting", why or "for etcd and its configuration")]
    expires = it["expires_seconds"]
    until = "a reservation, never runs out" if expires is None else f"runs out in {_span(expires)}"
    rows = [
        ("lease", f"{it['subnet']}, {until}"),
        ("uplink", f"{it['interface']} {it['address']}, public {it['public']}"),
        ("backend", f"{it['backend']}, MTU {it['mtu']}"),
    ]
    for dev, seen in it["counters"].items():
        words = ", ".join(f"{name} {value}" for name, value in seen.items())
        rows.append(("device", f"{dev}: {words or 'not there'}"))
    rows.append(("peers", f"{it['peers']}, {len(it['ignored'])} leases ignored"))
    stale = it["stale_seconds"]
    rows.append(("data", "as etcd has it" if not stale else f"{_span(stale)} old"))
    rows.append(("drift", f"{len(it['drift'])} actions due" if it["drift"] else "none"))
    rows += [("duplicate", f"{key} has our address {ip}") for key, ip in it["duplicates"].items()]
    rows += [("not well", f"{name}: {why}") for name, why in it["conditions"].items()]
    return rows


def peers(named: Sequence[Path]) -> list[dict[str, Any]]:
    """Return each daemon's peers."""
    return [
        {"socket": str(path), **({"peers": told} if isinstance(told, list) else told)}
        for path, told in asked(named, "/peers")
    ]


def print_peers(told: Sequence[dict[str, Any]]) -> None:
    """Write them as a table."""
    console = _console()
    for it in told:
        if "error" in it:
            console.print(f"{it['socket']}: {it['error']}", markup=False)
            continue
        table = Table(box=None, pad_edge=False)
        for name in ("SUBNET", "PUBLIC IP", "BACKEND", "KIND", "WHY NO ROUTE"):
            table.add_column(name)
        for peer in it["peers"]:
            public = peer["public_ipv6"] if peer["public_ip"] == "0.0.0.0" else peer["public_ip"]  # noqa: S104
            kind = "reservation" if peer["reservation"] else "lease"
            table.add_row(peer["subnet"], public, peer["backend"] or "–", kind, peer["ignored"])
        console.print(table)


def _span(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"


def _console() -> Console:
    # for a program reading on: one line a row, however much there is to say
    return Console(width=None if sys.stdout.isatty() else 4000, highlight=False)
