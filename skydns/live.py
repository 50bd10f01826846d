# SPDX-License-Identifier: Apache-2.0
"""The settings in force: the command line's under the `config` key's, changed while running."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.records import Records
from skydns import addresses, keys, names
from skydns.addresses import parse_server, resolv_conf, without
from skydns.compiled import Answers
from skydns.config import Config
from skydns.dnssec import Key, KeyFileError
from skydns.forward import Forwarder
from skydns.signing import Signing, load
from skydns.stored import Stored, different, merge
from skydns.upstream import Upstream

if TYPE_CHECKING:
    from fairlead.life import Runtime

RESOLV_CONF = Path("/etc/resolv.conf")


def own(host: str, port: int) -> tuple[addresses.Server, ...]:
    """Return what names ourselves in a list of servers; a longer way round ends in a timeout."""
    hosts = {host}
    if ipaddress.ip_address(host).is_unspecified:
        hosts |= {"127.0.0.1", "::1"}
    return tuple(addresses.Server(each, port) for each in sorted(hosts))


class Live:
    """The policy in force: the command line's under the `config` key's (§13.1), live."""

    def __init__(
        self, given: Config, answers: Answers, stored: Records[Stored], runtime: Runtime
    ) -> None:
        self._given = given
        self._answers = answers
        self._stored = stored
        self._runtime = runtime
        self._started: Stored | None = None
        self._upstream = given.upstream
        self.address = given.address

    @property
    def upstream(self) -> Upstream:
        """The servers asked, and how."""
        return self._upstream

    @property
    def stored(self) -> Stored | None:
        """What the `config` key sets."""
        return self._stored.good.get(keys.config(self._given.prefix))

    def start(self) -> Forwarder | None:
        """Fix what only a restart changes; return the forwarder, None without servers."""
        given, stored = self._given, self.stored or Stored()
        self._started = self.stored
        if stored.dns_addr:
            host, _, port = stored.dns_addr.rpartition(":")
            self.address = (host.strip("[]"), int(port))
        upstream = given.upstream
        servers = tuple(map(parse_server, stored.nameservers or ())) or upstream.servers
        if not servers:
            servers = resolv_conf(_text(RESOLV_CONF))
        if stored.read_timeout:
            upstream = replace(upstream, timeout=stored.read_timeout / 1e9)
        if stored.ndot:
            upstream = replace(upstream, ndots=stored.ndot)
        if stored.ns_rotate is not None:
            upstream = replace(upstream, rotate=stored.ns_rotate)
        self._upstream = replace(upstream, servers=without(servers, own(*self.address)))
        self._sign(stored)
        self.changed()
        shown = ",".join(map(str, self._upstream.servers))
        self._runtime.log.info("name servers", servers=shown or "none")
        return Forwarder(self._upstream) if self._upstream.servers else None

    def _sign(self, stored: Stored) -> None:
        """Load the keys that are set now; those in force stay when a file is no good."""
        given, answers = self._given, self._answers
        keys_: tuple[Key, ...] = given.signing
        if stored.dnssec:
            zones = merge(given.policy, stored).zones
            try:  # in the key a blank stands for "+", as in the original
                keys_ = load((stored.dnssec.replace(" ", "+"),), zones)
            except KeyFileError as error:
                self._runtime.log.warning("keys of the config key refused", reason=str(error))
                return
        before = answers.signing.keys if answers.signing else ()
        if tuple(key.rdata for key in keys_) == tuple(key.rdata for key in before):
            return
        most = given.signatures if stored.scache is None else max(stored.scache, 0)
        answers.signing = Signing(keys_, self._runtime.clock.wall, most) if keys_ else None
        answers.clear()
        for key in keys_:
            self._runtime.log.info("signing", zone=names.to_text(key.zone), key_tag=key.tag)

    def changed(self) -> None:
        """Put in force what follows from what is set now."""
        stored, answers = self.stored, self._answers
        if self._started is not None or answers.loaded:
            self._sign(stored or Stored())
        servers = bool(self._upstream.servers)
        recursion = self._given.recursion
        if stored is not None and stored.no_rec is not None:
            recursion = not stored.no_rec
        address = ipaddress.ip_address(self.address[0])
        policy = replace(
            merge(self._given.policy, stored),
            forwarding=servers and recursion,
            chasing=servers,
            addresses=() if address.is_unspecified else (address.packed,),
        )
        if policy != answers.policy:
            answers.policy = policy
            answers.clear()
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

    def reload(self, given: Config) -> None:
        """Take over a new command line's policy (SIGHUP)."""
        self._given = replace(
            self._given,
            policy=given.policy,
            recursion=given.recursion,
            signing=given.signing,
            signatures=given.signatures,
        )
        self.changed()


def _text(path: Path) -> str:
    """Return a file's text, "" when there is none."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
