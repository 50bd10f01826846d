# SPDX-License-Identifier: Apache-2.0
"""What the settings say together (specs/confd.md §5, §6).

Flag over environment over confd.toml over default, as documented; 0.16 itself let the file win
(trap 2), so a file value that a flag overrides is warned about. Further sources of keys stand in
`sources.toml` beside `conf.d`, each as a table with the keys of `[backend]`.
"""

from __future__ import annotations

import os
import signal
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from confd.backends import BackendConfig, known
from confd.records import Defaults
from confd.settings import ETCD_NAMES, LEVELS
from fairlead.errors import ConfigError, ConfigErrors
from fairlead.etcd.options import Options
from fairlead.flags import Values, etcd_faults
from fairlead.tls import CA_FILE, CERT_FILE, KEY_FILE, client_context


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Where keys come from: an etcd, or a backend."""

    etcd: Options | None = None
    backend: BackendConfig = field(default_factory=lambda: BackendConfig("etcd"))

    @property
    def secret(self) -> bool:
        """Say whether every value is a secret."""
        return self.backend.name == "vault"


@dataclass(frozen=True, slots=True)
class Child:
    """`-exec`: the command to supervise; numbers of signals, 0 for none."""

    command: str
    reload_signal: int
    kill_signal: int
    kill_seconds: float


@dataclass(frozen=True, slots=True)
class Config:
    """All that confd takes from outside.

    Attributes:
        mode: "onetime", "interval" or "watch".
        interval: seconds between two cycles of the mode "interval".
        defaults: what counts where a resource says nothing.
        sources: name → source of keys; "" is the daemon's own.
        read_seconds: longest time to read the keys with -onetime; `attempts`: how often.
        watch_pause: seconds after a backend did not answer.
        retry: first and longest pause before a failed resource is tried again.
    """

    confdir: Path
    mode: str
    interval: float
    defaults: Defaults
    noop: bool
    sync_only: bool
    keep_stage: bool
    sources: Mapping[str, SourceConfig] = field(default_factory=dict)
    log_level: str = "info"
    fail_fast: bool = False
    batch: float = 0.0
    read_seconds: float = 10.0
    attempts: int = 3
    watch_pause: float = 2.0
    retry: tuple[float, float] = (0.5, 30.0)
    diff: bool = False
    diff_context: int = 3
    color: bool = False
    child: Child | None = None

    @property
    def etcd(self) -> Options | None:
        """How to reach the daemon's own etcd; None where its keys are elsewhere."""
        return self.sources[""].etcd

    @property
    def secret_sources(self) -> tuple[str, ...]:
        """Names of the sources whose every value is a secret."""
        return tuple(name for name, source in self.sources.items() if source.secret)

    @property
    def loose_sources(self) -> frozenset[str]:
        """Names of the sources whose keys are environment variables."""
        return frozenset(n for n, source in self.sources.items() if source.backend.name == "env")


def configure(values: Values, environ: Mapping[str, str] | None = None) -> Config:
    """Return the configuration.

    Raises:
        ConfigErrors: all that is wrong with it.
    """
    env = os.environ if environ is None else environ
    faults: list[ConfigError] = []
    own = _own_source(values, env, faults)
    sources = {"": own, **_named_sources(Path(values.text("confdir")) / "sources.toml", faults)}
    child = _child(values, faults)
    if faults:
        raise ConfigErrors(tuple(faults))
    mode = "interval"
    if values.flag("onetime"):
        mode = "onetime"
    elif values.flag("watch"):
        mode = "watch"
    return Config(
        confdir=Path(values.text("confdir")),
        mode=mode,
        interval=float(values.number("interval")),
        defaults=Defaults(
            prefix=values.text("prefix"),
            prefix_mode=values.text("prefix-mode").lower(),
            sources=frozenset(sources) - {""},
            check_seconds=values.seconds("check-cmd-timeout"),
            reload_seconds=values.seconds("reload-cmd-timeout"),
            debounce=values.seconds("debounce"),
            octal_mode=values.flag("octal-mode"),
        ),
        noop=values.flag("noop"),
        sync_only=values.flag("sync-only"),
        keep_stage=values.flag("keep-stage-file"),
        sources=sources,
        log_level=LEVELS[values.text("log-level").lower()],
        fail_fast=values.text("failure-mode").lower() == "fail-fast",
        batch=values.seconds("batch-interval"),
        read_seconds=values.seconds("backend-timeout"),
        attempts=values.number("retry-max-attempts"),
        watch_pause=values.seconds("watch-error-backoff"),
        retry=(values.seconds("retry-base-delay"), values.seconds("retry-max-delay")),
        diff=values.flag("diff"),
        diff_context=values.number("diff-context"),
        color=values.flag("color"),
        child=child,
    )


