# SPDX-License-Identifier: Apache-2.0
"""The table of confd's flags: the original's, the maintained fork's, ours (specs/confd.md §6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fairlead.flags import Kind, Setting, Settings, common

ETCD_NAMES: Final = ("etcd", "etcdv3", "etcd3")
WORDS: Final = (  # the fork's subcommands, and what the original takes after -backend
    *ETCD_NAMES, "consul", "vault", "redis", "zookeeper", "env", "file",
    "dynamodb", "ssm", "rancher", "acm", "secretsmanager", "imds", "stackengine",
)  # fmt: skip
NEVER: Final = ("dynamodb", "ssm", "rancher", "acm", "secretsmanager", "imds", "stackengine")
LEVELS: Final = {
    "panic": "fatal",
    "fatal": "fatal",
    "error": "error",
    "warn": "warning",
    "warning": "warning",
    "info": "info",
    "debug": "debug",
    "trace": "debug",
}


def _backend(value: str) -> str | None:
    from confd.backends import known  # entry points are read only when somebody asks

    if value in ETCD_NAMES or value in known():
        return None
    if value in NEVER:
        return f"the backend is not built; built are etcd, {', '.join(sorted(known()))}"
    return "Invalid backend"


def _level(value: str) -> str | None:
    return None if value.lower() in LEVELS else f'not a valid level: "{value}"'


def _interval(value: int) -> str | None:
    return None if value > 0 else "must be at least 1"


def _attempts(value: int) -> str | None:
    return None if value > 0 else "must be at least 1"


_SECONDS: Final = Kind.DURATION
_CONFD: Final = "CONFD_"


def _fork(name: str, kind: Kind, default: object, words: str, **more: object) -> Setting:
    """Return a flag of the maintained fork, with its variable and its key."""
    upper = name.upper().replace("-", "_")
    given = {"env": f"{_CONFD}{upper}", "file_key": name.replace("-", "_"), **more}
    return Setting(name, kind, default, words, **given)  # type: ignore[arg-type]


def _common() -> tuple[Setting, ...]:
    """Return the settings of every daemon of ours, with the fork's names for two of them."""
    also = {"admin-addr": ("metrics-addr",), "drain-timeout": ("shutdown-timeout",)}
    forks = {"log-format": ("auto", "text", "logfmt", "json")}
    return tuple(
        replace(
            setting,
            aliases=(*setting.aliases, *also.get(setting.name, ())),
            choices=forks.get(setting.name, setting.choices),
        )
        for setting in common(drop=("log-level",))
    )


