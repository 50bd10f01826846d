# SPDX-License-Identifier: Apache-2.0
"""The six records that vulcand keeps in etcd, as values (specs/vulcand.md §3).

`lb.reading` makes them of JSON, `lb.writing` JSON of them. Defaults are applied when used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from fairlead.errors import RecordError
from lb import policy
from lb.acme.entries import Entry
from lb.fields import JSON, Invalid
from lb.keys import Ref
from lb.policy import BackendPolicy, FrontendPolicy, ListenerPolicy, ServerPolicy
from lb.secret import Pair
from lb.state import Ocsp

LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"
"""The original's ACME server, where a host names none."""


@dataclass(frozen=True, slots=True)
class AutoCert:
    """Where a host's certificate comes from (§3.4, §13).

    Attributes:
        directory: URL of the ACME server's directory; "" for Let's Encrypt's.
        renew_before: seconds before a certificate's end; 0 for the default.
        key: the account's private key, its certificate empty; None: one is made.
        external_id: key id of the account elsewhere that it is bound to; "" for none.
        external_key: that account's MAC key, as `key` is kept.
    """

    email: str = ""
    directory: str = ""
    renew_before: float = 0.0
    key: Pair | None = None
    external_id: str = ""
    external_key: Pair | None = None

    @property
    def server(self) -> str:
        """The URL of the directory."""
        return self.directory or LETS_ENCRYPT


@dataclass(frozen=True, slots=True)
class Host:
    """A hostname and its key pair; it means nothing to routing (§3.4).

    Attributes:
        auto: how a certificate is obtained where there is no key pair; None where none is.
        ocsp_period: `ocsp.period` as written.
    """

    ref: Ref
    default: bool = False
    pair: Pair | None = None
    ocsp: Ocsp = field(default_factory=Ocsp)
    auto: AutoCert | None = None
    ocsp_period: str = ""
    extra: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket to listen on (§3.7).

    Attributes:
        network: tcp or unix.
        address: host:port, :port, or a path.
        scope: a route expression or "".
        proxy: PROXY_V1, PROXY_V2, PROXY (either) or "".
        trusted: networks whose PROXY header is believed; empty for all.
        tls: checked TLS settings (§3.6) as stored, and our `ClientAuth`.
        ours: the extension fields of Settings as stored, which `policy` was read from.
    """

    ref: Ref
    protocol: str
    network: str
    address: str
    scope: str = ""
    proxy: str = ""
    trusted: tuple[str, ...] = ()
    tls: JSON = field(default_factory=dict)
    ours: JSON = field(default_factory=dict)
    policy: ListenerPolicy = policy.LISTENER
    extra: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backend:
    """How a pool of servers is spoken to (§3.1). Durations as written; "" and 0 mean the default.

    Attributes:
        tls: checked TLS settings (§3.6) as stored; empty for none.
        client: the key pair that https servers are shown.
        ours: the extension fields of Settings as stored, which `policy` was read from.
    """

    ref: Ref
    type: str = "http"
    read: str = ""
    dial: str = ""
    tls_handshake: str = ""
    keepalive_period: str = ""
    max_idle: int = 0
    tls: JSON = field(default_factory=dict)
    client: Pair | None = None
    ours: JSON = field(default_factory=dict)
    policy: BackendPolicy = policy.BACKEND
    extra: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Server:
    """One server; only scheme and host:port of the URL count (§3.2)."""

    ref: Ref
    url: str
    weight: int = 1
    ours: JSON = field(default_factory=dict)
    policy: ServerPolicy = policy.SERVER
    extra: JSON = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port to connect to."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if self.secure else 80)

    @property
    def secure(self) -> bool:
        """Whether it speaks https."""
        return self.url.lower().startswith("https:")

    @property
    def authority(self) -> str:
        """host:port as the URL spells it: the Host field of a request that passes none."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Frontend:
    """A route and what becomes of its requests (§3.3).

    Attributes:
        own, ours: the extension fields of the object and of its Settings as stored, which
            `policy` was read from.
    """

    ref: Ref
    backend: str
    route: str
    type: str = "http"
    max_mem_body: int = 0
    max_body: int = 0
    failover: str = ""
    hostname: str = ""
    trust_forward: bool = False
    pass_host: bool = False
    stream: bool = False
    flush_ns: int = 0
    own: JSON = field(default_factory=dict)
    ours: JSON = field(default_factory=dict)
    policy: FrontendPolicy = policy.FRONTEND
    extra: JSON = field(default_factory=dict)

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends that answer its requests; its own comes last."""
        return (*(name for name, _ in self.policy.split), self.backend)


@dataclass(frozen=True, slots=True)
class Middleware:
    """A middleware's envelope (§3.8); `body` is its type's own object."""

    ref: Ref
    type: str
    priority: int = 0
    body: JSON = field(default_factory=dict)
    extra: JSON = field(default_factory=dict)


Record = Host | Listener | Backend | Server | Frontend | Middleware
Stored = Record | Entry
"""What a key may hold: an object of vulcand's, or something of ACME's."""


class Unguarded(RecordError):
    """A middleware that limits who gets in cannot be used: its frontend must not be open."""


def split_address(address: str) -> tuple[str, int]:
    """Return (host, port) of host:port; host "" means every address.

    Raises:
        Invalid: no port, or none from 0 to 65535.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Invalid(f'address "{address}": an IPv6 address goes in brackets')
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise Invalid(f'address "{address}": host:port with a port up to 65535 is wanted')
    return host, int(port)
