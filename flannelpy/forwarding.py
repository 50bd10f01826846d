# SPDX-License-Identifier: Apache-2.0
"""Whether the host forwards between its containers and the overlay (specs/flannel.md §18).

The original leaves it to Docker or a CNI bridge; a host that has neither drops every packet
without a word. We say so, and -set-forwarding switches it on.
"""

from __future__ import annotations

from pathlib import Path

from fairlead.log import Log
from flannelpy.records import NetworkConfig

_PROC = Path("/proc/sys/net")


def missing(network: NetworkConfig, root: Path = _PROC) -> tuple[str, ...]:
    """Return the sysctls that are off and should be on, as `sysctl -w` takes them."""
    wanted = []
    if network.v4 is not None:
        wanted.append("ipv4.ip_forward")
    if network.v6 is not None:
        wanted.append("ipv6.conf.all.forwarding")
    return tuple(f"net.{name}=1" for name in wanted if not _on(root / name.replace(".", "/")))


def _on(path: Path) -> bool:
    try:
        return path.read_text().strip() != "0"
    except OSError:
        return True  # no such family on this host, or no /proc: nothing to mend here


def ensure(network: NetworkConfig, log: Log, *, switch_on: bool, root: Path = _PROC) -> None:
    """Switch forwarding on, or say that it is off."""
    for setting in missing(network, root):
        name, _, value = setting.removeprefix("net.").partition("=")
        if switch_on:
            try:
                (root / name.replace(".", "/")).write_text(value)
            except OSError as error:
                log.error("forwarding not switched on", sysctl=setting, reason=error.strerror)  # noqa: TRY400
            else:
                log.info("forwarding switched on", sysctl=setting)
        else:
            log.warning(
                "this host does not forward: containers reach no other host",
                fix=f"sysctl -w {setting}, or -set-forwarding",
            )
