# SPDX-License-Identifier: Apache-2.0
"""The settings of confd and what they say together (specs/confd.md §5, §6).

Flag over environment over confd.toml over default, as documented; 0.16 itself let the file win
(trap 2), so a file value that a flag overrides is warned about.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fairlead.errors import ConfigError, ConfigErrors
from fairlead.etcd.options import Options
from fairlead.flags import Kind, Setting, Settings, Values, common

ETCD_NAMES: Final = ("etcd", "etcdv3", "etcd3")
LATER: Final = ("consul", "vault", "redis", "zookeeper", "dynamodb", "ssm", "env", "file")
NEVER: Final = ("rancher", "acm", "secretsmanager", "imds", "stackengine")
BACKENDS: Final = (*ETCD_NAMES, *LATER, *NEVER)
LEVELS: Final = {
    "panic": "error",
    "fatal": "error",
    "error": "error",
    "warn": "warning",
    "warning": "warning",
    "info": "info",
    "debug": "debug",
    "trace": "debug",
}


@dataclass(frozen=True, slots=True)
class Config:
    """All that confd takes from outside.

    Attributes:
        mode: "onetime", "interval" or "watch".
        interval: seconds between two cycles of the mode "interval".
        prefix_mode: "override" or "join"; how the common prefix meets a resource's own.
        etcd: how to reach etcd.
    """

    confdir: Path
    mode: str
    interval: float
    prefix: str
    prefix_mode: str
    noop: bool
    sync_only: bool
    keep_stage: bool
    etcd: Options
    log_level: str = "info"


def _backend(value: str) -> str | None:
    if value in ETCD_NAMES:
        return None
    if value in BACKENDS:
        return f"the backend is not built yet; built is {', '.join(ETCD_NAMES)}"
    return "Invalid backend"


def _level(value: str) -> str | None:
    return None if value.lower() in LEVELS else f'not a valid level: "{value}"'


def _interval(value: int) -> str | None:
    return None if value > 0 else "must be at least 1"


_LATER: Final = "not built yet"
_BACKENDS: Final = "it belongs to a backend that is not built yet"

SETTINGS: Final = Settings(
    "confd",
    (
        Setting("backend", default="etcd", file_key="backend", check=_backend,
                help="Where the keys are: etcd (v3); etcdv3 and etcd3 mean the same."),
        Setting("node", Kind.LIST, file_key="nodes",
                help="An endpoint; repeatable, and split at commas. Default: $ETCDCTL_ENDPOINTS, $ETCDCTL_PEERS, 127.0.0.1:2379."),
        Setting("confdir", default="/etc/confd", file_key="confdir", help="Directory of conf.d and templates."),
        Setting("config-file", default="/etc/confd/confd.toml", help="The daemon's own settings; may be missing."),
        Setting("onetime", Kind.BOOL, file_key="onetime", help="Process every resource once and exit: 0 when all succeeded, else 1."),
        Setting("watch", Kind.BOOL, file_key="watch", help="Process a resource as soon as a key that it reads changes."),
        Setting("interval", Kind.INT, 600, file_key="interval", unit="seconds", check=_interval,
                help="Time between two cycles, when neither -onetime nor -watch is given."),
        Setting("prefix", file_key="prefix", help="Prefix of all keys."),
        Setting("prefix-mode", default="override", file_key="prefix_mode", ours=True, choices=("override", "join"),
                help="override: -prefix replaces a resource's own prefix (confd 0.13 to 0.16); join: it stands before it."),
        Setting("noop", Kind.BOOL, file_key="noop", help="Render and compare only."),
        Setting("sync-only", Kind.BOOL, file_key="sync-only", help="Run no check and no reload command."),
        Setting("keep-stage-file", Kind.BOOL, file_key="keepstagefile", help="Leave staged files behind."),
        Setting("log-level", default="info", file_key="log-level", check=_level,
                help="Least level that is logged: panic, fatal, error, warn, info, debug."),
        Setting("scheme", default="http", file_key="scheme", choices=("http", "https"), help="Scheme of nodes given without one."),
        Setting("srv-domain", file_key="srv_domain", help="Domain whose SRV records name the nodes."),
        Setting("srv-record", file_key="srv_record", refused=_LATER),
        Setting("client-ca-keys", env="CONFD_CLIENT_CAKEYS", file_key="client_cakeys", help="File of the CA certificates."),
        Setting("client-cert", env="CONFD_CLIENT_CERT", file_key="client_cert", help="File of the client certificate."),
        Setting("client-key", env="CONFD_CLIENT_KEY", file_key="client_key", help="File of the client key."),
        Setting("client-insecure", Kind.BOOL, file_key="client_insecure", help="Do not verify the server's certificate."),
        Setting("basic-auth", Kind.BOOL, file_key="basic_auth", help="Log in with -username and -password."),
        Setting("username", file_key="username", help="User name, with -basic-auth."),
        Setting("password", file_key="password", secret=True, help="Password, with -basic-auth."),
        Setting("version", Kind.BOOL, help="Print the version and exit.", env=""),
        Setting("auth-token", file_key="auth_token", secret=True, refused=_BACKENDS),
        Setting("auth-type", file_key="auth_type", refused=_BACKENDS),
        Setting("app-id", file_key="app_id", refused=_BACKENDS),
        Setting("user-id", file_key="user_id", refused=_BACKENDS),
        Setting("role-id", file_key="role_id", refused=_BACKENDS),
        Setting("secret-id", file_key="secret_id", secret=True, refused=_BACKENDS),
        Setting("path", file_key="path", refused=_BACKENDS),
        Setting("table", file_key="table", refused=_BACKENDS),
        Setting("separator", file_key="separator", refused=_BACKENDS),
        Setting("file", Kind.REPEAT, file_key="file", refused=_BACKENDS),
        Setting("filter", file_key="filter", refused=_BACKENDS),
        Setting("secret-keyring", file_key="secret_keyring", refused="encrypted values are not built"),
        *(
            Setting(name, kind, refused="the maintained fork's; " + _LATER)
            for name, kind in (
                ("failure-mode", Kind.STR), ("debounce", Kind.STR), ("batch-interval", Kind.STR),
                ("backend-timeout", Kind.STR), ("check-cmd-timeout", Kind.STR), ("reload-cmd-timeout", Kind.STR),
                ("dial-timeout", Kind.STR), ("read-timeout", Kind.STR), ("write-timeout", Kind.STR),
                ("preflight-timeout", Kind.STR), ("shutdown-timeout", Kind.STR), ("watch-error-backoff", Kind.STR),
                ("retry-max-attempts", Kind.STR), ("retry-base-delay", Kind.STR), ("retry-max-delay", Kind.STR),
                ("template-cache", Kind.BOOL), ("no-template-cache", Kind.BOOL), ("stat-cache-ttl", Kind.STR),
                ("systemd-notify", Kind.BOOL), ("watchdog-interval", Kind.STR), ("metrics-addr", Kind.STR),
                ("validate", Kind.BOOL), ("mock-data", Kind.STR), ("resource", Kind.STR), ("preflight", Kind.BOOL),
                ("diff", Kind.BOOL), ("diff-context", Kind.STR), ("color", Kind.BOOL),
            )
        ),
        *common(drop=("log-level", "max-removals")),
    ),
    config_file="config-file",
    summary="confd keeps configuration files in step with keys in etcd.",
)  # fmt: skip


def configure(values: Values, environ: Mapping[str, str] | None = None) -> Config:
    """Return the configuration.

    Raises:
        ConfigErrors: all that is wrong with it.
    """
    env = os.environ if environ is None else environ
    faults: list[ConfigError] = []
    etcd = _options(values, env)
    if not values.text("etcd-embedded"):
        try:
            etcd.parsed()
        except ConfigError as error:
            faults.append(values.error("node", error.reason))
    if bool(etcd.cert) != bool(etcd.key):
        missing = "client-cert" if etcd.key else "client-key"
        faults.append(values.error(missing, "certificate and key go together"))
    for name in ("client-ca-keys", "client-cert", "client-key"):
        path = values.text(name)
        if path and not os.access(path, os.R_OK):
            faults.append(values.error(name, "cannot be read"))
    if values.flag("check-config"):
        from confd.catalog import check  # the resources matter to a run only when it gets there

        confdir, prefix = Path(values.text("confdir")), values.text("prefix")
        faults += check(confdir, prefix, values.text("prefix-mode").lower())
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
        prefix=values.text("prefix"),
        prefix_mode=values.text("prefix-mode").lower(),
        noop=values.flag("noop"),
        sync_only=values.flag("sync-only"),
        keep_stage=values.flag("keep-stage-file"),
        etcd=etcd,
        log_level=LEVELS[values.text("log-level").lower()],
    )


def _options(values: Values, environ: Mapping[str, str]) -> Options:
    nodes = values.many("node")
    for variable in ("ETCDCTL_ENDPOINTS", "ETCDCTL_PEERS"):
        if not nodes:
            nodes = tuple(n for n in environ.get(variable, "").split(",") if n)
    options = Options(
        ca=values.text("client-ca-keys"),
        cert=values.text("client-cert"),
        key=values.text("client-key"),
        insecure_skip_verify=values.flag("client-insecure"),
        dns_srv=values.text("srv-domain"),
    )
    if nodes:
        if values.given("scheme"):
            scheme = values.text("scheme").lower()
            nodes = tuple(node if "://" in node else f"{scheme}://{node}" for node in nodes)
        options = replace(options, endpoints=tuple(map(_unix, nodes)))
    elif options.wants_tls:
        options = replace(options, endpoints=("https://127.0.0.1:2379",))
    if values.flag("basic-auth"):
        user, password = values.text("username"), values.text("password")
        options = replace(options, user=user, password=password)
    return options


def _unix(node: str) -> str:
    """Return a node with the original's `unix:/path` spelt as a URL."""
    if node.startswith("unix:") and not node.startswith("unix://"):
        return f"unix://{node.removeprefix('unix:')}"
    return node


def both_syntaxes(argv: Sequence[str]) -> list[str]:
    """Return a command line of either confd in the original's syntax.

    The maintained fork names the backend as a word (`confd etcd --watch`) and joins prefixes.
    """
    rest = list(argv)
    at = 0
    while at < len(rest):
        word = rest[at]
        if word == "-n" or word.startswith("-n="):
            rest[at] = "-node" + word[2:]
            word = rest[at]
        if word == "--" or len(word) < 2 or word[0] != "-":
            break
        name, equals, _ = word.lstrip("-").partition("=")
        setting = SETTINGS.by_name.get(name)
        takes_word = setting is not None and setting.kind is not Kind.BOOL and not equals
        at += 2 if takes_word else 1
    if at >= len(rest) or rest[at] not in BACKENDS:
        return rest
    backend = rest.pop(at)
    after = both_syntaxes(rest[at:]) if at < len(rest) else []
    return ["-backend", backend, "-prefix-mode", "join", *rest[:at], *after]
