# SPDX-License-Identifier: Apache-2.0
"""What a WireGuard device is made of. Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error
from dataclasses import dataclass, field, replace

from flannelpy.fields import FieldError
from flannelpy.state import IPAddress, IPNetwork, Key, Kind

NO_KEY = bytes(32)


@dataclass(frozen=True, slots=True)
class Identity:
    """A device's own key and port. The private key is not shown; the public one tells it apart."""

    dev: str
    public: bytes
    port: int
    private: bytes = field(default=NO_KEY, repr=False, compare=False)

    @property
    def key(self) -> Key:
        """The device."""
        return Key(Kind.TUNNEL, self.dev)

    def __str__(self) -> str:
        return f"wireguard {self.dev} public-key {text(self.public)} listen-port {self.port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a peer's datagrams go."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer of a device.

    Attributes:
        endpoint: None: it has to speak first.
        psk: the preshared key; all zeros: none.
        keepalive: seconds; 0: off.
        allowed: the addresses behind it, sorted.
    """

    dev: str
    public: bytes
    endpoint: Endpoint | None
    allowed: tuple[IPNetwork, ...]
    psk: bytes = field(default=NO_KEY, repr=False)
    keepalive: int = 0

    @property
    def key(self) -> Key:
        """Device and public key."""
        return Key(Kind.PEER, self.dev, 0, int.from_bytes(self.public))

    def at(self, endpoint: Endpoint | None) -> Peer:
        """Return the peer with another endpoint."""
        return replace(self, endpoint=endpoint)

    def __str__(self) -> str:
        allowed = ",".join(map(str, self.allowed))
        return (
            f"wireguard {self.dev} peer {text(self.public)} endpoint {self.endpoint}"
            f" allowed-ips {allowed}"
        )


def text(key: bytes) -> str:
    """Return a key as people write it."""
    return b64encode(key).decode()


def parse_key(name: str, word: str) -> bytes:
    """Return a key of 32 octets from base64.

    Raises:
        FieldError: it is none.
    """
    try:
        key = b64decode(word.strip(), validate=True)
    except (Error, ValueError) as error:
        raise FieldError(f"{name}: not base64") from error
    if len(key) != len(NO_KEY):
        raise FieldError(f"{name}: a key has 32 octets, not {len(key)}")
    return key


def in_order(networks: list[IPNetwork]) -> tuple[IPNetwork, ...]:
    """Return networks sorted, of both families."""
    return tuple(sorted(networks, key=lambda it: (it.version, it.network_address, it.prefixlen)))
