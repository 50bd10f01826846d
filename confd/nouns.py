# SPDX-License-Identifier: Apache-2.0
"""`fairlead conf check | diff | render`: the verbs and their options; what they do is in `look`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.group()
def conf() -> None:
    """Templates and resources of confd: check them, see what they would change."""


_CONFDIR = click.option(
    "-c",
    "--confdir",
    type=click.Path(path_type=Path),
    default=Path("/etc/confd"),
    show_default=True,
)
_KEYS_FILE = click.option(
    "--keys",
    "keys_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON or YAML file of keys to use, instead of a store.",
)
_NODE = click.option("-n", "--node", multiple=True, help="etcd endpoint; repeatable.")
_BACKEND = click.option("--backend", default="etcd", show_default=True)
_FILE = click.option("--file", "files", multiple=True, help="File of the backend `file`.")
_PREFIX = click.option("--prefix", default="", help="As confd's -prefix.")
_OUTPUT = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")


@conf.command("check")
@_CONFDIR
@_KEYS_FILE
@_PREFIX
@_OUTPUT
@click.argument("resources", nargs=-1)
def check_command(**options: Any) -> None:
    """Check resources and templates, offline; with --keys render them too.

    Exit status: 0 good, 1 faulty.
    """
    from confd import look

    sys.exit(look.check_all(**options))


@conf.command("diff")
@_CONFDIR
@_KEYS_FILE
@_NODE
@_BACKEND
@_FILE
@_PREFIX
@_OUTPUT
@click.option("-U", "--unified", "context", default=3, show_default=True, help="Lines of context.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto")
def diff_command(**options: Any) -> None:
    """Show what confd would change now; change nothing.

    Exit status: 0 in sync, 2 something would change, 1 a fault.
    """
    from confd import look

    sys.exit(look.diff_all(**options))


@conf.command("render")
@click.option(
    "-t", "--template", "templates", multiple=True, required=True, metavar="SRC[:DEST]",
    help="Template, and where to write it; without DEST to stdout. Repeatable.",
)  # fmt: skip
@click.option(
    "-k", "--key", "keys", multiple=True, help="Subtree to read; repeatable. [default: /]"
)
@_KEYS_FILE
@_NODE
@_BACKEND
@_FILE
@_PREFIX
@click.option("--strict", is_flag=True, help="Absent map keys and empty patterns are errors.")
@click.option("--sprig", is_flag=True, help="With sprig's common functions.")
@click.option("--exact-integers", is_flag=True, help="JSON's whole numbers stay whole.")
def render_command(**options: Any) -> None:
    """Render templates without a resource file; a file is replaced by a rename.

    Exit status: 0 done, 1 a fault; then nothing is written.
    """
    from confd import look

    look.render_all(**options)
