# SPDX-License-Identifier: Apache-2.0
"""What every daemon of ours adds to the original's settings, and what names an etcd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fairlead.errors import ConfigError
from fairlead.flags.setting import Kind, Setting

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


Fault = Callable[[str, str], ConfigError]

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


def etcd_faults(
    fault: Fault, options: Options, endpoints: str, files: Mapping[str, str]
) -> list[ConfigError]:
    """Return what is wrong with a way to reach etcd, named by setting and source.

    Args:
        fault: makes the fault of a setting for a reason: `Values.error`.
        endpoints: the setting that gave the endpoints.
        files: "ca", "cert" and "key" → the setting that named the file.
    """
    from fairlead.etcd.options import parse_endpoint

    faults: list[ConfigError] = []
    for endpoint in options.endpoints:
        try:
            parse_endpoint(endpoint, tls=options.wants_tls)
        except ConfigError as error:
            faults.append(fault(endpoints, f'"{endpoint}" {error.reason}'))
    if bool(options.cert) != bool(options.key):
        given, missing = ("cert", "key") if options.cert else ("key", "cert")
        faults.append(fault(files[given], f"needs -{files[missing]} beside it"))
    elif options.ca or options.cert:
        from fairlead.tls import client_context  # ssl: 10 ms

        faults += tls_faults(
            fault, lambda: client_context(options.ca, options.cert, options.key), files
        )
    return faults


def tls_faults(
    fault: Fault, make: Callable[[], object], files: Mapping[str, str]
) -> list[ConfigError]:
    """Return what is wrong with the files of a TLS context, by the setting that named the file.

    Args:
        fault: as above.
        make: makes the context, as `fairlead.tls` does.
        files: "ca", "cert" and "key" → setting; a file that no setting named is told by its path.
    """
    from fairlead.tls import CA_FILE, CERT_FILE, KEY_FILE

    try:
        make()
    except ConfigError as error:
        role = {CA_FILE: "ca", CERT_FILE: "cert", KEY_FILE: "key"}[error.setting]
        return [fault(files[role], error.reason) if role in files else error]
    return []
