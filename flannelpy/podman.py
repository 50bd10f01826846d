# SPDX-License-Identifier: Apache-2.0
"""How podman's containers get onto the overlay: look at the podman there is, choose, write files.

::

    podman info, netavark --version ─► Found ─► choose ─► Setup: files, commands ─► written, run

Netavark's bridge driver always masquerades, so the other side would see the host's address: the
way is a netavark driver of ours where netavark takes plugins (1.6), else CNI, which podman 5 has
no more. `choose` and `plan` are pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fairlead.errors import FairleadError
from flannelpy.netavark import DRIVER

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
class Choice:
    """The way, "netavark" or "cni", and why."""

    way: str
    why: str


@dataclass(frozen=True, slots=True)
class Setup:
    """What has to be done.

    Attributes:
        files: path → text.
        command: what is run then, unless the network is there.
    """

    files: Mapping[str, str]
    command: tuple[str, ...] = ()


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
    plugins = found.netavark >= _PLUGINS
    has_cni = bool(found.podman) and found.podman < (5,)
    it = _text(found.netavark) or "not installed"
    if way == "netavark" and not plugins:
        raise PodmanError(f"netavark is {it}; it takes plugins from 1.6.0 on")
    if way != "cni" and plugins:
        return Choice("netavark", f"netavark {it} takes a driver plugin, and its own bridge would masquerade")  # fmt: skip
    if not has_cni:
        raise PodmanError(
            f"podman {_text(found.podman)} has no CNI, and netavark is {it}: install netavark 1.6 or newer"
        )
    if not found.cni:
        raise PodmanError("CNI's plugins are missing: apt-get install containernetworking-plugins")
    return Choice("cni", f"podman {_text(found.podman)} has CNI; netavark {it} takes no plugin and its own bridge always masquerades")  # fmt: skip


def plan(choice: Choice, found: Found, programs: str, name: str, subnet_file: str) -> Setup:
    """Return what sets up the network `name`.

    Args:
        programs: the directory in which this package's programs lie.
    """
    if choice.way == "netavark":
        text = _toml({"netavark_plugin_dirs": (programs, *NETAVARK_DIRS)})
        options = ("--opt", f"subnet_file={subnet_file}")
        command = ("podman", "network", "create", "--driver", DRIVER, *options, name)
        return Setup({DROP_IN: text}, command)
    dirs = dict.fromkeys((programs, found.cni, *CNI_DIRS))
    text = _toml({"network_backend": "cni", "cni_plugin_dirs": tuple(dirs)})
    return Setup({DROP_IN: text, CONFLIST: conflist(name, subnet_file)})


def conflist(name: str, subnet_file: str) -> str:
    """Return the network's CNI configuration; ports are published by CNI's own plugin."""
    delegate = {"bridge": "cni-flannel0", "hairpinMode": True, "isDefaultGateway": True, "ipMasq": False}  # fmt: skip
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
