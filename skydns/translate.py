# SPDX-License-Identifier: Apache-2.0
"""Server blocks of a Corefile → our settings, and what no setting says (specs/skydns.md §15.4).

A plugin or property either works as it does there, or is refused by name. Flags that are given
win over the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from fairlead import duration
from fairlead.errors import ConfigError
from fairlead.flags import Values
from skydns import keys, names, rrs
from skydns.acl import Action, Line
from skydns.acl import Directive as Listed
from skydns.addresses import Server, network, parse_server, resolv_conf
from skydns.cache import Bounds
from skydns.corefile import Block, CorefileError, Directive
from skydns.hosts import Spec, Table
from skydns.upstream import Probe

_NOTHING: Final = frozenset(
    ("stubzones", "upstream", "debug")
)  # accepted by the original, no effect
_ALWAYS: Final = frozenset(("errors", "loop", "any", "reload"))


@dataclass(slots=True)
class Translated:
    """What a file says.

    Attributes:
        settings: values of ours by name.
        routes: servers by zone, with what the plugin `forward` sets beside them.
        fallthrough: zones whose missing names are asked of the servers.
        pages: `health` and `ready`: kind, host, port.
        metrics: of `prometheus`: host, port.
        lameduck: seconds to go on answering after SIGTERM.
        reload: seconds between two looks at the file; 0: none.
        acls: of each server block, by scheme and zone.
        hosts: of each server block, by scheme and zone.
        plugins: scheme, zone and name of each.
        idle: what is accepted without effect, with line and reason.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    routes: dict[bytes, tuple[tuple[Server, ...], Mapping[str, Any]]] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=lambda: Bounds(most=0))
    fallthrough: set[bytes] = field(default_factory=set)
    least_lease: int | None = None
    most_lease: int | None = None
    apex_fallback: bool = True
    minimal: bool = False
    binds: list[str] = field(default_factory=list)
    pages: list[tuple[str, str, int]] = field(default_factory=list)
    metrics: list[tuple[str, int, str]] = field(default_factory=list)
    lameduck: float = 0.0
    reload: float = 0.0
    acls: dict[str, dict[bytes, tuple[Listed, ...]]] = field(default_factory=dict)
    hosts: dict[str, dict[bytes, Spec | None]] = field(default_factory=dict)
    plugins: list[tuple[str, str, str]] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)


class Overlaid:
    """Values of the command line over those of the file."""

    def __init__(self, values: Values, below: Mapping[str, Any]) -> None:
        self._values = values
        self._below = below

    def __getitem__(self, name: str) -> Any:
        if name in self._below and not self._values.given(name):
            return self._below[name]
        return self._values[name]

    def text(self, name: str) -> str:
        """Return a text."""
        return str(self[name])

    def flag(self, name: str) -> bool:
        """Return a boolean."""
        return bool(self[name])

    def number(self, name: str) -> int:
        """Return an integer."""
        return int(self[name])

    def seconds(self, name: str) -> float:
        """Return a time."""
        return float(self[name])

    def many(self, name: str) -> tuple[str, ...]:
        """Return a list."""
        return tuple(self[name])

    def error(self, name: str, reason: str) -> ConfigError:
        """Return the fault of one value."""
        return self._values.error(name, reason)


def translate(blocks: Sequence[Block]) -> Translated:
    """Return what the blocks of a file say.

    Raises:
        CorefileError: something in it is not supported, or contradicts something else.
    """
    found = Translated()
    zones: list[str] = []
    seen: set[tuple[str, str, int]] = set()
    ports: set[int] = set()
    for block in blocks:
        for zone in block.zones:
            place = (block.scheme, zone, block.port)
            if place in seen:
                raise CorefileError(f'line {block.line}: "{zone}" is there twice')
            seen.add(place)
        if block.scheme == "dns":
            ports.add(block.port or 53)
        places = [folded for zone in block.zones for folded in _zones(zone, block.line)]
        found.acls.setdefault(block.scheme, {}).update(dict.fromkeys(places, ()))
        found.hosts.setdefault(block.scheme, {}).update(dict.fromkeys(places))
        for plugin in block.plugins:
            found.plugins += [
                (f"{block.scheme}://:{block.port or 53}", names.to_text(place), plugin.name)
                for place in places
            ]
            _plugin(plugin, block, found, zones)
    if len(ports) > 1:
        raise CorefileError(
            f"blocks on several ports ({', '.join(map(str, sorted(ports)))}): run a skydns for each"
        )
    _same(found.acls, "acl")
    _same(found.hosts, "hosts")
    if not zones:
        raise CorefileError("no block has the plugin etcd")
    port = ports.pop() if ports else 53
    hosts = list(dict.fromkeys(found.binds)) or ["0.0.0.0"]  # noqa: S104  (as the original)
    found.settings |= {
        "domain": ",".join(dict.fromkeys(zones)),
        "addr": f"[{hosts[0]}]:{port}" if ":" in hosts[0] else f"{hosts[0]}:{port}",
        "no-rec": not found.routes,
        "ndots": 0,
    }
    found.binds = hosts[1:]
    found.settings.setdefault("round-robin", False)  # as the original: only with loadbalance
    return found