SETTINGS: Final = Settings(
    "confd",
    (
        Setting("backend", default="etcd", file_key="backend", check=_backend,
                help="Where the keys are: etcd (v3; etcdv3 and etcd3 mean the same), env, file, consul, redis, vault, zookeeper, or one of a plug-in."),
        Setting("node", Kind.LIST, file_key="nodes",
                help="An endpoint; repeatable, and split at commas. Default for etcd: $ETCDCTL_ENDPOINTS, $ETCDCTL_PEERS, 127.0.0.1:2379."),
        Setting("confdir", default="/etc/confd", env="CONFD_CONFDIR", file_key="confdir", help="Directory of conf.d and templates."),
        Setting("config-file", default="/etc/confd/confd.toml", env="CONFD_CONFIG_FILE", help="The daemon's own settings; may be missing."),
        Setting("onetime", Kind.BOOL, env="CONFD_ONETIME", file_key="onetime", help="Process every resource once and exit: 0 when all succeeded, else 1."),
        Setting("watch", Kind.BOOL, env="CONFD_WATCH", file_key="watch", help="Process a resource as soon as a key that it reads changes."),
        Setting("interval", Kind.INT, 600, env="CONFD_INTERVAL", file_key="interval", unit="seconds", check=_interval,
                help="Time between two cycles, when neither -onetime nor -watch is given."),
        Setting("prefix", env="CONFD_PREFIX", file_key="prefix", help="Prefix of all keys."),
        Setting("prefix-mode", default="override", file_key="prefix_mode", ours=True, choices=("override", "join"),
                help="override: -prefix replaces a resource's own prefix (confd 0.13 to 0.16); join: it stands before it."),
        Setting("noop", Kind.BOOL, env="CONFD_NOOP", file_key="noop", help="Render and compare only."),
        Setting("sync-only", Kind.BOOL, env="CONFD_SYNC_ONLY", file_key="sync-only", help="Run no check and no reload command."),
        Setting("keep-stage-file", Kind.BOOL, env="CONFD_KEEP_STAGE_FILE", file_key="keepstagefile", help="Leave staged files behind."),
        Setting("log-level", default="info", env="CONFD_LOG_LEVEL", file_key="log-level", check=_level,
                help="Least level that is logged: panic, fatal, error, warn, info, debug."),
        Setting("scheme", default="http", file_key="scheme", choices=("http", "https"), help="Scheme of nodes given without one."),
        Setting("srv-domain", env="CONFD_SRV_DOMAIN", file_key="srv_domain", help="Domain whose SRV records name the nodes: _BACKEND._tcp.DOMAIN."),
        Setting("srv-record", env="CONFD_SRV_RECORD", file_key="srv_record", help="The SRV record that names the nodes, instead of srv-domain's."),
        Setting("client-ca-keys", env="CONFD_CLIENT_CAKEYS", file_key="client_cakeys", help="File of the CA certificates."),
        Setting("client-cert", env="CONFD_CLIENT_CERT", file_key="client_cert", help="File of the client certificate."),
        Setting("client-key", env="CONFD_CLIENT_KEY", file_key="client_key", help="File of the client key; for redis the password."),
        Setting("client-insecure", Kind.BOOL, file_key="client_insecure", help="Do not verify the server's certificate."),
        Setting("basic-auth", Kind.BOOL, file_key="basic_auth", help="Log in with -username and -password."),
        Setting("username", file_key="username", help="User name; for etcd and consul with -basic-auth."),
        Setting("password", file_key="password", secret=True, help="Password; for etcd and consul with -basic-auth."),
        Setting("version", Kind.BOOL, help="Print the version and exit.", env=""),
        Setting("auth-token", file_key="auth_token", secret=True, help="Token for vault or consul."),
        Setting("auth-type", file_key="auth_type", help="Login for vault: token, app-role, app-id, userpass, github, cert, kubernetes."),
        Setting("app-id", file_key="app_id", help="For vault's app-id."),
        Setting("user-id", file_key="user_id", help="For vault's app-id."),
        Setting("role-id", file_key="role_id", help="For vault's app-role; the role for kubernetes."),
        Setting("secret-id", file_key="secret_id", secret=True, help="For vault's app-role."),
        Setting("path", file_key="path", help="Where vault's login method is mounted."),
        Setting("table", file_key="table", refused="it belongs to dynamodb, which is not built"),
        Setting("separator", file_key="separator", help="What stands for / in redis's keys."),
        Setting("file", Kind.REPEAT, file_key="file", help="YAML or JSON file, or a directory of them; repeatable, later ones win."),
        Setting("filter", default="*", file_key="filter", help="Which files of a directory count."),
        Setting("secret-keyring", file_key="secret_keyring", refused="the cget functions and their PGP keyring were removed from both originals and are not built"),
        # the maintained fork's
        _fork("failure-mode", Kind.STR, "best-effort", "With -onetime, after a resource that failed: best-effort goes on, fail-fast stops.", choices=("best-effort", "fail-fast")),
        _fork("debounce", _SECONDS, 0.0, "Quiet time before a changed key is rendered, where a resource says nothing."),
        _fork("batch-interval", _SECONDS, 0.0, "Collect the changes of all resources this long and process them together."),
        _fork("backend-timeout", _SECONDS, 10.0, "Longest time to read the keys with -onetime, all retries together."),
        _fork("check-cmd-timeout", _SECONDS, 30.0, "Time limit of check commands, where a resource says nothing."),
        _fork("reload-cmd-timeout", _SECONDS, 60.0, "Time limit of reload commands, where a resource says nothing."),
        _fork("dial-timeout", _SECONDS, 5.0, "Time limit to connect to a backend."),
        _fork("preflight-timeout", _SECONDS, 10.0, "Time limit of -preflight."),
        _fork("watch-error-backoff", _SECONDS, 2.0, "First pause after a backend other than etcd did not answer; it grows."),
        _fork("retry-max-attempts", Kind.INT, 3, "How often -onetime tries to read the keys.", check=_attempts),
        _fork("retry-base-delay", _SECONDS, 0.5, "First pause before a failed resource, or reading, is tried again; it grows."),
        _fork("retry-max-delay", _SECONDS, 30.0, "Longest pause before a failed resource is tried again."),
        *(
            Setting(name, kind, ignored=why)
            for name, kind, why in (
                ("read-timeout", Kind.STR, "each client has its own limits"),
                ("write-timeout", Kind.STR, "nothing is written to a backend"),
                ("template-cache", Kind.BOOL, "templates are compiled once for each change"),
                ("no-template-cache", Kind.BOOL, "templates are compiled once for each change"),
                ("stat-cache-ttl", Kind.STR, "templates are looked at before each render"),
                ("systemd-notify", Kind.BOOL, "systemd is told when it asks, by NOTIFY_SOCKET"),
                ("watchdog-interval", Kind.STR, "systemd's WATCHDOG_USEC says it"),
            )
        ),
        Setting("validate", Kind.BOOL, env="", help="Parse the templates, print what is wrong, and exit: 0 good, 1 faulty."),
        Setting("mock-data", env="", help="With -validate: render with the keys of this JSON file."),
        Setting("resource", env="", help="With -check-config and -validate: this resource file alone."),
        Setting("preflight", Kind.BOOL, env="", help="Read every resource's keys once, print how many there are, and exit: 0 good, 1 faulty."),
        Setting("diff", Kind.BOOL, env="", help="With -noop: print what would change, as a unified diff."),
        Setting("diff-context", Kind.INT, 3, env="", help="Lines around a change in -diff."),
        Setting("color", Kind.BOOL, env="", help="Colour -diff."),
        # ours
        Setting("octal-mode", Kind.BOOL, ours=True, file_key="octal_mode", help="Read mode = \"644\" as octal, not as decimal as the original does."),
        Setting("exec", ours=True, file_key="exec", help="When all files are in place run this command; confd ends with it, and it is told of changes by a signal."),
        Setting("exec-reload-signal", default="HUP", ours=True, file_key="exec_reload_signal", help="Signal to the -exec command after its files changed; NONE: none."),
        Setting("exec-kill-signal", default="TERM", ours=True, file_key="exec_kill_signal", help="Signal that asks the -exec command to end."),
        Setting("exec-kill-timeout", _SECONDS, 10.0, ours=True, file_key="exec_kill_timeout", help="After this time it is killed."),
        *_common(),
    ),
    config_file="config-file",
    summary="confd keeps configuration files in step with keys in etcd and elsewhere.",
)  # fmt: skip


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
    if at >= len(rest) or rest[at] not in WORDS:
        return rest
    backend = rest.pop(at)
    after = both_syntaxes(rest[at:]) if at < len(rest) else []
    return ["-backend", backend, "-prefix-mode", "join", *rest[:at], *after]
