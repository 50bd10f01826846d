# SPDX-License-Identifier: Apache-2.0
"""The command line of `fairlead register`."""

from __future__ import annotations

import asyncio
import errno
import shlex
import socket
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import click

from fairlead.duration import parse_seconds
from fairlead.errors import ConfigError, ConfigErrors
from fairlead.register.check import Check, Kind, parse
from fairlead.register.keys import Service, faults

COMMAND_NOT_FOUND, COMMAND_NOT_RUN = 127, 126  # as a shell says it


class Seconds(click.ParamType[float]):
    """A duration: Go's form, or a bare number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        try:
            return float(value) if value.isdigit() else parse_seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def own_address() -> IPv4Address | IPv6Address | None:
    """Return the address that our default route uses, or None without one. Sends nothing."""
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe_socket:
            try:
                probe_socket.connect((target, 9))
            except OSError:
                continue
            return ip_address(probe_socket.getsockname()[0])
    return None


class Pair(click.ParamType[tuple[str, str]]):
    """KEY=VALUE."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the first "="."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not (key and equals):
            self.fail(f'"{value}" is not KEY=VALUE', param, ctx)
        return key, text


def _service(given: dict[str, Any]) -> tuple[Service, Check]:
    """Return what is announced and how it is checked.

    Raises:
        ConfigErrors: all that is wrong with it.
    """
    wrong: list[ConfigError] = []
    check = Check(Kind.NONE, "", 0)
    port = given["port"]
    address: IPv4Address | IPv6Address | None = None
    try:
        address = ip_address(given["address"]) if given["address"] else own_address()
        if address is None:
            reason = "this host has no default route to take it from; give one"
            wrong.append(ConfigError("--address", "", "default", reason))
    except ValueError:
        reason = "not an IPv4 or IPv6 address"
        wrong.append(ConfigError("--address", given["address"], "command line", reason))
    identity = given["id"] or "-".join(filter(None, (socket.gethostname(), str(port or ""))))
    service = Service(
        id=identity,
        address=address or IPv4Address("192.0.2.1"),  # stands in while faults are collected
        port=port,
        scheme=given["scheme"],
        names=tuple(name.lower().rstrip(".") for name in given["dns"]),
        backends=given["backend"],
        route=given["route"],
        extra=given["put"],
        ttl=given["dns_ttl"],
        priority=given["priority"],
        weight=given["weight"],
        group=given["group"],
        text=given["text"],
        skydns_prefix=given["skydns_prefix"],
        vulcand_prefix=given["vulcand_prefix"],
    )
    wrong += faults(service)
    text = given["check"] or ("tcp" if port else "none")
    try:
        check = parse(text, str(service.address), port)
    except ValueError as error:
        wrong.append(ConfigError("--check", text, "command line", str(error)))
    if wrong:
        raise ConfigErrors(tuple(wrong))
    return service, check


