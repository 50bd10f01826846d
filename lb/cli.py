# SPDX-License-Identifier: Apache-2.0
"""vulcand's command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fairlead import daemon
from lb.config import Config, configure
from lb.settings import SETTINGS

if TYPE_CHECKING:
    from fairlead.log import Render
    from fairlead.runtime import Runtime


async def _serve(config: Config, runtime: Runtime) -> int | None:
    from lb.daemon import serve

    await serve(config, runtime)
    return None


def _render(config: Config) -> Render | None:
    from lb.logs import render

    return render(config.log)


PROGRAM: Final = daemon.Program(
    name="vulcand",
    settings=SETTINGS,
    configure=configure,
    serve=_serve,
    etcd=lambda config: config.etcd,
    bad_flag_exit=2,
    failure_exit=255,
    render=_render,
    log_level=lambda config: config.log_level,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run vulcand."""
    return daemon.main(PROGRAM, argv)
