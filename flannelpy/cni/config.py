# SPDX-License-Identifier: Apache-2.0
"""Network configuration and subnet file → the delegate's configuration. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any, Final

from fairlead.errors import FairleadError
from flannelpy import subnet_env

VERSIONS: Final = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SUBNET_FILE: Final = "/run/flannel/subnet.env"
DATA_DIR: Final = "/var/lib/cni/flannel"

# Error codes of the CNI specification, "Error".
BAD_ENVIRONMENT: Final = 4
IO_FAILED: Final = 5
NOT_DECODED: Final = 6
BAD_CONFIGURATION: Final = 7
TRY_LATER: Final = 11
NOT_AVAILABLE: Final = 50  # of STATUS: no container can be added now
DELEGATE_FAILED: Final = 100  # 100 and above are the plugin's own


class CniError(FairleadError):
    """What the runtime is told, as the specification's error object."""

    def __init__(self, code: int, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.details = details


@dataclass(frozen=True, slots=True)
class Host:
    """What flanneld wrote about this host; networks as written, subnets as network addresses."""

    networks: tuple[str, ...]
    subnets: tuple[str, ...]
    mtu: int
    ipmasq: bool


def read_host(text: str, file: str) -> Host:
    """Return what the subnet file says.

    Raises:
        CniError: a setting is missing or not what it should be; all that miss are named, those
            that one of two would do for by both names.
    """
    found = subnet_env.values(text)
    missing: list[str] = []
    for pair in (
        ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"),
        ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"),
        ("FLANNEL_MTU",),
        ("FLANNEL_IPMASQ",),
    ):
        if not any(found.get(name) for name in pair):
            missing += pair
    if missing:
        raise CniError(BAD_CONFIGURATION, f'"{file}" is missing {", ".join(missing)}')
    networks: dict[str, None] = {}
    for name in ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"):
        networks |= dict.fromkeys(filter(None, found.get(name, "").split(",")))
    subnets = []
    for name in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"):
        if not found.get(name):
            continue
        try:
            subnets.append(str(ip_interface(found[name]).network))
        except ValueError as error:
            raise CniError(BAD_CONFIGURATION, f'"{file}": {name}: {error}') from error
    try:
        mtu = int(found["FLANNEL_MTU"])
    except ValueError as error:
        raise CniError(BAD_CONFIGURATION, f'"{file}": FLANNEL_MTU: {error}') from error
    return Host(tuple(networks), tuple(subnets), mtu, found["FLANNEL_IPMASQ"] == "true")


def delegate(config: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """Return the configuration of the plugin that does the work.

    Raises:
        CniError: `delegate` or `ipam` has a shape or a key that it must not have.
    """
    given = config.get("delegate") or {}
    if not isinstance(given, dict):
        raise CniError(BAD_CONFIGURATION, '"delegate" must be an object')
    for taken in ("name", "ipam"):
        if taken in given:
            raise CniError(
                BAD_CONFIGURATION,
                f'"delegate" must not have "{taken}": flannel sets it; '
                + ('write "ipam" beside "delegate"' if taken == "ipam" else "leave it out"),
            )
    kind = given.get("type", "bridge")
    if not isinstance(kind, str) or not kind or "/" in kind:
        raise CniError(BAD_CONFIGURATION, '"delegate.type" must be the name of a plugin')
    made: dict[str, Any] = {"ipMasq": not host.ipmasq, "mtu": host.mtu, **given}
    made |= {"name": config["name"], "type": kind}
    if kind == "bridge":
        made.setdefault("isGateway", True)
    for name in ("cniVersion", "runtimeConfig"):
        if config.get(name):
            made[name] = config[name]
    made["ipam"] = _ipam(config.get("ipam") or {}, host)
    return made


def _ipam(given: Any, host: Host) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise CniError(BAD_CONFIGURATION, '"ipam" must be an object')
    routes = given.get("routes") or []
    if not isinstance(routes, list):
        raise CniError(BAD_CONFIGURATION, '"ipam.routes" must be a list')
    return (
        {"type": "host-local"}
        | given
        | {
            "ranges": [[{"subnet": subnet}] for subnet in host.subnets],
            "routes": [*routes, *({"dst": network} for network in host.networks)],
        }
    )


def read_config(text: str) -> dict[str, Any]:
    """Decode the network configuration that the runtime gives on standard input.

    Raises:
        CniError: not a JSON object, no name, or a version we do not speak.
    """
    try:
        config = json.loads(text)
    except ValueError as error:
        raise CniError(NOT_DECODED, f"the network configuration is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise CniError(NOT_DECODED, "the network configuration is not an object")
    version = config.get("cniVersion") or VERSIONS[0]
    if version not in VERSIONS:
        raise CniError(
            1, f'cniVersion "{version}" is not supported', f"supported: {', '.join(VERSIONS)}"
        )
    if not isinstance(config.get("name"), str) or not config["name"]:
        raise CniError(BAD_CONFIGURATION, '"name" is missing')
    for name in ("subnetFile", "dataDir"):
        if not isinstance(config.get(name, ""), str):
            raise CniError(BAD_CONFIGURATION, f'"{name}" must be a string')
    return config
