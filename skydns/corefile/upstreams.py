# SPDX-License-Identifier: Apache-2.0
"""The plugins `forward` and `cache`: whom to ask about other names, and how long to know it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dnslib

from skydns import names, rrs
from skydns.addresses import SECURE, Server, parse_server, resolv_conf
from skydns.cache import Bounds
from skydns.corefile.grammar import Block, CorefileError, Directive
from skydns.corefile.said import Said, number, one, rcode, refused, seconds, zones
from skydns.upstream import Probe

_MOST = 15


def forward(plugin: Directive, block: Block, said: Said) -> None:
    """Take over servers and how they are asked; a second one for the same names is asked `next`."""
    if len(plugin.args) < 2:
        raise CorefileError(f"line {plugin.line}: forward FROM TO...")
    source, *targets = plugin.args
    more: dict[str, Any] = {}
    resolvers: Sequence[str] = ()
    name = ""
    for each in plugin.properties:
        match each.name:
            case "resolver":
                resolvers = each.args
            case "tls_servername":
                name = one(each)
            case _:
                _property(plugin, each, more)
    servers = _servers(targets, resolvers, plugin.line)
    if name:
        servers = [server._replace(name=name) for server in servers]
    more["servers"] = tuple(servers)
    (start, *_) = zones(source, plugin.line)
    for zone_text in block.zones:
        for place in zones(zone_text, plugin.line) if zone_text != "." else (names.ROOT,):
            longer = place if names.below(place, start) else start
            said.routes.setdefault(longer, []).append(more)


def _property(plugin: Directive, each: Directive, more: dict[str, Any]) -> None:
    """Take one property over."""
    match each.name:
        case "except":
            more["excepted"] = frozenset(
                zone for text in each.args for zone in zones(text, each.line)
            )
        case "force_tcp":
            more["tcp"] = True
        case "prefer_udp":
            if not more.get("tcp"):  # else force_tcp wins, as in the original
                more["tcp"] = False
        case "read_timeout":
            more["timeout"] = seconds(one(each), each.line)
        case "expire":
            more["expire"] = seconds(one(each), each.line)
        case "max_fails" | "max_idle_conns" | "max_concurrent" | "max_connect_attempts":
            field = {
                "max_fails": "fails", "max_idle_conns": "idle", "max_concurrent": "concurrent",
                "max_connect_attempts": "attempts",
            }  # fmt: skip
            more[field[each.name]] = number(each)
        case "policy" if one(each) in {"random", "round_robin", "sequential"}:
            more["rotate"] = each.args[0] != "sequential"
        case "health_check":
            more["probe"] = _probe(each)
        case "failover" | "next" if each.args:
            rcodes = frozenset(rcode(text, each.line) for text in each.args)
            if each.name == "next":
                more["next_rcodes"] = rcodes
            elif rrs.NOERROR in rcodes:
                raise CorefileError(f"line {each.line}: failover: NOERROR is no failure")
            else:
                more["failover"] = rcodes | {rrs.SERVFAIL, rrs.REFUSED}
        case "doh_method" if one(each) in {"GET", "POST"}:
            more["get"] = each.args[0] == "GET"
        case "next_on_nodata":
            more["next_on_nodata"] = True
        case "failfast_all_unhealthy_upstreams":
            more["failfast"] = True
        case "source_address":
            try:
                more["source"] = str(ipaddress.ip_address(one(each)))
            except ValueError as error:
                raise CorefileError(f"line {each.line}: source_address: {error}") from error
        case "tls" if len(each.args) <= 3:
            args = each.args
            ca = args[-1] if len(args) in {1, 3} else ""
            more["files"] = (ca, *(args[:2] if len(args) > 1 else ("", "")))
        case _:
            raise refused(plugin, each)


def _servers(targets: Sequence[str], resolvers: Sequence[str], line: int) -> list[Server]:
    """Return the servers of a list of addresses, files and host names."""
    found: list[Server] = []
    for target in targets:
        try:
            found.append(parse_server(target.removeprefix("dns://")))
        except ValueError:
            scheme, there, place = target.rpartition("://")
            if not there and Path(target).is_file():
                found += resolv_conf(Path(target).read_text("utf-8", "replace"))
            elif f"{scheme}{there}" in {"", "dns://", *SECURE}:
                found += _named(place, SECURE.get(f"{scheme}{there}"), resolvers, line, scheme)
            else:
                raise CorefileError(
                    f'line {line}: forward: "{target}" is neither IP[:port], tls://IP, https://IP, a host name nor a file'
                ) from None
    if len(found) > _MOST:
        raise CorefileError(f"line {line}: forward: more than {_MOST} servers")
    return found


def _named(
    target: str, secure: int | None, resolvers: Sequence[str], line: int, scheme: str
) -> list[Server]:
    """Return the addresses of a host's name, as they are at the start.

    Args:
        secure: the usual port of servers that speak TLS; their certificates have the name.
    """
    host, colon, port = target.rpartition(":")
    if not colon:
        host, port = target, str(secure or 53)
    if not port.isdecimal():
        raise CorefileError(f'line {line}: forward: "{target}" has no port after its colon')
    try:
        texts = _asked(host, resolvers) if resolvers else _looked_up(host)
    except (OSError, ValueError, dnslib.DNSError) as error:
        raise CorefileError(f'line {line}: forward: "{target}": {error}') from error
    if not texts:
        raise CorefileError(f'line {line}: forward: "{target}" has no address')
    if secure is None:
        return [Server(text, int(port)) for text in texts]
    https = scheme == "https"
    return [Server(text, int(port), tls=True, name=host, https=https) for text in texts]


def _looked_up(host: str) -> list[str]:
    """Return what the system knows."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _asked(host: str, resolvers: Sequence[str]) -> list[str]:
    """Return what the first resolver that answers says."""
    failure: Exception = OSError("no resolver")
    for resolver in resolvers:
        server = parse_server(resolver)
        texts = []
        try:
            for rtype in ("A", "AAAA"):
                reply = dnslib.DNSRecord.question(host, rtype).send(
                    server.host, server.port, timeout=2, ipv6=":" in server.host
                )
                texts += [
                    str(rr.rdata)
                    for rr in dnslib.DNSRecord.parse(reply).rr
                    if rr.rtype in {rrs.A, rrs.AAAA}
                ]
        except (OSError, dnslib.DNSError) as error:
            failure = error
            continue
        return texts
    raise failure


