# SPDX-License-Identifier: Apache-2.0
"""Server blocks → what they say, plugin by plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Final

from skydns import names
from skydns.addresses import Peers
from skydns.corefile import content, listening, rules, signatures, store, upstreams, watching
from skydns.corefile.grammar import PORT, PORTS, Block, CorefileError, Directive
from skydns.corefile.said import InBlock, Said, zones

Taking = Callable[[Directive, Block, Said], None]
"""Takes one plugin over; raises CorefileError for what cannot be."""

PLUGINS: Final[Mapping[str, Taking]] = {
    "acl": content.acl, "any": content.always, "bind": listening.bind, "bufsize": listening.bufsize,
    "cache": upstreams.cache, "chaos": content.chaos, "errors": watching.errors, "etcd": store.etcd,
    "file": content.file, "forward": upstreams.forward, "health": listening.page, "hosts": content.hosts,
    "loadbalance": content.loadbalance, "log": watching.log, "loop": content.always,
    "minimal": content.minimal, "nsid": content.nsid, "prometheus": listening.prometheus,
    "ready": listening.page, "reload": listening.reload, "rewrite": rules.rewrite, "tls": listening.tls,
    "transfer": content.transfer, "tsig": signatures.tsig,
}  # fmt: skip


def translate(blocks: Sequence[Block], *, ignore_unknown: bool = False, port: int = PORT) -> Said:
    """Return what the blocks of a file say.

    Args:
        ignore_unknown: plugins that we do not know are noted as without effect.
        port: of blocks of plain DNS that name none.

    Raises:
        CorefileError: something in it is not supported, or contradicts something else.
    """
    said = Said()
    blocks = [_with_port(block, port) for block in blocks]
    ours: list[str] = []
    seen: set[tuple[str, str, int]] = set()
    for block in blocks:
        for zone in block.zones:
            place = (block.scheme, zone, block.port)
            if place in seen:
                raise CorefileError(f'line {block.line}: "{zone}" is there twice')
            seen.add(place)
        for _ in said.block(block):
            pass  # a block without lists hides those of a shorter zone
        for zone in block.zones:  # and one without `transfer` lets nothing out
            for folded in zones(zone, block.line):
                said.peers.setdefault(folded, Peers())
        for plugin in block.plugins:
            _plugin(plugin, block, said, ignore_unknown=ignore_unknown)
            if plugin.name == "etcd":
                ours += plugin.args or block.zones
    if not ours:
        raise CorefileError("no block has the plugin etcd")
    _same(said.blocks)
    _listen(said, _port(blocks, port))
    said.settings |= {
        "domain": ",".join(dict.fromkeys(ours)), "no-rec": not said.routes, "ndots": 0,
    }  # fmt: skip
    said.settings.setdefault("round-robin", False)  # as the original: only with loadbalance
    return said


def _plugin(plugin: Directive, block: Block, said: Said, *, ignore_unknown: bool) -> None:
    """Take one plugin over."""
    take = PLUGINS.get(plugin.name)
    if take is None:
        if not ignore_unknown:
            raise CorefileError(
                f'line {plugin.line}: plugin "{plugin.name}" is not supported (-ignore-unknown-plugins: go on without)'
            )
        said.without_effect(plugin.line, f"{plugin.name}: not supported, as if it were not there")
        return
    server = f"{block.scheme}://:{block.port}"
    for zone in block.zones:
        for folded in zones(zone, block.line):
            said.plugins.append((server, names.to_text(folded), plugin.name))
    take(plugin, block, said)


def _with_port(block: Block, port: int) -> Block:
    """Return a block with the port it is for."""
    return replace(
        block, port=block.port or (port if block.scheme == "dns" else PORTS[block.scheme])
    )


def _port(blocks: Sequence[Block], port: int) -> int:
    """Return the one port of the blocks that speak plain DNS."""
    ports = sorted({block.port for block in blocks if block.scheme == "dns"})
    if len(ports) > 1:
        raise CorefileError(
            f"blocks on several ports ({', '.join(map(str, ports))}): run a skydns for each"
        )
    return ports[0] if ports else port


def _listen(said: Said, port: int) -> None:
    """Make addresses of what `bind` said; the first is ours, the others stand beside it."""
    hosts = list(dict.fromkeys(said.binds)) or ["0.0.0.0"]  # noqa: S104  (as the original)
    said.settings["addr"] = f"[{hosts[0]}]:{port}" if ":" in hosts[0] else f"{hosts[0]}:{port}"
    said.binds = hosts[1:]


def _same(by_scheme: Mapping[str, Mapping[bytes, InBlock]]) -> None:
    """Refuse blocks of several schemes that say different things: which is asked is not looked at."""
    first, *others = by_scheme.values()
    for field in fields(InBlock):
        said = [
            {zone: getattr(each, field.name) for zone, each in one.items()}
            for one in (first, *others)
        ]
        if any(each != said[0] for each in said) and any(any(each.values()) for each in said):
            raise CorefileError(
                f"{field.name}: blocks of another scheme have other zones or another list"
            )
