# SPDX-License-Identifier: Apache-2.0
"""`env`: `/app/db_host` is the variable `APP_DB_HOST`; a key takes all that begin with it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

from confd.backends import BackendConfig


class Environment:
    """The daemon's own environment, which never changes."""

    def __init__(self, config: BackendConfig) -> None:
        pass

    async def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the variables, by the names the original gives them."""
        begins = tuple(key.lstrip("/").replace("/", "_").upper() for key in keys)
        return {
            "/" + name.lower().replace("_", "/"): os.fsencode(value)
            for name, value in os.environ.items()
            if name.startswith(begins)
        }

    async def changed(self, keys: Sequence[str]) -> None:
        """Never return."""
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Nothing is open."""
