# SPDX-License-Identifier: Apache-2.0
"""The wiring, in the order the data flows.

::

    etcd ─► mirror ─► records ─► desired ─┐
                         │                ├─► plan ─► apply ─► index ─► answers ─► sockets
                         │      observe ──┘                      ▲
                         └─► config key ─► policy ───────────────┘
"""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Never

from fairlead.etcd.types import KeyRange, KeyValue
from fairlead.reconcile import Guard, Loop
from fairlead.records import Records
from skydns import addresses, apply, config, desired, keys, names, observe, plan, records
from skydns.addresses import parse_server, resolv_conf, without
from skydns.compiled import Answers
from skydns.config import Policy, Stored
from skydns.forward import Forwarder, Upstream
from skydns.metrics import Collected
from skydns.server import Server as Sockets
from skydns.state import Served

if TYPE_CHECKING:
    from fairlead.etcd.options import Options
    from fairlead.etcd.view import Changes
    from fairlead.life import Runtime

RESOLV_CONF = Path("/etc/resolv.conf")
_FIRST_LIST = 3.0  # seconds; the mirror falls back to its file after 2


@dataclass(frozen=True, slots=True)
class Config:
    """All that the command line and the environment decide.

    Attributes:
        policy: before what the `config` key sets.
        upstream: its `servers` may be empty: those of /etc/resolv.conf.
        recursion: false with `-no-rec`: names that are not ours are refused.
    """

    policy: Policy
    prefix: bytes
    address: tuple[str, int]
    upstream: Upstream
    recursion: bool
    etcd: Options


async def serve(config: Config, runtime: Runtime) -> None:
    """Run until cancelled."""
    mirror = runtime.mirror("skydns", KeyRange.prefix(keys.below(config.prefix)))
    services: Records[records.Service] = Records(partial(records.decode, config.prefix))
    stored: Records[Stored] = Records(partial(_stored, config.prefix))
    runtime.records("services", services)
    runtime.records("config", stored)

    answers = Answers(Served(), config.policy, runtime.clock.monotonic)
    publisher = apply.Publisher(answers, lambda: mirror.revision)
    loop = Loop(
        name="answers",
        desired=partial(desired.services, services.good),
        observe=partial(observe.services, answers.served),
        plan=plan.index,
        apply=publisher.carry_out,
        resync=600.0,
        guard=Guard(
            plan.removes, lambda: len(answers.served.index.services), share=runtime.max_removals
        ),
        observed=publisher.passed,
    )
    settings = _Settings(config, answers, stored, runtime)

    def changed(batch: Changes) -> None:
        values = [(change.key, change.new) for change in batch.changes]
        loop.dirty.mark(services.apply(values))
        if stored.apply(values):
            settings.changed()

    mirror.subscribe(changed)
    runtime.on_reload(settings.reload)
    if runtime.planning:
        runtime.reconcile(loop, mirror)
        await runtime.ready()
    sockets = Sockets(answers, None)
    # the `config` key may name another address and other servers, so the first list is waited
    # for; not for long, for without etcd an answer of "not ready" beats none
    with suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_LIST):
            await mirror.ready()
    sockets.forwarder = settings.start()
    await sockets.listen(*settings.address)
    try:
        runtime.metrics.registry.register(Collected(answers, sockets))
        runtime.state("skydns", partial(_state, answers, sockets, settings))
        runtime.log.info("listening", address=f"{sockets.host}:{sockets.port}")
        runtime.reconcile(loop, mirror)
        await mirror.ready()
        await publisher.whole.wait()
        zones = ",".join(sorted(map(names.to_text, answers.policy.zones)))
        runtime.log.info(
            "skydns: ready for queries", zones=zones, address=f"{sockets.host}:{sockets.port}"
        )
        runtime.tasks.start("leases", apply.follow_leases(publisher, runtime.store, runtime.clock))
        await runtime.ready()
        await _sweep(answers, runtime)
    finally:
        await sockets.aclose()


def own(host: str, port: int) -> tuple[addresses.Server, ...]:
    """Return what names ourselves in a list of servers; a longer way round ends in a timeout."""
    hosts = {host}
    if ipaddress.ip_address(host).is_unspecified:
        hosts |= {"127.0.0.1", "::1"}
    return tuple(addresses.Server(each, port) for each in sorted(hosts))


class _Settings:
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
        self.changed()
        shown = ",".join(map(str, self._upstream.servers))
        self._runtime.log.info("name servers", servers=shown or "none")
        return Forwarder(self._upstream) if self._upstream.servers else None

    def changed(self) -> None:
        """Put the policy in force that follows from what is set now."""
        stored, answers = self.stored, self._answers
        servers = bool(self._upstream.servers)
        recursion = self._given.recursion
        if stored is not None and stored.no_rec is not None:
            recursion = not stored.no_rec
        address = ipaddress.ip_address(self.address[0])
        policy = replace(
            config.merge(self._given.policy, stored),
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
        if (
            stuck := config.different(self._started, stored)
            if self._started or answers.loaded
            else ()
        ):
            self._runtime.log.warning(
                "fields of the config key need a restart", fields=",".join(stuck)
            )

    def reload(self, given: Config) -> None:
        """Take over a new command line's policy (SIGHUP)."""
        self._given = replace(self._given, policy=given.policy, recursion=given.recursion)
        self.changed()


def _stored(prefix: bytes, kv: KeyValue) -> Stored | None:
    """Decode the `config` key; every other key is none."""
    return config.decode(kv) if kv.key == keys.config(prefix) else None


def _text(path: Path) -> str:
    """Return a file's text, "" when there is none."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _state(answers: Answers, sockets: Sockets, settings: _Settings) -> dict[str, object]:
    """Return what /debug/state shows of us."""
    served = answers.served
    return {
        "address": f"{sockets.host}:{sockets.port}",
        "zones": {
            names.to_text(zone): served.serial(zone) for zone in sorted(answers.policy.zones)
        },
        "profile": answers.policy.profile.name,
        "records": len(served.index.services),
        "leases": len(served.leases),
        "kept": answers.sizes(),
        "replies": dict(answers.totals()),
        "servers": list(map(str, settings.upstream.servers)),
    }


async def _sweep(answers: Answers, runtime: Runtime) -> Never:
    """Drop answers whose leases' remaining seconds went down."""
    while True:
        await runtime.clock.sleep(1.0)
        answers.sweep()
