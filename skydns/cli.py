# SPDX-License-Identifier: Apache-2.0
"""`skydns`: the program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fairlead import __version__
from fairlead.daemon import main as run
from fairlead.etcd.options import Options
from fairlead.flags import Values
from fairlead.program import Program
from skydns.config import Config, configure
from skydns.settings import SETTINGS

if TYPE_CHECKING:
    from fairlead.runtime import Runtime


async def _serve(config: Config, runtime: Runtime) -> None:
    from skydns.daemon import serve

    await serve(config, runtime)


def _etcd(config: Config) -> Options:
    """Return how to reach etcd."""
    return config.etcd


def _early(values: Values) -> int | None:
    """Answer -version and -plugins."""
    if values.flag("version"):
        sys.stdout.write(f"skydns server version: 2.5.3a (fairlead {__version__})\n")
    elif values.flag("plugins"):
        from skydns.corefile.translate import PLUGINS

        sys.stdout.write("".join(f"{name}\n" for name in PLUGINS))
    else:
        return None
    return 0


PROGRAM: Final = Program(
    name="skydns",
    settings=SETTINGS,
    configure=configure,
    serve=_serve,
    etcd=_etcd,
    early=_early,
    live=frozenset({"domain", "local", "hostmaster", "round-robin", "compat", "no-rec"}),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `skydns`."""
    return run(PROGRAM, argv)
