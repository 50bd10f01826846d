# SPDX-License-Identifier: Apache-2.0
"""Lines to syslog: a socket of datagrams, remote or of this host; what cannot be sent is dropped."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

FACILITIES: Final = {
    "KERN": 0, "USER": 1, "MAIL": 2, "DAEMON": 3, "AUTH": 4, "SYSLOG": 5, "LPR": 6, "NEWS": 7,
    "UUCP": 8, "CRON": 9, "AUTHPRIV": 10, "FTP": 11, **{f"LOCAL{n}": 16 + n for n in range(8)},
}  # fmt: skip
SEVERITIES: Final = {
    "EMERG": 0, "ALERT": 1, "CRIT": 2, "ERR": 3, "WARNING": 4, "NOTICE": 5, "INFO": 6, "DEBUG": 7,
}  # fmt: skip
_LOCAL: Final = ("/dev/log", "/var/run/syslog", "/var/run/log")


class Syslog:
    """A syslog socket; a line that cannot be sent at once is dropped."""

    def __init__(self, host: str, port: int, path: str, priority: int, tag: str) -> None:
        self._server = host, port
        self._path = path
        self._network = bool(host)
        self._priority = priority
        self._tag = tag
        self._socket: socket.socket | None = None

    def send(self, text: str, severity: int = 0) -> None:
        """Send a line.

        Args:
            severity: added to the priority; 0 where that has one.
        """
        priority = self._priority + severity
        if self._network:
            stamp = datetime.now().astimezone().isoformat(timespec="seconds")
            stamp = stamp.replace("+00:00", "Z")  # as Go writes RFC 3339
            head = f"<{priority}>{stamp} {socket.gethostname()} {self._tag}: "
        else:
            now = time.localtime()
            head = f"<{priority}>{time.strftime('%b', now)} {now.tm_mday:2d} {time.strftime('%H:%M:%S', now)} {self._tag}: "
        try:
            if self._socket is None:
                self._socket = self._open()
            self._socket.send((head + text + "\n").encode())
        except OSError:
            self.close()

    def _open(self) -> socket.socket:
        family = socket.AF_UNIX
        places: tuple[Any, ...] = (self._path,) if self._path else _LOCAL
        if self._network:
            family, *_, address = socket.getaddrinfo(*self._server, type=socket.SOCK_DGRAM)[0]
            places = (address,)
        refused: OSError = FileNotFoundError("no syslog socket")
        for place in places:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            try:
                sock.connect(place)
            except OSError as error:
                sock.close()
                refused = error
                continue
            return sock
        raise refused

    def close(self) -> None:
        """Close the socket; the next line opens it anew."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = None
