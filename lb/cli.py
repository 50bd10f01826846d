# SPDX-License-Identifier: Apache-2.0
"""vulcand's command line."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from fairlead import daemon
from fairlead.program import Program
from lb.config import Config, configure
from lb.settings import SETTINGS

if TYPE_CHECKING:
    from fairlead.log import Render
    from fairlead.runtime import Runtime


async def _serve(config: Config, runtime: Runtime) -> int | None:
    from lb.daemon import serve

    try:
        await serve(config, runtime)
    finally:
        if config.memory:
            shutil.rmtree(_memory(), ignore_errors=True)
    return None


def _render(config: Config) -> Render | None:
    from lb.logs import render

    return render(config.log)


def _write(config: Config) -> Callable[[str], None]:
    from lb.logs import write

    return write(config.log)


@cache
def _memory() -> str:
    """Return the directory of memng's store; it goes when we do."""
    return tempfile.mkdtemp(prefix="memng-")


def _ended(why: str) -> None:
    """Say the original's last word (specs/vulcand.md §12)."""
    sys.stdout.write(
        f"Service exited with error: {why}\n" if why else "Service exited gracefully\n"
    )
    sys.stdout.flush()


PROGRAM: Final = Program(
    name="vulcand",
    settings=SETTINGS,
    configure=configure,
    serve=_serve,
    etcd=lambda config: config.etcd,
    bad_flag_exit=2,
    failure_exit=255,
    render=_render,
    write=_write,
    embedded=lambda config: _memory() if config.memory else "",
    log_level=lambda config: config.log_level,
    ended=_ended,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run vulcand."""
    return daemon.main(PROGRAM, argv)
