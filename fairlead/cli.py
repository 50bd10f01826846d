# SPDX-License-Identifier: Apache-2.0
"""`fairlead VERB`: what we add beside the programs people know.

Verbs import what they need when they run: `fairlead --help` takes under 200 ms. The packages'
nouns (`net`, `dns`, `conf`, `lb`) come by the entry point group `fairlead.nouns`; this module
imports none of them. Tables and faults are for people, `-o json` is for programs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fairlead import __version__
from fairlead.noun import OUTPUT, SOCKET, etcd_flags, etcd_options, found

_PASS_ON = {
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}

# verb → (module, click command or function from argv to exit status, help)
_ELSEWHERE = {
    "etcd": ("fairlead.embedded.cli", "run", "Run a single-node etcd v3 server, for one machine."),
    "register": (
        "fairlead.register.cli",
        "command",
        "Keep DNS and load balancer keys while a command runs.",
    ),
    "demo": (
        "fairlead.demo.cli",
        "command",
        "Build a three-host cluster here, use it, and report.",
    ),
    "import-v2": ("fairlead.import_v2", "main", "Copy a dump of an etcd v2 store into etcd v3."),
}


class Verbs(click.Group):
    """The verbs; those of other modules and packages are found when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all verbs and nouns."""
        return sorted({*super().list_commands(ctx), *_ELSEWHERE, *_nouns()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb or noun; None when there is none."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            return command
        if cmd_name in _ELSEWHERE:
            return _elsewhere(cmd_name)
        point = _nouns().get(cmd_name)
        return point.load() if point is not None else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the verb that was probably meant."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from fairlead.flags import nearest

            close = nearest(args[0], self.list_commands(ctx))
            hint = f'; did you mean "{close}"?' if close else ""
            ctx.fail(f'no such verb: "{args[0]}"{hint}')
        return super().resolve_command(ctx, args)


def _nouns() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="fairlead.nouns")}


def _elsewhere(name: str) -> click.Command:
    module, function, words = _ELSEWHERE[name]

    def call(argv: tuple[str, ...]) -> None:
        from importlib import import_module

        try:
            found = getattr(import_module(module), function)
        except (ModuleNotFoundError, AttributeError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name != module:
                raise
            raise click.ClickException(f"{name}: not built yet in version {__version__}") from None
        if isinstance(found, click.Command):
            found.main(args=list(argv), prog_name=f"fairlead {name}")
        sys.exit(found(list(argv)))

    return click.Command(
        name,
        callback=call,
        params=[click.Argument(["argv"], nargs=-1, type=click.UNPROCESSED)],
        help=words,
        context_settings=dict(_PASS_ON),
    )


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "-help", "--help"]})
def fairlead() -> None:
    """Overlay network, DNS, templates and load balancing on etcd: look at it, try it, run it."""


@fairlead.command()
def version() -> None:
    """Print the version."""
    click.echo(f"fairlead {__version__}")


# ---------------------------------------------------------------------- the daemons of this host


@fairlead.command()
@OUTPUT
@SOCKET
def status(output: str, named: tuple[Path, ...]) -> None:
    """Show the daemons of this host; exit 0 only when there is one and all are ready."""
    import json

    from fairlead.ask import ask

    answers = [(path, ask(path, "/status")) for path in found(named)]
    told = [
        reply.json()
        if reply.status == 200
        else {"program": path.stem, "ready": False, "error": reply.error or f"HTTP {reply.status}"}
        for path, reply in answers
    ]
    for (path, _), daemon in zip(answers, told, strict=True):
        daemon["socket"] = str(path)
    if output == "json":
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    elif not told:
        click.echo("no daemon of ours runs here (no admin socket found)", err=True)
    else:
        _status_table(told)
    sys.exit(0 if told and all(daemon["ready"] for daemon in told) else 1)


def _status_table(told: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    # for a program reading on: one line a daemon, however much there is to say
    console = Console(width=None if sys.stdout.isatty() else 4000, highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in ("PROGRAM", "PID", "READY", "REVISION", "LAG", "RECORDS", "REJECTED", "WHY"):
        right = name in ("PID", "REVISION", "LAG", "RECORDS", "REJECTED")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for daemon in told:
        table.add_row(*status_row(daemon))
    console.print(table)
    for daemon in told:
        for records in daemon.get("records", ()):
            for bad in records["rejected"]:
                where = f'{daemon["program"]}: key "{bad["key"]}" at revision {bad["revision"]}'
                console.print(f"{where}: {bad['reason']}", markup=False, soft_wrap=True)


def status_row(daemon: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of one daemon: what it said at /status, or why it said nothing."""
    if "error" in daemon:
        return (daemon["program"], "", "no", "", "", "", "", daemon["error"])
    mirrors = daemon["mirrors"]
    revision = str(min((mirror["revision"] for mirror in mirrors), default="–"))
    lag = max((mirror["stale_seconds"] for mirror in mirrors), default=0.0)
    good = sum(records["good"] for records in daemon["records"])
    rejected = sum(records["rejected_total"] for records in daemon["records"])
    why = "; ".join(
        f"{c['name']}: {c['why'] or 'no'}" for c in daemon["conditions"] if not c["holds"]
    )
    ready = "yes" if daemon["ready"] else "no"
    name = daemon["program"]
    instance = Path(daemon.get("socket", "")).stem
    if instance.startswith(f"{name}-"):  # several on one host, or the hosts of a demo
        name = instance
    return (
        name,
        str(daemon["pid"]),
        ready,
        revision,
        f"{lag:.1f} s",
        str(good),
        str(rejected),
        why,
    )