def _probe(each: Directive) -> Probe:
    """Return what `health_check DURATION [no_rec] [domain NAME]` says."""
    if not each.args:
        raise CorefileError(f"line {each.line}: health_check takes a time")
    first = seconds(each.args[0], each.line)
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


def cache(plugin: Directive, block: Block, said: Said) -> None:
    """Take over how long answers of other servers are kept; ours are always fresh.

    There is one cache, so that of a block that forwards counts before that of one that does not.
    """
    before, forwards = said.bounds, bool(block.all("forward"))
    bounds = Bounds(most=9984, least=5, stale=0, prefetch=0, gap=60.0)
    args = plugin.args
    if args and args[0].isdecimal():
        most = int(args[0])
        bounds = replace(bounds, positive=min(most, 3600), negative=min(most, 1800))
        args = args[1:]
    if args:
        bounds = replace(bounds, only=_places(args, plugin.line))
    said.bounds = bounds
    for each in plugin.properties:
        match each.name:
            case "success" | "denial" if each.args and all(map(str.isdecimal, each.args)):
                _kept(each, said)
            case "prefetch" if each.args and each.args[0].isdecimal():
                _prefetch(each, said)
            case "serve_stale":
                _stale(each, said)
            case "servfail":
                failure = min(int(seconds(one(each), each.line)), 300)
                said.bounds = replace(said.bounds, failure=failure)
            case "keepttl":
                said.bounds = replace(said.bounds, keep_ttl=True)
            case "serve_stale_policy" if each.args == ("prefer_positive",):
                said.bounds = replace(said.bounds, prefer_positive=True)
            case "disable" if each.args and each.args[0] in {"success", "denial"}:
                off = _places(each.args[1:], each.line) or frozenset((names.ROOT,))
                if each.args[0] == "success":
                    said.bounds = replace(said.bounds, no_data=off)
                else:
                    said.bounds = replace(said.bounds, no_denial=off)
            case _:
                raise refused(plugin, each)
    if said.bounds.prefer_positive and not said.bounds.stale:
        raise CorefileError(f"line {plugin.line}: cache: serve_stale_policy needs serve_stale")
    if said.bounds_settled and not forwards:
        said.bounds = before
    said.bounds_settled |= forwards


def _places(args: Sequence[str], line: int) -> frozenset[bytes]:
    return frozenset(zone for text in args for zone in zones(text, line))


def _kept(each: Directive, said: Said) -> None:
    """Take over `success` or `denial`: capacity, longest and shortest time."""
    capacity, *times = map(int, each.args)
    fields: dict[str, Any] = {"most": max(capacity, said.bounds.most)}
    longest, shortest = (
        ("positive", "least") if each.name == "success" else ("negative", "least_negative")
    )
    fields |= zip((longest, shortest), times, strict=False)
    said.bounds = replace(said.bounds, **fields)


def _prefetch(each: Directive, said: Said) -> None:
    """Take over `prefetch AMOUNT [DURATION [PERCENTAGE%]]`."""
    gap = seconds(each.args[1], each.line) if len(each.args) > 1 else 60.0
    share = each.args[2] if len(each.args) > 2 else "10%"
    if not share.endswith("%") or not share[:-1].isdecimal() or not 10 <= int(share[:-1]) <= 90:
        raise CorefileError(f'line {each.line}: prefetch: "{share}" is not within 10% and 90%')
    said.bounds = replace(
        said.bounds, prefetch=int(each.args[0]), gap=gap, share=int(share[:-1]) / 100
    )


def _stale(each: Directive, said: Said) -> None:
    """Take over `serve_stale [DURATION] [immediate|verify [TIMEOUT]] [TTL [RECHECK]]`."""
    args = list(each.args)
    hour = seconds(args.pop(0), each.line) if args else 3600.0
    mode = args.pop(0) if args else "immediate"
    if mode not in {"immediate", "verify"}:
        raise CorefileError(
            f'line {each.line}: serve_stale: "{mode}" is neither immediate nor verify'
        )
    fields: dict[str, Any] = {"stale": int(hour), "stale_first": mode == "immediate"}
    if mode == "verify" and args:
        fields["patience"] = seconds(args.pop(0), each.line) or said.bounds.patience
    if args:
        fields["stale_ttl"] = int(seconds(args.pop(0), each.line))
    if args:
        fields["recheck"] = seconds(args.pop(0), each.line)
    if args:
        raise CorefileError(f'line {each.line}: serve_stale: "{args[0]}" is too much')
    said.bounds = replace(said.bounds, **fields)