def _same(found: Mapping[str, Mapping[bytes, object]], name: str) -> None:
    """Refuse blocks of several schemes that say different things: which is asked is not looked at."""
    first, *others = found.values() or ({},)
    if any(said != first for said in others) and any(map(_any, found.values())):
        raise CorefileError(f"{name}: blocks of another scheme have other zones or another list")


def _any(listed: Mapping[bytes, object]) -> bool:
    return any(listed.values())


def _plugin(plugin: Directive, block: Block, found: Translated, zones: list[str]) -> None:
    """Take one plugin over."""
    known = {
        "etcd": _etcd, "cache": _cache, "forward": _forward, "loadbalance": _loadbalance, "log": _log, "health": _page,
        "ready": _page, "prometheus": _prometheus, "reload": _reload, "bind": _bind, "bufsize": _bufsize, "chaos": _chaos,
        "transfer": _transfer, "tls": _tls, "acl": _acl, "hosts": _hosts,
    }  # fmt: skip
    if plugin.name == "etcd":
        _etcd(plugin, block, found)
        zones += plugin.args or block.zones
    elif plugin.name in known:
        known[plugin.name](plugin, block, found)
    elif plugin.name == "minimal":
        found.minimal = True
    elif plugin.name in _ALWAYS:
        for each in plugin.properties:
            raise _refused(plugin, each)
    else:
        raise CorefileError(f'line {plugin.line}: plugin "{plugin.name}" is not supported')


def _refused(plugin: Directive, each: Directive) -> CorefileError:
    return CorefileError(
        f'line {each.line}: {plugin.name}: property "{each.name}" is not supported'
    )


def _one(each: Directive, what: str = "one argument") -> str:
    if len(each.args) != 1:
        raise CorefileError(f"line {each.line}: {each.name} takes {what}")
    return each.args[0]


def _seconds(text: str, line: int) -> float:
    try:
        value = float(text) if text.isdecimal() else duration.parse_seconds(text)
    except ValueError as error:
        raise CorefileError(f'line {line}: "{text}": {error}') from error
    if value < 0:
        raise CorefileError(f'line {line}: "{text}" is less than 0')
    return value


def _etcd(plugin: Directive, block: Block, found: Translated) -> None:
    said: dict[str, Any] = {"path-prefix": "skydns", "machines": ("http://localhost:2379",)}
    for each in plugin.properties:
        match each.name:
            case "path":
                said["path-prefix"] = _one(each)
            case "endpoint":
                if not each.args:
                    raise CorefileError(f"line {each.line}: endpoint takes at least one argument")
                said["machines"] = each.args
            case "credentials":
                if len(each.args) != 2:
                    raise CorefileError(f"line {each.line}: credentials requires 2 arguments")
                if all(each.args):
                    said["username"], said["password"] = each.args
            case "tls":
                where = {
                    0: (),
                    1: ("ca-cert",),
                    2: ("tls-pem", "tls-key"),
                    3: ("tls-pem", "tls-key", "ca-cert"),
                }
                if len(each.args) not in where:
                    raise CorefileError(f"line {each.line}: tls takes at most three arguments")
                said |= zip(where[len(each.args)], each.args, strict=True)
            case "min-lease-ttl":
                found.least_lease = int(_seconds(_one(each), each.line)) or 30
            case "max-lease-ttl":
                found.most_lease = int(_seconds(_one(each), each.line)) or 86400
            case "fallthrough":
                if block.all("forward"):  # else there is nothing that it could fall through to
                    for zone in each.args or plugin.args or block.zones:
                        found.fallthrough.update(_zones(zone, each.line))
            case "no_apex_fallback":
                found.apex_fallback = False
            case name if name in _NOTHING:
                found.idle.append(
                    f"line {each.line}: etcd: {name} has no effect, as in the original"
                )
            case name:
                raise CorefileError(f"line {each.line}: etcd: unknown property '{name}'")
    for name, value in said.items():
        if found.settings.setdefault(name, value) != value:
            raise CorefileError(
                f"line {plugin.line}: etcd: another block has another {name}: run a skydns for each"
            )


