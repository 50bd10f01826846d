# SPDX-License-Identifier: Apache-2.0
"""What every daemon of ours adds to the original's settings, and what names an etcd."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fairlead.errors import ConfigError, ConfigErrors
from fairlead.flags.setting import Kind, Setting
from fairlead.flags.values import Values

if TYPE_CHECKING:
    from fairlead.etcd.options import Options


def _share(value: float) -> str | None:
    return None if 0 <= value <= 1 else "must lie between 0 and 1"


def _address(value: str) -> str | None:
    host, colon, port = value.rpartition(":")
    if not value or (colon and port.isascii() and port.isdigit() and int(port) < 65536):
        return (
            'an IPv6 address needs brackets: "[::1]:9100"'
            if host.count(":") > 1 > host.count("[")
            else None
        )
    return "must be host:port with a port up to 65535"


_COMMON: Final = (
    Setting(
        "state-dir",
        default="auto",
        help="Directory of the last-known-good files; auto: /var/lib/fairlead/PROGRAM, or below $XDG_STATE_HOME without root; empty: none.",
    ),
    Setting(
        "state-max-age",
        Kind.DURATION,
        168 * 3600.0,
        "Oldest last-known-good file to serve from while etcd is down; 0 or empty: any age.",
        empty=0.0,
    ),
    Setting(
        "admin-socket",
        default="auto",
        help="Unix socket of health, metrics and state; auto: /run/fairlead/PROGRAM.sock, or in $XDG_RUNTIME_DIR/fairlead without root; empty: none.",
    ),
    Setting(
        "admin-addr",
        help="Serve health, metrics and state, read-only, also on this TCP address (host:port).",
        check=_address,
    ),
    Setting(
        "etcd-embedded",
        help="Run a single-node store in this process, with its file in this directory, instead of using an etcd.",
    ),
    Setting(
        "etcd-embedded-listen",
        Kind.LIST,
        help="With -etcd-embedded: where else its store listens, e.g. http://127.0.0.1:2379.",
    ),
    Setting(
        "print-config", Kind.BOOL, False, "Print every setting with its source, and exit.", env=""
    ),
    Setting(
        "check-config",
        Kind.BOOL,
        False,
        "Check the configuration, print all faults, and exit: 0 good, 1 faulty.",
        env="",
    ),
    Setting(
        "plan", Kind.BOOL, False, "Print what would be done now, do nothing, and exit.", env=""
    ),
    Setting(
        "log-format",
        default="auto",
        help="How log lines look; auto: logfmt.",
        choices=("auto", "logfmt", "json"),
    ),
    Setting(
        "log-level",
        default="info",
        help="Least level that is logged.",
        choices=("debug", "info", "warning", "error"),
    ),
    Setting(
        "max-removals",
        Kind.FLOAT,
        0.5,
        "Hold back a plan that removes more than this share of what stands; 1: never.",
        check=_share,
    ),
    Setting(
        "drain-timeout",
        Kind.DURATION,
        10.0,
        "Longest time to finish what is under way after SIGTERM; 0: no limit.",
    ),
)


def common(
    *, drop: Iterable[str] = (), rename: Mapping[str, str] | None = None
) -> tuple[Setting, ...]:
    """Return the settings that every daemon of ours adds to the original's.

    Args:
        drop: names that this program does not take (its own flags do that job).
        rename: name here → name in this program, where an original's flag clashes. The runtime
            is told by `Program.names`.
    """
    names = rename or {}
    dropped = frozenset(drop)
    unknown = (dropped | names.keys()) - {setting.name for setting in _COMMON}
    if unknown:
        raise ValueError(f"no such common settings: {', '.join(sorted(unknown))}")
    return tuple(
        replace(setting, name=names.get(setting.name, setting.name), ours=True)
        for setting in _COMMON
        if setting.name not in dropped
    )


def etcd_options(values: Values, names: Mapping[str, str]) -> Options:
    """Return how to reach etcd, from the settings a program has for it; checks the endpoints.

    Args:
        names: field of Options → setting, e.g. {"endpoints": "machines", "ca": "ca-cert"}. An
            empty value leaves the field's default.

    Raises:
        ConfigErrors: an endpoint cannot be understood, or a key has no certificate; named by
            setting and source.
    """
    from fairlead.etcd.options import Options, parse_endpoint

    given = {field: values[name] for field, name in names.items() if values[name] not in ("", ())}
    options = Options(**given)
    faults: list[ConfigError] = []
    for endpoint in options.endpoints:
        try:
            parse_endpoint(endpoint, tls=options.wants_tls)
        except ConfigError as error:
            faults.append(values.error(names["endpoints"], f'"{endpoint}" {error.reason}'))
    if options.key and not options.cert:
        faults.append(values.error(names["key"], "is of no use without a certificate file"))
    if faults:
        raise ConfigErrors(tuple(faults))
    return options
