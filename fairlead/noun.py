# SPDX-License-Identifier: Apache-2.0
"""What the verbs and nouns of the command `fairlead` share: output, admin sockets, etcd's flags."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from fairlead.etcd.store import Store

T = TypeVar("T")

OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    help="Form of the output.",
)
SOCKET = click.option(
    "--socket",
    "named",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Ask this admin socket (repeatable); default: all in /run/fairlead and $XDG_RUNTIME_DIR/fairlead.",
)


def found(named: Sequence[Path]) -> tuple[Path, ...]:
    """Return the admin sockets to ask: those named, or all of this host."""
    from fairlead.ask import sockets

    if named:
        return tuple(named)
    directories = [Path("/run/fairlead")]
    if os.environ.get("XDG_RUNTIME_DIR"):
        directories.append(Path(os.environ["XDG_RUNTIME_DIR"]) / "fairlead")
    return sockets(directories) or sockets(_demo())


def _demo() -> list[Path]:
    """Return the socket directories of our own `fairlead demo --keep`."""
    kept = Path("/tmp").glob("fairlead-demo-*/fairlead")  # noqa: S108  (only what is ours)
    return [path for path in kept if path.stat().st_uid == os.geteuid()]


def etcd_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add etcdctl's connection flags, with etcdctl's variables."""
    for names, variable, words in (
        (("--key",), "ETCDCTL_KEY", "Client key file."),
        (("--cert",), "ETCDCTL_CERT", "Client certificate file."),
        (("--cacert",), "ETCDCTL_CACERT", "CA file."),
        (("--user",), "ETCDCTL_USER", "NAME:PASSWORD."),
    ):
        command = click.option(*names, envvar=variable, default="", help=words, show_envvar=True)(
            command
        )
    return click.option(
        "--endpoints",
        envvar="ETCDCTL_ENDPOINTS",
        default="http://127.0.0.1:2379",
        show_default=True,
        show_envvar=True,
        help="Comma list of etcd endpoints.",
    )(command)


def etcd_options(endpoints: str, user: str, cacert: str, cert: str, key: str) -> Any:
    """Return what `etcd_flags` gave, for `fairlead.etcd.client.connect`."""
    from fairlead.etcd.options import Options

    parts = tuple(part.strip() for part in endpoints.split(",") if part.strip())
    return Options(endpoints=parts, user=user, ca=cacert, cert=cert, key=key)


def on_etcd(flags: dict[str, str], work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    """Return what `work` finds on the etcd that `etcd_flags` name.

    Raises:
        click.ClickException: etcd, a key or a setting is at fault; ends the command with 1.
    """
    from fairlead.errors import FairleadError
    from fairlead.etcd.client import connect

    async def main() -> T:
        async with connect(etcd_options(**flags)) as store:
            return await work(store)

    try:
        import asyncio  # late: `fairlead --help` needs none

        return asyncio.run(main())
    except FairleadError as error:
        raise click.ClickException(str(error)) from error
