# SPDX-License-Identifier: Apache-2.0
"""Flags and variables, checked together → Config."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.errors import ConfigError, ConfigErrors
from fairlead.etcd.options import Options
from fairlead.flags import Values, etcd_faults, tls_faults
from skydns import keys, names, order, shapes, sharedkeys, stub
from skydns.acl import Acl
from skydns.addresses import Peers, Server, network, parse_allowed, parse_notified, parse_server
from skydns.cache import Bounds
from skydns.corefile.grammar import CorefileError
from skydns.corefile.said import InBlock, Overlaid, Said
from skydns.limit import Network
from skydns.logformat import EVERYTHING, Formats
from skydns.order import Order
from skydns.policy import PROFILES, Apex, Policy
from skydns.shapes import ByZone
from skydns.upstream import Routes, Upstream

if TYPE_CHECKING:
    import ssl

    from skydns.dnssec import Key
    from skydns.rewrite import Rule


@dataclass(frozen=True, slots=True)
class Encrypted:
    """Where DNS is spoken over TLS and over HTTPS, by which certificate.

    Attributes:
        client_ca: file of who signs clients' certificates; "": none are asked for.
        client_auth: a client without one is turned away.
    """

    tls: Server | None
    https: Server | None
    cert: str
    key: str
    client_ca: str = ""
    client_auth: bool = False

    def context(
        self, *protocols: str, failed: Callable[[ConfigError], None] = lambda error: None
    ) -> ssl.SSLContext:
        """Return what TLS needs; `protocols` are those of ALPN.

        Each handshake looks whether the files have changed, and takes the new certificate.

        Args:
            failed: told of new files that cannot be used; the old certificate stays.

        Raises:
            ConfigError: a file cannot be used.
        """
        import ssl

        from fairlead import tls

        def make() -> ssl.SSLContext:
            made = tls.server_context(self.cert, self.key, self.client_ca)
            if self.client_ca and not self.client_auth:
                made.verify_mode = ssl.CERT_OPTIONAL
            made.set_alpn_protocols(list(protocols))
            return made

        present = tls.Reread((self.cert, self.key, self.client_ca), make, failed)

        def chosen(sock: ssl.SSLObject, name: str | None, old: ssl.SSLContext) -> None:
            del name, old
            sock.context = present.get()

        first = make()
        first.sni_callback = chosen  # called for clients without SNI too
        return first


@dataclass(frozen=True, slots=True)
class Exported:
    """Where metrics are served beside the admin socket, and what SkyDNS's begin with.

    Attributes:
        addresses: host ("": all), port and path.
    """

    addresses: tuple[tuple[str, int, str], ...] = ()
    prefix: str = "skydns_skydns"


@dataclass(frozen=True, slots=True)
class Config:
    """All that the command line and the environment decide.

    Attributes:
        policy: before what the `config` key sets.
        routes: the default's `servers` may be empty: those of /etc/resolv.conf.
        stubs: servers by zone, of `-stub`.
        stub_records: `-stubzones`: those of records below `stub.dns.<zone>` too.
        signing: keys of our zones, from the files of `-dnssec`.
        signatures: how many are kept.
        systemd: answer on the sockets that systemd passes.
        encrypted: where TLS and HTTPS are spoken; None: nowhere.
        log_every: one query of so many is logged; 0: none.
        binds: addresses to answer on beside `address`.
        pages: `health` and `ready` of a Corefile: kind, host, port.
        lameduck: seconds to go on answering after SIGTERM.
        blocks: what a Corefile's server blocks say, by folded zone.
        plugins: of a Corefile: scheme, zone, plugin.
        warnings: what the Corefile says without effect.
        watched: files that settings come from, and every how many seconds each is looked at.
        metrics: where they are served, under which names.
        peers: who may have our zones, who is told of changes.
        shared_keys: that queries may be signed with.
        rate, slip, exempt: response rate limiting (`skydns.limit`).
        cookie_secret: b"": made up at start.
        pidfile: where our process id is written; "": nowhere.
        quiet: where we answer is not logged.
        workers: processes that answer.
        recursion: false with `-no-rec`: names that are not ours are refused.
    """

    policy: Policy
    prefix: bytes
    address: tuple[str, int]
    routes: Routes
    recursion: bool
    etcd: Options
    stubs: Mapping[bytes, tuple[Server, ...]] = field(default_factory=dict)
    stub_records: bool = False
    signing: tuple[Key, ...] = ()
    signatures: int = 10000
    systemd: bool = False
    encrypted: Encrypted | None = None
    peers: Peers = field(default_factory=Peers)
    shared_keys: sharedkeys.Keys = field(default_factory=dict)
    metrics: Exported = field(default_factory=Exported)
    log_every: int = 0
    binds: tuple[Server, ...] = ()
    pages: tuple[tuple[str, str, int], ...] = ()
    lameduck: float = 0.0
    blocks: Mapping[bytes, InBlock] = field(default_factory=dict)
    plugins: tuple[tuple[str, str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    watched: tuple[tuple[str, float], ...] = ()
    rate: int = 0
    slip: int = 2
    exempt: tuple[Network, ...] = ()
    cookie_secret: bytes = b""
    pidfile: str = ""
    quiet: bool = False
    workers: int = 1

    @property
    def acl(self) -> Acl:
        """Who may ask what."""
        return Acl({zone: tuple(block.acl) for zone, block in self.blocks.items()})

    @property
    def rewrites(self) -> Mapping[bytes, Sequence[Rule]]:
        """What is rewritten, by folded zone."""
        return {zone: block.rewrite for zone, block in self.blocks.items()}

    @property
    def logged(self) -> Formats:
        """Which queries are written down, and how; all in the usual form where no file says it."""
        found = {zone: block.log for zone, block in self.blocks.items()}
        return found if any(found.values()) else EVERYTHING


def _file(values: Values) -> tuple[Said, Overlaid]:
    """Return what a Corefile says, and the values over it; nothing without one."""
    path = values.text("conf")
    if not path:
        return Said(), Overlaid(values, {})
    from skydns.corefile import grammar
    from skydns.corefile.translate import translate

    try:
        text = sys.stdin.read() if path == "stdin" else Path(path).read_text("utf-8")
        blocks = grammar.parse(text, os.environ, Path(path).parent)
        said = translate(
            blocks,
            ignore_unknown=values.flag("ignore-unknown-plugins"),
            port=int(values.text("dns.port") or grammar.PORT),
        )
    except (OSError, CorefileError) as error:
        raise ConfigErrors((values.error("conf", str(error)),)) from error
    return said, Overlaid(values, said.settings)


def _routes(default: Upstream, bounds: Bounds, said: Said) -> Routes:
    """Return whom to ask about what; a Corefile says it by zone, several for one in their order."""
    if not said.settings:
        return Routes(default, bounds=bounds)
    routes = {}
    for zone, several in said.routes.items():
        following = None
        for more in reversed(several):
            following = replace(default, following=following, **more)
        if following is not None:
            routes[zone] = following
    fallback = routes.pop(names.ROOT, None)
    nobody = replace(default, resolv_conf=False)
    return Routes(fallback or nobody, by_zone=routes, bounds=bounds)


def _over(file: Bounds, flags: Bounds, given: Values) -> Bounds:
    """Return a Corefile's bounds of the cache under those that flags give."""
    if given.given("rcache"):
        file = replace(file, most=flags.most)
    if given.given("rcache-ttl"):
        file = replace(file, positive=flags.positive, negative=flags.negative)
    if given.given("serve-stale"):
        file = replace(file, stale=flags.stale)
    return file


