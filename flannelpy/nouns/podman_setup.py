# SPDX-License-Identifier: Apache-2.0
"""`fairlead podman setup` at work: look at podman, choose a way, write and run what it takes."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import click

from fairlead.errors import ActionError
from flannelpy import subnet_env
from flannelpy.apply import replace_file
from flannelpy.podman import CNI_DIRS, Found, PodmanError, Setup, choose, plan, read_info
from flannelpy.tools import run

_NETAVARK = ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark", "netavark")


def setup(name: str, way: str, subnet_file: str, *, dry_run: bool) -> None:
    """Join podman to the overlay, or say what that would take.

    Raises:
        ClickException: podman is not there, refuses, or has no way to join.
    """
    try:
        found = asyncio.run(_look())
        choice = choose(found, way)
    except (PodmanError, ActionError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"way: {choice.way}: {choice.why}")
    programs = str(Path(sys.executable).parent)
    what = plan(choice, found, programs, name, subnet_file)
    _carry_out(what, name, dry_run=dry_run)
    _advise(subnet_file)


async def _look() -> Found:
    info = json.loads(await run("podman", "info", "--format", "json"))
    where = next(filter(shutil.which, _NETAVARK), None)
    netavark = "" if where is None else await run(where, "--version")
    cni = next((it for it in CNI_DIRS if (Path(it) / "bridge").exists()), "")
    return read_info(info, netavark, cni)


def _carry_out(what: Setup, name: str, *, dry_run: bool) -> None:
    for path, text in what.files.items():
        click.echo(f"{'would write' if dry_run else 'wrote'} {path}")
        if dry_run:
            click.echo(text)
            continue
        try:
            replace_file(Path(path), text)
        except OSError as error:
            raise click.ClickException(f"{path}: {error.strerror}") from error
    if what.command:
        click.echo(f"{'would run' if dry_run else 'running'} {' '.join(what.command)}")
    if what.command and not dry_run:
        try:
            asyncio.run(_network(what, name))
        except ActionError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"then: podman run --network {name} …")


async def _network(what: Setup, name: str) -> None:
    there = json.loads(await run("podman", "network", "ls", "--format", "json")) or []
    if not any(name in (it.get("name"), it.get("Name")) for it in there):
        await run(*what.command)


def _advise(subnet_file: str) -> None:
    try:
        env = subnet_env.values(Path(subnet_file).read_text("utf-8", "replace"))
    except OSError as error:
        click.echo(f"note: {subnet_file}: {error.strerror}; containers start once flanneld runs")
        return
    if env.get("FLANNEL_IPMASQ") != "true":
        click.echo("note: flanneld runs without -ip-masq: containers do not reach the outside")