def _zones(text: str, line: int) -> tuple[bytes, ...]:
    try:
        return keys.zones(text)
    except ValueError as error:
        raise CorefileError(f"line {line}: {error}") from error


def _cache(plugin: Directive, block: Block, found: Translated) -> None:
    del block
    bounds = Bounds(most=9984, least=5, stale=0, prefetch=0)
    if plugin.args and plugin.args[0].isdecimal():
        most = int(plugin.args[0])
        bounds = replace(bounds, positive=min(most, 3600), negative=min(most, 1800))
    for each in plugin.properties:
        match each.name:
            case "success" | "denial" if each.args and all(map(str.isdecimal, each.args)):
                bounds = replace(bounds, most=max(int(each.args[0]), bounds.most))
                if len(each.args) > 1:
                    most = int(each.args[1])
                    if each.name == "success":
                        bounds = replace(bounds, positive=most)
                    else:
                        bounds = replace(bounds, negative=most)
                if len(each.args) > 2:
                    bounds = replace(bounds, least=int(each.args[2]))
            case "prefetch" if each.args and each.args[0].isdecimal():
                bounds = replace(bounds, prefetch=int(each.args[0]))
            case "serve_stale":
                if len(each.args) > 1 and each.args[1] != "verify":
                    raise CorefileError(
                        f'line {each.line}: serve_stale {each.args[1]}: only "verify" is supported: what has run out is served after a failed try (RFC 8767)'
                    )
                hour = _seconds(each.args[0], each.line) if each.args else 3600.0
                bounds = replace(bounds, stale=int(hour))
            case "servfail":
                bounds = replace(bounds, failure=min(int(_seconds(_one(each), each.line)), 300))
            case "keepttl":
                bounds = replace(bounds, keep_ttl=True)
            case _:
                raise _refused(plugin, each)
    found.bounds = bounds


def _forward(plugin: Directive, block: Block, found: Translated) -> None:
    if len(plugin.args) < 2:
        raise CorefileError(f"line {plugin.line}: forward FROM TO...")
    source, *targets = plugin.args
    servers: list[Server] = []
    for target in targets:
        try:
            servers.append(parse_server(target.removeprefix("dns://")))
        except ValueError:
            if not Path(target).is_file():
                raise CorefileError(
                    f'line {plugin.line}: forward: "{target}" is neither IP[:port], tls://IP, nor a file'
                ) from None
            servers += resolv_conf(Path(target).read_text("utf-8", "replace"))
    if len(servers) > 15:
        raise CorefileError(f"line {plugin.line}: forward: more than 15 servers")
    more: dict[str, Any] = {}
    for each in plugin.properties:
        match each.name:
            case "except":
                more["excepted"] = frozenset(
                    zone for text in each.args for zone in _zones(text, each.line)
                )
            case "force_tcp":
                more["tcp"] = True
            case "prefer_udp":
                if not more.get("tcp"):  # else force_tcp wins, as in the original
                    more["tcp"] = False
            case "read_timeout":
                more["timeout"] = _seconds(_one(each), each.line)
            case "max_fails":
                more["fails"] = int(_one(each))
            case "policy" if _one(each) in {"random", "round_robin", "sequential"}:
                more["rotate"] = each.args[0] != "sequential"
            case "tls_servername":
                servers = [server._replace(name=_one(each)) for server in servers]
            case "health_check":
                more["probe"] = _probe(each)
            case "expire" | "max_idle_conns":
                if each.name == "expire":
                    _seconds(_one(each), each.line)
                elif not _one(each).isdecimal():
                    raise CorefileError(f"line {each.line}: max_idle_conns takes a number")
                found.idle.append(
                    f"line {each.line}: forward: {each.name} has no effect: connections are not kept"
                )
            case _:
                raise _refused(plugin, each)
    for zone_text in block.zones:
        (zone, *_), (start, *_) = _zones(zone_text, plugin.line), _zones(source, plugin.line)
        for place in _zones(zone_text, plugin.line) if zone != names.ROOT else (zone,):
            longer = place if names.below(place, start) else start
            if longer in found.routes:
                raise CorefileError(
                    f"line {plugin.line}: forward: {names.to_text(longer)} is there twice"
                )
            found.routes[longer] = tuple(servers), more


