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
from flannelpy.podman import CNI_DIRS, Found, Leased, PodmanError, Setup, choose, plan, read_info
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
        programs = str(Path(sys.executable).parent)
        what = plan(choice, found, programs, name, subnet_file, _leased(subnet_file))
    except (PodmanError, ActionError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"way: {choice.way}: {choice.why}")
    _carry_out(what, name, dry_run=dry_run)
    _advise(subnet_file)


async def _look() -> Found:
    info = json.loads(await run("podman", "info", "--format", "json"))
    where = next(filter(shutil.which, _NETAVARK), None)
    netavark = "" if where is None else await run(where, "--version")
    cni = next((it for it in CNI_DIRS if (Path(it) / "bridge").exists()), "")
    return read_info(info, netavark, cni)


def _leased(subnet_file: str) -> Leased | None:
    try:
        text = Path(subnet_file).read_text("utf-8", "replace")
    except OSError:
        return None
    subnets, _ = subnet_env.previous(text)
    mtu = subnet_env.values(text).get("FLANNEL_MTU", "")
    return Leased(subnets, int(mtu)) if subnets is not None and mtu.isdecimal() else None


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
    if what.advice:
        click.echo(f"note: {what.advice}")
    click.echo(f"then: podman run --network {name} …")


async def _network(what: Setup, name: str) -> None:
    there = json.loads(await run("podman", "network", "ls", "--format", "json")) or []
    if not any(name in (it.get("name"), it.get("Name")) for it in there):
        await run(*what.command)
        return
    (now,) = json.loads(await run("podman", "network", "inspect", name))
    has = {it.get("subnet") for it in now.get("subnets") or ()}
    if "--subnet" in what.command and not has <= set(what.command):
        raise ActionError(
            f"network {name}",
            f"it is there with {', '.join(sorted(map(str, has)))}, not with this host's subnet; "
            f"podman network rm {name}, then this command again",
        )


def _advise(subnet_file: str) -> None:
    try:
        env = subnet_env.values(Path(subnet_file).read_text("utf-8", "replace"))
    except OSError as error:
        click.echo(f"note: {subnet_file}: {error.strerror}; containers start once flanneld runs")
        return
    if env.get("FLANNEL_IPMASQ") != "true":
        click.echo("note: flanneld runs without -ip-masq: containers do not reach the outside")
