# SPDX-License-Identifier: Apache-2.0
"""Plugins that say what is answered, to whom, in which order."""

from __future__ import annotations

import socket
from dataclasses import replace

from skydns import names, zonefile
from skydns.acl import Action, Line
from skydns.acl import Directive as Listed
from skydns.addresses import Peers, network, parse_server
from skydns.corefile.grammar import Block, CorefileError, Directive
from skydns.corefile.said import Said, bare, one, refused, rtype, seconds, zones, zones_of
from skydns.files import stamp
from skydns.hosts import Spec, Table
from skydns.zonefile import Zonefile, ZonefileError


def acl(plugin: Directive, block: Block, said: Said) -> None:
    """Take over who may ask what."""
    lines = []
    for each in plugin.properties:
        try:
            action = Action(each.name)
        except ValueError:
            raise refused(plugin, each) from None
        lines.append(_line(each, action))
    zones = zones_of(plugin, plugin.args, block)
    for place in said.block(block):
        place.acl.append(Listed(zones, tuple(lines)))


def _line(each: Directive, action: Action) -> Line:
    """Return what one line of an access list says."""
    given: dict[str, list[str]] = {}
    kind = ""
    for word in each.args:
        if word in {"type", "net"} and kind != word:
            kind, given[word] = word, given.get(word, [])
        elif kind:
            given[kind].append(word)
        else:
            raise CorefileError(f'line {each.line}: acl: "{word}": type or net is expected')
    for kind, words in given.items():
        if not words:
            raise CorefileError(f"line {each.line}: acl: {kind} takes at least one argument")
    types = [rtype(word, each.line) for word in given.get("type", ()) if word != "*"]
    try:
        networks = tuple(network(word) for word in given.get("net", ()) if word != "*")
    except ValueError as error:
        raise CorefileError(f"line {each.line}: acl: {error}") from error
    return Line(
        action, frozenset() if "*" in given.get("type", ()) else frozenset(types),
        () if "*" in given.get("net", ()) else networks,
    )  # fmt: skip


def hosts(plugin: Directive, block: Block, said: Said) -> None:
    """Take over a file like /etc/hosts, and lines like its."""
    path, *given = plugin.args or ("/etc/hosts",)
    zones_ = zones_of(plugin, tuple(given), block)
    spec = Spec(path, zones_)
    for each in plugin.properties:
        match each.name:
            case "ttl":
                text = one(each)
                if not text.isdecimal() or not 0 < int(text) <= 65535:
                    raise CorefileError(f'line {each.line}: hosts: ttl "{text}" is not 1 to 65535')
                spec = replace(spec, ttl=int(text))
            case "no_reverse":
                if each.args:
                    raise CorefileError(f"line {each.line}: no_reverse takes no argument")
                spec = replace(spec, reverse=False)
            case "reload":
                spec = replace(spec, reload=seconds(one(each), each.line))
            case "fallthrough":
                spec = replace(spec, fallthrough=_through(each))
            case _:
                line = " ".join((each.name, *each.args))
                if not Table().add(line, zones_):
                    raise refused(plugin, each)
                spec = replace(spec, inline=(*spec.inline, line))
    for place in said.block(block):
        if place.hosts is not None:
            raise CorefileError(f"line {plugin.line}: hosts is in this block already")
        place.hosts = spec


def _through(each: Directive) -> frozenset[bytes]:
    below = [folded for zone in each.args for folded in zones(zone, each.line)]
    return frozenset(below) or frozenset((names.ROOT,))


def file(plugin: Directive, block: Block, said: Said) -> None:
    """Take over a master file; it is read, so that faults are told before the start."""
    if not plugin.args:
        raise CorefileError(f"line {plugin.line}: file DBFILE [ZONES...]")
    spec = Zonefile(plugin.args[0], zones_of(plugin, plugin.args[1:], block))
    for each in plugin.properties:
        match each.name:
            case "reload":
                spec = replace(spec, reload=seconds(one(each), each.line))
            case "reload_by_mtime":
                spec = replace(spec, by_time=True)
            case "fallthrough":
                spec = replace(spec, fallthrough=_through(each))
            case _:
                raise refused(plugin, each)
    spec = replace(spec, seen=stamp(spec.path))
    for zone in spec.zones:
        try:
            spec.at_hand[zone] = zonefile.read(spec.path, zone)
        except ZonefileError as error:
            raise CorefileError(f"line {plugin.line}: file: {error}") from error
    for place in said.block(block):
        place.file.append(spec)


def transfer(plugin: Directive, block: Block, said: Said) -> None:
    """Take over who may have our zones, and who is told of changes."""
    found = Peers()
    for each in plugin.properties:
        if each.name != "to" or not each.args:
            raise refused(plugin, each)
        for target in each.args:
            found = _with(found, target, each.line)
    for zone in zones_of(plugin, plugin.args, block):
        before = said.peers.get(zone, Peers())
        said.peers[zone] = replace(
            before, allowed=(*before.allowed, *found.allowed), notified=(*before.notified, *found.notified)
        )  # fmt: skip


def _with(peers: Peers, target: str, line: int) -> Peers:
    """Return peers with one more: `*`, or a server that may have the zone and is told of changes."""
    if target == "*":
        return replace(peers, allowed=(*peers.allowed, network("0.0.0.0/0"), network("::/0")))
    try:
        server = parse_server(target)
    except ValueError as error:
        raise CorefileError(f"line {line}: transfer: {error}") from error
    return replace(
        peers, allowed=(*peers.allowed, network(server.host)), notified=(*peers.notified, server)
    )


def loadbalance(plugin: Directive, block: Block, said: Said) -> None:
    """Take over the order of addresses."""
    del block
    match plugin.args:
        case () | ("round_robin",):
            pass
        case ("weighted", path):
            said.settings["weights"] = path
        case _:
            raise CorefileError(f"line {plugin.line}: loadbalance [round_robin | weighted FILE]")
    for each in plugin.properties:
        match each.name:
            case "prefer" if each.args:
                said.settings["prefer"] = each.args
            case "reload":
                said.weights_reload = seconds(one(each), each.line)
            case _:
                raise refused(plugin, each)
    said.settings["round-robin"] = True


def chaos(plugin: Directive, block: Block, said: Said) -> None:
    """Take over what is said of us in the class CHAOS."""
    del block
    bare(plugin)
    said.settings["version-bind"] = plugin.args[0] if plugin.args else "Fairlead"
    said.authors = plugin.args[1:]
    said.settings.setdefault("nsid", socket.gethostname()[:255])


def nsid(plugin: Directive, block: Block, said: Said) -> None:
    """Take over what this server is called."""
    del block
    bare(plugin)
    said.settings["nsid"] = " ".join(plugin.args) or socket.gethostname()[:255]


def minimal(plugin: Directive, block: Block, said: Said) -> None:
    """Leave out what was not asked for."""
    del block
    bare(plugin)
    said.minimal = True


def always(plugin: Directive, block: Block, said: Said) -> None:
    """Take over `any` and `loop`, which are always on here."""
    del block, said
    bare(plugin)
