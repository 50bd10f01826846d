# SPDX-License-Identifier: Apache-2.0
"""The original's health server: /healthz and /readyz on -healthz-port (specs/flannel.md §16)."""

from __future__ import annotations

from fairlead import admin
from fairlead.errors import ConfigError
from fairlead.runtime import Runtime
from flannelpy.config import Config


async def listen(config: Config, runtime: Runtime) -> None:
    """Open it, if it is asked for.

    Raises:
        ConfigError: the port cannot be had.
    """
    if not config.healthz_port or runtime.planning:
        return

    async def healthz() -> admin.Answer:
        return admin.Answer(200, b"flanneld is running")

    async def readyz() -> admin.Answer:
        has = runtime.health.conditions
        if has["serving"].holds and has["subnet-file"].holds:
            return admin.Answer(200, b"flanneld is ready")
        return admin.Answer(503, b"flanneld is not ready yet")

    routes = {("GET", "/healthz"): healthz, ("GET", "/readyz"): readyz}
    listener = admin.Listener(routes, read_only=True)
    try:
        await listener.listen_tcp(config.healthz_ip, config.healthz_port)
    except OSError as error:
        where = f"{config.healthz_ip}:{config.healthz_port}"
        raise ConfigError("-healthz-port", where, "start", f"cannot listen: {error}") from error
    runtime.on_drain(listener.aclose)
