# SPDX-License-Identifier: Apache-2.0
"""The machine as template functions see it.

Name look-ups block the render that asks for them, as in the original; failures are empty
answers, also as in the original.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

from fairlead.gotemplate.gotime import Time

_STARTED = time.monotonic()


class Machine:
    """The real one."""

    def getenv(self, name: str) -> str:
        """Return an environment variable, "" when unset."""
        return os.environ.get(name, "")

    def now(self) -> Time:
        """Return the time now, in the local zone."""
        now = time.time_ns()
        local = time.localtime(now // 10**9)
        return Time(
            now // 10**9, now % 10**9, local.tm_gmtoff, local.tm_zone, time.monotonic() - _STARTED
        )

    def file_exists(self, path: str) -> bool:
        """Say whether something stands at `path`; false only when it surely does not."""
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError):
            return True
        return True

    def hostname(self) -> str:
        """Return the kernel's host name."""
        return socket.gethostname()

    def addresses(self, host: str) -> list[str]:
        """Return the host's addresses as text; [] when the name service fails."""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        return sorted({str(address[0]).partition("%")[0] for *_, address in found})

    def services(self, name: str) -> list[tuple[str, int, int, int]]:
        """Return SRV answers as (target, port, priority, weight); [] on failure."""
        import dnslib  # 60 ms, and few templates need it

        try:
            question = dnslib.DNSRecord.question(name, "SRV")
        except (dnslib.DNSError, UnicodeError, ValueError):
            return []
        for server in _name_servers():
            with contextlib.suppress(OSError, dnslib.DNSError):
                answer = dnslib.DNSRecord.parse(question.send(server, 53, timeout=2))
                return [
                    (str(rr.rdata.target), rr.rdata.port, rr.rdata.priority, rr.rdata.weight)
                    for rr in answer.rr
                    if rr.rtype == dnslib.QTYPE.SRV
                ]
        return []

    def interface(self, name: str, version: int) -> str:
        """Return an interface's first address of an IP version, "" for none."""
        from pyroute2 import IPRoute  # 200 ms, and few templates need it

        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with IPRoute() as route:
            for index in route.link_lookup(ifname=name):
                for address in route.get_addr(family=family, index=index):
                    text = address.get("local") or address.get("address")
                    if text:
                        return str(text)
        return ""


def _name_servers() -> list[str]:
    try:
        lines = Path("/etc/resolv.conf").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ["127.0.0.1"]
    words = [line.split() for line in lines]
    return [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"][:3]
