# SPDX-License-Identifier: Apache-2.0
"""systemd's notify datagram: READY=1, STATUS=, STOPPING=1, RELOADING=1, WATCHDOG=1."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Notify:
    """Tells the service manager what we are doing; does nothing when none asked.

    Args:
        environ: NOTIFY_SOCKET names the socket ("@…": abstract); WATCHDOG_USEC, with
            WATCHDOG_PID ours or absent, asks for a sign of life.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._path = "\0" + path[1:] if path.startswith("@") else path
        usec = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(usec) / 1e6 if ours and path and usec.isdigit() else None

    def send(self, *lines: str) -> bool:
        """Send e.g. "READY=1"; return whether somebody took it."""
        if not self._path:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto("\n".join(lines).encode(), self._path)
            except OSError:
                return False
        return True

    def reloading(self) -> bool:
        """Announce a reload; READY=1 ends it (systemd.service(5), Type=notify-reload)."""
        return self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
