# SPDX-License-Identifier: Apache-2.0
"""The rules as they stand on the host: observed and applied by nft and the iptables programs.

Whole tables and chains are `nft`'s and `iptables-restore`'s business, which are started only when
something of ours stands or should stand there; the set's elements go by netlink. A program that
is missing has nothing to clean up (trap T8).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Never, TypeVar

from fairlead.clock import Clock
from fairlead.errors import ActionError
from fairlead.log import Log
from flannelpy import netlink, rtnetlink
from flannelpy.backends import Host
from flannelpy.config import Config
from flannelpy.firewall import abilities, docker, elements, iptables, legacy, nftables
from flannelpy.firewall.elements import Element
from flannelpy.firewall.iptables import Rules
from flannelpy.firewall.legacy import Legacy
from flannelpy.firewall.nftables import Table
from flannelpy.firewall.wanted import Firewall, Policy, all_keys, suffix
from flannelpy.netlink import KernelError, Netlink
from flannelpy.nlmsg import Reply
from flannelpy.plan import Action, Delete, Put, thing_of
from flannelpy.records import NetworkConfig
from flannelpy.state import IPNetwork, Key, Kind, Object
from flannelpy.tools import ToolError, run, tool

T = TypeVar("T")
_BATCH = 512  # elements in one transaction: about 30 KiB
_IPTABLES = frozenset({"filter", "nat"})  # its tables are nftables' too on today's hosts


class Rulesets:
    """The part of the host that the rules are."""

    kinds = frozenset({Kind.RULES, Kind.ELEMENT})

    def __init__(
        self, policy: Policy, suffix: str, netfilter: Netlink | None, *, silent: bool
    ) -> None:
        """Look after this host's rules.

        Args:
            netfilter: None: a kernel without nftables.
            silent: the iptables are the old ones, which notify nobody.
        """
        self._policy = policy
        self._nft = False
        self._silent = silent
        self._suffix = suffix
        self._netfilter = netfilter
        self._places = iptables.places(suffix)
        self._docker: dict[int, docker.Docker] = {}
        self._networks: dict[int, IPNetwork] = {}

    def firewall(self, here: Host, ports: Mapping[int, int]) -> Firewall:
        """Return the rules for this host as it is now."""
        config = here.config
        self._nft = abilities.flavour(self._policy, config)  # it may change while we run
        self._networks = {
            half.network.version: half.network for half in (config.v4, config.v6) if half
        }
        return Firewall(
            self._policy,
            config,
            self._nft,
            here.uplink.name,
            ports,
            self._suffix,
            self._docker,  # shared: what is seen next counts
        )

    @property
    def keys(self) -> frozenset[Key]:
        """Every key that a rule of ours can have, wanted or left by others."""
        return all_keys(self._suffix)

    async def watch(
        self, every: float, mark: Callable[[frozenset[Key]], None], clock: Clock
    ) -> Never:
        """Mark the rules now and then: the old iptables tell nobody when theirs are changed."""
        while True:
            await clock.sleep(every)
            if self._silent:
                mark(self.keys)

    @contextmanager
    def listening(
        self, mark: Callable[[frozenset[Key]], None], lost: Callable[[], None]
    ) -> Iterator[None]:
        """Mark our rules when somebody else changes the tables that hold them.

        Args:
            lost: called when anything may have changed.
        """
        ours = {nftables.table_name(version, self._suffix) for version in (4, 6)}
        own = self._netfilter
        if own is None:
            yield
            return

        def heard(replies: Sequence[Reply]) -> None:
            names = set()
            for reply in replies:
                name = elements.concerned(reply)
                if reply.port == own.port or not name:
                    continue
                if name in ours and elements.is_element(reply):
                    lost()
                    return
                names.add(name)
            if names & (ours | _IPTABLES):
                mark(self.keys)

        with netlink.changes(netlink.NETFILTER, elements.GROUP, heard, lost):
            yield

    # --- as it is ---

    async def observe(self, keys: Collection[Key] | None) -> Sequence[Object]:
        """Return our tables, chains and elements; of the rules always all, for they are few."""
        found: list[Object] = []
        if keys is None or any(key.kind == Kind.RULES for key in keys):
            found += await self._tables()
            found += await self._chains()
        if self._netfilter is not None:
            found += await self._elements(self._netfilter, keys)
        return found

    async def _tables(self) -> list[Object]:
        found: list[Object] = []
        if self._netfilter is None:
            return found
        for version in (4, 6):
            wanted = Table(version, (), self._suffix)
            (there,) = await self._netfilter.ask([elements.get_table(wanted.name, version)])
            if there is None:
                continue
            words = ("-j", "-t", "list", "table", wanted.nft_family, wanted.name)
            table = nftables.parse(json.loads(await run("nft", *words)), version, wanted.suffix)
            # one with nothing in it but the set is as good as none
            if table is not None and table.chains:
                found.append(table)
        return found

    async def _chains(self) -> list[Object]:
        found: list[Object] = []
        for version in (4, 6):
            save = f"{iptables.program(version)}-save"
            if tool(save) is None:
                continue
            try:
                saved = await run(save)
            except ToolError:
                continue  # a kernel without: if rules are wanted, their putting says so
            self._docker[version] = docker.seen(_table(saved, "filter"))
            for place in self._places:
                rules = iptables.parse(saved, place, version)
                if rules is not None:
                    found.append(rules)
            if version in self._networks:
                inputs = legacy.inputs(saved, self._networks[version])
                found += [Legacy(version, inputs)] if inputs else []
        return found

    async def _elements(self, kernel: Netlink, keys: Collection[Key] | None) -> list[Object]:
        suffix = self._suffix
        if keys is None:
            dumps = [
                await kernel.dump(elements.dump(nftables.table_name(version, suffix), version))
                for version in (4, 6)
            ]
            return [
                it for replies in dumps for reply in replies for it in elements.parse(reply, suffix)
            ]
        asked = [Element(rtnetlink.key_ip(key), suffix) for key in keys if key.kind == Kind.ELEMENT]
        replies = await kernel.ask([elements.get(it) for it in asked])
        return [
            it for reply in replies if reply is not None for it in elements.parse(reply, suffix)
        ]

    # --- as it should be ---

    async def carry_out(self, actions: Sequence[Action]) -> Sequence[ActionError]:
        """Make them so: elements by netlink, in transactions; the rest by the programs."""
        refused: list[ActionError] = []
        for batch, run_ in groupby(actions, _batch):
            part = list(run_)
            if batch is not None:
                refused += self._change(part)
                continue
            for action in part:
                try:
                    await self._one(action)
                except ActionError as error:
                    refused.append(_refused(action, error))
        return refused

    def _change(self, actions: Sequence[Action]) -> list[ActionError]:
        if self._netfilter is None:
            return [ActionError(it, "a kernel without nftables", transient=False) for it in actions]
        them = [it for it in map(thing_of, actions) if isinstance(it, Element)]
        gone = isinstance(actions[0], Delete)
        made = elements.make_set(them[0].table, them[0].address.version)
        try:
            for start in range(0, len(them), _BATCH):
                some = them[start : start + _BATCH]
                requests = elements.delete(some) if gone else made + elements.put(some)
                self._netfilter.transaction(elements.begin(), requests, elements.end())
        except KernelError as error:
            if gone and error.absent:
                return []
            return [
                ActionError(action, str(error), transient=error.transient) for action in actions
            ]
        return []

    async def _one(self, action: Action) -> None:
        match action:
            case Put(Table() as wanted, there):
                await run("nft", "-f", "-", stdin=nftables.render(wanted, _as(Table, there)))
            case Delete(Table() as gone):
                await run("nft", "-f", "-", stdin=nftables.remove(gone.family, gone.suffix))
            case Put(Rules() as rules, there):
                await _restore(rules.family, iptables.render(rules, _as(Rules, there)))
            case Delete(Rules() as rules):
                await _restore(rules.family, iptables.remove(rules))
            case Delete(Legacy(family, inputs)):
                for text in inputs:
                    await _restore(family, text)
            case _:
                raise TypeError(action)


def _as(kind: type[T], thing: Object | None) -> T | None:
    return thing if isinstance(thing, kind) else None


def _batch(action: Action) -> tuple[str, bool] | None:
    """Return what makes changes of elements one transaction; None: no element."""
    thing = thing_of(action)
    return (thing.table, isinstance(action, Delete)) if isinstance(thing, Element) else None


def _refused(action: Action, error: ActionError) -> ActionError:
    refused = ActionError(action, f"{error.action}: {error.reason}", transient=error.transient)
    refused.__cause__ = error
    return refused


async def _restore(family: int, text: str) -> None:
    await run(f"{iptables.program(family)}-restore", "--noflush", "--wait", "5", stdin=text)


def _table(saved: str, name: str) -> str:
    """Return one table's part of what iptables-save wrote."""
    return saved.partition(f"*{name}\n")[2].partition("\nCOMMIT")[0]


async def connect(
    config: Config, network: NetworkConfig, log: Log
) -> AbstractContextManager[Rulesets]:
    """Look what this host can do, and open what speaks with its firewalls."""
    policy = config.firewall
    if (
        policy.masquerade
        and policy.random
        and not await abilities.random_fully(nft=abilities.flavour(policy, network))
    ):
        log.info("no fully random ports for masquerading: kernel or tool is too old")
        policy = replace(policy, random=False)
    lacks = abilities.lacks()
    if policy.guard and lacks:
        log.warning("anyone may send to the VXLAN port", reason=lacks)
        policy = replace(policy, guard=False)
    return _open(policy, suffix(config.prefix), silent=await abilities.silent())


@contextmanager
def _open(policy: Policy, suffix: str, *, silent: bool) -> Iterator[Rulesets]:
    with ExitStack() as ends:
        netfilter = None
        if not abilities.lacks():
            requests = ends.enter_context(netlink.opened(netlink.NETFILTER))
            requests.bind((0, 0))
            netfilter = Netlink(requests)
        yield Rulesets(policy, suffix, netfilter, silent=silent)