@fairlead.command()
@click.argument("program", required=False)
@click.option("--release", is_flag=True, help="Carry out the removals that were held back.")
@OUTPUT
@SOCKET
def plan(program: str | None, release: bool, output: str, named: tuple[Path, ...]) -> None:
    """Show what the daemons (or PROGRAM) would do now."""
    import json

    from fairlead.ask import ask

    asked = [
        path
        for path in found(named)
        if program is None or path.stem == program or path.stem.startswith(f"{program}-")
    ]
    if not asked:
        raise click.ClickException(f"no admin socket of {program or 'any daemon'} found")
    worst = 0
    for path in asked:
        reply = ask(path, "/release", "POST") if release else ask(path, "/plan")
        if reply.status != 200:
            worst = 1
            click.echo(f"{path.stem}: {reply.error or f'HTTP {reply.status}'}", err=True)
            continue
        if output == "json":
            click.echo(json.dumps({"socket": str(path), "answer": reply.json()}))
        elif release:
            held = sum(reply.json()["released"].values())
            click.echo(f"{path.stem}: {held} removals released")
        else:
            _print_plan(path.stem, reply.json())
    sys.exit(worst)


def _print_plan(name: str, loops: dict[str, Any]) -> None:
    if not any(loops.values()):
        click.echo(f"{name}: nothing to do")
    for loop, actions in loops.items():
        if isinstance(actions, dict):
            click.echo(f"{name}: {loop}: {actions['error']}", err=True)
            continue
        for action in actions:
            click.echo(f"{name}: {loop}: {action}")


# ---------------------------------------------------------------------- etcd


@fairlead.command()
@etcd_flags
@OUTPUT
def doctor(output: str, **flags: str) -> None:
    """Check etcd (reachable, version, rights) and this host's clock; exit 1 on an error."""
    import asyncio
    import json
    from dataclasses import asdict

    from fairlead.doctor import examine

    found = asyncio.run(examine(etcd_options(**flags)))
    if output == "json":
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(f"{finding.level:<8} {finding.about:<8} {finding.text}")
    sys.exit(any(finding.level == "error" for finding in found))


@fairlead.command()
@click.argument("prefix")
@etcd_flags
@OUTPUT
def watch(prefix: str, output: str, **flags: str) -> None:
    """Print what stands under PREFIX, then every change, until interrupted."""
    import asyncio

    try:
        asyncio.run(_watch(prefix.encode(), output, etcd_options(**flags)))
    except KeyboardInterrupt:
        sys.exit(0)


async def _watch(prefix: bytes, output: str, options: Any) -> None:
    import json

    from fairlead.etcd.client import connect
    from fairlead.etcd.mirror import Changes, Mirror
    from fairlead.etcd.types import KeyRange

    def show(batch: Changes) -> None:
        for change in batch.changes:
            verb = "delete" if change.new is None else "put" if batch.resync is False else "have"
            value = change.new.value.decode("utf-8", "backslashreplace") if change.new else ""
            key = change.key.decode("utf-8", "backslashreplace")
            revision = change.new.mod_revision if change.new else batch.revision
            if output == "json":
                line = {"time": time.time(), "what": verb, "key": key, "revision": revision}
                click.echo(json.dumps({**line, "value": value} if change.new else line))
            else:
                click.echo(
                    f"{time.strftime('%H:%M:%S')} {revision:>8} {verb:<6} {key} {value}".rstrip()
                )
        sys.stdout.flush()

    async with connect(options) as store:
        mirror = Mirror(store, KeyRange.prefix(prefix), name="watch")
        mirror.subscribe(show)
        await mirror.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = None if argv is None else list(argv)
    try:
        fairlead.main(args=words, prog_name="fairlead")  # ends by SystemExit, always
    except SystemExit as end:
        if isinstance(end.code, int):
            return end.code
        return 1 if end.code else 0


if __name__ == "__main__":
    sys.exit(main())
