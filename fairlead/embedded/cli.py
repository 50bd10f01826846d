# SPDX-License-Identifier: Apache-2.0
"""`fairlead etcd`: our own etcd v3 server for one machine, with etcd's flag names.

    fairlead etcd [flags]                      serve until SIGTERM
    fairlead etcd export [flags] FILE          copy a running etcd (any) into FILE ("-": stdout)
    fairlead etcd import [flags] FILE          copy FILE into a running etcd (any)

Flags of etcd that have no meaning on one node are refused by name, none is accepted and ignored.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fairlead.errors import ConfigError, ConfigErrors, FairleadError
from fairlead.flags import Kind, Setting, Settings, UsageError, Values, usage

if TYPE_CHECKING:
    from fairlead.embedded.server import Listening

_ONE_NODE: Final = "this store is one node for one machine; run a real etcd for a cluster"
_BOUNDED: Final = "the history is always bounded: 10000 revisions or 5 min, at most 64 MiB"
_REFUSED: Final = {
    _ONE_NODE: (
        "listen-peer-urls",
        "initial-advertise-peer-urls",
        "initial-cluster",
        "initial-cluster-state",
        "initial-cluster-token",
        "discovery",
        "discovery-srv",
        "force-new-cluster",
        "heartbeat-interval",
        "election-timeout",
        "peer-cert-file",
        "peer-key-file",
        "peer-trusted-ca-file",
        "peer-client-cert-auth",
        "snapshot-count",
    ),
    _BOUNDED: ("auto-compaction-mode", "auto-compaction-retention"),
    "the file grows with the disk; watch the disk": ("quota-backend-bytes",),
    "the limits are etcd's defaults": ("max-txn-ops", "max-request-bytes"),
    "there is no v2 API here": ("enable-v2",),
    "give -user instead; tokens are simple ones": ("auth-token",),
    "not built": ("listen-metrics-urls", "metrics", "enable-pprof", "config-file"),
}

SERVE: Final = Settings(
    "fairlead etcd",
    (
        Setting("data-dir", default="fairlead.etcd", help="Directory of the data; made if absent."),
        Setting(
            "listen-client-urls",
            Kind.COMMA,
            ("http://127.0.0.1:2379",),
            "Where to listen: http://host:port, https://host:port, unix:///path.",
        ),
        Setting(
            "advertise-client-urls",
            Kind.COMMA,
            help="What member lists tell clients; empty: where it listens.",
        ),
        Setting("name", default="fairlead", help="The member's name in member lists."),
        Setting("cert-file", help="The server's certificate, for https."),
        Setting("key-file", help="The key of -cert-file."),
        Setting("trusted-ca-file", help="Who may sign clients' certificates."),
        Setting("client-cert-auth", Kind.BOOL, help="Refuse clients without a certificate."),
        Setting(
            "watch-progress-notify-interval",
            Kind.DURATION,
            600.0,
            "How often quiet watches that ask for it are told the revision.",
            aliases=("experimental-watch-progress-notify-interval",),
        ),
        Setting(
            "user",
            Kind.LIST,
            help="name:password of someone who may use it; none: everybody may.",
            secret=True,
            ours=True,
        ),
        Setting("insecure", Kind.BOOL, help="Serve other machines without a user.", ours=True),
        Setting(
            "synchronous",
            default="FULL",
            help="FULL: what is acknowledged survives a power cut; NORMAL: only a crash of ours.",
            choices=("FULL", "NORMAL"),
            ours=True,
        ),
        *(Setting(name, refused=reason) for reason, names in _REFUSED.items() for name in names),
    ),
    env_prefix="ETCD_",
    summary="A single-node etcd v3 server for one machine.",
)

COPY: Final = Settings(
    "fairlead etcd export|import",
    (
        Setting("endpoints", Kind.COMMA, ("http://127.0.0.1:2379",), "The etcd to copy.", env=""),
        Setting("user", help="name:password.", secret=True, env="ETCDCTL_USER"),
        Setting("cacert", help="Who signs the server's certificate.", env="ETCDCTL_CACERT"),
        Setting("cert", help="Our certificate.", env="ETCDCTL_CERT"),
        Setting("key", help="The key of -cert.", env="ETCDCTL_KEY"),
        Setting("merge", Kind.BOOL, help="import: write over the keys that stand.", env=""),
    ),
    summary="Copy all keys and leases of a running etcd to or from a file.",
)


def run(argv: Sequence[str]) -> int:
    """Run `fairlead etcd` with the words after it; return the exit status."""
    words = list(argv)
    verb = words.pop(0) if words[:1] in (["export"], ["import"]) else ""
    settings = COPY if verb else SERVE
    try:
        values = settings.parse(words, os.environ)
        _run(_copy(verb, values) if verb else _serve(values))
    except UsageError as error:
        _tell(*error.faults, usage(settings).rstrip())
        return 0 if error.help_asked else 2
    except FairleadError as error:
        _tell(f"fairlead etcd: {error}")
        return 1
    return 0


def _tell(*lines: str) -> None:
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def _run(work: Coroutine[Any, Any, None]) -> None:
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:  # no wheel for this machine: asyncio's own does, at half the rate
        factory = None
    # the thread that waits for the disk gets the interpreter back this soon after a commit; with
    # Python's 5 ms a busy loop made 64 writers wait at every commit
    sys.setswitchinterval(0.0005)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


# -- serve -------------------------------------------------------------------------------------


async def _serve(values: Values) -> None:
    from fairlead.embedded.server import serve
    from fairlead.embedded.store import VERSION, EmbeddedStore
    from fairlead.notify import Notify

    if values.args:
        raise UsageError((f'"{values.args[0]}" is no verb; export and import are',))
    listening = listening_of(values)
    if faults := listening.check():
        raise ConfigErrors(faults)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    notify = Notify(os.environ)
    path = Path(values.text("data-dir"))
    store = await EmbeddedStore.open(
        path,
        synchronous=values.text("synchronous").upper(),
        progress_seconds=values.seconds("watch-progress-notify-interval"),
    )
    async with (
        store,
        serve(
            store,
            listening,
            name=values.text("name"),
            advertise=values.many("advertise-client-urls"),
        ) as endpoints,
    ):
        _tell(
            f"fairlead etcd: serving etcd v3 ({VERSION}) on {', '.join(endpoints)}"
            f' from "{path}" at revision {store.core.revision}',
            "fairlead etcd: this store is for one machine: no replication;"
            " for more use a real etcd (>= 3.4), `fairlead etcd export` takes the data along",
        )
        notify.send("READY=1")
        await stopping.wait()
        notify.send("STOPPING=1")
    _tell("fairlead etcd: stopped")


def listening_of(values: Values) -> Listening:
    """Return where and for whom to listen.

    Raises:
        ConfigError: a user, a certificate or a key cannot be used.
    """
    from fairlead.embedded.server import Listening

    users: dict[str, str] = {}
    for text in values.many("user"):
        name, colon, password = text.partition(":")
        if not (name and colon and password):
            raise values.error("user", "must be name:password")
        users[name] = password
    return Listening(
        urls=values.many("listen-client-urls"),
        users=users,
        insecure=values.flag("insecure"),
        tls=_tls(values),
    )


def _tls(values: Values) -> ssl.SSLContext | None:
    cert, key, ca = (values.text(name) for name in ("cert-file", "key-file", "trusted-ca-file"))
    if bool(cert) != bool(key):
        raise values.error("cert-file" if cert else "key-file", "needs the other of the pair too")
    if not cert:
        for name in ("trusted-ca-file", "client-cert-auth"):
            if values.given(name):
                raise values.error(name, "needs -cert-file and -key-file")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # gRPC clients offer h2 alone; one that offers both is after the JSON gateway, which is HTTP/1
    context.set_alpn_protocols(["http/1.1", "h2"])
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise values.error("cert-file", f"cannot be used with the key: {error}") from error
    if ca:
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise values.error("trusted-ca-file", f"cannot be used: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    elif values.flag("client-cert-auth"):
        raise values.error("client-cert-auth", "needs -trusted-ca-file")
    return context


# -- export and import -------------------------------------------------------------------------


async def _copy(verb: str, values: Values) -> None:
    from fairlead.embedded.copying import export_lines, import_lines
    from fairlead.etcd.client import connect
    from fairlead.etcd.options import Options

    if len(values.args) != 1:
        raise UsageError((f"{verb} takes one file, - for standard input or output",))
    name = values.args[0]
    options = Options(
        values.many("endpoints"),
        user=values.text("user"),
        ca=values.text("cacert"),
        cert=values.text("cert"),
        key=values.text("key"),
    )
    async with connect(options) as store:
        try:
            if verb == "import":
                text = sys.stdin.read() if name == "-" else await asyncio.to_thread(_read, name)
                copied = await import_lines(store, text.splitlines(), merge=values.flag("merge"))
                _tell(f"imported {copied.keys} keys, {copied.leases} leases")
                return
            lines = [line async for line in export_lines(store)]
            if name == "-":
                sys.stdout.write("".join(lines))
            else:
                await asyncio.to_thread(_write, name, lines)
            _tell(f"exported {len(lines) - 1} keys and leases")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError("file", name, "command line", reason) from error


def _read(name: str) -> str:
    return Path(name).read_text(encoding="utf-8")


def _write(name: str, lines: Sequence[str]) -> None:
    # keys may hold secrets, as the store's own file does: for the owner only
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(lines)
