# SPDX-License-Identifier: Apache-2.0
"""flanneld: from its flags to its exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead import __version__
from fairlead.daemon import main as run
from fairlead.flags import Values
from fairlead.program import Program
from flannelpy.config import Config, configure
from flannelpy.settings import LIVE, SETTINGS

if TYPE_CHECKING:
    from fairlead.runtime import Runtime


def _early(values: Values) -> int | None:
    if values.flag("version"):
        sys.stderr.write(f"flanneld (fairlead) {__version__}\n")  # where the original writes it
        return 0
    return None


async def _serve(config: Config, runtime: Runtime) -> int | None:
    from flannelpy.daemon import serve  # netlink and what hangs on it: not for -check-config

    return await serve(config, runtime)


PROGRAM = Program(
    name="flanneld",
    settings=SETTINGS,
    configure=configure,
    serve=_serve,
    etcd=lambda config: config.etcd,
    early=_early,
    live=LIVE,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon."""
    return run(PROGRAM, argv)


if __name__ == "__main__":
    sys.exit(main())
