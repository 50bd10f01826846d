# SPDX-License-Identifier: Apache-2.0
"""How to reach etcd: the settings of specs/etcd.md §5.1 and the endpoints they name. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fairlead.errors import ConfigError

DEFAULT_PORT = 2379  # etcd's client port (specs/etcd.md §2)
EMBEDDED = "embedded://"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to reach etcd at: host and port, or the path of a unix socket."""

    scheme: str
    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""

    @property
    def tls(self) -> bool:
        """Say whether the connection is encrypted."""
        return self.scheme in {"https", "unixs"}

    def __str__(self) -> str:
        if self.path:
            return f"{self.scheme}://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Options:
    """All the client layer takes from outside; durations in seconds.

    Attributes:
        endpoints: `http://host:port`, `https://…`, bare `host[:port]` (https when a CA or a
            certificate is given), `unix:///path`, or one `embedded:///dir`.
        user: a user name, or `name:password`.
        dns_srv: a domain whose SRV records name the endpoints; `endpoints` is then not used.
        dns_srv_name: suffix of the service, as etcd's `--discovery-srv-name`.
        ca: file of the certificates that may sign the server's; the system's when empty.
        server_name: what the server's certificate must name, when not the endpoint's host.
        page_keys: keys in one page of a list (§6.3).
    """

    endpoints: tuple[str, ...] = ("http://127.0.0.1:2379",)
    user: str = field(default="", repr=False)  # may hold the password
    password: str = field(default="", repr=False)
    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False
    connect_timeout: float = 2.0
    call_timeout: float = 3.0
    page_timeout: float = 10.0
    ping_every: float = 10.0
    ping_timeout: float = 3.0
    retry_first: float = 0.05
    retry_most: float = 5.0
    page_keys: int = 2000
    page_bytes: int = 4 << 20
    max_message: int = 512 << 20
    dns_srv: str = ""
    dns_srv_name: str = ""

    @property
    def wants_tls(self) -> bool:
        """Say whether a bare `host:port` means https."""
        return bool(self.ca or self.cert or self.server_name or self.insecure_skip_verify)

    @property
    def embedded(self) -> str:
        """The directory of an `embedded://` endpoint; "" when there is none."""
        for text in self.endpoints:
            if text.startswith(EMBEDDED):
                return text.removeprefix(EMBEDDED)
        return ""

    def login(self) -> tuple[str, str] | None:
        """Return user and password, or None where neither is set."""
        if not self.user:
            return None
        if self.password:
            return self.user, self.password
        name, _, password = self.user.partition(":")
        return name, password

    def parsed(self) -> tuple[Endpoint, ...]:
        """Return the endpoints as values, each once, in order.

        Raises:
            ConfigError: one cannot be understood; it is named.
        """
        return tuple(dict.fromkeys(parse_endpoint(e, tls=self.wants_tls) for e in self.endpoints))


_HOST_PORT = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\[\]:/@\s]+))(?::(?P<port>\d+))?"
)


def parse_endpoint(text: str, *, tls: bool = False) -> Endpoint:
    """Return the endpoint that `text` names; `tls` decides for a bare `host:port`.

    Raises:
        ConfigError: `text` is not an endpoint.
    """

    def wrong(reason: str) -> ConfigError:
        return ConfigError("etcd endpoint", text, "etcd settings", reason)

    scheme, marked, rest = text.strip().partition("://")
    if not marked:
        scheme, rest = ("https" if tls else "http"), scheme
    if scheme in {"unix", "unixs"}:
        if not rest.startswith("/"):
            raise wrong("a unix socket needs an absolute path: unix:///run/etcd.sock")
        return Endpoint(scheme, path=rest)
    if scheme not in {"http", "https"}:
        raise wrong(f'scheme "{scheme}" is not one of http, https, unix, unixs')
    found = _HOST_PORT.fullmatch(rest.rstrip("/"))
    if found is None:
        raise wrong("is not scheme://host:port")
    port = int(found["port"] or DEFAULT_PORT)
    if not 0 < port < 65536:
        raise wrong(f"port {port} is not between 1 and 65535")
    return Endpoint(scheme, found["v6"] or found["host"], port)