@click.command(
    "register",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog="Example: fairlead register --dns web.example.org --port 8080 --check http:/healthz"
    " -- python3 -m http.server 8080",
)
@click.option("--dns", multiple=True, metavar="NAME", help="A DNS name it answers for (SkyDNS).")
@click.option("--backend", multiple=True, metavar="ID", help="A vulcand backend it serves.")
@click.option("--route", default="", help="vulcand route to the first backend; made when absent.")
@click.option(
    "--put",
    multiple=True,
    type=Pair(),
    help="A further key; ${id}, ${address}, ${port}, ${name} are filled in.",
)
@click.option("--id", default="", help="Names this instance.  [default: HOSTNAME-PORT]")
@click.option("--address", default="", help="Its address.  [default: the default route's]")
@click.option("--port", type=int, default=0, help="Its port.")
@click.option(
    "--scheme",
    type=click.Choice(["http", "https"]),
    default="http",
    show_default=True,
    help="Of the URL that vulcand gets.",
)
@click.option("--dns-ttl", type=click.IntRange(0), default=0, help="Seconds in DNS answers.")
@click.option("--priority", type=click.IntRange(0, 65535), default=0, help="SRV priority.")
@click.option("--weight", type=click.IntRange(0, 65535), default=0, help="SRV weight.")
@click.option("--group", default="", help="SkyDNS group.")
@click.option("--text", default="", help="TXT data.")
@click.option("--skydns-prefix", default="/skydns", show_default=True, help="SkyDNS's prefix.")
@click.option(
    "--vulcand-prefix", default="/vulcand", show_default=True, help="The prefix of vulcand."
)
@click.option(
    "--check",
    default="",
    metavar="CHECK",
    help="none, tcp[:PORT], http:/PATH, https:/PATH, http://HOST/PATH or exec:COMMAND."
    "  [default: tcp with a port, else none]",
)
@click.option(
    "--check-interval", type=Seconds(), default="10s", show_default=True, help="Between checks."
)
@click.option(
    "--check-timeout", type=Seconds(), default="2s", show_default=True, help="A check may take."
)
@click.option(
    "--ttl", type=Seconds(), default="15s", show_default=True, help="Keys live on after we die."
)
@click.option(
    "--drain",
    type=Seconds(),
    default="0s",
    show_default=True,
    help="From withdrawing to forwarding the signal that ends.",
)
@click.option(
    "--endpoints",
    default="http://127.0.0.1:2379",
    show_default=True,
    envvar="FAIRLEAD_ENDPOINTS",
    help="etcd's, comma separated; also FAIRLEAD_ENDPOINTS.",
)
@click.option("--cacert", default="", envvar="FAIRLEAD_CACERT", help="CA of etcd's certificate.")
@click.option("--cert", default="", envvar="FAIRLEAD_CERT", help="Our certificate for etcd.")
@click.option("--cert-key", default="", envvar="FAIRLEAD_CERT_KEY", help="Its private key.")
@click.option(
    "--user",
    default="",
    envvar="FAIRLEAD_USER",
    help="NAME:PASSWORD for etcd; better as FAIRLEAD_USER, which `ps` does not show.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(**given: Any) -> None:
    """Keep a service's keys in etcd while COMMAND runs and its check passes.

    The keys hang on one lease: they go when COMMAND ends, when its check fails twice in a row, and
    --ttl after this host dies. Ends with COMMAND's exit status.
    """
    try:
        service, check = _service(given)
    except ConfigErrors as error:
        raise click.UsageError(str(error)) from error
    if given["ttl"] < 1:
        raise click.UsageError("--ttl: etcd counts leases in whole seconds, from 1 on")
    sys.exit(asyncio.run(_run(given, service, check)))


async def _run(given: dict[str, Any], service: Service, check: Check) -> int:
    from fairlead.etcd.client import connect
    from fairlead.etcd.lease import Session
    from fairlead.etcd.options import Options
    from fairlead.log import Log, Sink, take_over
    from fairlead.register.announce import Announcer, Told, supervise

    log = Log(Sink(), {"program": "register"})
    log.hide(given["user"], given["user"].partition(":")[2])
    take_over(log)

    options = Options(
        endpoints=tuple(part.strip() for part in given["endpoints"].split(",") if part.strip()),
        user=given["user"],
        ca=given["cacert"],
        cert=given["cert"],
        key=given["cert_key"],
    )
    told = Told(log)
    async with connect(options, observer=told) as store:
        announcer = Announcer(
            service,
            check,
            store,
            open_lease=lambda keys: Session(store, round(given["ttl"]), keys, observer=told),
            log=log,
            interval=given["check_interval"],
            timeout=given["check_timeout"],
        )
        argv: tuple[str, ...] = given["command"]
        try:
            return await supervise(argv, announcer, drain=given["drain"])
        except OSError as error:
            click.echo(f"fairlead register: {shlex.join(argv)}: {error.strerror}", err=True)
            return COMMAND_NOT_FOUND if error.errno == errno.ENOENT else COMMAND_NOT_RUN
