# SPDX-License-Identifier: Apache-2.0
"""The settings in force: the command line's under the `config` key's, changed while running."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fairlead.records import Records
from skydns import addresses, keys, names, stub
from skydns.addresses import Server, parse_server, resolv_conf, without
from skydns.cache import Bounds
from skydns.compiled import Answers
from skydns.config import Config
from skydns.dnssec import Key, KeyFileError
from skydns.forward import Forwarder
from skydns.records import Service
from skydns.signing import Signing, load
from skydns.stored import Stored, different, merge
from skydns.upstream import Routes

if TYPE_CHECKING:
    from fairlead.runtime import Runtime

RESOLV_CONF = Path("/etc/resolv.conf")


def own(host: str, port: int) -> tuple[addresses.Server, ...]:
    """Return what names ourselves in a list of servers; a longer way round ends in a timeout."""
    hosts = {host}
    if ipaddress.ip_address(host).is_unspecified:
        hosts |= {"127.0.0.1", "::1"}
    return tuple(addresses.Server(each, port) for each in sorted(hosts))


class Live:
    """The policy in force: the command line's under the `config` key's (§13.1), live.

    Attributes:
        renewed: told of a new policy; sockets may have to look at every query, or no longer.
    """

    def __init__(
        self,
        given: Config,
        answers: Answers,
        stored: Records[Stored],
        services: Records[Service],
        runtime: Runtime,
    ) -> None:
        self._given = given
        self._answers = answers
        self._stored = stored
        self._runtime = runtime
        self._started: Stored | None = None
        self._services = services
        self.forwarder: Forwarder | None = None
        self.renewed: Callable[[], None] = lambda: None
        self.address = given.address

    @property
    def stored(self) -> Stored | None:
        """What the `config` key sets."""
        return self._stored.good.get(keys.config(self._given.prefix))

    def start(self, address: tuple[str, int] | None = None) -> Forwarder:
        """Fix what only a restart changes; return the forwarder.

        Args:
            address: answered on already, whatever is set.
        """
        stored = self.stored or Stored()
        self._started = self.stored
        self._warn()
        if address is not None:
            self.address = address
        elif stored.dns_addr:
            host, _, port = stored.dns_addr.rpartition(":")
            self.address = (host.strip("[]"), int(port))
        self.forwarder = Forwarder(self._routes(stored), self._said)
        self._sign(stored)
        if catalog := self._given.policy.catalog:
            self._answers.served.serials[catalog] = int(self._runtime.clock.wall())
        self.changed()
        shown = ",".join(map(str, self.forwarder.upstream.servers))
        self._runtime.log.info("name servers", servers=shown or "none")
        return self.forwarder

    @property
    def bounds(self) -> Bounds:
        """What is kept of others' answers."""
        return (self.forwarder.routes if self.forwarder else self._given.routes).bounds

    def _warn(self) -> None:
        """Log what the Corefile says in vain."""
        for each in self._given.warnings:
            self._runtime.log.warning("without effect", place=each)

    def unreadable(self, path: str, reason: str) -> None:
        """Log that a file cannot be used."""
        self._runtime.log.warning("file not read", path=path, reason=reason)

    def _text(self, path: Path) -> str:
        """Return a file's text, "" when there is none; one that cannot be read is named."""
        try:
            return path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            self.unreadable(str(path), error.strerror or str(error))
            return ""

    def _said(self, event: str, server: Server) -> None:
        """Log what happens to a name server."""
        self._runtime.log.warning("name server", server=str(server), now=event)

    def _routes(self, stored: Stored) -> Routes:
        """Return whom to ask, from the command line, the `config` key and the stub zones."""
        given = self._given
        upstream, bounds = given.routes.default, given.routes.bounds
        servers = tuple(map(parse_server, stored.nameservers or ())) or upstream.servers
        if not servers and upstream.resolv_conf:
            servers = resolv_conf(self._text(RESOLV_CONF))
        if stored.read_timeout:
            upstream = replace(upstream, timeout=stored.read_timeout / 1e9)
        if stored.ndot:
            upstream = replace(upstream, ndots=stored.ndot)
        if stored.ns_rotate is not None:
            upstream = replace(upstream, rotate=stored.ns_rotate)
        if stored.rcache is not None:
            bounds = replace(bounds, most=max(stored.rcache, 0))
        if stored.rcache_ttl:
            bounds = replace(
                bounds, positive=stored.rcache_ttl, negative=min(stored.rcache_ttl, 1800)
            )
        ours = own(*self.address)
        stubs = dict(given.stubs)
        if given.stub_records:
            zones = merge(given.policy, stored).zones
            stubs |= stub.from_records(self._below(stub.places(given.prefix, zones)), zones)
        routes = replace(
            given.routes, default=replace(upstream, servers=without(servers, ours)), bounds=bounds
        )
        return routes.with_stubs({zone: without(some, ours) for zone, some in stubs.items()})

    def _below(self, places: tuple[bytes, ...]) -> list[Service]:
        """Return the records whose keys begin so."""
        return [service for key, service in self._services.good.items() if key.startswith(places)]

    def concerns(self, key: bytes) -> bool:
        """Say whether a key's record is a stub zone's server."""
        return self._given.stub_records and b"/dns/stub/" in key

    def _sign(self, stored: Stored) -> bool:
        """Load the keys that are set now; False when a file is no good."""
        given, answers = self._given, self._answers
        keys_: tuple[Key, ...] = given.signing
        if stored.dnssec:
            zones = merge(given.policy, stored).zones
            try:  # in the key a blank stands for "+", as in the original
                keys_ = load((stored.dnssec.replace(" ", "+"),), zones)
            except KeyFileError as error:
                self._runtime.log.warning("keys of the config key refused", reason=str(error))
                return False
        before = answers.signing.keys if answers.signing else ()
        if tuple(key.rdata for key in keys_) == tuple(key.rdata for key in before):
            return True
        most = given.signatures if stored.scache is None else max(stored.scache, 0)
        answers.signing = Signing(keys_, self._runtime.clock.wall, most) if keys_ else None
        answers.clear()
        for key in keys_:
            self._runtime.log.info("signing", zone=names.to_text(key.zone), key_tag=key.tag)
        return True

    def changed(self, revision: int = 0) -> None:
        """Put in force what follows from what is set now.

        Args:
            revision: of the store's change that this comes of; 0: it comes of none.
        """
        stored, answers = self.stored, self._answers
        running = self._started is not None or answers.loaded
        if self.forwarder is None or (running and not self._sign(stored or Stored())):
            return  # not started yet; or a bad value, which changes nothing
        routes = self._routes(stored or Stored())
        if routes != self.forwarder.routes:
            if routes.by_zone != self.forwarder.routes.by_zone:
                zones = ",".join(sorted(map(names.to_text, routes.by_zone)))
                self._runtime.log.info("skydns: stubzone update", zones=zones)
            self.forwarder.use(routes)
        servers = bool(routes.default.servers)
        recursion = self._given.recursion
        if stored is not None and stored.no_rec is not None:
            recursion = not stored.no_rec
        address = ipaddress.ip_address(self.address[0])
        policy = replace(
            merge(self._given.policy, stored),
            forwarding=servers and recursion,
            chasing=servers or bool(routes.by_zone),
            stubs=frozenset(zone for zone, one in routes.by_zone.items() if one.stub),
            addresses=() if address.is_unspecified else (address.packed,),
        )
        if policy != answers.policy:
            if policy.catalog and policy.zones != answers.policy.zones:
                answers.served.serials[policy.catalog] = answers.served.serial(policy.catalog) + 1
            answers.policy = policy
            if revision and answers.loaded:  # other TTLs, say: secondaries are to fetch them
                answers.served.serials |= dict.fromkeys(policy.zones, revision)
            answers.clear()
            self.renewed()
            self._runtime.log.info(
                "policy in force",
                zones=",".join(sorted(map(names.to_text, policy.zones))),
                ttl=policy.ttl,
                min_ttl=policy.min_ttl,
            )
        if stuck := different(self._started, stored) if self._started or answers.loaded else ():
            self._runtime.log.warning(
                "fields of the config key need a restart", fields=",".join(stuck)
            )

    def _stuck(self, given: Config) -> None:
        """Log what differs and needs a restart."""
        before = self._given
        words = [
            word for name, word in _FIXED.items() if getattr(before, name) != getattr(given, name)
        ]
        if words:
            self._runtime.log.warning("changes need a restart", what=", ".join(words))

    def reload(self, given: Config) -> None:
        """Take over a new command line's policy (SIGHUP), and name what it does not take over."""
        self._stuck(given)
        self._given = replace(
            self._given,
            policy=given.policy,
            recursion=given.recursion,
            routes=given.routes,
            stubs=given.stubs,
            stub_records=given.stub_records,
            signing=given.signing,
            signatures=given.signatures,
            warnings=given.warnings,
        )
        self._warn()
        self.changed()


_FIXED: Final = {
    "address": "bind or port", "binds": "bind", "encrypted": "tls", "metrics": "prometheus",
    "pages": "health or ready", "lameduck": "lameduck", "peers": "transfer", "log_every": "log on or off",
    "prefix": "path", "etcd": "endpoint, credentials or tls of etcd", "watched": "reload",
}  # fmt: skip
"""Fields of the configuration that only a restart changes, and what a Corefile calls them."""
