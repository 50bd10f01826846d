# SPDX-License-Identifier: Apache-2.0
"""The program `confd`: flags of the original and of the maintained fork, one parser."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from confd.config import Config, configure
from confd.settings import SETTINGS, both_syntaxes
from fairlead import __version__
from fairlead.daemon import main as run
from fairlead.flags import Values
from fairlead.program import Program

if TYPE_CHECKING:
    from fairlead.log import Line, Render
    from fairlead.runtime import Runtime


async def _serve(config: Config, runtime: Runtime) -> int | None:
    from confd.daemon import serve  # asyncio and etcd are not for -check-config

    return await serve(config, runtime)


def _early(values: Values) -> int | None:
    if values.flag("version"):
        python = ".".join(map(str, sys.version_info[:3]))
        sys.stdout.write(f"confd 0.16.0 (Fairlead {__version__}, Python {python})\n")
        return 0
    if any(map(values.flag, ("check-config", "validate", "preflight"))):
        from confd.check import run_checks  # what a run does not need

        return run_checks(values)
    return None


def _original(line: Line) -> str:
    """Return a line as the original logs it: `2026-11-20T23:38:54Z host confd[5190]: INFO …`."""
    local = time.localtime(line.wall)
    zone = time.strftime("%z", local)
    zone = "Z" if zone in ("+0000", "-0000") else f"{zone[:3]}:{zone[3:]}"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", local) + zone
    fields = "".join(f" {name}={value}" for name, value in line.fields.items())
    head = f"{stamp} {socket.gethostname()} {sys.argv[0]}[{os.getpid()}]: {line.level.upper()}"
    return f"{head} {line.message}{fields}"


def _fatal(fault: str) -> str:
    from fairlead.log import Line  # after it, all is over

    return _original(Line(time.time(), "fatal", fault, {}))


def _render(config: Config) -> Render | None:
    return _original


PROGRAM: Final = Program[Config](
    name="confd",
    settings=SETTINGS,
    configure=configure,
    serve=_serve,
    etcd=lambda config: config.etcd,
    bad_flag_exit=2,
    early=_early,
    live=frozenset(("prefix", "prefix-mode")),
    render=_render,
    log_level=lambda config: config.log_level,
    fatal=_fatal,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run confd; return its exit status."""
    words = sys.argv[1:] if argv is None else argv
    return run(PROGRAM, both_syntaxes(words))


if __name__ == "__main__":
    sys.exit(main())
