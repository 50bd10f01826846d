# SPDX-License-Identifier: Apache-2.0
"""What a Corefile says in our terms, and how its arguments are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fairlead import duration
from fairlead.errors import ConfigError
from fairlead.flags import Typed, Values
from skydns import keys, rrs
from skydns.addresses import Peers
from skydns.cache import Bounds
from skydns.corefile.grammar import Block, CorefileError, Directive

if TYPE_CHECKING:  # 100 ms that only those with a Corefile pay
    from skydns import acl
    from skydns.hosts import Spec
    from skydns.logformat import Format
    from skydns.rewrite import Rule
    from skydns.sharedkeys import Key
    from skydns.zonefile import Zonefile


@dataclass(slots=True)
class InBlock:
    """What one server block says of the names in its zones, plugin by plugin."""

    acl: list[acl.Directive] = field(default_factory=list)
    hosts: Spec | None = None
    file: list[Zonefile] = field(default_factory=list)
    rewrite: list[Rule] = field(default_factory=list)
    log: list[Format] = field(default_factory=list)


@dataclass(slots=True)
class Said:
    """What a file says.

    Attributes:
        settings: values of ours by name.
        routes: what `forward` says, by zone: whom to ask, and who comes `next`.
        bounds: of the cache; `bounds_settled`: from a block that forwards.
        peers: of `transfer`, by zone.
        keys: of `tsig`, by folded name.
        fallthrough: zones whose missing names are asked of the servers.
        bufsize: octets of a reply by UDP at most.
        authors: of `chaos`.
        binds: addresses to answer on.
        weights_reload: seconds between two looks at the file of weights; 0: none.
        pages: `health` and `ready`: kind, host, port.
        metrics: of `prometheus`: host, port, path.
        lameduck: seconds to go on answering after SIGTERM.
        reload: seconds between two looks at the file; 0: none.
        client_ca: file of who signs clients' certificates; `client_auth`: whether they must have one.
        blocks: by scheme and folded zone.
        plugins: server, zone and name of each.
        idle: what is accepted without effect, with line and reason.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    routes: dict[bytes, list[dict[str, Any]]] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=lambda: Bounds(most=0))
    bounds_settled: bool = False
    peers: dict[bytes, Peers] = field(default_factory=dict)
    keys: dict[bytes, Key] = field(default_factory=dict)
    fallthrough: set[bytes] = field(default_factory=set)
    least_lease: int | None = None
    most_lease: int | None = None
    apex_fallback: bool = True
    minimal: bool = False
    bufsize: int = 1232
    authors: tuple[str, ...] = ()
    binds: list[str] = field(default_factory=list)
    weights_reload: float = 30.0
    pages: list[tuple[str, str, int]] = field(default_factory=list)
    metrics: list[tuple[str, int, str]] = field(default_factory=list)
    lameduck: float = 0.0
    reload: float = 0.0
    client_ca: str = ""
    client_auth: bool = False
    blocks: dict[str, dict[bytes, InBlock]] = field(default_factory=dict)
    plugins: list[tuple[str, str, str]] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)

    def block(self, block: Block) -> Iterator[InBlock]:
        """Yield what stands for each zone of a server block."""
        for zone in block.zones:
            for folded in zones(zone, block.line):
                yield self.blocks.setdefault(block.scheme, {}).setdefault(folded, InBlock())

    @property
    def in_blocks(self) -> Mapping[bytes, InBlock]:
        """What the blocks say, by zone; those of all schemes say the same."""
        return next(iter(self.blocks.values()), {})

    def without_effect(self, line: int, reason: str) -> None:
        """Note what is accepted and does nothing."""
        self.idle.append(f"line {line}: {reason}")


class Overlaid(Typed):
    """Values of the command line over those of the file."""

    def __init__(self, values: Values, below: Mapping[str, Any]) -> None:
        self._values = values
        self._below = below

    def __getitem__(self, name: str) -> Any:
        if name in self._below and not self._values.given(name):
            return self._below[name]
        return self._values[name]

    def error(self, name: str, reason: str) -> ConfigError:
        """Return the fault of one value."""
        return self._values.error(name, reason)


def refused(plugin: Directive, each: Directive) -> CorefileError:
    """Return the fault of a property that we do not know."""
    return CorefileError(
        f'line {each.line}: {plugin.name}: property "{each.name}" is not supported'
    )


def bare(plugin: Directive) -> None:
    """Refuse properties of a plugin that has none.

    Raises:
        CorefileError: there is one.
    """
    for each in plugin.properties:
        raise refused(plugin, each)


def one(each: Directive) -> str:
    """Return the one argument.

    Raises:
        CorefileError: there is none, or are more.
    """
    if len(each.args) != 1:
        raise CorefileError(f"line {each.line}: {each.name} takes one argument")
    return each.args[0]


def number(each: Directive, least: int = 0) -> int:
    """Return the one argument as a number.

    Raises:
        CorefileError: it is none, or less than `least`.
    """
    text = one(each)
    if not text.isdecimal() or int(text) < least:
        raise CorefileError(f"line {each.line}: {each.name} takes a number from {least}")
    return int(text)


def seconds(text: str, line: int) -> float:
    """Return a time: seconds or Go's form.

    Raises:
        CorefileError: it is none.
    """
    try:
        value = float(text) if text.isdecimal() else duration.parse_seconds(text)
    except ValueError as error:
        raise CorefileError(f'line {line}: "{text}": {error}') from error
    if value < 0:
        raise CorefileError(f'line {line}: "{text}" is less than 0')
    return value


def zones(text: str, line: int) -> tuple[bytes, ...]:
    """Return a name, or the reverse zones of a CIDR, folded.

    Raises:
        CorefileError: it is neither.
    """
    try:
        return keys.zones(text)
    except ValueError as error:
        raise CorefileError(f"line {line}: {error}") from error


def zones_of(plugin: Directive, args: tuple[str, ...], block: Block) -> frozenset[bytes]:
    """Return the zones that a plugin is for: its own, else those of the server block."""
    return frozenset(folded for zone in args or block.zones for folded in zones(zone, plugin.line))


def rcode(text: str, line: int) -> int:
    """Return an rcode's number.

    Raises:
        CorefileError: there is no such rcode.
    """
    found = rrs.rcode(text)
    if found is None:
        raise CorefileError(f'line {line}: "{text}" is no rcode')
    return found


def rtype(text: str, line: int) -> int:
    """Return a type's number.

    Raises:
        CorefileError: there is no such type.
    """
    found = rrs.number(text)
    if found is None:
        raise CorefileError(f'line {line}: "{text}" is no type of records')
    return found