def _probe(each: Directive) -> Probe:
    """Return what `health_check DURATION [no_rec] [domain NAME]` says."""
    if not each.args:
        raise CorefileError(f"line {each.line}: health_check takes a time")
    first = _seconds(each.args[0], each.line)
    if not first:
        raise CorefileError(f"line {each.line}: health_check: the time must be more than 0")
    probe, rest = Probe(first), list(each.args[1:])
    while rest:
        match rest:
            case ["no_rec", *rest]:
                probe = probe._replace(recursive=False)
            case ["domain", name, *rest]:
                try:
                    probe = probe._replace(name=names.from_text(name).lower())
                except ValueError as error:
                    raise CorefileError(f"line {each.line}: health_check: {error}") from error
            case _:
                raise CorefileError(f'line {each.line}: health_check: "{rest[0]}" is not supported')
    return probe


def _loadbalance(plugin: Directive, block: Block, found: Translated) -> None:
    del block
    if plugin.args not in {(), ("round_robin",)} or plugin.properties:
        raise CorefileError(f"line {plugin.line}: loadbalance: only round_robin is supported")
    found.settings["round-robin"] = True


def _log(plugin: Directive, block: Block, found: Translated) -> None:
    del block
    if plugin.args not in {(), (".",)} or plugin.properties:
        raise CorefileError(
            f"line {plugin.line}: log: names, formats and classes are not supported"
        )
    found.settings["verbose"] = True


def _listening(plugin: Directive, default: str) -> tuple[str, int]:
    text = plugin.args[0] if plugin.args else default
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise CorefileError(f'line {plugin.line}: {plugin.name}: "{text}" is not [ADDRESS]:PORT')
    return ("127.0.0.1" if host == "localhost" else host.strip("[]")), int(port)


def _page(plugin: Directive, block: Block, found: Translated) -> None:
    del block
    for each in plugin.properties:
        if plugin.name == "health" and each.name == "lameduck":
            found.lameduck = _seconds(_one(each), each.line)
        else:
            raise _refused(plugin, each)
    page = (plugin.name, *_listening(plugin, ":8080" if plugin.name == "health" else ":8181"))
    if page not in found.pages:
        found.pages.append(page)


def _prometheus(plugin: Directive, block: Block, found: Translated) -> None:
    del block
    place = (*_listening(plugin, "localhost:9153"), "/metrics")
    if place not in found.metrics:
        found.metrics.append(place)


def _reload(plugin: Directive, block: Block, found: Translated) -> None:
    del block
    if plugin.args == ("off",):
        return
    found.reload = max(_seconds(plugin.args[0], plugin.line) if plugin.args else 30.0, 2.0)


def _bind(plugin: Directive, block: Block, found: Translated) -> None:
    del block
    for each in plugin.properties:
        raise _refused(plugin, each)
    for address in plugin.args:
        try:
            parse_server(address)
        except ValueError:
            raise CorefileError(
                f'line {plugin.line}: bind: "{address}" is no address (names of interfaces are not supported)'
            ) from None
        found.binds.append(address)


def _bufsize(plugin: Directive, block: Block, found: Translated) -> None:
    del block, found
    if plugin.args not in {(), ("1232",)}:
        raise CorefileError(f"line {plugin.line}: bufsize: it is 1232, always")


def _chaos(plugin: Directive, block: Block, found: Translated) -> None:
    del block
    if len(plugin.args) > 1:
        raise CorefileError(f"line {plugin.line}: chaos: authors are not supported")
    found.settings["version-bind"] = plugin.args[0] if plugin.args else "Fairlead"


