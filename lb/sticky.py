# SPDX-License-Identifier: Apache-2.0
"""A cookie that names the server of a client (a backend's `Sticky`). No IO.

The cookie holds a server's token, which is made of its address: every process and every node reads
it alike, and it stays good through a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lb.policy import Sticky

if TYPE_CHECKING:
    from lb.liveserver import LiveServer

Key = Callable[[str], bytes]
"""Returns a variable's value of a request: client.ip, request.header.NAME …"""


class Binding:
    """The servers of a backend, by the tokens that clients' cookies hold."""

    __slots__ = ("_by_token", "_name", "_tail")

    def __init__(self, rule: Sticky, servers: Iterable[LiveServer]) -> None:
        self._name = rule.cookie.encode()
        self._by_token = {server.token: server for server in servers}
        life = f"; Max-Age={rule.max_age}" if rule.max_age else ""
        secure = "; Secure" if rule.secure else ""
        self._tail = f"; Path={rule.path}{life}; HttpOnly; SameSite=Lax{secure}".encode()

    def named(self, key: Key) -> LiveServer | None:
        """Return the server that a request's cookie names."""
        for field in key("request.header.Cookie").split(b";"):
            name, equals, value = field.strip(b" \t").partition(b"=")
            if equals and name == self._name:
                found = self._by_token.get(value)
                if found is not None:
                    return found
        return None

    def line(self, server: LiveServer) -> bytes:
        """Return the Set-Cookie line that binds a client to a server."""
        return b"\r\nSet-Cookie: %b=%b%b" % (self._name, server.token, self._tail)