# the daemon's own source

_OPTIONS: Final = (
    "scheme", "client-insecure", "basic-auth", "username", "password", "auth-token", "auth-type",
    "app-id", "user-id", "role-id", "secret-id", "path", "separator", "file", "filter",
    "client-cert", "client-key",
)  # fmt: skip


def _own_source(
    values: Values, environ: Mapping[str, str], faults: list[ConfigError]
) -> SourceConfig:
    kind = values.text("backend")
    nodes = values.many("node")
    if kind not in ETCD_NAMES:
        if values.text("srv-domain") or values.text("srv-record"):
            nodes = _srv_nodes(values, kind, faults)
        options = {name.replace("-", "_"): values[name] for name in _OPTIONS}
        options |= {
            "client_cakeys": values.text("client-ca-keys"),
            "dial_timeout": values.seconds("dial-timeout"),
        }
        if kind == "file" and not values.many("file"):
            faults.append(values.error("file", "the backend file needs one"))
        return SourceConfig(backend=BackendConfig(kind, nodes, options))
    etcd = _options(values, nodes, environ)
    if values.text("srv-record"):
        found = _srv_nodes(values, "etcd", faults)
        scheme = values.text("scheme").lower()
        etcd = replace(etcd, endpoints=tuple(f"{scheme}://{node}" for node in found), dns_srv="")
    if not values.text("etcd-embedded"):
        files = {"ca": "client-ca-keys", "cert": "client-cert", "key": "client-key"}
        faults += etcd_faults(values.error, etcd, "node", files)
    return SourceConfig(etcd, BackendConfig("etcd", etcd.endpoints))


def _options(values: Values, nodes: tuple[str, ...], environ: Mapping[str, str]) -> Options:
    for variable in ("ETCDCTL_ENDPOINTS", "ETCDCTL_PEERS"):
        if not nodes:
            nodes = tuple(n for n in environ.get(variable, "").split(",") if n)
    options = Options(
        ca=values.text("client-ca-keys"),
        cert=values.text("client-cert"),
        key=values.text("client-key"),
        insecure_skip_verify=values.flag("client-insecure"),
        dns_srv=values.text("srv-domain"),
        connect_timeout=min(values.seconds("dial-timeout"), 2.0),  # each endpoint gets one
    )
    scheme = values.text("scheme").lower() if values.given("scheme") else ""
    options = _with_nodes(options, nodes, scheme)
    if values.flag("basic-auth"):
        user, password = values.text("username"), values.text("password")
        options = replace(options, user=user, password=password)
    return options


def _with_nodes(options: Options, nodes: tuple[str, ...], scheme: str) -> Options:
    if nodes:
        if scheme:
            nodes = tuple(node if "://" in node else f"{scheme}://{node}" for node in nodes)
        return replace(options, endpoints=tuple(map(_unix, nodes)))
    if options.wants_tls:
        return replace(options, endpoints=("https://127.0.0.1:2379",))
    return options


def _unix(node: str) -> str:
    """Return a node with the original's `unix:/path` spelt as a URL."""
    if node.startswith("unix:") and not node.startswith("unix://"):
        return f"unix://{node.removeprefix('unix:')}"
    return node