def _acl(plugin: Directive, block: Block, found: Translated) -> None:
    lines = []
    for each in plugin.properties:
        try:
            action = Action(each.name)
        except ValueError:
            raise _refused(plugin, each) from None
        said: dict[str, list[str]] = {}
        kind = ""
        for word in each.args:
            if word in {"type", "net"} and kind != word:
                kind, said[word] = word, said.get(word, [])
            elif kind:
                said[kind].append(word)
            else:
                raise CorefileError(f'line {each.line}: acl: "{word}": type or net is expected')
        for kind, words in said.items():
            if not words:
                raise CorefileError(f"line {each.line}: acl: {kind} takes at least one argument")
        types = [_type(word, each.line) for word in said.get("type", ()) if word != "*"]
        try:
            networks = tuple(network(word) for word in said.get("net", ()) if word != "*")
        except ValueError as error:
            raise CorefileError(f"line {each.line}: acl: {error}") from error
        lines.append(Line(
            action, frozenset() if "*" in said.get("type", ()) else frozenset(types),
            () if "*" in said.get("net", ()) else networks,
        ))  # fmt: skip
    zones = frozenset(
        folded for zone in plugin.args or block.zones for folded in _zones(zone, plugin.line)
    )
    for zone in block.zones:
        for folded in _zones(zone, block.line):
            found.acls[block.scheme][folded] += (Listed(zones, tuple(lines)),)


def _hosts(plugin: Directive, block: Block, found: Translated) -> None:
    path, *given = plugin.args or ("/etc/hosts",)
    zones = frozenset(
        folded for zone in given or block.zones for folded in _zones(zone, plugin.line)
    )
    spec = Spec(path, zones)
    for each in plugin.properties:
        match each.name:
            case "ttl":
                text = _one(each)
                if not text.isdecimal() or not 0 < int(text) <= 65535:
                    raise CorefileError(f'line {each.line}: hosts: ttl "{text}" is not 1 to 65535')
                spec = replace(spec, ttl=int(text))
            case "no_reverse":
                if each.args:
                    raise CorefileError(f"line {each.line}: no_reverse takes no argument")
                spec = replace(spec, reverse=False)
            case "reload":
                spec = replace(spec, reload=_seconds(_one(each), each.line))
            case "fallthrough":
                below = [folded for zone in each.args for folded in _zones(zone, each.line)]
                spec = replace(spec, fallthrough=frozenset(below) or frozenset((names.ROOT,)))
            case _:
                line = " ".join((each.name, *each.args))
                if not Table().add(line, zones):
                    raise _refused(plugin, each)
                spec = replace(spec, inline=(*spec.inline, line))
    for folded in (folded for zone in block.zones for folded in _zones(zone, block.line)):
        if found.hosts[block.scheme][folded] is not None:
            raise CorefileError(f"line {plugin.line}: hosts is in this block already")
        found.hosts[block.scheme][folded] = spec


def _type(text: str, line: int) -> int:
    """Return a type's number."""
    number = rrs.number(text)
    if number is None:
        raise CorefileError(f'line {line}: "{text}" is no type of records')
    return number


def _transfer(plugin: Directive, block: Block, found: Translated) -> None:
    del block
    allowed: list[str] = []
    told: list[str] = []
    for each in plugin.properties:
        if each.name != "to" or not each.args:
            raise _refused(plugin, each)
        for target in each.args:
            if target == "*":
                allowed += ["0.0.0.0/0", "::/0"]
                continue
            try:
                server = parse_server(target)
            except ValueError as error:
                raise CorefileError(f"line {each.line}: transfer: {error}") from error
            allowed.append(server.host)
            told.append(str(server))
    found.settings["transfer-to"] = (*found.settings.get("transfer-to", ()), *allowed)
    found.settings["notify"] = (*found.settings.get("notify", ()), *told)


def _tls(plugin: Directive, block: Block, found: Translated) -> None:
    for each in plugin.properties:
        raise _refused(plugin, each)
    if len(plugin.args) != 2 or block.scheme == "dns":
        raise CorefileError(f"line {plugin.line}: tls CERT KEY, in a tls:// or https:// block")
    port = block.port or (853 if block.scheme == "tls" else 443)
    found.settings[f"{block.scheme}-addr"] = f"0.0.0.0:{port}"
    found.settings["serve-cert"], found.settings["serve-key"] = plugin.args
