# SPDX-License-Identifier: Apache-2.0
"""mk-docker-opts: the subnet file as options for Docker's daemon (specs/flannel.md §13)."""

from __future__ import annotations

import getopt
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from flannelpy import subnet_env

_USAGE = """\
{program} [-f FLANNEL-ENV-FILE] [-d DOCKER-ENV-FILE] [-i] [-c] [-m] [-k COMBINED-KEY]

Make the options of Docker's daemon from flannel's subnet file.

  -f  subnet file to read (default {flannel})
  -d  file to write (default {docker})
  -i  write one variable per option, DOCKER_OPT_*
  -c  write one variable with all options; neither -i nor -c: both
  -k  name of that variable (default DOCKER_OPTS)
  -m  leave out --ip-masq
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    flannel_file: str = "/run/flannel/subnet.env"
    docker_file: str = "/run/docker_opts.env"
    single: bool = False
    combined: bool = False
    key: str = "DOCKER_OPTS"
    ipmasq: bool = True


class Refused(Exception):
    """A message for the user; exit status 1."""


class BadOption(Refused):
    """The usage follows the message, which is empty when help was asked for."""


def parse(argv: Sequence[str]) -> Request:
    """Return the request; options as a shell's getopts takes them (bundled, value attached).

    Raises:
        BadOption: help was asked for or an option is not known.
    """
    try:
        given, _ = getopt.getopt(list(argv), "f:d:icmk:?h")
    except getopt.GetoptError as error:
        raise BadOption(str(error)) from error
    options, default = dict(given), Request()
    if "-h" in options or "-?" in options:
        raise BadOption("")
    single, combined = "-i" in options, "-c" in options
    neither = not single and not combined
    return Request(
        flannel_file=options.get("-f", default.flannel_file),
        docker_file=options.get("-d", default.docker_file),
        single=single or neither,
        combined=combined or neither,
        key=options.get("-k", default.key),
        ipmasq="-m" not in options,
    )


def render(request: Request, flannel: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return the text of the file for Docker. Pure.

    Args:
        flannel: the subnet file's variables, over those of the environment.
        environ: its DOCKER_OPT_* are options too; the combined key's value goes in front.

    Raises:
        Refused: FLANNEL_IPMASQ is neither true nor false.
    """
    options = {name: value for name, value in environ.items() if name.startswith("DOCKER_OPT_")}
    if flannel.get("FLANNEL_SUBNET"):
        options["DOCKER_OPT_BIP"] = f"--bip={flannel['FLANNEL_SUBNET']}"
    if flannel.get("FLANNEL_MTU"):
        options["DOCKER_OPT_MTU"] = f"--mtu={flannel['FLANNEL_MTU']}"
    ipmasq = flannel.get("FLANNEL_IPMASQ", "")
    if ipmasq and request.ipmasq:
        if ipmasq not in ("true", "false"):
            raise Refused(f"Invalid value of FLANNEL_IPMASQ: {ipmasq}")
        # whoever masquerades, it must be only one of the two
        options["DOCKER_OPT_IPMASQ"] = f"--ip-masq={'false' if ipmasq == 'true' else 'true'}"
    lines = []
    if request.single:
        lines += [f'{name}="{options[name]}"' for name in sorted(options)]
    if request.combined:
        words = "".join(f" {options[name]}" for name in sorted(options))
        lines.append(f'{request.key}="{environ.get(request.key, "")}{words}"')
    return "".join(f"{line}\n" for line in lines)


def gateway_route(subnet: IPv4Network, table: str) -> bool:
    """Say whether a route through a gateway leads to exactly `subnet`.

    Args:
        table: /proc/net/route: the main table, addresses as hexadecimal in host byte order.
    """
    for line in table.splitlines()[1:]:
        _, dest, gateway, *_, mask = line.split()[:8]
        address, length = socket.ntohl(int(dest, 16)), int(mask, 16).bit_count()
        wanted = (int(subnet.network_address), subnet.prefixlen)
        if int(gateway, 16) and (address, length) == wanted:
            return True
    return False


def run(request: Request, environ: Mapping[str, str]) -> None:
    """Write the file, then look whether another host holds our subnet.

    Raises:
        Refused: see there; the file is written already when a route is in the way.
    """
    path = Path(request.flannel_file)
    # a missing file is not an error: Docker then runs without flannel's options
    found = subnet_env.values(path.read_text("utf-8", "replace")) if path.exists() else {}
    flannel = {**environ, **found}
    text = render(request, flannel, environ)
    try:
        Path(request.docker_file).write_text(text, "utf-8")
    except OSError as error:
        raise Refused(f"{request.docker_file}: {error.strerror}") from error
    subnet = flannel.get("FLANNEL_SUBNET", "")
    if subnet:
        try:
            network = IPv4Interface(subnet).network
        except ValueError as error:
            raise Refused(f"Invalid value of FLANNEL_SUBNET: {subnet}") from error
        if gateway_route(network, Path("/proc/net/route").read_text("ascii")):
            raise Refused(
                f"a route through a gateway leads to our own subnet {network}: another host may "
                f"hold it; see `ip route show {network}`"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 for help, bad options and refusals, as the script."""
    words = sys.argv[1:] if argv is None else argv
    try:
        run(parse(words), os.environ)
    except Refused as refused:
        if str(refused):
            sys.stderr.write(f"{refused}\n")
        if isinstance(refused, BadOption):
            files = {"flannel": Request().flannel_file, "docker": Request().docker_file}
            sys.stderr.write(_USAGE.format(program="mk-docker-opts", **files))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