def _srv_nodes(values: Values, kind: str, faults: list[ConfigError]) -> tuple[str, ...]:
    """Return `target:port` of the SRV records that name the nodes."""
    from confd.world import Machine

    name = "srv-record" if values.text("srv-record") else "srv-domain"
    record = values.text("srv-record") or f"_{kind}._tcp.{values.text('srv-domain')}"
    found = Machine().services(record.rstrip("."))
    if not found:
        faults.append(values.error(name, f"Cannot get nodes from SRV records {record}"))
    ordered = sorted(found, key=lambda srv: (srv[2], -srv[3], srv[0]))
    return tuple(f"{target.rstrip('.')}:{port}" for target, port, _, _ in ordered)


# named sources and tables [backend]

_FILES: Final = {CA_FILE: "client_cakeys", CERT_FILE: "client_cert", KEY_FILE: "client_key"}


def source_config(table: Mapping[str, Any]) -> SourceConfig:
    """Return the source that a table `[backend]` describes.

    Raises:
        ConfigError: it cannot be understood.
    """
    given = {key.lower().replace("-", "_"): value for key, value in table.items()}
    kind = str(given.pop("backend", ""))
    nodes = given.pop("nodes", given.pop("node", ()))
    places = (nodes,) if isinstance(nodes, str) else tuple(map(str, nodes))
    if kind not in ETCD_NAMES:
        if kind not in known():
            raise ConfigError('key "backend"', kind, "table", "Invalid backend")
        return SourceConfig(backend=BackendConfig(kind, places, given))
    options = Options(
        ca=str(given.get("client_cakeys", "")),
        cert=str(given.get("client_cert", "")),
        key=str(given.get("client_key", "")),
        insecure_skip_verify=given.get("client_insecure") is True,
    )
    options = _with_nodes(options, places, str(given.get("scheme", "")))
    if given.get("basic_auth") is True:
        login = (str(given.get("username", "")), str(given.get("password", "")))
        options = replace(options, user=login[0], password=login[1])
    options.parsed()
    try:
        if options.ca or options.cert or options.key:
            client_context(options.ca, options.cert, options.key)
    except ConfigError as error:
        key = _FILES[error.setting]
        raise ConfigError(f'key "{key}"', error.value, "table", error.reason) from error
    return SourceConfig(options, BackendConfig("etcd", options.endpoints))


def _named_sources(path: Path, faults: list[ConfigError]) -> dict[str, SourceConfig]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        faults.append(ConfigError("file", str(path), str(path), f"cannot be read: {error}"))
        return {}
    found: dict[str, SourceConfig] = {}
    for name, table in document.items():
        if not isinstance(table, dict) or not name.replace("-", "").replace("_", "").isalnum():
            reason = "must be a table with a plain name"
            faults.append(ConfigError("table", name, str(path), reason))
            continue
        try:
            found[name] = source_config(table)
        except ConfigError as error:
            faults.append(ConfigError(f"[{name}]", error.value, str(path), error.reason))
    return found


def _child(values: Values, faults: list[ConfigError]) -> Child | None:
    numbers: dict[str, int] = {}
    for name in ("exec-reload-signal", "exec-kill-signal"):
        word = values.text(name).upper().removeprefix("SIG")
        number = 0 if word == "NONE" else getattr(signal, f"SIG{word}", None)
        if number is None or (name == "exec-kill-signal" and not number):
            faults.append(values.error(name, "no such signal; write e.g. HUP, USR1, TERM"))
        numbers[name] = int(number or 0)
    command = values.text("exec")
    if not command:
        return None
    if values.flag("onetime"):
        faults.append(values.error("exec", "goes with -watch or -interval, not with -onetime"))
    return Child(
        command,
        numbers["exec-reload-signal"],
        numbers["exec-kill-signal"],
        values.seconds("exec-kill-timeout"),
    )
