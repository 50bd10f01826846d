# SPDX-License-Identifier: Apache-2.0
"""The netavark plugin `flannel-netavark`: podman's networks on the overlay, netavark ≥ 1.6.

::

    podman ─► netavark ─► flannel-netavark setup NETNS ─┬─► our CNI plugin ADD ─► bridge, host-local
                                                        └─► portmap, for -p

Netavark's own bridge driver always masquerades, so the other side would not see a container's
address. This driver asks the CNI plugin of this package instead, which reads the subnet file at
every call; podman gives out no addresses (IPAM "none").
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from fairlead import __version__
from flannelpy.cni import plugin
from flannelpy.cni.config import BAD_CONFIGURATION, BAD_ENVIRONMENT, CniError
from flannelpy.cni.main import run as cni

DRIVER: Final = "flannel-netavark"
BRIDGE: Final = "cni-flannel0"
STATE: Final = "/run/flannel/netavark"
"""What is known of containers' interfaces; it goes with them when the host restarts."""
CNI_PATH: Final = "/usr/lib/cni:/opt/cni/bin:/usr/libexec/cni"


def create(network: Mapping[str, Any]) -> dict[str, Any]:
    """Return a new network's configuration, completed.

    Raises:
        CniError: it asks for what flanneld decides.
    """
    if network.get("subnets"):
        raise CniError(BAD_CONFIGURATION, "--subnet: flanneld leases the subnet; leave it out")
    if network.get("internal"):
        raise CniError(BAD_CONFIGURATION, "--internal is not for an overlay")
    made = dict(network)
    made["ipam_options"] = {"driver": "none"}
    made["dns_enabled"] = False
    made["network_interface"] = network.get("network_interface") or BRIDGE
    return made


def configuration(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the CNI configuration for a container.

    Raises:
        CniError: it asks for what this driver cannot do.
    """
    network = asked["network"]
    if asked["network_options"].get("static_ips"):
        raise CniError(BAD_CONFIGURATION, "--ip: addresses come from flanneld's subnet")
    options = network.get("options") or {}
    made: dict[str, Any] = {"cniVersion": "1.0.0", "name": network["name"], "type": "flannel"}
    if "subnet_file" in options:
        made["subnetFile"] = options["subnet_file"]
    made |= {"dataDir": STATE, "ipam": {"dataDir": f"{STATE}/addresses"}}
    made["delegate"] = {
        "bridge": network.get("network_interface") or BRIDGE,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
    }
    return made


def published(asked: Mapping[str, Any], result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the configuration of CNI's plugin `portmap` for -p; None: no port is published.

    Args:
        result: what the container got; None when it goes.
    """
    ports = [
        {
            "hostPort": it["host_port"] + n,
            "containerPort": it["container_port"] + n,
            "protocol": protocol,
            "hostIP": it.get("host_ip", ""),
        }
        for it in asked.get("port_mappings") or ()
        for protocol in (it.get("protocol") or "tcp").split(",")
        for n in range(it.get("range") or 1)
    ]
    if not ports:
        return None
    made = {"cniVersion": "1.0.0", "name": asked["network"]["name"], "type": "portmap"}
    return {
        **made,
        "capabilities": {"portMappings": True},
        "runtimeConfig": {"portMappings": ports},
        **({} if result is None else {"prevResult": result}),
    }


def status(result: Mapping[str, Any], interface: str) -> dict[str, Any]:
    """Return netavark's status block for a CNI result."""
    macs = [it.get("mac", "") for it in result.get("interfaces", ()) if it.get("sandbox")]
    subnets = [
        {"ipnet": it["address"]} | ({"gateway": it["gateway"]} if it.get("gateway") else {})
        for it in result.get("ips", ())
    ]
    return {
        "dns_search_domains": [],
        "dns_server_ips": [],
        "interfaces": {interface: {"mac_address": macs[0] if macs else "", "subnets": subnets}},
    }


def call(command: str, netns: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Carry out one call of netavark's.

    Raises:
        CniError: for podman's user.
    """
    if command == "create":
        return create(asked)
    if command not in ("setup", "teardown"):
        raise CniError(BAD_ENVIRONMENT, f'"{command}": netavark calls this program')
    interface = asked["network_options"]["interface_name"]
    environ = {
        **os.environ,
        "CNI_PATH": os.environ.get("CNI_PATH", CNI_PATH),
        "CNI_CONTAINERID": asked["container_id"],
        "CNI_IFNAME": interface,
        "CNI_NETNS": netns,
        "CNI_COMMAND": "ADD" if command == "setup" else "DEL",
    }
    if command == "setup":
        return status(_set_up(asked, environ), interface)
    if (ports := published(asked, None)) is not None:
        plugin.call("portmap", json.dumps(ports), environ)
    # an address that cannot be had must not keep a container from being taken down
    wanted = configuration({**asked, "network_options": {}})
    cni(environ, json.dumps(wanted), show=_quiet)
    return None


def _set_up(asked: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Give a container its interface and publish its ports; return CNI's result."""
    wanted = json.dumps(configuration(asked))
    result: dict[str, Any] = json.loads(cni(environ, wanted, show=_quiet))
    ports = published(asked, result)
    if ports is not None:
        try:
            plugin.call("portmap", json.dumps(ports), environ)
        except CniError:
            cni({**environ, "CNI_COMMAND": "DEL"}, wanted, show=_quiet)  # all or nothing
            raise
    return result


def _quiet(_: str) -> None:
    """Say nothing: podman shows its user all that we write to standard error."""


def main() -> int:
    """Be netavark's plugin; return the exit status."""
    command, *rest = sys.argv[1:] or ["info"]
    if command == "info":
        print(json.dumps({"version": __version__, "api_version": "1.0.0"}))  # noqa: T201
        return 0
    try:
        answer = call(command, rest[0] if rest else "", json.load(sys.stdin))
    except (CniError, ValueError, KeyError) as error:
        what = f"no {error} in what netavark gave" if isinstance(error, KeyError) else str(error)
        print(json.dumps({"error": f"{DRIVER}: {what}"}))  # noqa: T201
        return 1
    if answer is not None:
        print(json.dumps(answer))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
