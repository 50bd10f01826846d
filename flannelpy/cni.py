# SPDX-License-Identifier: Apache-2.0
"""The CNI plugin `flannel`: a meta-plugin that gives a container an address of the host's subnet.

::

    network configuration (stdin) ─┐
                                   ├─► delegate configuration ─► saved ─► bridge (or another) ADD
    subnet file of flanneld ───────┘                               └────► DEL, CHECK read it back

It reads the subnet file, completes the configuration of the plugin it delegates to, and runs
that (specs/flannel.md §14, CNI specification 0.1.0 to 1.1.0). Better than the original in three
things: what it saves is named by container *and* interface, so that two networks of one container
do not collide; a failed ADD leaves nothing behind; CHECK is delegated.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
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
DELEGATE_FAILED: Final = 100  # 100 and above are the plugin's own

# The CNI specification's characters of a container id; also keeps it from naming another folder.
_CONTAINER_ID: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*\Z")


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


class Plugin:
    """One call of the runtime.

    Args:
        environ: CNI_COMMAND, CNI_CONTAINERID, CNI_IFNAME, CNI_PATH and what else the delegate
            needs.
        config: as `read_config` gives it.
        show: told what ADD delegates.
    """

    def __init__(
        self, environ: Mapping[str, str], config: dict[str, Any], show: Callable[[str], object]
    ) -> None:
        self._show = show
        self._environ = dict(environ)
        self._config = config
        container = environ.get("CNI_CONTAINERID", "")
        interface = environ.get("CNI_IFNAME", "")
        if not _CONTAINER_ID.match(container):
            raise CniError(BAD_ENVIRONMENT, f'CNI_CONTAINERID "{container}" is not a container id')
        if not interface or "/" in interface:
            raise CniError(BAD_ENVIRONMENT, f'CNI_IFNAME "{interface}" is not an interface name')
        folder = Path(config.get("dataDir") or DATA_DIR)
        self._saved = folder / f"{container}@{interface}"
        self._saved_by_original = folder / container

    def add(self) -> bytes:
        """Give the container its interface; return the delegate's result."""
        file = self._config.get("subnetFile") or SUBNET_FILE
        try:
            text = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            raise CniError(
                TRY_LATER,
                f'cannot read "{file}": {error.strerror}',
                "flanneld writes it when it has leased a subnet: look at its log",
            ) from error
        config = delegate(self._config, read_host(text, file))
        made = json.dumps(config, sort_keys=True, separators=(",", ":"))
        self._save(made)
        self._show(f"{made}\n")
        try:
            return call(config["type"], made, self._environ)
        except CniError:
            self._saved.unlink(missing_ok=True)
            raise

    def delete(self) -> None:
        """Take the interface away; nothing saved means nothing to do."""
        for saved in (self._saved, self._saved_by_original):
            try:
                made = saved.read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CniError(IO_FAILED, f'cannot read "{saved}": {error.strerror}') from error
            try:
                kind = json.loads(made)["type"]
            except (ValueError, KeyError, TypeError):
                sys.stderr.write(f'flannel: "{saved}" is damaged; nothing to delegate\n')
            else:
                call(kind, made, self._environ)
            saved.unlink(missing_ok=True)
            return

    def check(self) -> None:
        """Have the delegate look whether the interface is as ADD left it."""
        for saved in (self._saved, self._saved_by_original):
            if saved.exists():
                made = json.loads(saved.read_text(encoding="utf-8"))
                if "prevResult" in self._config:
                    made["prevResult"] = self._config["prevResult"]
                call(made["type"], json.dumps(made), self._environ)
                return
        raise CniError(DELEGATE_FAILED, f'"{self._saved}" is gone: the container was never added')

    def _save(self, made: str) -> None:
        """Keep the delegate's configuration for DEL: it must not follow later changes."""
        try:
            self._saved.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self._saved.with_name(f".{self._saved.name}.part")
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(made)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._saved)
        except OSError as error:
            raise CniError(IO_FAILED, f'cannot write "{self._saved}": {error.strerror}') from error


def call(kind: str, made: str, environ: Mapping[str, str]) -> bytes:
    """Run the plugin `kind` with `made` on its standard input; return what it prints.

    Raises:
        CniError: it is not in CNI_PATH, or what it refused.
    """
    path = environ.get("CNI_PATH", "")
    for folder in filter(None, path.split(":")):
        program = Path(folder) / kind
        if program.is_file() and os.access(program, os.X_OK):
            break
    else:
        raise CniError(BAD_CONFIGURATION, f'no plugin "{kind}" in CNI_PATH "{path}"')
    done = subprocess.run(  # noqa: S603  (the runtime names the folder, the operator the plugin)
        [program], input=made.encode(), env=dict(environ), stdout=subprocess.PIPE, check=False
    )
    if done.returncode == 0:
        return done.stdout
    try:
        error = json.loads(done.stdout)
        raise CniError(int(error["code"]), f"{kind}: {error['msg']}", str(error.get("details", "")))
    except (ValueError, KeyError, TypeError):
        text = done.stdout.decode("utf-8", "replace").strip()
        raise CniError(
            DELEGATE_FAILED, f"{kind} ended with status {done.returncode}", text
        ) from None


def run(
    environ: Mapping[str, str], stdin: str, *, show: Callable[[str], object] | None = None
) -> bytes:
    """Carry out one call and return what goes to standard output.

    Args:
        show: told what ADD delegates; None: written to standard error, as the original does.

    Raises:
        CniError: for the runtime.
    """
    command = environ.get("CNI_COMMAND", "")
    if command == "VERSION":
        answer = {"cniVersion": VERSIONS[-1], "supportedVersions": VERSIONS}
        return json.dumps(answer).encode() + b"\n"
    if command not in ("ADD", "DEL", "CHECK"):
        raise CniError(
            BAD_ENVIRONMENT,
            f'CNI_COMMAND "{command}" is not ADD, DEL, CHECK or VERSION',
            "a container runtime calls this program; it is of no use by hand",
        )
    plugin = Plugin(environ, read_config(stdin), sys.stderr.write if show is None else show)
    if command == "ADD":
        return plugin.add()
    if command == "DEL":
        plugin.delete()
    else:
        plugin.check()
    return b""


def main() -> int:
    """Be the CNI plugin `flannel`; return the exit status."""
    version = VERSIONS[-1]
    asked = os.environ.get("CNI_COMMAND") not in (None, "", "VERSION")
    stdin = sys.stdin.read() if asked else ""
    try:
        sys.stdout.buffer.write(run(os.environ, stdin))
    except CniError as error:
        try:
            version = json.loads(stdin).get("cniVersion") or version
        except (ValueError, AttributeError):
            version = VERSIONS[-1]  # that it is no JSON object is what the error says
        answer = {"cniVersion": version, "code": error.code, "msg": f"flannel: {error}"}
        if error.details:
            answer["details"] = error.details
        sys.stdout.write(json.dumps(answer) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
