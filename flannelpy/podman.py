# SPDX-License-Identifier: Apache-2.0
"""How podman's containers get onto the overlay: look at the podman there is, choose, write files.

::

    podman info, netavark --version ─► Found ─► choose ─► Setup: files, commands ─► written, run

Netavark's bridge driver always masquerades, so the other side would see the host's address. The
way is a netavark driver of ours where netavark takes plugins (1.6) and CNI's plugins are there
to do its work; else a bridge that flanneld keeps and netavark only plugs containers into (1.14);
else CNI, which podman 5 has no more. `choose` and `plan` are pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fairlead.errors import FairleadError
from flannelpy.keys import Subnets
from flannelpy.netavark import BRIDGE, DRIVER

CONFLIST: Final = "/etc/cni/net.d/50-flannel.conflist"
DROP_IN: Final = "/etc/containers/containers.conf.d/50-flannel.conf"
CNI_DIRS: Final = ("/usr/local/libexec/cni", "/usr/libexec/cni", "/usr/lib/cni", "/opt/cni/bin")
NETAVARK_DIRS: Final = (
    "/usr/local/libexec/netavark",
    "/usr/libexec/netavark",
    "/usr/local/lib/netavark",
    "/usr/lib/netavark",
)
_PLUGINS: Final = (1, 6, 0)  # the first netavark that takes them
_UNMANAGED: Final = (1, 14, 0)  # the first that leaves a bridge and the rules to others


class PodmanError(FairleadError):
    """This podman cannot be set up; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Found:
    """The podman of this host; a version of () is not known.

    Attributes:
        cni: the directory in which CNI's bridge plugin lies; "": it is not installed.
    """

    podman: tuple[int, ...]
    netavark: tuple[int, ...] = ()
    cni: str = ""


@dataclass(frozen=True, slots=True)
class Leased:
    """What flanneld wrote to the subnet file."""

    subnets: Subnets
    mtu: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The way, "netavark", "bridge" or "cni", and why."""

    way: str
    why: str


@dataclass(frozen=True, slots=True)
class Setup:
    """What has to be done.

    Attributes:
        files: path → text.
        command: what is run then, unless the network is there.
        advice: what else has to be so.
    """

    files: Mapping[str, str]
    command: tuple[str, ...] = ()
    advice: str = ""


def version(text: str) -> tuple[int, ...]:
    """Return the first version in a text; () when there is none."""
    match = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(it) for it in match[0].split(".")) if match else ()


def read_info(info: Mapping[str, Any], netavark: str, cni: str) -> Found:
    """Return what `podman info --format json` tells.

    Args:
        netavark: what `netavark --version` wrote, for podman before 4.5 does not tell.
    """
    host = info.get("host", {})
    backend = host.get("networkBackendInfo") or {}
    named = str(backend.get("version", "")) if backend.get("backend") == "netavark" else ""
    podman = version(str(info.get("version", {}).get("Version", "")))
    return Found(podman, version(named) or version(netavark), cni)


def choose(found: Found, way: str = "auto") -> Choice:
    """Return the way for this podman.

    Raises:
        PodmanError: there is none, or not the one asked for.
    """
    it, podman = _text(found.netavark) or "not installed", _text(found.podman)
    has_cni = bool(found.podman) and found.podman < (5,)
    lacks = {
        "netavark": f"netavark is {it}; it takes plugins from 1.6.0 on" if found.netavark < _PLUGINS
        else "" if found.cni else _NO_PLUGINS,
        "bridge": f"netavark is {it}; it leaves bridges to others from 1.14.0 on" if found.netavark < _UNMANAGED
        else "",
        "cni": f"podman {podman} has no CNI" if not has_cni else "" if found.cni else _NO_PLUGINS,
    }  # fmt: skip
    why = {
        "netavark": f"netavark {it} takes a driver plugin, and its own bridge would masquerade",
        "bridge": f"netavark {it} plugs containers into a bridge that flanneld keeps; its own would masquerade",
        "cni": f"podman {podman} has CNI; netavark {it} takes no plugin and its own bridge always masquerades",
    }
    if way != "auto" and lacks[way]:
        raise PodmanError(lacks[way])
    for each, reason in why.items():
        if way == each or (way == "auto" and not lacks[each]):
            return Choice(each, reason)
    raise PodmanError("; ".join(lacks.values()) + ": install netavark 1.6 or newer")


_NO_PLUGINS: Final = "CNI's plugins are missing: apt-get install containernetworking-plugins"


def plan(
    choice: Choice, found: Found, programs: str, name: str, subnet_file: str, leased: Leased | None
) -> Setup:
    """Return what sets up the network `name`.

    Args:
        programs: the directory in which this package's programs lie.
        leased: what the subnet file says; None: flanneld has not run yet.

    Raises:
        PodmanError: the way needs the subnet, and there is none.
    """
    if choice.way == "bridge":
        if leased is None:
            raise PodmanError(f"{subnet_file} is not there; start flanneld -bridge {BRIDGE} first")
        return Setup({}, ("podman", "network", "create", *_unmanaged(leased), name), _KEEP)
    if choice.way == "netavark":
        text = _toml({"netavark_plugin_dirs": (programs, *NETAVARK_DIRS)})
        options = ("--opt", f"subnet_file={subnet_file}")
        command = ("podman", "network", "create", "--driver", DRIVER, *options, name)
        return Setup({DROP_IN: text}, command)
    dirs = dict.fromkeys((programs, found.cni, *CNI_DIRS))
    text = _toml({"network_backend": "cni", "cni_plugin_dirs": tuple(dirs)})
    return Setup({DROP_IN: text, CONFLIST: conflist(name, subnet_file)})


_KEEP: Final = f"flanneld has to run with -bridge {BRIDGE}"


def _unmanaged(leased: Leased) -> Iterator[str]:
    """Yield the options of a network on the bridge that flanneld keeps."""
    yield from ("--driver", "bridge", "--interface-name", BRIDGE, "--disable-dns")
    yield from ("--opt", "mode=unmanaged", "--opt", f"mtu={leased.mtu}")
    if leased.subnets.v6 is not None:
        yield "--ipv6"
    for subnet in (leased.subnets.v4, leased.subnets.v6):
        if subnet is not None:
            yield from ("--subnet", str(subnet), "--gateway", str(subnet.network_address + 1))


def conflist(name: str, subnet_file: str) -> str:
    """Return the network's CNI configuration; ports are published by CNI's own plugin."""
    delegate = {"bridge": BRIDGE, "hairpinMode": True, "isDefaultGateway": True, "ipMasq": False}  # fmt: skip
    plugins: list[dict[str, Any]] = [
        {"type": "flannel", "subnetFile": subnet_file, "delegate": delegate},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": name, "plugins": plugins}, indent=2) + "\n"


def _toml(settings: Mapping[str, str | Sequence[str]]) -> str:
    lines = ["# written by `fairlead podman setup`", "[network]"]
    # JSON's strings and lists are TOML's
    lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
