# SPDX-License-Identifier: Apache-2.0
"""By which of ACME's challenges a node may show that a name is its own. Pure.

http-01 is asked on port 80, tls-alpn-01 on port 443, and each needs a listener of its kind. Ours
may have other numbers, where somebody forwards to them: then both are worth a try.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lb.acme.entries import ALPN, HTTP

_HTTP_PORT: Final = 80
_HTTPS_PORT: Final = 443


def ways(listeners: Iterable[tuple[bool, int]]) -> tuple[str, ...]:
    """Return the challenges to try, the likeliest first; at least one.

    Args:
        listeners: of each whether it speaks TLS, and its port (0: of a unix socket).
    """
    ports: dict[bool, set[int]] = {False: set(), True: set()}
    for secure, port in listeners:
        ports[secure].add(port)
    plain, secure_ports = ports[False], ports[True]
    if not secure_ports:
        return (HTTP,)
    if not plain:
        return (ALPN,)
    if _HTTP_PORT not in plain and _HTTPS_PORT in secure_ports:
        return ALPN, HTTP
    return HTTP, ALPN