def _peers(
    values: Overlaid, said: Said, faults: list[ConfigError]
) -> tuple[Peers, sharedkeys.Keys]:
    """Return who may have our zones, and the keys they may prove it by; notes what is wrong."""
    shared: dict[bytes, sharedkeys.Key] = dict(said.keys)
    try:
        shared |= sharedkeys.read(values.text("tsig-keys")) if values.text("tsig-keys") else {}
        allowed = tuple(map(parse_allowed, values.many("transfer-to")))
        told = tuple(map(parse_notified, values.many("notify")))
    except ValueError as error:
        faults.append(values.error("tsig-keys", str(error)))
        return Peers(), shared
    by_key = frozenset(each for each in allowed if isinstance(each, bytes))
    for flag, wanted in (("transfer-to", by_key), ("notify", {each.key for each in told} - {b""})):
        faults += (
            values.error(flag, f'key "{names.to_text(name)}" is not in -tsig-keys')
            for name in sorted(wanted - shared.keys())
        )
    networks = tuple(each for each in allowed if not isinstance(each, bytes))
    return Peers(networks, told, said.peers, by_key), shared


def _address(text: str) -> Server | None:
    return parse_server(text) if text else None


def configure(given: Values) -> Config:
    """Check across settings; opens nothing.

    Raises:
        ConfigErrors: all faults.
    """
    faults: list[ConfigError] = []
    said, values = _file(given)

    def take(name: str, parse: Callable[[Any], Any], default: Any) -> Any:
        try:
            return parse(values[name])
        except ValueError as error:
            faults.append(values.error(name, str(error)))
            return default

    profile = PROFILES[values.text("compat").lower()]
    profile = replace(
        profile,
        least_lease=profile.least_lease if said.least_lease is None else said.least_lease,
        most_lease=profile.most_lease if said.most_lease is None else said.most_lease,
        apex=profile.apex if said.apex_fallback else Apex.EXACT,
    )
    zones = take("domain", keys.zones, ())
    if not zones and not faults:
        faults.append(values.error("domain", "no zone is named"))
    own = take("own", partial(shapes.own, profile=profile, zones=zones), ByZone(profile.own))
    depth = take("depth", partial(shapes.depth, zones=zones), ByZone(None))
    catch_all = take(
        "wildcards",
        partial(shapes.catch_all, profile=profile, zones=zones),
        ByZone(profile.catch_all),
    )
    profile = replace(profile, own=own.rest, catch_all=catch_all.rest)
    policy = Policy(
        zones=frozenset(zones),
        profile=profile,
        ttl=profile.ttl,
        min_ttl=profile.min_ttl,
        hostmaster=take("hostmaster", names.mailbox, b""),
        local=take("local", lambda text: names.from_text(text).lower() if text else b"", b""),
        rotate=values.flag("round-robin"),
        auto_ptr=values.flag("auto-ptr"),
        depth=depth.rest,
        shapes=shapes.of_all(zones, own, depth, catch_all),
        minimal=said.minimal,
        bufsize=said.bufsize,
        minimal_tc=values.flag("minimal-tc"),
        catalog=take("catalog", lambda text: names.from_text(text).lower() if text else b"", b""),
        authors=said.authors,
        order=Order(
            values.text("order") == "random",
            take("prefer", lambda many: tuple(map(network, many)), ()),
            take("weights", lambda path: order.read_weights(path) if path else {}, {}),
            values.text("order") == "client",
        ),
        fallthrough=frozenset(said.fallthrough),
        version=values.text("version-bind"),
        host=values.text("nsid"),
        nsid=values.text("nsid").encode(),
        mname=take("mname", lambda text: names.from_text(text).lower() if text else b"", b""),
    )
    upstream = Upstream(
        servers=take("nameservers", lambda many: tuple(map(parse_server, many)), ()),
        timeout=values.seconds("rtimeout"),
        rotate=values.flag("ns-rotate"),
        ndots=values.number("ndots"),
        clients=take(
            "forward-from",
            lambda many: tuple(map(partial(ipaddress.ip_network, strict=False), many)),
            (),
        ),
        local_names=values.flag("local-names"),
    )
    exempt = take(
        "rrl-exempt",
        lambda many: tuple(map(partial(ipaddress.ip_network, strict=False), many)),
        (),
    )
    kept = max(values.number("rcache-ttl"), 0) or 60  # as in the original
    bounds = Bounds(
        most=max(values.number("rcache"), 0),
        positive=kept,
        negative=min(kept, 1800),
        stale=int(values.seconds("serve-stale")),
    )
    if values.text("conf"):
        bounds = _over(said.bounds, bounds, given)
    if upstream.timeout <= 0:
        faults.append(values.error("rtimeout", "must be more than 0"))
    if policy.catalog and names.longest(policy.catalog, policy.zones):
        faults.append(values.error("catalog", "lies in a zone of ours: choose a name outside"))
    if policy.catalog and not values.many("transfer-to"):
        faults.append(values.error("catalog", "goes with -transfer-to: nobody could fetch it"))
    if values.text("dns.port") and not values.text("conf"):
        faults.append(values.error("dns.port", "goes with -conf; without, -addr has the port"))
    etcd = Options(
        endpoints=values.many("machines"),
        user=values.text("username"),
        password=values.text("password"),
        ca=values.text("ca-cert"),
        cert=values.text("tls-pem"),
        key=values.text("tls-key"),
    )
    files = {"ca": "ca-cert", "cert": "tls-pem", "key": "tls-key"}
    faults += etcd_faults(values.error, etcd, "machines", files)
    address = take("addr", parse_server, ("127.0.0.1", 53))
    signing: tuple[Key, ...] = ()
    if bases := values.many("dnssec"):
        from skydns import dnssec
        from skydns.signing import load

        try:
            signing = load(bases, zones)
        except dnssec.KeyFileError as error:
            faults.append(values.error("dnssec", str(error)))
    encrypted = None
    if (at := take("tls-addr", _address, None)) or (also := take("https-addr", _address, None)):
        also = take("https-addr", _address, None)
        encrypted = Encrypted(
            at, also, values.text("serve-cert"), values.text("serve-key"), said.client_ca, said.client_auth
        )  # fmt: skip
        if not (encrypted.cert and encrypted.key):
            faults.append(values.error("serve-cert", "-serve-cert and -serve-key are needed"))
        elif not faults:
            files = {"cert": "serve-cert", "key": "serve-key"}
            faults += tls_faults(values.error, partial(encrypted.context, "dot"), files)
    peers, shared = _peers(values, said, faults)
    if faults:
        raise ConfigErrors(tuple(faults))
    return Config(
        policy=policy,
        prefix=keys.clean(values.text("path-prefix")),
        address=tuple(address[:2]),
        routes=_routes(upstream, bounds, said),
        stubs=take("stub", stub.from_flag, {}),
        stub_records=values.flag("stubzones"),
        recursion=not values.flag("no-rec"),
        signing=signing,
        systemd=values.flag("systemd"),
        encrypted=encrypted,
        peers=peers,
        shared_keys=shared,
        pidfile=values.text("pidfile"),
        quiet=values.flag("quiet"),
        workers=values.number("workers"),
        log_every=max(values.number("log-every"), 1) if values.flag("verbose") else 0,
        binds=tuple(Server(host, address[1]) for host in said.binds),
        pages=tuple(said.pages),
        lameduck=said.lameduck,
        blocks=said.in_blocks,
        plugins=tuple(said.plugins),
        warnings=tuple(f"{values.text('conf')}: {each}" for each in said.idle),
        watched=tuple(
            (path, seconds)
            for path, seconds in (
                (values.text("conf"), said.reload),
                (values.text("weights"), said.weights_reload),
            )
            if path and path != "stdin" and seconds
        ),
        metrics=Exported(
            (
                *said.metrics,
                *(
                    [("", int(values.text("prometheus-port")), values.text("prometheus-path"))]
                    if values.text("prometheus-port")
                    else []
                ),
            ),
            "_".join(
                filter(None, map(values.text, ("prometheus-namespace", "prometheus-subsystem")))
            ),
        ),
        signatures=max(values.number("scache"), 0),
        rate=max(values.number("rrl"), 0),
        slip=max(values.number("rrl-slip"), 0),
        exempt=exempt,
        cookie_secret=bytes.fromhex(values.text("cookie-secret")),
        etcd=etcd,
    )
