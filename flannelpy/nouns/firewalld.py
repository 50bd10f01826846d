# SPDX-License-Identifier: Apache-2.0
"""Whether firewalld, where it runs, lets the overlay through; part of `fairlead net doctor`.

firewalld's own rules reject what no zone allows, whatever flanneld's table accepts: the tunnel's
port has to be open in the uplink's zone, and the containers' packets to come from a source that
is trusted. `judge` is told the answers of firewall-cmd.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flannelpy.nouns.finding import Finding
from flannelpy.tools import tool

Ask = Callable[..., str | None]
"""Calls firewall-cmd with some words; returns what it prints, None: it says no."""


def examine(row: Mapping[str, Any]) -> Iterator[Finding]:
    """Look at this host's firewalld for the sake of one flanneld; nothing when it does not run."""
    program = tool("firewall-cmd")
    if program is None:
        return

    def ask(*words: str) -> str | None:
        done = subprocess.run(  # noqa: S603  (the system's own program)
            [program, *words], capture_output=True, text=True, check=False, timeout=10
        )
        return done.stdout.strip() if done.returncode == 0 else None

    if ask("--state") is not None:
        yield from judge(row, ask)


def judge(row: Mapping[str, Any], ask: Ask) -> Iterator[Finding]:
    """Say what firewalld keeps from the overlay."""
    zone = ask(f"--get-zone-of-interface={row['interface']}") or ask("--get-default-zone") or ""
    wanted = [(zone, f"port={port}/udp") for port in row["ports"] if zone != "trusted"]
    wanted += [("trusted", f"source={network}") for network in row["networks"]]
    closed = [
        (where, what) for where, what in wanted if ask(f"--zone={where}", f"--query-{what}") is None
    ]
    if not closed:
        yield Finding("ok", "firewalld", "lets the overlay through")
        return
    text = ", ".join(f"{what.replace('=', ' ')} is not in zone {where}" for where, what in closed)
    steps = [f"firewall-cmd --permanent --zone={where} --add-{what}" for where, what in closed]
    yield Finding("error", "firewalld", text, "; ".join([*steps, "firewall-cmd --reload"]))
