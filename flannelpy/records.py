# SPDX-License-Identifier: Apache-2.0
"""What stands in etcd: the network configuration and the leases, JSON ↔ records.

Reads as Go's decoder does (`fields`) and writes byte for byte what the original writes
(specs/flannel.md §3, §4.1). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec
from msgspec import Struct

from fairlead.errors import RecordError
from fairlead.etcd.types import KeyValue, LeaseID, Revision
from flannelpy import keys
from flannelpy.fields import (
    FieldError,
    address4,
    address6,
    boolean,
    encode_json,
    json_object,
    network4,
    network6,
    optional4,
    optional6,
    string,
    unsigned,
)
from flannelpy.keys import Subnets

NO_PUBLIC_IP = IPv4Address(0)
_RESERVED_V4 = 30  # longest SubnetLen: the original's bound
_RESERVED_V6 = 126


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """The `Backend` object: `type` in lower case, `fields` by lower-cased name, still JSON."""

    type: str
    fields: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Range4:
    """The IPv4 half of a network: every subnet of it has length `subnet_len`."""

    network: IPv4Network
    subnet_len: int
    subnet_min: IPv4Address
    subnet_max: IPv4Address


@dataclass(frozen=True, slots=True)
class Range6:
    """The IPv6 half of a network."""

    network: IPv6Network
    subnet_len: int
    subnet_min: IPv6Address
    subnet_max: IPv6Address


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """`<prefix>/config`, validated, defaults filled in.

    Attributes:
        v4: None when `EnableIPv4` is false.
        v6: None unless `EnableIPv6` is true.
        nftables: `EnableNFTables`.
    """

    v4: Range4 | None
    v6: Range6 | None
    backend: BackendConfig
    nftables: bool = False

    @property
    def ranges(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of the families that are on."""
        return tuple(half.network for half in (self.v4, self.v6) if half is not None)


class Attributes(Struct, frozen=True, gc=False):
    """The value of a lease. The backend's data stay JSON: only the backend reads them."""

    public_ip: IPv4Address = NO_PUBLIC_IP
    public_ipv6: IPv6Address | None = None
    backend_type: str = ""
    backend_data: bytes = b""
    backend_v6_data: bytes = b""


class Lease(Struct, frozen=True, gc=False):
    """A lease as etcd holds it.

    Attributes:
        lease: etcd's lease id; 0 means a reservation, which never runs out (trap T4).
        revision: mod_revision: the later of two leases that claim one thing wins.
    """

    key: bytes
    subnets: Subnets
    attributes: Attributes
    lease: LeaseID
    revision: Revision

    @property
    def is_reservation(self) -> bool:
        """Say whether an operator pinned this subnet to its host."""
        return self.lease == 0


def decode_lease(kv: KeyValue) -> Lease:
    """Return the lease stored under a key below `<prefix>/subnets/`.

    Raises:
        RecordError: the key or the value is not a lease; nobody else's lease suffers.
    """
    subnets = keys.parse_lease(kv.key)
    try:
        attributes = decode_attributes(kv.value)
    except FieldError as error:
        raise RecordError(kv.key, str(error), kv.mod_revision) from error
    return Lease(kv.key, subnets, attributes, kv.lease, kv.mod_revision)


class _Usual(Struct, forbid_unknown_fields=True):
    """A lease's value with the names spelt as every daemon spells them, and no others."""

    PublicIP: msgspec.Raw
    PublicIPv6: msgspec.Raw = msgspec.Raw(b"null")
    BackendType: str = ""
    BackendData: msgspec.Raw = msgspec.Raw()
    BackendV6Data: msgspec.Raw = msgspec.Raw()


_usual = msgspec.json.Decoder(_Usual)


def decode_attributes(value: bytes) -> Attributes:
    """Return the attributes in a lease's value; fields may be missing (older daemons).

    Raises:
        FieldError: not a JSON object, or a field of the wrong type.
    """
    try:
        has = _usual.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _unusual(value)
    # the same as below in half the time: among 5,000 leases that is 25 ms of a cold start
    v6 = bytes(has.PublicIPv6)
    return Attributes(
        address4("PublicIP", bytes(has.PublicIP)),
        None if v6 == b"null" else address6("PublicIPv6", v6),
        has.BackendType,
        bytes(has.BackendData),
        bytes(has.BackendV6Data),
    )


def _unusual(value: bytes) -> Attributes:
    fields = json_object(value)
    public4 = fields.get("publicip")
    public6 = fields.get("publicipv6", b"null")
    return Attributes(
        public_ip=NO_PUBLIC_IP if public4 is None else address4("PublicIP", public4),
        public_ipv6=None if public6 == b"null" else address6("PublicIPv6", public6),
        backend_type=string("BackendType", fields),
        backend_data=_present(fields.get("backenddata")),
        backend_v6_data=_present(fields.get("backendv6data")),
    )


def encode_attributes(attributes: Attributes) -> bytes:
    """Return the value of a lease, byte for byte as the original writes it (§4.1)."""
    public6 = (
        b"null"
        if attributes.public_ipv6 is None
        else b'"%b"' % str(attributes.public_ipv6).encode()
    )
    parts = [b'"PublicIP":"%b"' % str(attributes.public_ip).encode(), b'"PublicIPv6":' + public6]
    if attributes.backend_type:
        parts.append(b'"BackendType":' + encode_json(attributes.backend_type))
    if attributes.backend_data:
        parts.append(b'"BackendData":' + attributes.backend_data)
    if attributes.backend_v6_data:
        parts.append(b'"BackendV6Data":' + attributes.backend_v6_data)
    return b"{" + b",".join(parts) + b"}"


