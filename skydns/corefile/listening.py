# SPDX-License-Identifier: Apache-2.0
"""Plugins that say where and how is listened: bind, tls, bufsize, health, ready, prometheus, reload."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from skydns.addresses import parse_server
from skydns.corefile.grammar import Block, CorefileError, Directive
from skydns.corefile.said import Said, bare, number, one, refused, seconds


def bind(plugin: Directive, block: Block, said: Said) -> None:
    """Take over the addresses to answer on; an interface stands for its own."""
    del block
    excepted: set[str] = set()
    for each in plugin.properties:
        if each.name != "except" or not each.args:
            raise refused(plugin, each)
        excepted.update(_addresses(each.args, each.line))
    said.binds += [each for each in _addresses(plugin.args, plugin.line) if each not in excepted]


def _addresses(words: Iterable[str], line: int) -> list[str]:
    found: list[str] = []
    for word in words:
        try:
            parse_server(word)
        except ValueError:
            found += _of_interface(word, line)
        else:
            found.append(word)
    return found


def _of_interface(name: str, line: int) -> list[str]:
    """Return the addresses of a network interface."""
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        raise CorefileError(f'line {line}: bind: "{name}" is no address and no interface') from None
    from pyroute2 import IPRoute  # 200 ms, and few files need it

    with IPRoute() as route:
        texts = [
            str(message.get("IFA_LOCAL") or message.get("IFA_ADDRESS"))
            for message in route.get_addr(index=index)
        ]
    found = []
    for text in texts:
        link_local = ipaddress.ip_address(text).is_link_local and ":" in text
        found.append(f"{text}%{name}" if link_local else text)
    if not found:
        raise CorefileError(f'line {line}: bind: interface "{name}" has no address')
    return found


def tls(plugin: Directive, block: Block, said: Said) -> None:
    """Take over the certificate, and whether clients must have one."""
    if not 2 <= len(plugin.args) <= 3 or block.scheme == "dns":
        raise CorefileError(f"line {plugin.line}: tls CERT KEY [CA], in a tls:// or https:// block")
    said.settings[f"{block.scheme}-addr"] = f"0.0.0.0:{block.port}"
    said.settings["serve-cert"], said.settings["serve-key"] = plugin.args[:2]
    wanted = "nocert"
    for each in plugin.properties:
        if each.name != "client_auth":
            raise refused(plugin, each)
        wanted = one(each)
        if wanted not in {"nocert", "verify_if_given", "require_and_verify"}:
            raise CorefileError(
                f"line {each.line}: client_auth {wanted}: only nocert, verify_if_given and "
                "require_and_verify are supported: a certificate that is not verified proves nothing"
            )
    if wanted != "nocert" and len(plugin.args) < 3:
        raise CorefileError(f"line {plugin.line}: tls: client_auth {wanted} needs a CA")
    if wanted != "nocert":
        said.client_ca, said.client_auth = plugin.args[2], wanted == "require_and_verify"


def bufsize(plugin: Directive, block: Block, said: Said) -> None:
    """Take over the size of replies by UDP."""
    del block
    bare(plugin)
    size = number(plugin) if plugin.args else 1232
    if not 512 <= size <= 4096:
        raise CorefileError(f"line {plugin.line}: bufsize {size} is not within 512 and 4096")
    if size > 1232:
        said.without_effect(plugin.line, f"bufsize {size}: no reply by UDP is larger than 1232")
    said.bufsize = min(size, 1232)


def page(plugin: Directive, block: Block, said: Said) -> None:
    """Take over `health` and `ready`."""
    del block
    for each in plugin.properties:
        if plugin.name == "health" and each.name == "lameduck":
            said.lameduck = seconds(one(each), each.line)
        elif plugin.name == "ready" and each.name == "monitor":
            if one(each) != "until-ready":
                said.without_effect(
                    each.line, f"ready: monitor {each.args[0]}: it is watched always"
                )
        else:
            raise refused(plugin, each)
    found = (plugin.name, *_place(plugin, ":8080" if plugin.name == "health" else ":8181"))
    if found not in said.pages:
        said.pages.append(found)


def prometheus(plugin: Directive, block: Block, said: Said) -> None:
    """Take over where the metrics are served."""
    del block
    bare(plugin)
    place = (*_place(plugin, "localhost:9153"), "/metrics")
    if place not in said.metrics:
        said.metrics.append(place)


def reload(plugin: Directive, block: Block, said: Said) -> None:
    """Take over how often the file is looked at; the jitter is for fleets that read one file."""
    del block
    bare(plugin)
    if plugin.args == ("off",):
        return
    if len(plugin.args) > 2:
        raise CorefileError(f"line {plugin.line}: reload [INTERVAL] [JITTER]")
    said.reload = max(seconds(plugin.args[0], plugin.line) if plugin.args else 30.0, 2.0)
    if len(plugin.args) == 2:
        seconds(plugin.args[1], plugin.line)
        said.without_effect(plugin.line, "reload: the jitter: one file is read by one process")


def _place(plugin: Directive, default: str) -> tuple[str, int]:
    """Return host and port of `[ADDRESS]:PORT`."""
    text = plugin.args[0] if plugin.args else default
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise CorefileError(f'line {plugin.line}: {plugin.name}: "{text}" is not [ADDRESS]:PORT')
    return ("127.0.0.1" if host == "localhost" else host.strip("[]")), int(port)
