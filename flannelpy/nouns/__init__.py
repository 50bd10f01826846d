# SPDX-License-Identifier: Apache-2.0
"""`fairlead net …`: the overlay as this host and etcd see it, and what is wrong with it.

`status` and `peers` ask the daemons of this host by their admin sockets, `leases` asks etcd,
`doctor` looks at the host itself and sends probes to the peers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fairlead.noun import OUTPUT, SOCKET


@click.group("net")
def net() -> None:
    """The overlay network of flanneld: status, peers, leases, doctor."""


@net.command()
@OUTPUT
@SOCKET
def status(output: str, named: tuple[Path, ...]) -> None:
    """Show this host's part: lease, device, peers, age of the data, drift, counters."""
    from flannelpy.nouns import daemons

    told = daemons.status(named)
    if output == "json":
        click.echo(json.dumps(told, indent=2))
    elif not told:
        click.echo("no flanneld runs here (no admin socket found)", err=True)
    else:
        daemons.print_status(told)
    sys.exit(0 if told and all(it.get("ready") for it in told) else 1)


@net.command()
@OUTPUT
@SOCKET
def peers(output: str, named: tuple[Path, ...]) -> None:
    """Show the other hosts, and why one of them gets no route."""
    from flannelpy.nouns import daemons

    told = daemons.peers(named)
    if output == "json":
        click.echo(json.dumps(told, indent=2))
    elif not told:
        click.echo("no flanneld runs here (no admin socket found)", err=True)
    else:
        daemons.print_peers(told)
    sys.exit(0 if told else 1)


@net.command()
@OUTPUT
@SOCKET
@click.option("--no-probes", is_flag=True, help="Look at this host only; send nothing.")
def doctor(output: str, named: tuple[Path, ...], no_probes: bool) -> None:
    """Look for what keeps packets from arriving; each fault with the fix to type."""
    from flannelpy.nouns import diagnosis

    found = diagnosis.examine(named, probes=not no_probes)
    if output == "json":
        click.echo(json.dumps([it.plain() for it in found], indent=2))
    else:
        for it in found:
            click.echo(f"{it.level:<8} {it.about:<11} {it.text}")
            if it.fix:
                click.echo(f"{'':<8} {'':<11} fix: {it.fix}")
    sys.exit(any(it.level == "error" for it in found))


def main(argv: Sequence[str] | None = None) -> None:
    """Run `fairlead net` by itself: `python -m flannelpy.nouns`."""
    net.main(args=None if argv is None else list(argv), prog_name="fairlead net")


from flannelpy.nouns.leases import leases  # noqa: E402  (below the group it joins)

net.add_command(leases)