def decode_config(kv: KeyValue) -> NetworkConfig:
    """Return the network configuration, checked in the original's order (§3).

    Raises:
        RecordError: the first thing that is wrong with it.
    """
    try:
        return parse_config(kv.value)
    except FieldError as error:
        raise RecordError(kv.key, str(error), kv.mod_revision) from error


def parse_config(value: bytes) -> NetworkConfig:
    """Return the configuration in `value`.

    Raises:
        FieldError: names the field and what is wrong with it.
    """
    fields = json_object(value)
    # types first, all fields, as a decoder that fills a struct; then what the values mean
    enable4 = boolean("EnableIPv4", fields, default=True)
    enable6 = boolean("EnableIPv6", fields)
    nftables = boolean("EnableNFTables", fields)
    whole4 = network4("Network", fields.get("network"))
    whole6 = network6("IPv6Network", fields.get("ipv6network"))
    length4 = unsigned("SubnetLen", fields)
    length6 = unsigned("IPv6SubnetLen", fields)
    min4 = optional4("SubnetMin", fields)
    max4 = optional4("SubnetMax", fields)
    min6 = optional6("IPv6SubnetMin", fields)
    max6 = optional6("IPv6SubnetMax", fields)
    backend = _backend(fields.get("backend"))
    return NetworkConfig(
        v4=_range4(whole4, length4, min4, max4) if enable4 else None,
        v6=_range6(whole6, length6, min6, max6) if enable6 else None,
        backend=backend,
        nftables=nftables,
    )


def _range4(
    network: IPv4Network | None, length: int, low: IPv4Address | None, high: IPv4Address | None
) -> Range4:
    """Check the IPv4 half and fill in its defaults; first failure wins."""
    if network is None or network.prefixlen == 0:
        raise FieldError("Network: please define a correct Network parameter, e.g. 10.5.0.0/16")
    length = _subnet_len("SubnetLen", network.prefixlen, length, (_RESERVED_V4, 28, 24))
    size = 1 << (32 - length)
    first = int(network.network_address)
    if low is None or int(low) == 0:
        low = IPv4Address(first + size)
    elif low not in network:
        raise FieldError(f"SubnetMin: {low} is not in Network {network}")
    if high is None or int(high) == 0:
        high = IPv4Address(first + network.num_addresses - size)
    elif high not in network:
        raise FieldError(f"SubnetMax: {high} is not in Network {network}")
    _aligned("SubnetMin", int(low), size, f"{low}/{length}")
    _aligned("SubnetMax", int(high), size, f"{high}/{length}")
    if low > high:
        raise FieldError(f"SubnetMin: {low} is above SubnetMax {high}")
    return Range4(network, length, low, high)


def _range6(
    network: IPv6Network | None, length: int, low: IPv6Address | None, high: IPv6Address | None
) -> Range6:
    """Check the IPv6 half and fill in its defaults; first failure wins."""
    if network is None or network.prefixlen == 0:
        raise FieldError("IPv6Network: please define a correct IPv6Network, e.g. fd00:5::/48")
    length = _subnet_len("IPv6SubnetLen", network.prefixlen, length, (_RESERVED_V6, 124, 64))
    size = 1 << (128 - length)
    first = int(network.network_address)
    if low is None or int(low) == 0:
        low = IPv6Address(first + size)
    elif low not in network:
        raise FieldError(f"IPv6SubnetMin: {low} is not in IPv6Network {network}")
    if high is None or int(high) == 0:
        high = IPv6Address(first + network.num_addresses - size)
    elif high not in network:
        raise FieldError(f"IPv6SubnetMax: {high} is not in IPv6Network {network}")
    _aligned("IPv6SubnetMin", int(low), size, f"{low}/{length}")
    _aligned("IPv6SubnetMax", int(high), size, f"{high}/{length}")
    if low > high:
        raise FieldError(f"IPv6SubnetMin: {low} is above IPv6SubnetMax {high}")
    return Range6(network, length, low, high)


def _subnet_len(field: str, prefix: int, length: int, bounds: tuple[int, int, int]) -> int:
    """Return the subnet length, given or by default.

    Args:
        bounds: longest length, longest network that gets a default, the usual default.
    """
    longest, longest_network, usual = bounds
    if length > longest:
        raise FieldError(f"{field}: {length} is over {longest}")
    if length > 0:
        if length < prefix + 2:
            raise FieldError(
                f"{field}: {length} leaves fewer than 4 subnets in a /{prefix} network"
            )
        return length
    if prefix > longest_network:
        raise FieldError(f"{field}: a /{prefix} network is too small; at most /{longest_network}")
    return usual if prefix <= usual - 2 else prefix + 2


def _aligned(field: str, address: int, size: int, text: str) -> None:
    if address % size:
        raise FieldError(f"{field}: {text} has host bits set: not the start of a subnet")


def _backend(raw: bytes | None) -> BackendConfig:
    """Return the backend's part; absent means udp, as the code of the original says (trap T2)."""
    if raw is None:
        return BackendConfig("udp", {})
    if raw == b"null":
        return BackendConfig("", {})
    try:
        fields = json_object(raw)
        kind = string("Type", fields)
    except FieldError as error:
        raise FieldError(f"Backend: {error}") from error
    return BackendConfig(kind.lower(), fields)


def _present(raw: bytes | None) -> bytes:
    return b"" if raw is None else raw
